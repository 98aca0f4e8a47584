//! The program: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    switchover::command::run(std::env::args_os())
}
