//! What a running attempt does next, and when it is over.
//!
//! ```text
//!            unload/clear/mount          both sides done,
//!   (none) ───────────────────► work ──── all parts in ────► succeeded [with issues]
//!      └──────────── fault, loss, cancel ─────────────────► failed | cancelled
//! ```
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
    /// A step towards the mount is under way.
    Mounting,
    /// Drive and source work.
    Working,
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
    /// Steps so far.
    pub steps: u32,
    /// Whether a person asked to stop it.
    pub cancel_asked: bool,
    /// The volume.
    pub barcode: &'a str,
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
    /// The library's elements.
    pub elements: &'a [mount::Element],
    /// What the drive reported.
    pub drive_outcome: Option<Outcome>,
    /// What the source agent reported.
    pub source_outcome: Option<Outcome>,
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
    /// It is decided.
    Verdict(Verdict),
}

/// More mount steps than any sane library needs.
const STEPS_MAX: u32 = 16;

/// Decides on an attempt without a verdict.
pub fn next(facts: &Facts<'_>) -> Next {
    // A finished backup is a backup, whatever happened to anybody afterwards.
    if facts.kind == Kind::Backup
        && facts.parts_complete
        && let Some(Outcome::Done { issues }) = facts.source_outcome
        && (facts.drive_outcome.is_some() || lost(facts.drive, facts.lease_millis))
    {
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
    match (facts.kind, &facts.drive_outcome, &facts.source_outcome) {
        (Kind::Label, Some(Outcome::Done { .. }), _) => {
            return Next::Verdict(Verdict::Succeeded { with_issues: false });
        }
        (Kind::Restore, _, Some(Outcome::Done { issues })) => {
            return Next::Verdict(Verdict::Succeeded {
                with_issues: *issues > 0,
            });
        }
        _ => {}
    }
    if facts.cancel_asked {
        return Next::Verdict(Verdict::Cancelled);
    }
    if let Some(fault) = loss(facts) {
        return Next::Verdict(Verdict::Failed(fault));
    }
    if facts.stage != Stage::Between {
        return Next::Stay;
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
    match mount::next(
        facts.barcode,
        facts.drive_serial,
        facts.medium,
        facts.elements,
    ) {
        Ok(step) => Next::Step(step),
        Err(fault) => Next::Verdict(Verdict::Failed(fault)),
    }
}

/// Whether an attempt with a verdict is over: its drive is free or lost.
pub fn is_over(drive_reported: bool, working: bool, drive: Unit, lease_millis: u64) -> bool {
    drive_reported || !working || lost(drive, lease_millis)
}

/// Whether the process is gone, or may be.
pub fn lost(unit: Unit, lease_millis: u64) -> bool {
    !unit.same_incarnation || unit.silent_millis > lease_millis
}

/// Of two faults, the one that caused the other: a peer that hung up is the consequence.
fn root_cause(facts: &Facts<'_>) -> Option<Fault> {
    let fault = |outcome: &Option<Outcome>| match outcome {
        Some(Outcome::Fault(fault)) => Some(fault.clone()),
        _ => None,
    };
    let consequence = |fault: &Fault| matches!(fault.reason.as_str(), "PEER_LOST" | "STOPPED");
    match (fault(&facts.drive_outcome), fault(&facts.source_outcome)) {
        (Some(drive), Some(source)) if consequence(&drive) => Some(source),
        (Some(drive), Some(_)) => Some(drive),
        // The other side's own word explains it, and comes or is lost: wait for either.
        (Some(one), None) | (None, Some(one)) if consequence(&one) => loss(facts),
        (one, other) => one.or(other),
    }
}

fn loss(facts: &Facts<'_>) -> Option<Fault> {
    if lost(facts.drive, facts.lease_millis) {
        let how = if facts.drive.same_incarnation {
            "has not been heard of"
        } else {
            "was restarted"
        };
        return Some(Fault::new(
            "DRIVE_LOST",
            format!(
                "the worker of drive {} {how} while it worked",
                facts.drive_serial
            ),
            "committed parts are safe; run again when `taf drive` shows the drive ready",
        ));
    }
    let source = facts.source?;
    if facts.source_outcome.is_none() && lost(source, facts.lease_millis) {
        let how = if source.same_incarnation {
            "has not been heard of"
        } else {
            "was restarted"
        };
        return Some(Fault::new(
            "SOURCE_LOST",
            format!("source agent {} {how} while it worked", facts.source_name),
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
            drive_serial: "D1",
            medium: Medium::Empty,
            drive: WELL,
            source: Some(WELL),
            source_name: "host",
            elements,
            drive_outcome: None,
            source_outcome: None,
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

    #[test]
    fn an_attempt_is_over_when_its_drive_is_free_or_lost() {
        assert!(!is_over(false, true, WELL, 20_000));
        assert!(is_over(true, true, WELL, 20_000));
        assert!(is_over(false, false, WELL, 20_000));
        assert!(is_over(false, true, RESTARTED, 20_000));
    }
}
