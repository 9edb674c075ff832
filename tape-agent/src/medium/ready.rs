//! Getting a cartridge ready: waiting for the drive, setting it up, locking the cartridge in.
//!
//! A drive that is getting ready is given time as long as it gets on; one that calibrates a new LTO-9 cartridge takes hours and
//! is never disturbed in it, or it would begin anew the next time.

use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use taf_drive::{Drive, Error, MediumState, Readiness, Reserved};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use crate::fault::{fault, is_news, of_drive, stopped};

/// A drive that is getting ready must get on within this.
const STEP_WITHIN: Duration = Duration::from_mins(15);
/// Calibration of a new cartridge takes up to two hours, and some drives say nothing in the meantime.
const CALIBRATED_WITHIN: Duration = Duration::from_hours(3);
/// The robot has brought the cartridge; the drive must see it within this.
const SEEN_WITHIN: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// News of the drive that proving a volume outlives. A drive that has more is not to be worked with.
const NEWS_MAX: u32 = 5;

/// Is shown what a drive does that is not ready.
pub type Show<'a> = &'a dyn Fn(&str);

/// Does what proves a volume, and does it again from its beginning when news of the drive came into it: a command that brings
/// news has not run, and behind a reset or a change of cartridge nothing holds that was proved before.
pub fn steadily<T, E>(
    fault_of: impl Fn(&E) -> &Fault,
    mut prove: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut news = 0;
    loop {
        match prove() {
            Err(error) if is_news(fault_of(&error)) && news < NEWS_MAX => {
                news += 1;
                let message = &fault_of(&error).message;
                tracing::warn!(message, "the drive has news: the volume is proved again");
            }
            outcome => return outcome,
        }
    }
}

/// Waits until the cartridge is ready or the work is stopped, sets the drive up for it, and locks it in: until the work ends
/// nobody takes it out by the drive's button or another program's robot.
pub fn mount(
    drive: &mut dyn Drive,
    barcode: &str,
    stop: &CancellationToken,
) -> Result<MediumState, Fault> {
    mount_shown(drive, barcode, stop, &|_| {})
}

/// [`mount`], and shows what the drive does meanwhile.
pub fn mount_shown(
    drive: &mut dyn Drive,
    barcode: &str,
    stop: &CancellationToken,
    show: Show<'_>,
) -> Result<MediumState, Fault> {
    steadily(
        |fault| fault,
        || {
            wait(drive, barcode, stop, show)?;
            set_up(drive, barcode)
        },
    )
}

/// Waits until the drive is ready.
pub fn wait(
    drive: &mut dyn Drive,
    barcode: &str,
    stop: &CancellationToken,
    show: Show<'_>,
) -> Result<(), Fault> {
    let said = |error: &Error| of_drive(error, "mounting", barcode);
    reserve(drive, barcode)?;
    let begun = Instant::now();
    let mut step = (None, begun);
    loop {
        // News of a reset or a new cartridge; what they undo is set anew afterwards.
        drive.attentions().map_err(|e| said(&e))?;
        let readiness = match drive.ready() {
            Ok(Readiness::Ready) => return Ok(()),
            Ok(readiness) => readiness,
            // It came between two commands: the next look takes it.
            Err(Error::UnitAttention(_)) => Readiness::BecomingReady,
            Err(error) => return Err(said(&error)),
        };
        let percent = match readiness {
            Readiness::BecomingReady | Readiness::Calibrating => match drive.progress() {
                Ok(whole) => whole.map(|whole| (u32::from(whole) * 100 / 0x1_0000) as u8),
                Err(Error::UnitAttention(_)) => None,
                Err(error) => return Err(said(&error)),
            },
            _ => None,
        };
        if step.0 != Some((readiness, percent)) {
            step = (Some((readiness, percent)), Instant::now());
            show(&words(readiness, percent));
        }
        let patience = match readiness {
            Readiness::NoMedium => SEEN_WITHIN,
            Readiness::Calibrating => CALIBRATED_WITHIN,
            Readiness::IncompatibleMedium => {
                return Err(fault(
                    "INCOMPATIBLE_MEDIUM",
                    format!("the drive can't use cartridge {barcode}"),
                    "use a cartridge of a generation that the drive writes",
                ));
            }
            Readiness::CleaningExpired => {
                return Err(fault(
                    "INCOMPATIBLE_MEDIUM",
                    format!("cartridge {barcode} is a cleaning cartridge that is used up"),
                    "take it out of the library",
                ));
            }
            Readiness::LoadRequired => {
                match drive.load() {
                    Ok(()) | Err(Error::UnitAttention(_) | Error::NotReady(_)) => {}
                    Err(error) => return Err(said(&error)),
                }
                STEP_WITHIN
            }
            Readiness::BecomingReady | Readiness::Cleaning | Readiness::Ready => STEP_WITHIN,
        };
        if stop.is_cancelled() {
            return Err(stopped());
        }
        if step.1.elapsed() > patience || begun.elapsed() > CALIBRATED_WITHIN + STEP_WITHIN {
            return Err(fault(
                "DRIVE_NOT_READY",
                format!(
                    "the drive did not get cartridge {barcode} ready: for {} s it has been {}",
                    step.1.elapsed().as_secs(),
                    words(readiness, percent)
                ),
                "look at the drive's panel",
            ));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Keeps other hosts off the drive.
fn reserve(drive: &mut dyn Drive, barcode: &str) -> Result<(), Fault> {
    match drive.reserve() {
        Ok(Reserved::Ours | Reserved::NotAsked) => Ok(()),
        Ok(Reserved::Unsupported) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                tracing::warn!(
                    "the drive knows no persistent reservations: nothing keeps other hosts off it"
                );
            });
            Ok(())
        }
        Err(error) => Err(of_drive(&error, "reserving the drive for", barcode)),
    }
}

/// What a drive does that is not ready, for people.
fn words(readiness: Readiness, percent: Option<u8>) -> String {
    let what = match readiness {
        Readiness::Ready => "ready",
        Readiness::BecomingReady => "becoming ready",
        Readiness::Calibrating => "calibrating a new cartridge",
        Readiness::NoMedium => "waiting for the cartridge",
        Readiness::LoadRequired => "loading",
        Readiness::Cleaning => "cleaning",
        Readiness::CleaningExpired => "refusing a used-up cleaning cartridge",
        Readiness::IncompatibleMedium => "refusing the cartridge",
    };
    percent.map_or_else(|| what.to_owned(), |percent| format!("{what}, {percent} %"))
}

fn set_up(drive: &mut dyn Drive, barcode: &str) -> Result<MediumState, Fault> {
    let said = |error: &Error| of_drive(error, "mounting", barcode);
    let state = drive.prepare().map_err(|e| said(&e))?;
    match drive.prevent_removal(true) {
        Ok(()) => {}
        // Not every drive can.
        Err(error) if error.is_refusal() => {
            tracing::warn!(barcode, %error, "the drive does not lock its cartridge in");
        }
        Err(error) => return Err(said(&error)),
    }
    // A second lock behind our own rules: what is recorded stays, whoever errs. `crate::overwrite` has the key to it.
    if !drive.set_append_only(true).map_err(|e| said(&e))? {
        tracing::debug!(
            barcode,
            "the drive has no append-only mode, or is not put into it"
        );
    }
    Ok(state)
}

/// Rewinds and ejects. A cartridge that is being calibrated is waited for: to break that off costs hours the next time.
pub fn unload(
    drive: &mut dyn Drive,
    stop: &CancellationToken,
    show: Show<'_>,
) -> Result<(), Fault> {
    const WHAT: &str = "the cartridge";
    let said = |error: &Error| of_drive(error, "unloading", WHAT);
    steadily(
        |fault| fault,
        || {
            reserve(drive, WHAT)?;
            drive.attentions().map_err(|e| said(&e))?;
            match drive.ready() {
                Ok(Readiness::NoMedium | Readiness::LoadRequired) => return Ok(()),
                Ok(Readiness::Calibrating) => wait(drive, WHAT, stop, show)?,
                Err(error @ Error::UnitAttention(_)) => return Err(said(&error)),
                _ => {}
            }
            match drive.prevent_removal(false) {
                // A drive that does not lock has nothing to let go.
                Ok(()) => {}
                Err(error) if error.is_refusal() => {}
                Err(error) => return Err(said(&error)),
            }
            drive.unload().map_err(|e| said(&e))?;
            // Most drives leave the mode with the cartridge. One that keeps it would surprise whoever uses it next.
            if let Err(error) = drive.set_append_only(false) {
                tracing::debug!(%error, "the drive does not leave append-only mode");
            }
            Ok(())
        },
    )
}
