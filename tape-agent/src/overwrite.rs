//! The one place that decides whether a tape may be written from its beginning: by a label, an erase or a format.
//!
//! | at the beginning | allowed |
//! |---|---|
//! | the drive says *blank* | yes |
//! | our label, of the recording that the catalog expects and holds for expired, end of data not beyond the catalog's | yes |
//! | our label of this very cartridge and nothing behind it: a labelling that was cut off | yes |
//! | all else: other people's data, another installation, another recording, more data than known, nothing readable | by force only |
//!
//! A cartridge of several partitions is never blank, whatever the first of them says, and is only formatted, by force. One whose
//! own serial number is not that of the cartridge that the catalog knows by this barcode is written by force only.
//!
//! What counts is read here, in this mount, directly before. Force is a person's, and the controller has written down whose.
//! A [`Permit`] is made nowhere else, and nothing goes to a tape's beginning without one. The rule for appending is
//! [`crate::append`]'s.

use taf_drive::health::Chip;
use taf_drive::{Drive, Error, MediumState};
use taf_format::label::Label;
use taf_proto::v1::Fault;
use uuid::Uuid;

use crate::fault::{fault, of_drive};
use crate::medium::{self, Beginning};

/// What the catalog says of the cartridge that is to be written from its beginning.
#[derive(Debug, Clone)]
pub struct Claim<'a> {
    /// Its barcode.
    pub barcode: &'a str,
    /// This installation.
    pub installation: Uuid,
    /// The cartridge.
    pub volume: Uuid,
    /// The recording that may be on it and is expired.
    pub expired: Option<Expired>,
    /// Serial number of the cartridge that the catalog knows by this barcode; empty if it does not know it.
    pub medium_serial: &'a str,
    /// What is to be done to it.
    pub deed: Deed,
    /// A person orders it whatever is there.
    pub force: bool,
}

/// What is to be done to a tape from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Write to it, or erase it.
    Write,
    /// Make one partition of whatever it has.
    Format,
}

/// A recording that nobody needs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Its uuid.
    pub recording: Uuid,
    /// Logical block at which its end of data must be at the latest.
    pub next_block: u64,
}

/// Leave to write a tape from its beginning.
#[derive(Debug)]
pub struct Permit {
    barcode: String,
    held: Option<String>,
    deed: Deed,
}

/// Reads what is on the tape, and gives leave or says what it holds. `medium` is what the mount found.
pub fn permit(
    drive: &mut dyn Drive,
    medium: &MediumState,
    claim: &Claim<'_>,
) -> Result<Permit, Fault> {
    let barcode = claim.barcode;
    medium::writable(drive, medium, barcode)?;
    let partitioned = medium::partitioned(medium, barcode);
    if let Some(fault) = &partitioned
        && !(claim.force && claim.deed == Deed::Format)
    {
        return Err(fault.clone());
    }
    let chip = Chip::read(drive).map_err(|e| of_drive(&e, "asking for the memory of", barcode))?;
    if let Some(fault) = medium::other_cartridge(barcode, claim.medium_serial, &chip)
        && !claim.force
    {
        return Err(fault);
    }
    let found = medium::beginning(drive, barcode)?;
    if matches!(found, Beginning::Blank) && partitioned.is_none() {
        return Ok(Permit::new(claim, None));
    }
    if medium.worm {
        return Err(fault(
            "WORM_VOLUME",
            format!(
                "cartridge {barcode} can be written only once, and it holds {}; nothing was written",
                found.words()
            ),
            "choose a blank cartridge",
        ));
    }
    let refusal = match &found {
        Beginning::Label(label) => match judge(drive, label, claim)? {
            Ok(()) => return Ok(Permit::new(claim, Some(found.words()))),
            Err(why) => format!("{}, {why}", found.words()),
        },
        Beginning::Blank => "partitions, of which the first is blank".to_owned(),
        other => other.words(),
    };
    if claim.force {
        tracing::warn!(barcode, held = refusal, "overwriting by force");
        return Ok(Permit::new(claim, Some(refusal)));
    }
    Err(match &found {
        Beginning::Unreadable(why) => medium::unreadable(barcode, why),
        _ => fault(
            "FOREIGN_VOLUME",
            format!("cartridge {barcode} is not blank: it holds {refusal}; nothing was written"),
            "choose a blank cartridge; `taf library` shows what is in the slots. Only `--force` gives up what is on it",
        ),
    })
}

/// Whether a label of ours may be replaced, or why not. The tape stands behind the label.
fn judge(
    drive: &mut dyn Drive,
    label: &Label,
    claim: &Claim<'_>,
) -> Result<Result<(), String>, Fault> {
    if label.installation_uuid != claim.installation {
        return Ok(Err(format!(
            "of another installation ({})",
            label.installation_uuid
        )));
    }
    if label.volume_uuid != claim.volume {
        return Ok(Err("which is another volume".to_owned()));
    }
    let said = |error: &Error| of_drive(error, "finding the end of", claim.barcode);
    let behind = drive.position().map_err(|e| said(&e))?.block;
    drive.locate_end_of_data().map_err(|e| said(&e))?;
    let end = drive.position().map_err(|e| said(&e))?.block;
    if end == behind {
        return Ok(Ok(()));
    }
    Ok(match claim.expired {
        Some(expired) if expired.recording == label.recording_uuid => {
            if end <= expired.next_block {
                Ok(())
            } else {
                Err(format!(
                    "which goes on to block {end}, beyond block {} where the catalog has its end",
                    expired.next_block
                ))
            }
        }
        _ => {
            Err("with data behind its label that the catalog does not hold for expired".to_owned())
        }
    })
}

impl Permit {
    fn new(claim: &Claim<'_>, held: Option<String>) -> Permit {
        Permit {
            barcode: claim.barcode.to_owned(),
            held,
            deed: claim.deed,
        }
    }

    /// What is given up, in words; none on a blank cartridge.
    pub fn gives_up(&self) -> Option<&str> {
        self.held.as_deref()
    }

    /// Goes to the beginning and lets the next command there overwrite. Any news of the drive on the way, such as another
    /// cartridge, ends it; a drive that says it stands elsewhere is not believed to stand at the beginning.
    pub fn go(self, drive: &mut dyn Drive) -> Result<(), Fault> {
        let said = |error: &Error| of_drive(error, "going to the beginning of", &self.barcode);
        drive.rewind().map_err(|e| said(&e))?;
        match drive.position() {
            Ok(position) if position.block == 0 && position.partition == 0 => {}
            Ok(position) => {
                return Err(fault(
                    "POSITION_UNEXPECTED",
                    format!(
                        "the drive was to rewind cartridge {}, but stands at block {} of partition {}; nothing was written",
                        self.barcode, position.block, position.partition
                    ),
                    "look at the drive; `taf volume format` makes one partition of two",
                ));
            }
            // A drive without a place gets no appends; after a rewind there is no doubt where it stands.
            Err(Error::PositionUnknown) => {}
            Err(error) => return Err(said(&error)),
        }
        match self.deed {
            Deed::Write => drive.allow_overwrite(0),
            Deed::Format => drive.allow_format(),
        }
        .map_err(|e| said(&e))?;
        Ok(())
    }
}
