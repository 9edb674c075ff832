//! `taf version`: what there is, and what can be done with one.

mod expire;
mod keep;
mod remove_sources;
mod verify;

use super::versions::Versions;
use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Versions: list, hold, release, lock, tag, expire, verify, remove what one holds from where it came
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    List(Versions),
    Hold(keep::Hold),
    Release(keep::Release),
    Lock(keep::Lock),
    Tag(keep::Tag),
    #[command(alias = "delete")]
    Expire(expire::Expire),
    Verify(verify::Verify),
    RemoveSources(remove_sources::RemoveSources),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::List(command) => command.run(out).await,
            Self::Hold(command) => command.run(out).await,
            Self::Release(command) => command.run(out).await,
            Self::Lock(command) => command.run(out).await,
            Self::Tag(command) => command.run(out).await,
            Self::Expire(command) => command.run(out).await,
            Self::Verify(command) => command.run(out).await,
            Self::RemoveSources(command) => command.run(out).await,
        }
    }
}
