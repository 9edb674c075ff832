//! Getting a cartridge ready, and proving that it is the one that is meant and that this drive can be used for it.

mod fit;
mod proof;
mod ready;

use taf_drive::{Drive, Error, Read};
use taf_format::label::{self, Label};
use taf_format::limits;
use taf_proto::v1::Fault;

use crate::fault::{fault, of_drive};

pub use fit::{bad_memory, carries, partitioned, writable};
pub use proof::{Proof, Wrong, other_cartridge, prove};
pub use ready::{Show, mount, mount_shown, steadily, unload, wait};

/// What is at a cartridge's beginning.
pub enum Beginning {
    /// Nothing was ever written.
    Blank,
    /// Our label.
    Label(Label),
    /// Something else: in words.
    Foreign(String),
    /// There is something, but it can't be read: why.
    Unreadable(String),
}

impl Beginning {
    /// What is there, in words that follow *it holds*.
    pub fn words(&self) -> String {
        match self {
            Beginning::Blank => "nothing".to_owned(),
            Beginning::Label(label) => format!("a TAF recording of volume {}", label.barcode),
            Beginning::Foreign(what) => what.clone(),
            Beginning::Unreadable(why) => format!("something that can't be read: {why}"),
        }
    }
}

/// A beginning that can't be read is read so often in all: an error that comes once says nothing of the cartridge.
const TRIES: u32 = 3;

/// Reads the beginning. Afterwards the tape stands behind the label's filemark if there is a label.
pub fn beginning(drive: &mut dyn Drive, barcode: &str) -> Result<Beginning, Fault> {
    let mut tries = 1;
    loop {
        match read_beginning(drive, barcode)? {
            Beginning::Unreadable(why) if tries < TRIES => {
                tracing::warn!(barcode, why, "the beginning of the cartridge is read again");
                tries += 1;
            }
            found => return Ok(found),
        }
    }
}

fn read_beginning(drive: &mut dyn Drive, barcode: &str) -> Result<Beginning, Fault> {
    let said = |error: &Error| of_drive(error, "reading the label of", barcode);
    drive.rewind().map_err(|e| said(&e))?;
    let mut blocks: Vec<Vec<u8>> = Vec::new();
    // Larger than any label's block: a foreign tape may begin with a large one.
    let mut buffer = vec![0; limits::BLOCK_SIZE_MAX as usize];
    loop {
        match drive.read_block(&mut buffer) {
            Ok(Read::Block(length)) => blocks.push(buffer[..length].to_vec()),
            Ok(Read::Filemark) => break,
            Ok(Read::Blank) if blocks.is_empty() => return Ok(Beginning::Blank),
            // A label whose filemark was cut off still says whose it is.
            Ok(Read::Blank | Read::EndOfData) if label::decode(&blocks).is_ok() => break,
            Ok(Read::Blank | Read::EndOfData) => {
                let first = blocks.first().map_or(&[][..], Vec::as_slice);
                return Ok(Beginning::Foreign(format!(
                    "{} without a filemark",
                    label::identify(first)
                )));
            }
            Err(Error::BlockTooLarge { length, .. }) => {
                return Ok(Beginning::Foreign(format!("a block of {length} bytes")));
            }
            // These say something of the tape. An unreadable label is not a blank tape.
            Err(
                error @ (Error::Medium(_)
                | Error::BlankCheck(_)
                | Error::Encrypted(_)
                | Error::Hardware(_)
                | Error::Other(_)),
            ) => return Ok(Beginning::Unreadable(error.to_string())),
            // All others of the drive, or of what happened to it.
            Err(error) => return Err(said(&error)),
        }
        if blocks.len() > limits::LABEL_BLOCKS {
            break;
        }
    }
    let first = blocks.first().map_or(&[][..], Vec::as_slice);
    Ok(match label::decode(&blocks) {
        Ok(label) => Beginning::Label(label),
        Err(label::Error::NotTaf(kind)) => Beginning::Foreign(kind.to_string()),
        // Ours, and not as it was written: that may be the drive or its path, and is no proof against the cartridge.
        Err(error @ (label::Error::Damaged(_) | label::Error::Incomplete(_))) => {
            Beginning::Unreadable(error.to_string())
        }
        Err(error) => Beginning::Foreign(format!("{} ({error})", label::identify(first))),
    })
}

/// The beginning can't be read. That is no proof against the cartridge: it may be the drive, or a key that is missing.
pub fn unreadable(barcode: &str, why: &str) -> Fault {
    fault(
        "LABEL_UNREADABLE",
        format!("the beginning of cartridge {barcode} can't be read: {why}"),
        "nothing was written; clean the drive and try again, try another drive, or take the cartridge out",
    )
}

#[cfg(test)]
#[path = "medium/tests.rs"]
mod tests;
