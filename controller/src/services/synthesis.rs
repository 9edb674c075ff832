//! Synthetic fulls: whether one can be made of a plan's newest version, and what it takes.
//!
//! What is looked at before a run begins is looked at again when it does: counting a version takes a while, and holds nothing up.

use taf_core::catalog::{Kind, NoSynthesis, Promotion, synthesis};
use taf_proto::v1::RunPlanResponse;
use tonic::Status;

use super::{names, status, version};
use crate::catalog::{Selection, View, line_of, recall, shares};
use crate::store::feeds::{self, DriveCount, NewFeed};
use crate::store::lines;
use crate::store::parts::{self, Located};
use crate::store::plans::Plan;
use crate::store::{Store, Transaction, bigint};

/// Drives that it takes at least: one reads, one writes.
const DRIVES: i64 = 2;

/// A synthetic full that can be made.
#[derive(Debug)]
pub(super) struct Prepared {
    line_id: i64,
    version: i64,
    count: recall::Count,
    /// Volumes to read, in order.
    volumes: Vec<String>,
    first_volume: i64,
    /// The archive that is not spooled: the largest one.
    streamed: u32,
    /// Bytes that the others take on disk, and what of that one may be passed by.
    spooled: u64,
}

/// Looks whether a synthetic full can be made of the newest version, and counts what it takes.
pub(super) async fn prepare(store: &Store, plan: &Plan) -> Result<Prepared, Status> {
    let name = names::plan(&plan.name);
    if plan.kind == Kind::Mirror {
        return Err(status::precondition(
            "SYNTHETIC_MIRROR",
            format!(
                "{name} makes mirrors, of which only one is kept: its next mirror is made whole when it pays, see `taf plan update {} --mirror-living`",
                plan.name
            ),
        ));
    }
    let client = store.client().await?;
    // One that is only not connected is waited for.
    let DriveCount { sound, known, .. } = feeds::drive_count_usable(&client).await?;
    if sound < DRIVES {
        return Err(status::precondition(
            "TWO_DRIVES_NEEDED",
            format!(
                "a synthetic full reads in one drive and writes in another, and of {known} drives {sound} can be used: `taf drive list` says why; \
                 with one drive make a full from the source: `taf run {} --type full`",
                plan.name
            ),
        ));
    }
    let line_id = lines::line_of_plan(&client, plan.id, plan.source_id).await?;
    let line = line_of(&client, line_id, Kind::SyntheticFull).await?;
    let head = match synthesis(&line) {
        Ok(head) => head,
        Err(NoSynthesis::Full) => {
            return Err(status::precondition(
                "SYNTHETIC_FULL_NEEDLESS",
                format!(
                    "the newest version of {name} is a full one, which builds on no other: there is nothing to put together"
                ),
            ));
        }
        Err(NoSynthesis::Unreadable(why)) => return Err(unreadable(&plan.name, why)),
    };
    let number = head.base.version;
    let parts = parts::part_list_of_version(&client, line_id, number).await?;
    drop(client);
    let view = View::open_restored(store, line_id, number).await?;
    let view = view.ok_or_else(|| status::not_found(&names::version(line_id, number)))?;
    let selection = Selection::resolve(&view, &[]).await?;
    let (count, needed) = recall::count(&view, &selection, b"", &parts).await?;
    let shares = shares::of(&view).await?;
    // Of equal ones the oldest.
    let largest = shares
        .iter()
        .max_by_key(|(ordinal, share)| (share.bytes, std::cmp::Reverse(**ordinal)));
    let needed: Vec<&Located> = needed.parts().collect();
    let (Some((&streamed, _)), Some(any)) = (largest, needed.first()) else {
        return Err(unreadable(&plan.name, Promotion::NoVersion));
    };
    let spooled = shares.iter().map(|(ordinal, share)| match *ordinal {
        ordinal if ordinal == streamed => share.passed_by(),
        _ => share.spooled(),
    });
    let others = needed
        .iter()
        .find(|part| part.archive_ordinal as u32 != streamed);
    Ok(Prepared {
        line_id,
        version: number,
        count,
        volumes: version::volumes(needed.iter().copied()),
        first_volume: others.unwrap_or(any).volume_id,
        streamed,
        spooled: spooled.sum(),
    })
}

impl Prepared {
    /// Says in an answer what it takes.
    pub(super) fn tell(&self, answer: &mut RunPlanResponse) {
        answer.entry_count = self.count.entries;
        answer.byte_count = self.count.bytes;
        answer.volumes.clone_from(&self.volumes);
        answer.spool_byte_count = self.spooled;
    }

    /// Begins the feed of a backup that has its row.
    pub(super) async fn begin_on(
        &self,
        tx: &Transaction<'_>,
        backup: i64,
        agent_id: i64,
        creator: &str,
    ) -> Result<(), Status> {
        let new = NewFeed {
            line_id: self.line_id,
            version: self.version,
            agent_id,
            volume_id: self.first_volume,
            streamed_archive: self.streamed as i32,
            spool_bytes: bigint(self.spooled)?,
            entry_count: bigint(self.count.entries)?,
            byte_total: bigint(self.count.bytes)?,
            backup,
        };
        feeds::job_create_feed_on(tx, &new, creator).await?;
        Ok(())
    }

    /// That the version is still the one that was counted.
    pub(super) async fn check_on(&self, tx: &Transaction<'_>, plan: &Plan) -> Result<(), Status> {
        let line = line_of(tx, self.line_id, Kind::SyntheticFull).await?;
        match synthesis(&line) {
            Ok(head) if head.base.version == self.version => Ok(()),
            Err(NoSynthesis::Unreadable(why)) => Err(unreadable(&plan.name, why)),
            _ => Err(status::fault(
                tonic::Code::Aborted,
                "VERSION_CHANGED",
                format!(
                    "meanwhile {} has a newer version: run it again",
                    names::plan(&plan.name)
                ),
            )),
        }
    }
}

fn unreadable(plan: &str, why: Promotion) -> Status {
    status::precondition(
        "NO_SYNTHETIC_FULL",
        format!(
            "a synthetic full of {} can't be made: {why}; make a full from the source: `taf run {plan} --type full`",
            names::plan(plan)
        ),
    )
}
