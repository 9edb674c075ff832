//! What an operator has a drive do with a cartridge: erase it, thread it, rewind it, or be cleaned by it.

use std::thread;
use std::time::{Duration, Instant};

use taf_drive::{Drive, Error, Readiness};
use taf_proto::agent::{EraseMethod, EraseWork};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::fault::{fault, of_drive, stopped};
use crate::medium::{self, Beginning};
use crate::overwrite::{self, Claim, Deed, Expired};

/// Between two looks at a drive that does something by itself.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A drive must see a cleaning cartridge within this.
const SEEN_WITHIN: Duration = Duration::from_mins(1);
/// Cleaning takes minutes.
const CLEANED_WITHIN: Duration = Duration::from_mins(30);
/// A long erase of the largest cartridges takes most of a day.
const ERASED_WITHIN: Duration = Duration::from_hours(72);

/// Makes the cartridge in the drive blank, if [`crate::overwrite`] lets us. `show` is told how far a long erase is, in percent,
/// where the drive says so.
pub fn erase(
    drive: &mut dyn Drive,
    work: &EraseWork,
    stop: &CancellationToken,
    show: &dyn Fn(u8),
) -> Result<(), Fault> {
    let barcode = &work.barcode;
    let state = medium::mount(drive, barcode, stop)?;
    let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
    let claim = Claim {
        barcode,
        installation: uuid(&work.installation_uuid),
        volume: uuid(&work.volume_uuid),
        expired: work.expired.as_ref().map(|expired| Expired {
            recording: uuid(&expired.recording_uuid),
            next_block: expired.next_block,
        }),
        medium_serial: &work.medium_serial,
        deed: match work.method() {
            EraseMethod::Format => Deed::Format,
            _ => Deed::Write,
        },
        force: work.force,
    };
    let permit = overwrite::permit(drive, &state, &claim)?;
    permit.go(drive)?;
    let done = match work.method() {
        EraseMethod::Format => drive.format(),
        EraseMethod::Long => erase_whole(drive, stop, show),
        EraseMethod::Quick | EraseMethod::Unspecified => drive.erase(false),
    };
    match done {
        Ok(()) => {}
        // It was refused as it is, so nothing was begun.
        Err(error) if error.is_refusal() || matches!(error, Error::WriteProtected(_)) => {
            return Err(of_drive(&error, "erasing", barcode));
        }
        Err(error) => return Err(incomplete(barcode, &error.to_string())),
    }
    // Formatting some media makes the drive calibrate anew.
    medium::mount(drive, barcode, stop).map_err(|f| incomplete(barcode, &f.message))?;
    match medium::beginning(drive, barcode).map_err(|f| incomplete(barcode, &f.message))? {
        Beginning::Blank => Ok(()),
        other => Err(incomplete(
            barcode,
            &format!("afterwards it still holds {}", other.words()),
        )),
    }
}

fn incomplete(barcode: &str, why: &str) -> Fault {
    fault(
        "ERASE_INCOMPLETE",
        format!("erasing cartridge {barcode} was begun and not ended: {why}"),
        "what was on it may be gone; erase it again with `--force`, or take it out of use",
    )
}

/// Erases from the beginning to the end of the medium.
fn erase_whole(
    drive: &mut dyn Drive,
    stop: &CancellationToken,
    show: &dyn Fn(u8),
) -> Result<(), Error> {
    if !drive.begin_long_erase()? {
        // The drive answers when it is done, and says nothing meanwhile.
        return drive.erase(true);
    }
    let begun = Instant::now();
    loop {
        match drive.ready()? {
            Readiness::BecomingReady | Readiness::Calibrating => {}
            Readiness::Ready => return Ok(()),
            _ => return Err(Error::NotTaken("a long erase: the medium is gone")),
        }
        if let Some(progress) = drive.progress()? {
            show((u32::from(progress) * 100 / 65_536) as u8);
        }
        if stop.is_cancelled() {
            return Err(Error::NotTaken(
                "a long erase to its end: it was stopped, and the drive goes on by itself",
            ));
        }
        if begun.elapsed() > ERASED_WITHIN {
            return Err(Error::NotTaken("a long erase within 72 hours"));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Threads what is in the drive.
pub fn load(drive: &mut dyn Drive, barcode: &str, stop: &CancellationToken) -> Result<(), Fault> {
    occupied(drive, barcode.is_empty())?;
    medium::mount(drive, named(barcode), stop).map(|_| ())
}

/// Goes to the beginning of what is in the drive.
pub fn rewind(drive: &mut dyn Drive, stop: &CancellationToken) -> Result<(), Fault> {
    occupied(drive, true)?;
    medium::mount(drive, named(""), stop)?;
    drive
        .rewind()
        .map_err(|e| of_drive(&e, "rewinding", named("")))
}

/// A drive that nothing was brought to just now must not be waited for.
fn occupied(drive: &mut dyn Drive, must_be: bool) -> Result<(), Fault> {
    match drive.ready() {
        Ok(Readiness::NoMedium) if must_be => Err(fault(
            "DRIVE_EMPTY",
            "there is no cartridge in the drive",
            "load one: taf drive load DRIVE BARCODE",
        )),
        _ => Ok(()),
    }
}

fn named(barcode: &str) -> &str {
    if barcode.is_empty() {
        "in the drive"
    } else {
        barcode
    }
}

/// Waits until the drive has cleaned itself with the cleaning cartridge in it and let go of that.
pub fn clean(drive: &mut dyn Drive, barcode: &str, stop: &CancellationToken) -> Result<(), Fault> {
    let begun = Instant::now();
    let said = |error: &Error| of_drive(error, "cleaning with", barcode);
    let (mut seen, mut asked) = (false, false);
    loop {
        drive.attentions().map_err(|e| said(&e))?;
        match drive.ready() {
            Ok(Readiness::Cleaning | Readiness::BecomingReady | Readiness::Calibrating) => {
                seen = true;
            }
            // It was pushed out, or waits for the robot to take it.
            Ok(Readiness::NoMedium | Readiness::LoadRequired) if seen => return Ok(()),
            Ok(Readiness::NoMedium) | Err(Error::UnitAttention(_)) => {}
            Ok(Readiness::LoadRequired) if asked => return Ok(()),
            // Some drives begin only when they are told to load.
            Ok(Readiness::LoadRequired) => {
                asked = true;
                match drive.load() {
                    Ok(()) => seen = true,
                    Err(Error::UnitAttention(_) | Error::NotReady(_)) => {}
                    // The reason comes with the next look.
                    Err(error) => tracing::debug!(barcode, %error, "loading a cleaning cartridge"),
                }
            }
            Ok(Readiness::CleaningExpired) => {
                return Err(fault(
                    "CLEANING_EXPIRED",
                    format!("cleaning cartridge {barcode} is used up"),
                    "export it with `taf library export`, and import a new one",
                ));
            }
            Ok(Readiness::Ready) => {
                return Err(fault(
                    "NOT_A_CLEANING_CARTRIDGE",
                    format!("cartridge {barcode} is not a cleaning cartridge"),
                    "the drive was not cleaned, and nothing was written; name another one",
                ));
            }
            Ok(Readiness::IncompatibleMedium) => {
                return Err(fault(
                    "CLEANING_FAILED",
                    format!("the drive does not take cleaning cartridge {barcode}"),
                    "use a cleaning cartridge that is made for this drive",
                ));
            }
            Err(error) => return Err(said(&error)),
        }
        if stop.is_cancelled() {
            return Err(stopped());
        }
        let patience = if seen { CLEANED_WITHIN } else { SEEN_WITHIN };
        if begun.elapsed() > patience {
            return Err(fault(
                "CLEANING_FAILED",
                format!(
                    "the drive did not end cleaning with {barcode} in {} min",
                    patience.as_secs() / 60
                ),
                "look at the drive's panel",
            ));
        }
        thread::sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
#[path = "operate/tests.rs"]
mod tests;
