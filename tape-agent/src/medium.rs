//! Getting a cartridge ready, and proving that it is the one that is meant.

mod ready;

use taf_drive::{Drive, Error, Read};
use taf_format::label::{self, Label};
use taf_format::limits;
use taf_proto::agent::Recording;
use taf_proto::v1::Fault;
use uuid::Uuid;

use crate::fault::{fault, of_drive};

pub use ready::{Show, mount, mount_shown, steadily, unload, wait};

/// The cartridge's tab forbids writing. That is a person's doing, and nothing is wrong with the volume.
pub fn write_protected(barcode: &str) -> Fault {
    fault(
        "WRITE_PROTECTED",
        format!("cartridge {barcode} is write-protected; nothing was written"),
        "slide the tab at the left of the cartridge's back, beside the label, away from the padlock, and run again; or use another cartridge",
    )
}

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

/// Reads the beginning. Afterwards the tape stands behind the label's filemark if there is a label.
pub fn beginning(drive: &mut dyn Drive, barcode: &str) -> Result<Beginning, Fault> {
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

/// A cartridge that is not the one that is meant.
pub struct Wrong {
    /// For people.
    pub fault: Fault,
    /// Whether it contradicts the catalog, so that the volume is to be quarantined.
    pub contradicts: bool,
}

impl From<Fault> for Wrong {
    fn from(fault: Fault) -> Wrong {
        Wrong {
            fault,
            contradicts: false,
        }
    }
}

/// Proves that the cartridge in the drive bears exactly this recording. The tape then stands at tape file 1.
pub fn prove(drive: &mut dyn Drive, recording: &Recording) -> Result<Label, Wrong> {
    let barcode = &recording.barcode;
    let wrong = |what: String| Wrong {
        fault: fault(
            "WRONG_VOLUME",
            format!(
                "the cartridge in the drive is not volume {barcode} as the catalog has it: {what}"
            ),
            "nothing was written and the volume is quarantined; compare barcode and label with `taf tape files`",
        ),
        contradicts: true,
    };
    let label = match beginning(drive, barcode)? {
        Beginning::Label(label) => label,
        Beginning::Blank => return Err(wrong("it is blank".to_owned())),
        Beginning::Foreign(what) => return Err(wrong(format!("it holds {what}"))),
        Beginning::Unreadable(why) => return Err(unreadable(barcode, &why).into()),
    };
    let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
    let said = [
        (
            "installation",
            label.installation_uuid,
            uuid(&recording.installation_uuid),
        ),
        ("volume", label.volume_uuid, uuid(&recording.volume_uuid)),
        (
            "recording",
            label.recording_uuid,
            uuid(&recording.recording_uuid),
        ),
    ];
    for (what, found, expected) in said {
        if found != expected {
            return Err(wrong(format!(
                "its label names {what} {found}, not {expected}"
            )));
        }
    }
    if label.barcode != *barcode {
        return Err(wrong(format!("its label names barcode {}", label.barcode)));
    }
    if label.block_size != recording.block_size {
        return Err(wrong(format!(
            "its label names blocks of {} bytes",
            label.block_size
        )));
    }
    carries(drive, label.block_size, barcode)?;
    Ok(label)
}

/// Refuses a volume whose blocks drive and path don't carry: before anything is written to it, and before reading it comes
/// to its first block.
pub fn carries(drive: &mut dyn Drive, block_size: u32, barcode: &str) -> Result<(), Fault> {
    let limits = drive
        .block_limits()
        .map_err(|e| of_drive(&e, "asking the limits for", barcode))?;
    if block_size as usize <= limits.max {
        return Ok(());
    }
    Err(fault(
        "BLOCK_TOO_LARGE",
        format!(
            "this drive, or the path to it, carries {} bytes at most, but volume {barcode} has blocks of {block_size}",
            limits.max
        ),
        "use a drive on a path that carries larger blocks, or label new volumes in a pool of smaller blocks",
    ))
}

#[cfg(test)]
#[path = "medium/tests.rs"]
mod tests;
