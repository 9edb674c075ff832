//! `taf catalog`: the catalog as a whole.

mod trust;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// The catalog as a whole: trust, distrust
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Distrust(trust::Distrust),
    Trust(trust::Trust),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Distrust(command) => command.run(out).await,
            Self::Trust(command) => command.run(out).await,
        }
    }
}
