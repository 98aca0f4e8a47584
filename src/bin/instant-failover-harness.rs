//! The standalone server.

fn main() -> std::process::ExitCode {
    instant_failover::harness::main()
}
