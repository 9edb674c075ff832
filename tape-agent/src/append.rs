//! The append rule: before anything is written, the end of data is where the catalog has it.
//!
//! More on tape than known are strays: files that a killed worker left, closed and never overwritten; [`crate::adopt`] sees to
//! what becomes of each. Less is a truncation, and the volume is written no more.

use taf_drive::{Drive, Error, Position, Read, Sync};
use taf_format::block0::Block0;
use taf_format::label::{self, Kind};
use taf_proto::agent::{Recording, ReportOrphanRequest};
use taf_proto::v1::Fault;

use crate::fault::{fault, of_drive};

/// Where an append begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Tape file that comes next.
    pub tape_file: u64,
    /// Its first logical block.
    pub block: u64,
}

/// A tape file behind the end that the catalog knows.
#[derive(Debug, Clone)]
pub struct Stray {
    /// What it is if nobody owns it.
    pub orphan: ReportOrphanRequest,
    /// Of a part that was written to this very recording and ended with a filemark: what its block 0 says.
    pub part: Option<Block0>,
}

/// Why nothing can be appended.
pub enum Refused {
    /// A fault of drive or medium.
    Fault(Fault),
    /// The tape holds less than the catalog says.
    Truncated(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Refused {
        Refused::Fault(fault)
    }
}

/// Goes to the end of data and makes it true. Returns where it is, and the strays that were found on the way, in order.
pub fn find_end(
    drive: &mut dyn Drive,
    recording: &Recording,
) -> Result<(End, Vec<Stray>), Refused> {
    let barcode = &recording.barcode;
    let said = |error: &Error| of_drive(error, "finding the end of", barcode);
    let known = End {
        tape_file: recording.next_tape_file,
        block: recording.next_block,
    };
    match drive.locate_end_of_data() {
        Ok(()) => {}
        Err(error) if is_endless(&error) => {
            return Err(Refused::Truncated(endless(barcode, &error)));
        }
        Err(error) => return Err(said(&error).into()),
    }
    let position = drive.position().map_err(|e| said(&e))?;
    if position.partition != 0 {
        return Err(Refused::Fault(fault(
            "POSITION_UNEXPECTED",
            format!(
                "the drive stands in partition {} of volume {barcode}, which has one partition",
                position.partition
            ),
            "nothing was appended; look at the drive, and compare the volume with `taf tape files`",
        )));
    }
    let found = position.block;
    if found == known.block {
        if position.file.is_some_and(|file| file != known.tape_file) {
            return Err(Refused::Truncated(fault(
                "POSITION_UNEXPECTED",
                format!(
                    "volume {barcode} ends at block {found} as the catalog has it, but behind {} filemarks instead of {}",
                    position.file.unwrap_or_default(),
                    known.tape_file
                ),
                "the volume is read-only now; compare it with `taf tape files`",
            )));
        }
        return Ok((known, Vec::new()));
    }
    if found < known.block {
        return Err(Refused::Truncated(fault(
            "VOLUME_TRUNCATED",
            format!(
                "volume {barcode} ends at block {found}, but the catalog has it up to block {}",
                known.block
            ),
            "the volume is read-only now; what is missing shows when it is verified; label another cartridge for the pool",
        )));
    }
    drive.locate(known.block).map_err(|e| said(&e))?;
    let mut end = known;
    let mut strays = Vec::new();
    let mut buffer = vec![0; taf_format::limits::BLOCK_SIZE_MAX as usize];
    while end.block < found {
        let mut part = None;
        let reason = match drive.read_block(&mut buffer) {
            Ok(Read::Block(length)) => match Block0::decode(&buffer[..length]) {
                Ok(block0) => {
                    let reason = format!(
                        "part {} of version {} of {} that was not committed",
                        block0.part, block0.version, block0.plan
                    );
                    part = is_ours(&block0, recording, end).then_some(block0);
                    reason
                }
                Err(_) => match label::identify(&buffer[..length]) {
                    Kind::TafIndex => "a volume index that was not committed".to_owned(),
                    _ => "a tape file that the catalog does not know".to_owned(),
                },
            },
            Ok(_) => "an empty tape file".to_owned(),
            Err(Error::Medium(_) | Error::BlankCheck(_) | Error::BlockTooLarge { .. }) => {
                "a tape file that can't be read".to_owned()
            }
            // All else may hide a reset or another cartridge.
            Err(error) => return Err(said(&error).into()),
        };
        let (behind, torn) = behind_file(drive, end.block, found).map_err(|e| said(&e))?;
        let next = End {
            // Behind a place that can't be read there may be more than one file.
            tape_file: behind.file.unwrap_or(end.tape_file + 1),
            block: behind.block,
        };
        let orphan = ReportOrphanRequest {
            key: None,
            recording_uuid: recording.recording_uuid.clone(),
            tape_file: end.tape_file,
            first_block: end.block,
            next_tape_file: next.tape_file,
            next_block: next.block,
            reason: if torn {
                format!("{reason}, and was torn")
            } else {
                reason
            },
        };
        let part = part.filter(|_| !torn && next.tape_file == end.tape_file + 1);
        strays.push(Stray { orphan, part });
        end = next;
    }
    drive.locate_end_of_data().map_err(|e| said(&e))?;
    let stands = drive.position().map_err(|e| said(&e))?.block;
    if stands != end.block {
        return Err(fault(
            "POSITION_UNEXPECTED",
            format!(
                "the end of volume {barcode} was at block {}, and now the drive stands at {stands}",
                end.block
            ),
            "nothing was appended; look at the drive",
        )
        .into());
    }
    Ok((end, strays))
}

/// Whether a part says of itself that it was written to this recording, and here.
fn is_ours(block0: &Block0, recording: &Recording, end: End) -> bool {
    block0.recording_uuid.as_bytes()[..] == recording.recording_uuid[..]
        && block0.installation_uuid.as_bytes()[..] == recording.installation_uuid[..]
        && u64::from(block0.tape_file) == end.tape_file
        && block0.block_size == recording.block_size
}

/// Whether the drive does not find where the recording ends: power was lost while it was written, or the medium is bad there.
fn is_endless(error: &Error) -> bool {
    match error {
        Error::Medium(sense) => !matches!(sense.asc, 0x30 | 0x31),
        // An end of data would have been taken for what it is.
        Error::BlankCheck(_) => true,
        _ => false,
    }
}

fn endless(barcode: &str, error: &Error) -> Fault {
    fault(
        "END_OF_DATA_MISSING",
        format!("the end of what is recorded on volume {barcode} can't be found: {error}"),
        "the volume is read-only now, and what is committed on it can be restored; label another cartridge for the pool",
    )
}

/// Goes behind the filemark of the tape file that begins at `first`. A torn file, which has none, gets one; says whether it was.
fn behind_file(
    drive: &mut dyn Drive,
    first: u64,
    end_of_data: u64,
) -> Result<(Position, bool), Error> {
    drive.locate(first)?;
    match drive.space_filemarks(1) {
        Ok(taf_drive::Spaced::All) => {
            let behind = drive.position()?;
            if behind.block <= end_of_data {
                return Ok((behind, false));
            }
        }
        Ok(_) | Err(Error::Medium(_) | Error::BlankCheck(_)) => {}
        // All else may hide a reset or another cartridge.
        Err(error) => return Err(error),
    }
    drive.locate_end_of_data()?;
    if drive.position()?.block < end_of_data {
        return Err(Error::PositionUnknown);
    }
    drive.write_filemarks(1, Sync::Synchronous)?;
    Ok((drive.position()?, true))
}
