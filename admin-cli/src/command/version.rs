//! `taf version`: what can be done with one version.

mod verify;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// One version: verify it
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Verify(verify::Verify),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Verify(command) => command.run(out).await,
        }
    }
}
