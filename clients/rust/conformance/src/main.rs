//! What `cargo xtask conformance` runs of the Rust package: `conformance DRIVER parse|land|load`.
//!
//! `parse` says where attempts to connect lead, `land` makes connections, and `load` is an application that writes.

mod driver;
mod land;
mod load;
mod parse;

use std::env;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let [name, command, rest @ ..] = &arguments[..] else { bail!("usage: conformance DRIVER parse|land|load JSON") };
    match (*command, rest) {
        ("parse", []) => parse::run(),
        ("land", []) => land::run(driver::by_name(name)?.as_ref()),
        ("load", [json]) => load::run(driver::by_name(name)?.as_ref(), &serde_json::from_str(json).context("JSON")?),
        _ => bail!("unknown command {command}, or wrong arguments"),
    }
}
