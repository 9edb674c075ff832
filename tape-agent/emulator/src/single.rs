//! One cartridge in one drive, in process: for reading a cartridge's file where no library is at hand.

use std::path::Path;

use crate::Generation;
use crate::cartridge::{Behaviour, Cartridge, Error};
use crate::drive::{Drive, Options};
use crate::faults::Faults;

/// A drive of the cartridge's generation with the cartridge in `path` threaded. With `read_only` it is write protected, nothing is locked,
/// and it holds what was on the medium when it was opened, even while another process writes to it.
pub fn drive(path: &Path, read_only: bool) -> Result<Drive, Error> {
    let cartridge = if read_only {
        Cartridge::open_read_only(path, Behaviour::default())?
    } else {
        Cartridge::open(path, Behaviour::default())?
    };
    let options = Options {
        generation: Generation::of_density(cartridge.meta().density).unwrap_or_default(),
        ..Options::default()
    };
    let mut drive = Drive::new(options, Faults::new(None));
    drive.power_on_with(cartridge);
    Ok(drive)
}
