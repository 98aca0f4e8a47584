//! The simplest possible server: threads that wait for clients, and send each the same answer whatever it says.
//!
//! It is the upper bound for every server that must open, answer and close one connection per client. It is useless in
//! practice: a few silent clients stop it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use rustls::{ServerConfig, ServerConnection, Stream};
use support::wire::packet;

use super::TARGET;
use super::client::{SSL_REQUEST_LENGTH, read_packet};
use crate::common::tls;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    threads: usize,
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
}

/// With fewer threads, a core is idle while clients think; with more, the threads get in each other's way.
const THREADS_PER_CORE: usize = 4;

/// Starts it in a process of its own, with TLS if `files` are given.
pub(super) fn command(files: Option<&tls::Files>) -> Result<Command> {
    let threads = thread::available_parallelism()?.get() * THREADS_PER_CORE;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "floor", "--threads"]).arg(threads.to_string());
    if let Some(files) = files {
        command.arg("--certificate").arg(&files.certificate).arg("--key").arg(&files.key);
    }
    Ok(command)
}

/// Serves until the process is terminated.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let tls = match (&arguments.certificate, &arguments.key) {
        (Some(certificate), Some(key)) => Some(tls::server_config(certificate, key)?),
        _ => None,
    };
    let floor = Floor::new(TARGET, tls);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("floor: ready, listening on {}", listener.local_addr()?);
    thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| floor.accept_from(&listener));
        }
    });
    Ok(())
}

pub(super) struct Floor {
    greeting: Vec<u8>,
    redirect: Vec<u8>,
    tls: Option<Arc<ServerConfig>>,
}

impl Floor {
    pub(super) fn new(target: &str, tls: Option<Arc<ServerConfig>>) -> Self {
        let sequence = if tls.is_some() { 3 } else { 2 };
        Self { greeting: greeting(), redirect: redirect(target, sequence), tls }
    }

    pub(super) fn accept_from(&self, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            // The client reports what goes wrong.
            let _ = self.serve(client);
        }
    }

    fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.write_all(&self.greeting)?;
        let Some(config) = &self.tls else { return self.answer(&mut client) };
        client.read_exact(&mut [0; SSL_REQUEST_LENGTH])?;
        client.set_nodelay(true)?;
        let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        self.answer(&mut Stream::new(&mut tls, &mut client))?;
        tls.send_close_notify();
        tls.complete_io(&mut client).map(drop)
    }

    fn answer(&self, client: &mut (impl Read + Write)) -> io::Result<()> {
        read_packet(client, &mut [0; 1024])?;
        client.write_all(&self.redirect)
    }
}

/// As long as MariaDB's.
fn greeting() -> Vec<u8> {
    let parts: [&[u8]; 6] = [
        b"\x0a11.8.3-MariaDB-ubu2404\0",
        &1_u32.to_le_bytes(),
        b"abcdefgh\0",
        // Capabilities, character set, status, more capabilities, length of the scramble, MariaDB's own capabilities.
        &[0xfe, 0xff, 45, 2, 0, 0xff, 0x81, 21, 0, 0, 0, 0, 0, 0, 0x1d, 0, 0, 0],
        b"ijklmnopqrst\0",
        b"mysql_native_password\0",
    ];
    packet(0, &parts.concat())
}

fn redirect(target: &str, sequence: u8) -> Vec<u8> {
    let text = format!("#HY000|Server is directing clients to the alternative server '{target}'.|{target}");
    packet(sequence, &[b"\xff\x64\x10", text.as_bytes()].concat())
}
