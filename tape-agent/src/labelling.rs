//! Writing a label at a cartridge's beginning.

use taf_drive::health::Chip;
use taf_drive::{Drive, Error, Sync};
use taf_format::label::{self, Label};
use taf_proto::agent::{LabelDone, LabelWork};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::fault::{fault, of_drive};
use crate::medium::{self, Beginning};
use crate::overwrite::{self, Claim, Deed, Expired, Permit};

/// Labels the cartridge in the drive, if [`crate::overwrite`] lets us.
pub fn label(
    drive: &mut dyn Drive,
    work: &LabelWork,
    stop: &CancellationToken,
    show: medium::Show<'_>,
) -> Result<LabelDone, Fault> {
    let recording = &work.recording.clone().unwrap_or_default();
    let barcode = &recording.barcode;
    let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
    let new = Label {
        installation_uuid: uuid(&recording.installation_uuid),
        volume_uuid: uuid(&recording.volume_uuid),
        recording_uuid: uuid(&recording.recording_uuid),
        barcode: barcode.clone(),
        pool: recording.pool.clone(),
        block_size: recording.block_size,
        labelled_at_unix_nanos: clock::unix_nanos(),
        writer: concat!("TAF ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let claim = Claim {
        barcode,
        installation: new.installation_uuid,
        volume: new.volume_uuid,
        expired: work.expired.as_ref().map(|expired| Expired {
            recording: uuid(&expired.recording_uuid),
            next_block: expired.next_block,
        }),
        medium_serial: &recording.medium_serial,
        deed: Deed::Write,
        force: work.force,
    };
    let (permit, found) = medium::steadily(
        |fault| fault,
        || {
            let state = medium::mount_shown(drive, barcode, stop, show)?;
            medium::carries(drive, recording.block_size, barcode)?;
            show("labelling");
            let permit = overwrite::permit(drive, &state, &claim)?;
            let said = |error: &Error| of_drive(error, "asking for the memory of", barcode);
            let chip = Chip::read(drive).map_err(|e| said(&e))?;
            if let Chip::Unreadable(why) = &chip {
                return Err(medium::bad_memory(barcode, why));
            }
            let found = LabelDone {
                medium_serial: chip.serial().to_owned(),
                density: state.density.into(),
                ..LabelDone::default()
            };
            Ok((permit, found))
        },
    )?;
    let next_block = write(drive, &new, permit)?;
    Ok(LabelDone {
        next_block,
        ..found
    })
}

/// Writes the label, and returns the block behind it.
fn write(drive: &mut dyn Drive, new: &Label, permit: Permit) -> Result<u64, Fault> {
    let barcode = &new.barcode;
    let said = |error: &Error| of_drive(error, "labelling", barcode);
    let blocks = label::encode(new).map_err(|error| {
        fault(
            "BAD_LABEL",
            format!("this label can't be written: {error}"),
            "choose another barcode or pool",
        )
    })?;
    permit.go(drive)?;
    for block in &blocks {
        drive.write_block(block).map_err(|e| said(&e))?;
    }
    drive
        .write_filemarks(1, Sync::Synchronous)
        .map_err(|e| said(&e))?;
    // What is reported as on tape is on tape: read it back.
    match medium::beginning(drive, barcode)? {
        Beginning::Label(found) if found == *new => {}
        _ => {
            return Err(fault(
                "LABEL_DIFFERS",
                format!(
                    "the label that was read back from cartridge {barcode} is not what was written"
                ),
                "clean the drive, or take the cartridge out of use",
            ));
        }
    }
    drive.locate_end_of_data().map_err(|e| said(&e))?;
    let position = drive.position().map_err(|e| said(&e))?;
    Ok(position.block)
}
