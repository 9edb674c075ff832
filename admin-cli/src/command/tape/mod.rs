//! `taf tape`: tapes without any server.

mod cat;
mod extract;
mod files;
mod inspect;
mod label;
mod test;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Tapes without any server: what a cartridge holds, its files back, whether a drive works
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Cat(cat::Cat),
    Files(files::Files),
    Extract(extract::Extract),
    Inspect(inspect::Inspect),
    LabelShow(label::Show),
    Test(test::Test),
}

impl Command {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Cat(command) => command.run(out),
            Self::Files(command) => command.run(out),
            Self::Extract(command) => command.run(out),
            Self::Inspect(command) => command.run(out),
            Self::LabelShow(command) => command.run(out),
            Self::Test(command) => command.run(out),
        }
    }
}
