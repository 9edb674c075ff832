//! `taf version`: what can be done with one version.

mod remove_sources;
mod verify;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// One version: verify it, remove what it holds from where it came
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Verify(verify::Verify),
    RemoveSources(remove_sources::RemoveSources),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Verify(command) => command.run(out).await,
            Self::RemoveSources(command) => command.run(out).await,
        }
    }
}
