//! x
use super::Run;
use anyhow::Result;
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) run: Run,
}
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    arguments.run.show("x", "", &[])
}
