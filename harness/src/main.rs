//! The stand-in's program.

fn main() -> std::process::ExitCode {
    instant_failover_harness::main()
}
