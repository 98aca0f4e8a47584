//! What many redirects leave behind in mariadbd: memory, open files.

use std::fs;

use anyhow::{Context, Result};
use xtask::build::Flavour;

use super::client::{Client, Expected};
use super::mariadbd::{Mariadbd, Plugin};
use super::report::table;
use super::{Run, load};
use crate::results::machine;

#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
    /// How many redirects [default: 1000000]
    #[arg(long, value_name = "N")]
    pub(super) redirects: Option<u32>,
}

const CLIENTS: u32 = 8;
/// Enough for the threads, the buffers and the allocator's arenas to be there.
const WARM_UP: u32 = 20_000;

/// What a process holds.
struct Held {
    /// Resident memory in KiB.
    memory: u64,
    files: usize,
    redirects: u64,
}

impl Held {
    fn by(server: &mut Mariadbd) -> Result<Self> {
        let process = format!("/proc/{}", server.server.pid());
        let status = fs::read_to_string(format!("{process}/status"))?;
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        Ok(Self {
            memory: memory.context("no VmRSS")?.parse()?,
            files: fs::read_dir(format!("{process}/fd"))?.count(),
            redirects: server.root.status("Instant_failover_redirects")?.parse()?,
        })
    }

    fn row(&self, over: &Self) -> [String; 4] {
        [
            self.redirects.to_string(),
            self.memory.to_string(),
            format!("{:.3}", as_f64(self.memory) / as_f64(over.memory)),
            self.files.to_string(),
        ]
    }
}

fn as_f64(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let redirects = arguments.run.length(arguments.redirects, 1_000_000, 5_000);
    let mut server = Mariadbd::start(&Flavour::Release.build()?, &[])?;
    server.put(Plugin::On)?;
    redirect(&server, if arguments.run.short { WARM_UP / 10 } else { WARM_UP })?;
    let mut held = vec![Held::by(&mut server)?];
    for _ in 0..10 {
        redirect(&server, redirects / 10)?;
        held.push(Held::by(&mut server)?);
        eprintln!("{} redirects ...", held[held.len() - 1].redirects);
    }
    let rows = held.iter().map(|now| now.row(&held[0]));
    let table = table(["redirects so far", "resident memory, KiB", "over the first", "open files"], rows);
    arguments.run.show("memory", &format!("{table}\n{}", machine()), &[])
}

fn redirect(server: &Mariadbd, times: u32) -> Result<()> {
    let client = Client::MariaDb(Expected::Redirect, None);
    load::repeat(server.server.address(), &client, CLIENTS, times / CLIENTS)
}
