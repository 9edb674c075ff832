//! What a running attempt does next, and when it is over.
//!
//! ```text
//!            unload/clear/mount          both sides done,
//!   (none) ───────────────────► work ──── all parts in ────► succeeded [with issues]
//!      ▲                         │
//!      └──── without a volume ◄──┘ goes on with the next volume
//!      └──────────── fault, loss, cancel ─────────────────► failed | cancelled
//! ```
//!
//! An attempt has one volume at a time, and as many as it needs one after another. Without one it waits, for as long as is
//! configured: the planner gives it the next one that it may have, before any job that has not begun.
//!
//! A verdict comes first; the attempt ends when its drive has cleaned up behind it or is lost. A lost drive keeps
//! the volume reserved: it may still be writing.

use crate::{Fault, mount};

/// What the attempt is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Makes a version.
    Backup,
    /// Writes files back.
    Restore,
    /// Writes a label.
    Label,
}

/// Where the attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// No step is under way.
    Between,
    /// The drive unloads what is in it.
    Unloading,
    /// The robot moves a cartridge.
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
}

/// All that is known of a live attempt without a verdict.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Where it stands.
    pub stage: Stage,
    /// Steps so far for the present volume, and one.
    pub steps: u32,
    /// Whether a person asked to stop it.
    pub cancel_asked: bool,
    /// The volume; empty while there is none.
    pub barcode: &'a str,
    /// What an attempt without a volume waits for, for people.
    pub waiting_for: &'a str,
    /// After so long without a volume it fails, milliseconds.
    pub volume_wait_millis: u64,
    /// The drive.
    pub drive_serial: &'a str,
    /// What the drive says of its medium.
    pub medium: mount::Medium,
    /// The drive's worker.
    pub drive: Unit,
    /// The source agent, if one takes part.
    pub source: Option<Unit>,
    /// Name of the source agent, for people.
    pub source_name: &'a str,
    /// The robot's worker; none if no library shows the drive.
    pub robot: Option<Unit>,
    /// Serial number of the library, for people.
    pub library_serial: &'a str,
    /// The library's elements.
    pub elements: &'a [mount::Element],
    /// What the drive reported.
    pub drive_outcome: Option<Outcome>,
    /// What the source agent reported.
    pub source_outcome: Option<Outcome>,
    /// For how long one side's word is known, at least; milliseconds.
    pub reported_millis: u64,
    /// Of a backup: whether every part up to the source's last segment is committed.
    pub parts_complete: bool,
    /// After this long without a word a unit is lost, milliseconds.
    pub lease_millis: u64,
}

/// What happens to an attempt without a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it goes on.
    Stay,
    /// A new step begins.
    Step(mount::Step),
    /// The present volume is let go; the planner reserves the next one.
    ChangeVolume,
    /// It is decided.
    Verdict(Verdict),
}

/// More mount steps than any sane library needs.
const STEPS_MAX: u32 = 16;

/// The fault of a side whose peer hung up or never came.
const PEER_LOST: &str = "PEER_LOST";

/// Decides on an attempt without a verdict.
pub fn next(facts: &Facts<'_>) -> Next {
    if let Some(issues) = success(facts) {
        return Next::Verdict(Verdict::Succeeded {
            with_issues: issues > 0,
        });
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
        Stage::WithoutVolume { millis } if millis > facts.volume_wait_millis => {
            return Next::Verdict(Verdict::Failed(no_volume(facts)));
        }
        _ => return Next::Stay,
    }
    if facts.steps > STEPS_MAX {
        let fault = Fault::new(
            "MOUNT_LOOP",
            format!(
                "volume {} did not come into drive {} in {STEPS_MAX} moves",
                facts.barcode, facts.drive_serial
            ),
            "look at the library: `taf library` shows what it reports",
        );
        return Next::Verdict(Verdict::Failed(fault));
    }
    // A drive whose cartridge was pushed out says that it is empty. That counts once we have taken a step: before,
    // it may be what the drive said of a cartridge that is only just being loaded.
    let medium = match facts.medium {
        mount::Medium::Empty if facts.steps > 1 => mount::Medium::Unloaded,
        medium => medium,
    };
    match mount::next(facts.barcode, facts.drive_serial, medium, facts.elements) {
        Ok(step) => Next::Step(step),
        Err(fault) => Next::Verdict(Verdict::Failed(fault)),
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
            "the job can't go on: for {} minutes it waited for {wanted}",
            facts.volume_wait_millis.div_ceil(60_000)
        ),
        "committed parts are safe; bring such a volume and run again; `taf library` shows what is in the slots",
    )
}

/// The issues of an attempt that has done what it was for, whatever happened to anybody afterwards.
fn success(facts: &Facts<'_>) -> Option<u64> {
    match (facts.kind, &facts.drive_outcome, &facts.source_outcome) {
        (Kind::Backup, drive, Some(Outcome::Done { issues })) => {
            let drive_is_done = drive.is_some() || lost(facts.drive, facts.lease_millis);
            (facts.parts_complete && drive_is_done).then_some(*issues)
        }
        (Kind::Restore, _, Some(Outcome::Done { issues })) => Some(*issues),
        (Kind::Label, Some(Outcome::Done { .. }), _) => Some(0),
        _ => None,
    }
}

/// Whether an attempt with a verdict is over: nobody who could still touch its drive is at work for it, or they are
/// lost. A move is waited for, or the next attempt would be planned from elements that are just changing.
pub fn is_over(
    stage: &Stage,
    drive_reported: bool,
    drive: Unit,
    robot: Option<Unit>,
    lease_millis: u64,
) -> bool {
    drive_reported
        || match stage {
            Stage::Between | Stage::WithoutVolume { .. } => true,
            Stage::Unloading | Stage::Working => lost(drive, lease_millis),
            Stage::Moving => robot.is_none_or(|robot| lost(robot, lease_millis)),
        }
}

/// Whether the process is gone, or may be.
pub fn lost(unit: Unit, lease_millis: u64) -> bool {
    !unit.same_incarnation || unit.silent_millis > lease_millis
}

/// Of two faults, the one that caused the other: a peer that hung up is the consequence, and one that was stopped, without
/// our asking, is nearer to the cause.
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
    match (fault(&facts.drive_outcome), fault(&facts.source_outcome)) {
        (Some(drive), Some(source)) if distance(&source) < distance(&drive) => Some(source),
        (Some(drive), Some(_)) => Some(drive),
        // The other side's own word explains it, and comes or is lost. But it may be well and wait for a peer that
        // can't reach it.
        (Some(one), None) | (None, Some(one)) if one.reason == PEER_LOST && !both_spoke => {
            loss(facts).or_else(|| (facts.reported_millis > facts.lease_millis).then_some(one))
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
    if facts.drive_outcome.is_none() && lost(facts.drive, facts.lease_millis) {
        return Some(Fault::new(
            "DRIVE_LOST",
            format!(
                "the worker of drive {} {} while it worked",
                facts.drive_serial,
                how(facts.drive)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{Element, ElementKind, Medium};

    const WELL: Unit = Unit {
        same_incarnation: true,
        silent_millis: 0,
    };
    const RESTARTED: Unit = Unit {
        same_incarnation: false,
        silent_millis: 0,
    };

    fn facts(elements: &[Element]) -> Facts<'_> {
        Facts {
            kind: Kind::Backup,
            stage: Stage::Working,
            steps: 1,
            cancel_asked: false,
            barcode: "A",
            waiting_for: "",
            volume_wait_millis: 3_600_000,
            drive_serial: "D1",
            medium: Medium::Empty,
            drive: WELL,
            source: Some(WELL),
            source_name: "host",
            robot: Some(WELL),
            library_serial: "L1",
            elements,
            drive_outcome: None,
            source_outcome: None,
            reported_millis: 0,
            parts_complete: false,
            lease_millis: 20_000,
        }
    }

    #[test]
    fn a_backup_needs_both_sides_and_all_parts() {
        let mut f = facts(&[]);
        assert_eq!(next(&f), Next::Stay);
        f.source_outcome = Some(Outcome::Done { issues: 2 });
        assert_eq!(next(&f), Next::Stay);
        f.drive_outcome = Some(Outcome::Done { issues: 0 });
        assert!(
            matches!(next(&f), Next::Verdict(Verdict::Failed(fault)) if fault.reason == "PARTS_MISSING")
        );
        f.parts_complete = true;
        assert_eq!(
            next(&f),
            Next::Verdict(Verdict::Succeeded { with_issues: true })
        );
    }

    #[test]
    fn a_worker_that_dies_after_the_last_commit_costs_nothing() {
        let f = Facts {
            source_outcome: Some(Outcome::Done { issues: 0 }),
            parts_complete: true,
            drive: RESTARTED,
            ..facts(&[])
        };
        assert_eq!(
            next(&f),
            Next::Verdict(Verdict::Succeeded { with_issues: false })
        );
    }

    #[test]
    fn the_cause_is_reported_not_the_consequence() {
        let peer_lost = Fault::new("PEER_LOST", "the source agent hung up", "");
        let f = Facts {
            drive_outcome: Some(Outcome::Fault(peer_lost.clone())),
            source: Some(RESTARTED),
            ..facts(&[])
        };
        let Next::Verdict(Verdict::Failed(fault)) = next(&f) else {
            panic!("must fail")
        };
        assert_eq!(fault.reason, "SOURCE_LOST");
        let full = Fault::new("VOLUME_FULL", "full", "");
        let f = Facts {
            drive_outcome: Some(Outcome::Fault(full)),
            source_outcome: Some(Outcome::Fault(peer_lost)),
            ..facts(&[])
        };
        let Next::Verdict(Verdict::Failed(fault)) = next(&f) else {
            panic!("must fail")
        };
        assert_eq!(fault.reason, "VOLUME_FULL");
    }

    #[test]
    fn silence_beyond_the_lease_is_loss() {
        let mut f = facts(&[]);
        f.drive.silent_millis = 20_000;
        assert_eq!(next(&f), Next::Stay);
        f.drive.silent_millis = 20_001;
        assert!(
            matches!(next(&f), Next::Verdict(Verdict::Failed(fault)) if fault.reason == "DRIVE_LOST")
        );
    }

    #[test]
    fn between_steps_the_mount_goes_on() {
        let elements = [Element {
            kind: ElementKind::Drive,
            address: 1,
            full: true,
            barcode: Some("A".into()),
            drive_serial: Some("D1".into()),
            source_address: None,
        }];
        let f = Facts {
            stage: Stage::Between,
            ..facts(&elements)
        };
        assert_eq!(next(&f), Next::Step(mount::Step::Work));
        let f = Facts {
            steps: 17,
            ..f.clone()
        };
        assert!(matches!(next(&f), Next::Verdict(Verdict::Failed(_))));
    }

    fn reason(facts: &Facts<'_>) -> String {
        match next(facts) {
            Next::Verdict(Verdict::Failed(fault)) => fault.reason,
            other => panic!("must fail: {other:?}"),
        }
    }

    #[test]
    fn a_side_that_only_lost_its_peer_waits_for_the_other_but_not_for_ever() {
        let mut f = Facts {
            source_outcome: Some(Outcome::Fault(Fault::new("PEER_LOST", "no way there", ""))),
            ..facts(&[])
        };
        assert_eq!(next(&f), Next::Stay);
        f.reported_millis = 20_001;
        assert_eq!(reason(&f), "PEER_LOST");
        f.reported_millis = 0;
        f.drive_outcome = Some(Outcome::Fault(Fault::new("STOPPED", "", "")));
        assert_eq!(reason(&f), "STOPPED");
    }

    #[test]
    fn a_drive_that_has_reported_may_go() {
        let mut f = Facts {
            drive_outcome: Some(Outcome::Done { issues: 0 }),
            drive: RESTARTED,
            ..facts(&[])
        };
        assert_eq!(next(&f), Next::Stay, "the source is about to report");
        f.kind = Kind::Restore;
        f.drive_outcome = Some(Outcome::Fault(Fault::new("PEER_LOST", "", "")));
        f.source_outcome = Some(Outcome::Done { issues: 0 });
        assert_eq!(
            next(&f),
            Next::Verdict(Verdict::Succeeded { with_issues: false })
        );
    }

    #[test]
    fn a_robot_may_be_restarted_while_it_moves_but_not_stay_away() {
        let silent = Unit {
            silent_millis: 20_001,
            ..WELL
        };
        let mut f = Facts {
            stage: Stage::Moving,
            ..facts(&[])
        };
        assert_eq!(next(&f), Next::Stay);
        f.robot = Some(silent);
        assert_eq!(reason(&f), "LIBRARY_LOST");
        f.robot = None;
        assert_eq!(reason(&f), "DRIVE_NOT_IN_LIBRARY");
        f.stage = Stage::Working;
        assert_eq!(next(&f), Next::Stay, "nobody needs the robot now");
    }

    #[test]
    fn a_drive_that_pushes_its_cartridge_out_is_cleared_after_one_unload() {
        let slot = Element {
            kind: ElementKind::Slot,
            address: 2,
            full: false,
            barcode: None,
            drive_serial: None,
            source_address: None,
        };
        let full = |address, kind, barcode: &str, serial: Option<&str>| Element {
            kind,
            address,
            full: true,
            barcode: Some(barcode.into()),
            drive_serial: serial.map(str::to_owned),
            source_address: None,
        };
        let elements = [
            full(1, ElementKind::Drive, "B", Some("D1")),
            full(3, ElementKind::Slot, "A", None),
            slot,
        ];
        let mut f = Facts {
            stage: Stage::Between,
            medium: Medium::Empty,
            ..facts(&elements)
        };
        assert_eq!(next(&f), Next::Step(mount::Step::Unload));
        f.steps = 2;
        assert!(matches!(next(&f), Next::Step(mount::Step::Clear(_))));
    }

    #[test]
    fn a_full_volume_is_followed_by_the_next_and_the_wait_for_it_has_an_end() {
        let mut f = Facts {
            drive_outcome: Some(Outcome::NextVolume),
            ..facts(&[])
        };
        assert_eq!(next(&f), Next::ChangeVolume);
        // Whoever stopped meanwhile decides.
        f.source_outcome = Some(Outcome::Fault(Fault::new("UNREADABLE", "", "")));
        assert_eq!(reason(&f), "UNREADABLE");
        let mut f = Facts {
            stage: Stage::WithoutVolume { millis: 3_600_000 },
            barcode: "",
            waiting_for: "a volume of pool p: label one",
            ..facts(&[])
        };
        assert_eq!(next(&f), Next::Stay);
        f.stage = Stage::WithoutVolume { millis: 3_600_001 };
        let Next::Verdict(Verdict::Failed(fault)) = next(&f) else {
            panic!("must fail")
        };
        assert_eq!(fault.reason, "NO_VOLUME");
        assert!(fault.message.contains("60 minutes") && fault.message.contains("pool p"));
        // The transfer is in the worker's memory: with it the archive is gone.
        f.stage = Stage::WithoutVolume { millis: 0 };
        f.drive = RESTARTED;
        assert_eq!(reason(&f), "DRIVE_LOST");
        assert!(is_over(&f.stage, false, WELL, Some(WELL), 20_000));
    }

    #[test]
    fn an_attempt_is_over_when_nobody_touches_its_drive_any_more() {
        let over = |stage, reported, drive, robot| is_over(&stage, reported, drive, robot, 20_000);
        assert!(!over(Stage::Working, false, WELL, None));
        assert!(over(Stage::Working, true, WELL, None));
        assert!(over(Stage::Working, false, RESTARTED, None));
        assert!(over(Stage::Between, false, WELL, Some(WELL)));
        assert!(!over(Stage::Unloading, false, WELL, Some(WELL)));
        assert!(!over(Stage::Moving, false, RESTARTED, Some(WELL)));
        assert!(over(Stage::Moving, false, WELL, None));
    }
}
