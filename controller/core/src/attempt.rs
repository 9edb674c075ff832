//! What a running attempt does next, and when it is over.
//!
//! ```text
//!            unload/clear/mount          both sides done,
//!   (none) ───────────────────► work ──── all parts in ────► succeeded [with issues]
//!      ▲                         │
//!      └──── without a volume ◄──┘ goes on with the next volume
//!      │ unload/carry          it is where it was to get         ▲
//!      ├─────────────────────────────────────────────────────────┤
//!      │ scan; mount, clean, carry home         done and home    │
//!      ├─────────────────────────────────────────────────────────┘
//!      └──────────── fault, loss, cancel ─────────────────► failed | cancelled
//! ```
//!
//! A backup that is compared with an earlier version begins with its source agent alone. When that has found something to store,
//! it asks for a drive, and the attempt goes on as one without a volume; if it finds nothing, no drive ever takes part.
//!
//! Several backups of a pool may write beside each other on one volume in one drive. Who comes to a volume that is at work begins
//! with `work`; each one's verdict is its own, and nothing is moved before the last one has left the volume.
//!
//! An attempt has one volume at a time, and as many as it needs one after another. Without one it waits, for as long as is
//! configured: the planner gives it the next one that it may have, before any job that has not begun.
//!
//! A verdict comes first; the attempt ends when its drive has cleaned up behind it or is lost. A lost drive keeps
//! the volume reserved: it may still be writing.
//!
//! A backup or a restore may have several attempts at a time, its streams (see [`Share`]): the verdict of the first one is that of the
//! job, and comes last if all goes well. A further stream of a restore that loses its tape is dropped, and others do what is left.

use crate::{Fault, carry, mount};

mod foresee;
mod share;
#[cfg(test)]
mod tests;

pub use foresee::foresee;
pub use share::Share;

/// What the attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Makes a version.
    Backup,
    /// Writes files back.
    Restore,
    /// Writes a label.
    Label,
    /// Anything else that a drive does with a cartridge for an operator: erases, formats, loads, rewinds.
    Drive,
    /// Carries a cartridge to where it is wanted outside a drive.
    Carry(carry::To),
    /// Cleans a drive, and brings the cleaning cartridge home.
    Clean,
    /// Has the robot look at all its elements anew.
    Scan,
    /// Writes a volume index.
    Index,
    /// Reads parts of a volume and proves them.
    Verify,
    /// Copies what lives on a volume to others: it reads the one and writes another by turns, in the same drive.
    Reclaim,
    /// Removes files that are archived, or extra at a restore's target: its source agent works alone from the beginning to the end.
    Remove,
}

/// Where the attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// No step is under way.
    Between,
    /// The source agent works by itself: it compares, and has asked for no drive yet; or it will need none.
    SourceAlone,
    /// The drive unloads what is in it, or cleans itself.
    Unloading,
    /// The robot moves a cartridge, or looks at its elements.
    Moving,
    /// Drive and source work.
    Working,
    /// One volume is done with, and the next is not reserved yet.
    WithoutVolume {
        /// For how long, milliseconds.
        millis: u64,
    },
}

/// A process that works for the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Whether the process that was given the work is still the one that is connected or was last seen.
    pub same_incarnation: bool,
    /// How long nothing was heard of it, milliseconds.
    pub silent_millis: u64,
}

/// What one side reported in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did its part; how many issues it reported.
    Done {
        /// Issues reported.
        issues: u64,
    },
    /// The drive: all is done that can be done with this volume; the work goes on with another.
    NextVolume,
    /// The source agent, of a further stream: there was nothing for it, or it could not begin.
    Dropped,
    /// It could not.
    Fault(Fault),
}

/// A verdict on an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Done.
    Succeeded {
        /// Whether files are listed as issues.
        with_issues: bool,
    },
    /// Not done.
    Failed(Fault),
    /// Stopped by a person.
    Cancelled,
    /// A further stream that has stored nothing: the backup does without it.
    Dropped,
}

/// All that is known of a live attempt without a verdict.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // facts, each by itself
pub struct Facts<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Where it stands.
    pub stage: Stage,
    /// Steps so far for the present volume, and one.
    pub steps: u32,
    /// Whether another attempt is at work with the same cartridge in the same drive: nothing has to be moved, nor may be.
    pub beside: bool,
    /// Whether a person asked to stop it.
    pub cancel_asked: bool,
    /// The volume, or whatever cartridge; empty while there is none, or if its barcode can't be read.
    pub barcode: &'a str,
    /// What an attempt without a volume waits for, for people.
    pub waiting_for: &'a str,
    /// After so long without a volume it fails, milliseconds.
    pub volume_wait_millis: u64,
    /// The element that a cartridge to carry was in when it was asked for.
    pub from: Option<u32>,
    /// Of a cleaning or a look at the elements: whether that is done.
    pub worked: bool,
    /// The drive; empty if none takes part.
    pub drive_serial: &'a str,
    /// What the drive says of its medium.
    pub medium: mount::Medium,
    /// The drive's worker, if a drive takes part.
    pub drive: Option<Unit>,
    /// The source agent, if one takes part.
    pub source: Option<Unit>,
    /// Name of the source agent, for people.
    pub source_name: &'a str,
    /// The robot's worker; none if no library shows the drive.
    pub robot: Option<Unit>,
    /// Whether the robot works for another attempt.
    pub robot_busy: bool,
    /// Why the robot moves nothing now, for people: an open door.
    pub robot_pause: Option<&'a str>,
    /// Serial number of the library, for people.
    pub library_serial: &'a str,
    /// The library's elements.
    pub elements: &'a [mount::Element],
    /// What the drive reported.
    pub drive_outcome: Option<Outcome>,
    /// What the source agent reported.
    pub source_outcome: Option<Outcome>,
    /// For how long it is known that a side has ended, by its word or since another process is in its drive's place, at least;
    /// milliseconds.
    pub reported_millis: u64,
    /// Of a backup: whether every part up to the source's last segment is committed.
    pub parts_complete: bool,
    /// Of a backup: whether the source agent has found nothing to store.
    pub unchanged: bool,
    /// Whether the source agent was given the work.
    pub source_bound: bool,
    /// How it stands to other attempts of its job.
    pub share: Share,
    /// After this long without a word a unit is lost, milliseconds.
    pub lease_millis: u64,
}

/// What happens to an attempt without a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it goes on.
    Stay,
    /// Nothing: it waits for a person, for this.
    Pause(String),
    /// A new step begins.
    Step(mount::Step),
    /// The present volume is let go; the planner reserves the next one.
    ChangeVolume,
    /// It is decided.
    Verdict(Verdict),
}

/// More mount steps than any sane library needs.
const STEPS_MAX: u32 = 16;

/// For so long a source agent that is heard of may take to say what becomes of the loss of its drive. It finds that when it calls the
/// drive or reads; before that it asks what is to be restored, for which the controller walks over all that was chosen.
const WORD_MILLIS: u64 = 30 * 60 * 1000;

/// The fault of a side whose peer hung up or never came.
const PEER_LOST: &str = "PEER_LOST";

/// Decides on an attempt without a verdict.
pub fn next(facts: &Facts<'_>) -> Next {
    match decide(facts) {
        // What failed before it had anything harms nobody.
        Next::Verdict(Verdict::Failed(_)) if facts.share.is_further() && !facts.source_bound => {
            Next::Verdict(Verdict::Dropped)
        }
        next => next,
    }
}

fn decide(facts: &Facts<'_>) -> Next {
    if let Some(verdict) = facts.share.verdict() {
        return Next::Verdict(verdict);
    }
    if let Some(issues) = success(facts) {
        return match facts.share.with_issues() {
            Some(others) => Next::Verdict(Verdict::Succeeded {
                with_issues: issues > 0 || others,
            }),
            None if facts.cancel_asked => Next::Verdict(Verdict::Cancelled),
            None => Next::Stay,
        };
    }
    if facts.source_outcome == Some(Outcome::Dropped) {
        return Next::Verdict(Verdict::Dropped);
    }
    if let (Kind::Backup, Some(Outcome::Done { .. }), Some(Outcome::Done { .. })) =
        (facts.kind, &facts.drive_outcome, &facts.source_outcome)
    {
        let fault = Fault::new(
            "PARTS_MISSING",
            "drive and source agent report success, but the catalog does not have all parts",
            "run again; the controller's log says what is missing",
        );
        return Next::Verdict(Verdict::Failed(fault));
    }
    if let Some(fault) = root_cause(facts) {
        return Next::Verdict(Verdict::Failed(fault));
    }
    if facts.cancel_asked {
        return Next::Verdict(Verdict::Cancelled);
    }
    if let Some(fault) = loss(facts) {
        return Next::Verdict(Verdict::Failed(fault));
    }
    if facts.drive_outcome == Some(Outcome::NextVolume) {
        return Next::ChangeVolume;
    }
    match facts.stage {
        Stage::Between => {}
        // Who holds no drive and nothing on its way to tape may give way to others for however long that takes.
        Stage::WithoutVolume { .. } if facts.kind == Kind::Reclaim && facts.drive.is_none() => {
            return Next::Stay;
        }
        Stage::WithoutVolume { millis } if millis > facts.volume_wait_millis => {
            return Next::Verdict(Verdict::Failed(no_volume(facts)));
        }
        Stage::Moving => {
            return facts
                .robot_pause
                .map_or(Next::Stay, |why| Next::Pause(why.to_owned()));
        }
        _ => return Next::Stay,
    }
    if facts.steps > STEPS_MAX {
        let fault = Fault::new(
            "MOUNT_LOOP",
            format!(
                "volume {} did not come to where it is needed in {STEPS_MAX} moves",
                facts.barcode
            ),
            "look at the library: `taf library` shows what it reports",
        );
        return Next::Verdict(Verdict::Failed(fault));
    }
    match step(facts) {
        Ok(mount::Step::Work) if facts.is_about_moves() => {
            Next::Verdict(Verdict::Succeeded { with_issues: false })
        }
        Ok(step) if step.is_robots() => match facts.robot_pause {
            Some(why) => Next::Pause(why.to_owned()),
            // The elements that the step was decided on are just changing.
            None if facts.robot_busy => Next::Stay,
            None => Next::Step(step),
        },
        Ok(step) => Next::Step(step),
        Err(fault) => Next::Verdict(Verdict::Failed(fault)),
    }
}

/// The step that brings an attempt nearer to its end.
fn step(facts: &Facts<'_>) -> Result<mount::Step, Fault> {
    // A drive whose cartridge was pushed out says that it is empty. That counts once we have taken a step: before,
    // it may be what the drive said of a cartridge that is only just being loaded.
    let medium = match facts.medium {
        mount::Medium::Empty if facts.steps > 1 => mount::Medium::Unloaded,
        medium => medium,
    };
    let to_drive = || mount::next(facts.barcode, facts.drive_serial, medium, facts.elements);
    let carried = |to| {
        let cartridge = carry::Cartridge {
            barcode: facts.barcode,
            from: facts.from,
            moved: facts.steps > 1,
        };
        let drive = facts.drive.map(|_| (facts.drive_serial, medium));
        carry::next(&cartridge, to, drive, facts.elements)
    };
    match facts.kind {
        // Whatever is in the drive, wherever that is.
        Kind::Drive if facts.barcode.is_empty() => Ok(mount::Step::Work),
        Kind::Backup if facts.beside => Ok(mount::Step::Work),
        Kind::Backup
        | Kind::Restore
        | Kind::Label
        | Kind::Drive
        | Kind::Index
        | Kind::Verify
        | Kind::Reclaim => to_drive(),
        Kind::Carry(to) => carried(to),
        Kind::Clean if facts.worked => carried(carry::To::Slot),
        Kind::Clean => Ok(match to_drive()? {
            mount::Step::Work => mount::Step::Clean,
            step => step,
        }),
        Kind::Scan if facts.worked => Ok(mount::Step::Work),
        // Nothing is moved for it.
        Kind::Remove => Ok(mount::Step::Work),
        Kind::Scan => Ok(mount::Step::Scan),
    }
}

impl Facts<'_> {
    /// Whether the attempt is done when everything is where it was to get.
    fn is_about_moves(&self) -> bool {
        matches!(self.kind, Kind::Carry(_) | Kind::Clean | Kind::Scan)
    }

    /// Whether the source agent says what becomes of the loss of a drive: a further stream of a restore gives back what it has not
    /// restored. It notices soon, if the process has ended; of a host that is silent it may not hear for long.
    fn is_spoken_for(&self, drive: Unit) -> bool {
        self.kind == Kind::Restore
            && self.share.is_further()
            && self.source_bound
            && self.source_outcome.is_none()
            && drive.silent_millis <= self.lease_millis
            && self.reported_millis <= self.word_millis()
    }

    /// For how long the source agent's word on a further stream whose drive has ended is waited for.
    fn word_millis(&self) -> u64 {
        match self.kind {
            Kind::Restore => WORD_MILLIS.max(self.lease_millis),
            _ => self.lease_millis,
        }
    }

    /// Whether the drive is lost. One that does not take part can't be.
    fn is_drive_lost(&self) -> bool {
        self.drive
            .is_some_and(|drive| lost(drive, self.lease_millis))
    }
}

/// A time, for people.
fn span(millis: u64) -> String {
    match millis.div_ceil(1000) {
        1 => "a second".to_owned(),
        seconds @ 0..=119 => format!("{seconds} seconds"),
        seconds if seconds < 2 * 3600 => format!("{} minutes", seconds / 60),
        seconds => format!("{} hours", seconds / 3600),
    }
}

/// Nobody brought a volume in time.
fn no_volume(facts: &Facts<'_>) -> Fault {
    let wanted = if facts.waiting_for.is_empty() {
        "a further volume"
    } else {
        facts.waiting_for
    };
    Fault::new(
        "NO_VOLUME",
        format!(
            "the job can't go on; it waited in vain for {}: {wanted}",
            span(facts.volume_wait_millis)
        ),
        "committed parts are safe; bring such a volume and run again; `taf library` shows what is in the slots",
    )
}

/// The issues of an attempt that has done what it was for, whatever happened to anybody afterwards.
fn success(facts: &Facts<'_>) -> Option<u64> {
    match (facts.kind, &facts.drive_outcome, &facts.source_outcome) {
        (Kind::Backup, drive, Some(Outcome::Done { issues })) => {
            let drive_is_done = facts.unchanged || drive.is_some() || facts.is_drive_lost();
            (facts.parts_complete && drive_is_done).then_some(*issues)
        }
        (Kind::Restore | Kind::Remove, _, Some(Outcome::Done { issues }))
        | (Kind::Verify | Kind::Reclaim, Some(Outcome::Done { issues }), _) => Some(*issues),
        (Kind::Label | Kind::Drive | Kind::Index, Some(Outcome::Done { .. }), _) => Some(0),
        _ => None,
    }
}

/// Whether an attempt with a verdict is over: nobody who could still touch its drive is at work for it, or they are
/// lost. A move is waited for, or the next attempt would be planned from elements that are just changing.
pub fn is_over(
    stage: &Stage,
    drive_reported: bool,
    drive: Option<Unit>,
    robot: Option<Unit>,
    lease_millis: u64,
) -> bool {
    drive_reported
        || match stage {
            Stage::Between | Stage::SourceAlone | Stage::WithoutVolume { .. } => true,
            Stage::Unloading | Stage::Working => {
                drive.is_none_or(|drive| lost(drive, lease_millis))
            }
            Stage::Moving => robot.is_none_or(|robot| lost(robot, lease_millis)),
        }
}

/// Whether the process is gone, or may be.
pub fn lost(unit: Unit, lease_millis: u64) -> bool {
    !unit.same_incarnation || unit.silent_millis > lease_millis
}

/// Of two faults, the one that caused the other: a peer that hung up is the consequence, and one that was stopped, without
/// our asking, is nearer to the cause. What another stream caused is decided with that stream, unless its word never comes.
fn root_cause(facts: &Facts<'_>) -> Option<Fault> {
    let fault = |outcome: &Option<Outcome>| match outcome {
        Some(Outcome::Fault(fault)) => Some(fault.clone()),
        _ => None,
    };
    let distance = |fault: &Fault| match fault.reason.as_str() {
        PEER_LOST => 2,
        "STOPPED" => 1,
        _ => 0,
    };
    let both_spoke = facts.drive_outcome.is_some() && facts.source_outcome.is_some();
    let waited = |leases: u64| facts.reported_millis > leases.saturating_mul(facts.lease_millis);
    if let Some(consequence) =
        fault(&facts.source_outcome).filter(|fault| fault.reason == share::OTHER_STREAM)
    {
        return waited(2).then_some(consequence);
    }
    // Only the source agent knows whether the stream has anything yet.
    if facts.share.is_further() && facts.source_bound && facts.source_outcome.is_none() {
        let drive = fault(&facts.drive_outcome)?;
        let waited = facts.reported_millis > facts.word_millis();
        return loss_of_source(facts).or_else(|| waited.then_some(drive));
    }
    match (fault(&facts.drive_outcome), fault(&facts.source_outcome)) {
        (Some(drive), Some(source)) if distance(&source) < distance(&drive) => Some(source),
        (Some(drive), Some(_)) => Some(drive),
        // The other side's own word explains it, and comes or is lost. But it may be well and wait for a peer that
        // can't reach it.
        (Some(one), None) | (None, Some(one)) if one.reason == PEER_LOST && !both_spoke => {
            loss(facts).or_else(|| waited(1).then_some(one))
        }
        (one, other) => one.or(other),
    }
}

/// How a lost unit is spoken of.
fn how(unit: Unit) -> &'static str {
    if unit.same_incarnation {
        "has not been heard of"
    } else {
        "was restarted"
    }
}

/// Who was lost that has not yet said how it ended.
fn loss(facts: &Facts<'_>) -> Option<Fault> {
    if let Some(drive) = facts.drive.filter(|_| facts.drive_outcome.is_none())
        && lost(drive, facts.lease_millis)
        && !facts.is_spoken_for(drive)
    {
        return Some(Fault::new(
            "DRIVE_LOST",
            format!(
                "the worker of drive {} {} while it worked",
                facts.drive_serial,
                how(drive)
            ),
            "committed parts are safe; run again when `taf drive` shows the drive ready",
        ));
    }
    if facts.stage == Stage::Moving {
        let Some(robot) = facts.robot else {
            return Some(mount::not_in_library(facts.drive_serial));
        };
        if lost(robot, facts.lease_millis) {
            return Some(Fault::new(
                "LIBRARY_LOST",
                format!(
                    "the worker of library {} {} while it moved a cartridge",
                    facts.library_serial,
                    how(robot)
                ),
                "run again when `taf library` shows what is in its slots",
            ));
        }
    }
    loss_of_source(facts)
}

fn loss_of_source(facts: &Facts<'_>) -> Option<Fault> {
    let source = facts.source?;
    if facts.source_outcome.is_none() && lost(source, facts.lease_millis) {
        return Some(Fault::new(
            "SOURCE_LOST",
            format!(
                "source agent {} {} while it worked",
                facts.source_name,
                how(source)
            ),
            "committed parts are safe; run again when `taf agent` shows it connected",
        ));
    }
    None
}
