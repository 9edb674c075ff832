//! What the sides of an attempt report, from their rows.

use prost::Message as _;
use taf_core::Fault;
use taf_core::attempt::{self, Outcome};
use taf_proto::{agent, v1};

/// What the source agent of a backup reported, if it did its part.
pub(super) fn backup_done(source_result: Option<&[u8]>) -> Option<agent::BackupDone> {
    let result = agent::Result::decode(source_result?).ok()?;
    match result.done? {
        agent::result::Done::Backup(done) if result.fault.is_none() => Some(done),
        _ => None,
    }
}

/// What a side reported, from its row. What does not fit the work is a fault: it must not be taken for a success, and must not
/// be waited for.
pub(super) fn outcome(encoded: Option<&[u8]>, kind: attempt::Kind, side: Side) -> Option<Outcome> {
    use agent::result::Done;
    let unfit = || {
        Some(Outcome::Fault(Fault::new(
            "BAD_RESULT",
            format!(
                "the {} reported an end that does not fit its work",
                side.name()
            ),
            "see that controller and agents have the same version",
        )))
    };
    let Ok(result) = agent::Result::decode(encoded?) else {
        return unfit();
    };
    if let Some(fault) = result.fault {
        return Some(Outcome::Fault(from_proto(fault)));
    }
    let number = |n: u64| i64::try_from(n).is_ok();
    if let (attempt::Kind::Backup, Side::Source, Some(Done::Backup(done))) =
        (kind, side, &result.done)
        && done.dropped
    {
        return Some(Outcome::Dropped);
    }
    let issues = match (kind, side, result.done) {
        (attempt::Kind::Backup, Side::Source, Some(Done::Backup(done)))
            if [
                done.last_sequence,
                done.file_count,
                done.directory_count,
                done.byte_count,
            ]
            .into_iter()
            .all(number) =>
        {
            done.issue_count
        }
        (attempt::Kind::Restore, Side::Source, Some(Done::Restore(done))) if done.dropped => {
            return Some(Outcome::Dropped);
        }
        (attempt::Kind::Restore, Side::Source, Some(Done::Restore(done))) => done.issue_count,
        (attempt::Kind::Label, Side::Drive, Some(Done::Label(done)))
            if done.next_block > 0 && number(done.next_block) =>
        {
            0
        }
        (attempt::Kind::Backup, Side::Drive, Some(Done::Write(done)))
            if !done.next_volume_reason.is_empty() =>
        {
            return Some(Outcome::NextVolume);
        }
        (attempt::Kind::Restore, Side::Drive, Some(Done::Read(_))) => {
            return Some(Outcome::NextVolume);
        }
        (attempt::Kind::Reclaim, Side::Drive, Some(Done::Reclaim(done)))
            if !done.next_volume_reason.is_empty() =>
        {
            return Some(Outcome::NextVolume);
        }
        (attempt::Kind::Backup | attempt::Kind::Restore | attempt::Kind::Drive, Side::Drive, _)
        | (attempt::Kind::Index, Side::Drive, Some(Done::Index(_)))
        // Its issues are in the catalog: not all need be of the worker that ends it.
        | (attempt::Kind::Reclaim, Side::Drive, Some(Done::Reclaim(_))) => 0,
        (attempt::Kind::Verify, Side::Drive, Some(Done::Verify(done))) => done.issue_count,
        (attempt::Kind::Verify, Side::Drive, Some(Done::Rescan(done))) => done.problem_count,
        (attempt::Kind::Remove, Side::Source, Some(Done::Remove(done))) => done.issue_count,
        _ => return unfit(),
    };
    Some(Outcome::Done { issues })
}

/// Who reports on the work.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Drive,
    Source,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Drive => "drive's worker",
            Side::Source => "source agent",
        }
    }
}

/// A fault of the wire as one of the core.
pub(super) fn from_proto(fault: v1::Fault) -> Fault {
    let reason = match fault.reason {
        unnamed if unnamed.is_empty() => "UNKNOWN".to_owned(),
        named => named,
    };
    Fault {
        reason,
        message: fault.message,
        next_step: fault.next_step,
    }
}

/// A fault of the core as one of the wire.
pub(super) fn to_proto(fault: &Fault) -> v1::Fault {
    v1::Fault {
        reason: fault.reason.clone(),
        message: fault.message.clone(),
        next_step: fault.next_step.clone(),
    }
}

/// The fault with which an attempt failed, from its row.
pub(super) fn fault_of(encoded: Option<&[u8]>) -> Fault {
    let encoded = encoded.unwrap_or_default();
    from_proto(v1::Fault::decode(encoded).unwrap_or_default())
}
