//! `taf catalog`: the catalog as a whole.

mod check;
mod rebuild;
mod trust;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// The catalog as a whole: check, distrust, rebuild, trust
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Check(check::Check),
    Rebuild(rebuild::Rebuild),
    Distrust(trust::Distrust),
    Trust(trust::Trust),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Check(command) => command.run(out).await,
            Self::Rebuild(command) => command.run(out).await,
            Self::Distrust(command) => command.run(out).await,
            Self::Trust(command) => command.run(out).await,
        }
    }
}
