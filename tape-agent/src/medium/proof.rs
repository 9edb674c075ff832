//! Whether the cartridge in the drive is the volume that is meant.
//!
//! Three signs must agree. The *barcode* brought it here. The *label* on the tape names installation, volume and recording. The
//! *serial number* in its memory was given to it by its maker and is nobody's to change: it tells two cartridges apart that have
//! the same barcode, or the same content. A cartridge without a memory, or a drive that does not show it, says nothing by that.

use taf_drive::Drive;
use taf_drive::health::Chip;
use taf_format::label::Label;
use taf_proto::agent::Recording;
use taf_proto::v1::Fault;
use uuid::Uuid;

use super::{Beginning, beginning, carries, unreadable};
use crate::fault::{fault, of_drive};

/// What was found of a volume that is the right one.
#[derive(Debug)]
pub struct Proof {
    /// Its label.
    pub label: Label,
    /// Its memory.
    pub chip: Chip,
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

/// What the serial number says.
#[derive(Clone, Copy)]
enum Serial<'a> {
    /// One of the two is not known.
    Unknown,
    /// It is the very cartridge.
    Same(&'a str),
    /// It is another one.
    Other { expected: &'a str, found: &'a str },
}

impl<'a> Serial<'a> {
    fn compare(expected: &'a str, found: &'a str) -> Serial<'a> {
        if expected.is_empty() || found.is_empty() {
            Serial::Unknown
        } else if expected == found {
            Serial::Same(found)
        } else {
            Serial::Other { expected, found }
        }
    }
}

/// Proves that the cartridge in the drive bears exactly this recording. The tape then stands at tape file 1.
pub fn prove(drive: &mut dyn Drive, recording: &Recording) -> Result<Proof, Wrong> {
    let barcode = &recording.barcode;
    let chip = Chip::read(drive).map_err(|e| of_drive(&e, "asking for the memory of", barcode))?;
    let serial = Serial::compare(&recording.medium_serial, chip.serial());
    let label = match beginning(drive, barcode)? {
        Beginning::Label(label) => match differs(&label, recording) {
            None => label,
            Some(what) => return Err(contradiction(barcode, &what, serial)),
        },
        Beginning::Blank => return Err(contradiction(barcode, "it is blank", serial)),
        Beginning::Foreign(what) => {
            return Err(contradiction(barcode, &format!("it holds {what}"), serial));
        }
        Beginning::Unreadable(why) => return Err(unreadable(barcode, &why).into()),
    };
    if let Serial::Other { expected, found } = serial {
        return Err(copied(barcode, expected, found));
    }
    carries(drive, label.block_size, barcode)?;
    Ok(Proof { label, chip })
}

/// What of a label is not as the catalog has it.
fn differs(label: &Label, recording: &Recording) -> Option<String> {
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
            return Some(format!("its label names {what} {found}, not {expected}"));
        }
    }
    if label.barcode != recording.barcode {
        return Some(format!("its label names barcode {}", label.barcode));
    }
    (label.block_size != recording.block_size)
        .then(|| format!("its label names blocks of {} bytes", label.block_size))
}

/// The label is wrong. The serial number says whether it is the label that lies, or the barcode.
fn contradiction(barcode: &str, what: &str, serial: Serial<'_>) -> Wrong {
    let (why, next_step) = match serial {
        Serial::Unknown => (
            what.to_owned(),
            "nothing was written and the volume is quarantined; compare barcode and label with `taf tape files`".to_owned(),
        ),
        Serial::Same(number) => (
            format!(
                "{what}, although its own serial number {number} is the volume's: the label is what disagrees, so the tape was written over or exchanged within its case"
            ),
            format!(
                "nothing was written and the volume is quarantined; look at the tape with `taf tape files`. If it is lost, give it up with `taf volume erase {barcode} --force`"
            ),
        ),
        Serial::Other { expected, found } => (
            format!(
                "{what}, and its own serial number is {found}, while the volume's is {expected}: the barcode is what disagrees, so two cartridges have it"
            ),
            format!(
                "nothing was written and the volume is quarantined; take this cartridge out, give it a barcode of its own, and put in the one with serial number {expected}"
            ),
        ),
    };
    wrong(barcode, &why, next_step)
}

/// The label is right, on another cartridge.
fn copied(barcode: &str, expected: &str, found: &str) -> Wrong {
    wrong(
        barcode,
        &format!(
            "its own serial number is {found}, while the volume's is {expected}: barcode and label agree and the serial number disagrees, so this is a copy of the volume"
        ),
        format!(
            "nothing was written and the volume is quarantined; take the copy out, and put in the cartridge with serial number {expected}"
        ),
    )
}

fn wrong(barcode: &str, why: &str, next_step: String) -> Wrong {
    Wrong {
        fault: fault(
            "WRONG_VOLUME",
            format!(
                "the cartridge in the drive is not volume {barcode} as the catalog has it: {why}"
            ),
            next_step,
        ),
        contradicts: true,
    }
}

/// The cartridge that is to be written from its beginning is another one than the catalog knows by this barcode: `None` if it is
/// that, or nobody can tell.
pub fn other_cartridge(barcode: &str, expected: &str, chip: &Chip) -> Option<Fault> {
    let Serial::Other { expected, found } = Serial::compare(expected, chip.serial()) else {
        return None;
    };
    Some(fault(
        "OTHER_CARTRIDGE",
        format!(
            "the catalog knows another cartridge by barcode {barcode}: that one has serial number {expected}, this one {found}; nothing was written"
        ),
        "give one of the two another barcode; if the one that the catalog knows is gone for good, `--force` takes this one in its place",
    ))
}
