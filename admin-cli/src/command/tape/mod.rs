//! `taf tape`: tapes without any server.

mod cat;
mod extract;
mod files;
mod label;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Read tapes without any server: files of a cartridge, and what is in them
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Cat(cat::Cat),
    Files(files::Files),
    Extract(extract::Extract),
    LabelShow(label::Show),
}

impl Command {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Cat(command) => command.run(out),
            Self::Files(command) => command.run(out),
            Self::Extract(command) => command.run(out),
            Self::LabelShow(command) => command.run(out),
        }
    }
}
