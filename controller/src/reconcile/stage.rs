//! Where an attempt is, and what it is for, as its row says.

use std::collections::HashMap;
use std::ops::Range;

use taf_core::mount::Medium;
use taf_core::{attempt, carry};

use crate::store::attempts::{LiveAttempt, Task};
use crate::store::drives::DriveRow;
use crate::store::streams::Further;

/// The step that is under way.
pub(super) fn stage(attempt: &LiveAttempt) -> attempt::Stage {
    match attempt.step_kind.as_str() {
        "unload" | "clean" => attempt::Stage::Unloading,
        "clear" | "mount" | "carry" | "scan" => attempt::Stage::Moving,
        "work" => attempt::Stage::Working,
        // Whoever waits for other streams wants nothing until it is asked for.
        _ if is_resting(attempt) => attempt::Stage::SourceAlone,
        _ => match attempt.waiting_seconds {
            Some(seconds) => attempt::Stage::WithoutVolume {
                millis: (seconds.max(0.0) * 1000.0) as u64,
            },
            None if is_alone(attempt) => attempt::Stage::SourceAlone,
            None => attempt::Stage::Between,
        },
    }
}

/// Whether the source agent works without a drive. That it is to do so is decided when the attempt begins.
pub(super) fn is_alone(attempt: &LiveAttempt) -> bool {
    let alone = ["backup", "remove-sources", "remove-extra"];
    alone.contains(&attempt.kind.as_str()) && attempt.drive_id.is_none()
}

/// Whether it is a restore that has left its drive to others.
fn is_resting(attempt: &LiveAttempt) -> bool {
    attempt.kind == "restore"
        && attempt.waiting_seconds.is_some()
        && attempt.drive_id.is_none()
        && attempt.wanted_volume_id.is_none()
}

/// Whether the planner is to give it a volume.
pub(super) fn waits_for_volume(attempt: &LiveAttempt) -> bool {
    attempt.verdict == "none" && matches!(stage(attempt), attempt::Stage::WithoutVolume { .. })
}

/// The streams that may still join a backup: none if `live` is no first stream at work.
pub(super) fn further_streams(live: &LiveAttempt, had: &HashMap<i64, Vec<Further>>) -> Range<i32> {
    let walks = is_joinable(live) && live.step_kind == "work" && live.drive_id.is_some();
    match &live.archive {
        Some(archive) if walks => {
            let begun = had.get(&live.job_id).map_or(0, Vec::len) as i32;
            1 + begun..archive.streams
        }
        _ => 0..0,
    }
}

/// Whether the source agent is at work for the first stream of a job.
pub(super) fn is_joinable(live: &LiveAttempt) -> bool {
    live.stream == 0
        && live.verdict == "none"
        && !live.cancel_asked
        && live.source_incarnation.is_some()
        && live.source_result.is_none()
}

/// Whether the drive works on the volume for it, as far as is known.
pub(super) fn is_at_work(attempt: &LiveAttempt) -> bool {
    attempt.verdict == "none" && attempt.step_kind == "work" && attempt.drive_result.is_none()
}

/// Whether an attempt can't leave its drive's worker: of a backup that holds what is not on tape yet, and so does that of a reclaiming
/// but while it waits for the volume that it reads.
pub(super) fn is_bound(attempt: &LiveAttempt) -> bool {
    let reads = match kind(attempt) {
        attempt::Kind::Restore => true,
        attempt::Kind::Reclaim => attempt.wanted_volume_id.is_some(),
        _ => false,
    };
    !reads && attempt.drive_id.is_some()
}

/// What a drive says of its medium.
pub(super) fn medium(drive: &DriveRow) -> Medium {
    match drive.medium.as_str() {
        "empty" => Medium::Empty,
        "loaded" => Medium::Loaded,
        "unloaded" => Medium::Unloaded,
        _ => Medium::Unknown,
    }
}

/// What an attempt is for.
pub(super) fn kind(attempt: &LiveAttempt) -> attempt::Kind {
    kind_of(&attempt.kind, &attempt.task, attempt.library_id.is_some())
}

/// What a job is for. `has_robot` says whether a robot works for it.
pub(super) fn kind_of(kind: &str, task: &Task, has_robot: bool) -> attempt::Kind {
    match kind {
        "backup" => attempt::Kind::Backup,
        "restore" | "feed" => attempt::Kind::Restore,
        "label" => attempt::Kind::Label,
        "index" => attempt::Kind::Index,
        // Both read a cartridge through, and what they can't read is counted.
        "verify" | "rescan" => attempt::Kind::Verify,
        "reclaim" => attempt::Kind::Reclaim,
        "remove-sources" | "remove-extra" => attempt::Kind::Remove,
        "drive-clean" => attempt::Kind::Clean,
        "inventory" => attempt::Kind::Scan,
        "export" => attempt::Kind::Carry(carry::To::MailSlot),
        "import" => attempt::Kind::Carry(carry::To::Slot),
        "move" => {
            let to = task.to_address.unwrap_or_default();
            attempt::Kind::Carry(carry::To::Element(to as u32))
        }
        // A drive in no library has nobody to take the cartridge home.
        "drive-unload" if has_robot => attempt::Kind::Carry(carry::To::Slot),
        _ => attempt::Kind::Drive,
    }
}
