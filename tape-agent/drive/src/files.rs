//! Going to a tape file by counting filemarks: LOCATE by file number is off by one on some makes; filemarks are counted by all
//! alike.

use taf_scsi::sense::{Key, Sense, code};

use crate::{Drive, Error, Spaced};

/// Goes behind the `file`-th filemark.
pub(crate) fn locate<D: Drive + ?Sized>(drive: &mut D, file: u64) -> Result<(), Error> {
    if file == 0 {
        return drive.rewind();
    }
    let here = match drive.position() {
        Ok(position) => position.file,
        Err(Error::PositionUnknown) => None,
        Err(error) => return Err(error),
    };
    let spaced = match here {
        Some(here) if here < file => drive.space_filemarks((file - here) as i64)?,
        Some(here) if here - file < file => {
            // Back over the mark before the file, then forward over it again.
            match drive.space_filemarks(-((here - file + 1) as i64))? {
                Spaced::All => drive.space_filemarks(1)?,
                short => short,
            }
        }
        _ => {
            drive.rewind()?;
            drive.space_filemarks(file as i64)?
        }
    };
    if spaced != Spaced::All {
        return Err(Error::BlankCheck(Sense::new(
            Key::BlankCheck,
            code::END_OF_DATA_DETECTED,
        )));
    }
    match drive.position() {
        Ok(position) if position.file.is_some_and(|there| there != file) => {
            Err(Error::PositionUnknown)
        }
        Ok(_) | Err(Error::PositionUnknown) => Ok(()),
        Err(error) => Err(error),
    }
}
