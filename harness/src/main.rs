//! The standalone server.

fn main() -> std::process::ExitCode {
    instant_failover_harness::main()
}
