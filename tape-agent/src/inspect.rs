//! Looking at what is on a cartridge without believing anything: its beginning, and where its data end. Nothing is written.
//!
//! Whether that is what the catalog says is the controller's to judge. A proof of the volume ([`crate::medium::prove`]) would
//! refuse just what is to be told.

use taf_drive::health::Chip;
use taf_drive::{Drive, Error};
use taf_proto::agent::{InspectDone, InspectWork};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use crate::fault::of_drive;
use crate::medium::{self, Beginning};

/// Says what is on the cartridge in the drive.
pub fn inspect(
    drive: &mut dyn Drive,
    work: &InspectWork,
    stop: &CancellationToken,
    show: medium::Show<'_>,
) -> Result<InspectDone, Fault> {
    let barcode = &work.barcode;
    medium::steadily(
        |fault| fault,
        || {
            medium::mount_shown(drive, barcode, stop, show)?;
            show("inspecting");
            let said = |error: &Error| of_drive(error, "asking for the memory of", barcode);
            let chip = Chip::read(drive).map_err(|e| said(&e))?;
            let mut found = InspectDone {
                medium_serial: chip.serial().to_owned(),
                ..InspectDone::default()
            };
            match medium::beginning(drive, barcode)? {
                Beginning::Blank => found.blank = true,
                Beginning::Label(label) => {
                    found.installation_uuid = label.installation_uuid.as_bytes().to_vec().into();
                    found.volume_uuid = label.volume_uuid.as_bytes().to_vec().into();
                    found.recording_uuid = label.recording_uuid.as_bytes().to_vec().into();
                    found.block_size = label.block_size;
                    let said = |error: &Error| of_drive(error, "finding the end of", barcode);
                    found.label_end_block = drive.position().map_err(|e| said(&e))?.block;
                    drive.locate_end_of_data().map_err(|e| said(&e))?;
                    found.end_block = drive.position().map_err(|e| said(&e))?.block;
                }
                Beginning::Unreadable(why) => return Err(medium::unreadable(barcode, &why)),
                other @ Beginning::Foreign(_) => found.foreign = other.words(),
            }
            Ok(found)
        },
    )
}
