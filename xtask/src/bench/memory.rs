//! What many redirects leave behind in mariadbd: memory and open files.

use std::fs;

use anyhow::{Context, Result};
use support::build::Flavour;

use super::client::{Client, Expected};
use super::mariadbd::{Mariadbd, Plugin};
use super::report::table;
use super::{Run, load};
use crate::common::results::machine;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// Number of logins of each kind [default: 1000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) logins: Option<u32>,
}

const CLIENTS: u32 = 8;
/// Enough for all threads, buffers and allocator arenas to exist.
const WARM_UP: u32 = 20_000;

/// What is measured, each on a separate server. A server keeps a little memory for each login that it refuses, in the
/// thread that served it, until that thread ends or a session ends in it: hence the case without the plugin, and the
/// case without a thread cache.
const CONTENDERS: &[(&str, &str, Plugin, Expected)] = &[
    ("sessions, no plugin", "DO 1", Plugin::None, Expected::Session),
    ("wrong passwords, no plugin", "DO 1", Plugin::None, Expected::Refusal),
    ("redirects", "DO 1", Plugin::On, Expected::Redirect),
    ("redirects, thread_cache_size = 0", "SET GLOBAL thread_cache_size = 0", Plugin::On, Expected::Redirect),
];

/// What a process holds.
pub(super) struct Held {
    /// Resident memory in KiB.
    pub(super) memory: f64,
    files: usize,
}

impl Held {
    pub(super) fn by(server: &Mariadbd) -> Result<Self> {
        let process = format!("/proc/{}", server.server.pid());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        let files = fs::read_dir(format!("{process}/fd"))?.count();
        Ok(Self { memory: memory.context("no VmRSS")?.parse()?, files })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let logins = arguments.run.length(arguments.logins, 1_000_000, 5_000);
    let warm_up = arguments.run.length(None, WARM_UP, WARM_UP / 10);
    let library = Flavour::Release.build()?;
    let mut rows = Vec::new();
    for &(name, statement, plugin, expected) in CONTENDERS {
        eprintln!("{logins} {name} ...");
        let mut server = Mariadbd::start(&library, &["--log-warnings=1"])?;
        server.root.query(statement)?;
        server.put(plugin)?;
        let client = Client::MariaDb(expected, None);
        let repeat = |times| load::repeat(server.server.address(), &client, CLIENTS, times / CLIENTS);
        repeat(warm_up)?;
        let before = Held::by(&server)?;
        repeat(logins)?;
        let after = Held::by(&server)?;
        rows.push([
            name.to_owned(),
            format!("{:.0}", before.memory),
            format!("{:.0}", after.memory),
            format!("{:.3}", after.memory / before.memory),
            format!("{:.0}", (after.memory - before.memory) * 1024.0 / f64::from(logins)),
            format!("{} to {}", before.files, after.files),
        ]);
    }
    let header = ["logins", "KiB before", "KiB after", "after / before", "bytes per login", "open files"];
    let text = format!("{}\n{logins} logins after {warm_up}, resident memory. {}", table(header, rows), machine());
    arguments.run.show("memory", &text, &[])
}
