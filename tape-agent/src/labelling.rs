//! Writing a label, on a cartridge that is proved to be blank.

use taf_drive::{Drive, Read, Sync};
use taf_format::label::{self, Label};
use taf_proto::agent::{LabelDone, Recording};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::fault::{fault, of_drive};
use crate::medium::{self, Beginning};

/// Labels the cartridge in the drive.
pub fn label(
    drive: &mut dyn Drive,
    recording: &Recording,
    stop: &CancellationToken,
) -> Result<LabelDone, Fault> {
    let barcode = &recording.barcode;
    let state = medium::mount(drive, barcode, stop)?;
    if state.write_protected {
        return Err(fault(
            "WRITE_PROTECTED",
            format!("cartridge {barcode} is write-protected"),
            "move its write-protect tab, or choose another cartridge",
        ));
    }
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
    match medium::beginning(drive, barcode)? {
        Beginning::Blank => {}
        // A labelling of ours that was cut off, with nothing behind it.
        Beginning::Label(old) if is_half_done(drive, &old, &new, barcode)? => {}
        Beginning::Label(old) => {
            return Err(foreign(
                barcode,
                &format!("a TAF recording of volume {}", old.barcode),
            ));
        }
        Beginning::Foreign(what) => return Err(foreign(barcode, &what)),
    }
    write(drive, &new)
}

fn foreign(barcode: &str, what: &str) -> Fault {
    fault(
        "FOREIGN_VOLUME",
        format!("cartridge {barcode} is not blank: it holds {what}; nothing was written"),
        "choose a blank cartridge; `taf library` shows what is in the slots",
    )
}

fn is_half_done(
    drive: &mut dyn Drive,
    old: &Label,
    new: &Label,
    barcode: &str,
) -> Result<bool, Fault> {
    if old.installation_uuid != new.installation_uuid || old.volume_uuid != new.volume_uuid {
        return Ok(false);
    }
    let mut block = vec![0; taf_format::limits::BLOCK_SIZE_MAX as usize];
    let next = drive
        .read_block(&mut block)
        .map_err(|e| of_drive(&e, "reading behind the label of", barcode))?;
    Ok(next == Read::EndOfData)
}

fn write(drive: &mut dyn Drive, new: &Label) -> Result<LabelDone, Fault> {
    let barcode = &new.barcode;
    let said = |error: &taf_drive::Error| of_drive(error, "labelling", barcode);
    let blocks = label::encode(new).map_err(|error| {
        fault(
            "BAD_LABEL",
            format!("this label can't be written: {error}"),
            "choose another barcode or pool",
        )
    })?;
    drive.rewind().map_err(|e| said(&e))?;
    drive.allow_overwrite(0).map_err(|e| said(&e))?;
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
    Ok(LabelDone {
        next_block: position.block,
    })
}
