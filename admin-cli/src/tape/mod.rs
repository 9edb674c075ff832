//! Reading tapes without any server: what a cartridge holds, and its files back.
//!
//! Goes by the tape alone, through the ordinary driver, whether the cartridge is a file of the emulator or in a drive.
//! It writes to a tape in [`trial`] alone. Whatever a tape says is a claim: lengths are checked by `taf_format`, paths by
//! `taf_tree`.

mod extract;
mod holds;
mod ledger;
mod medium;
mod pieces;
mod selection;
mod shelf;
mod stream;
mod survey;
pub mod trial;

pub use extract::{Extraction, Report, Seen, Sink};
pub use holds::Holds;
pub use medium::{Medium, read_cartridge};
pub use selection::Selection;
pub use shelf::{Archive, Shelf};
pub use survey::{Content, Survey, TapeFile, files, read_label, survey};

use taf_emulator::cartridge;
use taf_format::label::Kind;
use uuid::Uuid;

use crate::failure::Failure;

/// Why a tape could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cartridge's file can't be used.
    #[error(transparent)]
    Cartridge(#[from] cartridge::Error),
    /// The drive did not do what it was told.
    #[error("{device} could not {action}: {source}")]
    Drive {
        /// The drive or cartridge.
        device: String,
        /// What it was to do.
        action: &'static str,
        /// What it said.
        source: taf_drive::Error,
    },
    /// There is no hope for the rest of it.
    #[error(
        "{failures} blocks of {device} could not be read one after another, the last one {block}: {reason}"
    )]
    Unreadable {
        /// The drive or cartridge.
        device: String,
        /// How many.
        failures: u32,
        /// The last of them.
        block: u64,
        /// Why.
        reason: String,
    },
    /// No tape to read.
    #[error("{device} has no tape that can be read: {state}")]
    NotReady {
        /// The drive.
        device: String,
        /// What is wrong.
        state: &'static str,
    },
    /// Nothing is recorded.
    #[error("{0} is blank")]
    Blank(String),
    /// Somebody else's.
    #[error("{device} is not a tape of TAF: it begins with {kind}")]
    Foreign {
        /// The drive or cartridge.
        device: String,
        /// What it looks like.
        kind: Kind,
    },
    /// There is nothing to restore.
    #[error("{0} holds no archive")]
    NoArchive(String),
    /// There is nothing whole to restore.
    #[error("{device} holds no complete archive, only {count} that are not")]
    NoCompleteArchive {
        /// The drive or cartridge.
        device: String,
        /// How many.
        count: usize,
    },
    /// Another archive was meant.
    #[error("{device} does not hold the archive {archive}")]
    ArchiveUnknown {
        /// The drive or cartridge.
        device: String,
        /// Which one.
        archive: Uuid,
    },
    /// The place to write to can't be used.
    #[error(transparent)]
    Write(#[from] taf_tree::write::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let (reason, next_step) = match error {
            Error::Cartridge(cartridge::Error::NoSuchFile { .. }) => (
                "TAPE_FILE_NOT_FOUND",
                "see which there are: taf tape files CARTRIDGE",
            ),
            Error::Cartridge(cartridge::Error::Damaged { .. }) => (
                "TAPE_DAMAGED",
                "taf tape extract reads past damage and names the files that it costs",
            ),
            Error::Cartridge(cartridge::Error::Foreign { .. }) => (
                "CARTRIDGE_FOREIGN",
                "name a cartridge's file of the emulator, as in library/cartridges/TAF001L8.tape",
            ),
            Error::Cartridge(_) => (
                "CARTRIDGE_UNREADABLE",
                "name a cartridge's file that you can read, as in library/cartridges/TAF001L8.tape",
            ),
            Error::Drive { .. } => (
                "DRIVE_FAILED",
                "see that the drive is on, holds the tape and is used by nobody else, then try again",
            ),
            Error::Unreadable { .. } => (
                "TAPE_DAMAGED",
                "clean the drive, or read the tape in another drive",
            ),
            Error::NotReady { .. } => ("DRIVE_NOT_READY", "load a tape, then try again"),
            Error::Blank(_) => ("TAPE_BLANK", "take the cartridge that holds the backup"),
            Error::Foreign { .. } => (
                "TAPE_FOREIGN",
                "take the cartridge that holds the backup; this one is another program's",
            ),
            Error::NoArchive(_)
            | Error::NoCompleteArchive { .. }
            | Error::ArchiveUnknown { .. } => (
                "ARCHIVE_NOT_FOUND",
                "see what the tape holds (taf tape files), and name one: --archive UUID; one that goes on elsewhere needs its other cartridges: --next CARTRIDGE",
            ),
            Error::Write(taf_tree::write::Error::WriteOut { .. }) => (
                "TARGET_FAILED",
                "see to the disk of the target and extract again",
            ),
            Error::Write(_) => (
                "TARGET_UNUSABLE",
                "name a directory that exists and that you can write",
            ),
        };
        Self::new(reason, message, next_step)
    }
}
