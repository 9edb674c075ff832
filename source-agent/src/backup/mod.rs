//! One backup: what is selected and allowed is walked, packed, compressed and sent, until it is committed. It may have several
//! streams, each with an assignment and a drive of its own: the first one walks for all.
//!
//! Owns the order of these and the bounds between them. Every channel is bounded, so a drive that takes nothing stops
//! the reading, and memory is a few segments for each compressor thread.

pub mod ahead;
pub mod links;
mod listing;
pub mod pack;
mod select;
mod send;
pub mod streams;

use std::sync::Arc;

use taf_format::segment::{Identity, Sealer};
use taf_peer::material::Material;
use taf_proto::agent::{AssignmentKey, BackupDone, BackupWork};
use taf_tree::Walk;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;

use self::links::Links;
use self::pack::Outlets;
use self::streams::{Group, Groups, Taker};
use crate::config::Config;
use crate::dial::{self, Opened};
use crate::fault::{self, Error};
use crate::issues::{self, Issues};
use crate::ordered;
use crate::progress::Counters;

/// zstd's level unless the plan says otherwise.
const LEVEL: i32 = 3;
/// Most compressor threads.
const THREADS_MAX: usize = 64;

/// What a backup needs of its surroundings.
pub struct Context<'a> {
    /// The agent's configuration.
    pub config: &'a Config,
    /// Who we are.
    pub own: &'a Material,
    /// The controller.
    pub controller: Channel,
    /// Which assignment it is.
    pub key: AssignmentKey,
    /// Shows how far it is.
    pub counters: Arc<Counters>,
    /// Where issues go.
    pub issues: Issues,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Does the work: one stream, with the walk if it is the first one.
///
/// # Errors
/// The fault that ends the attempt: the selection's, the worker's, or `PEER_LOST`.
pub async fn run(
    context: Context<'_>,
    work: &BackupWork,
    groups: &Groups,
) -> Result<BackupDone, Error> {
    if work.leader_attempt != 0 {
        return further(context, work, groups).await;
    }
    let options = select::options(&context, work.one_file_system).await?;
    let opened = open(&context, work).await?;
    let walk = Walk::new(options).map_err(|error| fault::internal(error.to_string()))?;
    // Ends the threads however this function is left.
    let stop = context.stop.child_token();
    let _ended = stop.clone().drop_guard();
    let steps = ahead::start(walk, context.config.readers, stop.clone())
        .map_err(|error| cannot_start(&error))?;
    let Some(group) = groups.get(context.key.attempt) else {
        return stream(&context, work, opened, steps, Arc::default(), stop).await;
    };
    let lane = group
        .lanes
        .add()
        .ok_or_else(|| fault::internal("the walk was over before it began"))?;
    let lanes = Arc::clone(&group.lanes);
    std::thread::Builder::new()
        .name("share".into())
        .spawn(move || lanes.share(steps))
        .map_err(|error| cannot_start(&error))?;
    together(&context, work, opened, lane, &group, stop).await
}

/// A further stream of a backup that is under way.
async fn further(
    context: Context<'_>,
    work: &BackupWork,
    groups: &Groups,
) -> Result<BackupDone, Error> {
    let dropped = || {
        Ok(BackupDone {
            dropped: true,
            ..BackupDone::default()
        })
    };
    let Some(group) = groups.get(work.leader_attempt) else {
        return dropped();
    };
    let opened = tokio::select! {
        opened = open(&context, work) => opened,
        () = group.lanes.over() => return dropped(),
        _ = group.failed() => return dropped(),
    };
    let opened = match opened {
        Ok(opened) => opened,
        // Nothing is lost: it has nothing yet.
        Err(error) => {
            tracing::warn!(attempt = context.key.attempt, %error, "a further stream can't begin; the backup goes on without it");
            return dropped();
        }
    };
    let Some(lane) = group.lanes.add() else {
        return dropped();
    };
    context.counters.phase("waiting");
    let waiting = tokio::task::spawn_blocking(move || lane.begins().then_some(lane));
    let lane = tokio::select! {
        lane = waiting => lane.map_err(|error| fault::internal(error.to_string()))?,
        _ = group.failed() => None,
    };
    let Some(lane) = lane else {
        return dropped();
    };
    context.counters.phase("writing");
    let stop = context.stop.child_token();
    let _ended = stop.clone().drop_guard();
    together(&context, work, opened, lane, &group, stop).await
}

/// Opens the transfer to the drive.
async fn open(context: &Context<'_>, work: &BackupWork) -> Result<Opened<dial::Write>, Error> {
    let worker = work
        .worker
        .as_ref()
        .ok_or_else(|| fault::protocol("the backup names no drive"))?;
    context.counters.phase("mounting");
    let (opened, _) = dial::open::<dial::Write>(context.own, worker, context.key).await?;
    context.counters.phase("writing");
    Ok(opened)
}

/// One stream of several: when one fails they all end.
async fn together(
    context: &Context<'_>,
    work: &BackupWork,
    opened: Opened<dial::Write>,
    lane: Taker,
    group: &Arc<Group>,
    stop: CancellationToken,
) -> Result<BackupDone, Error> {
    let member = group.member();
    let links = Arc::clone(&group.links);
    let outcome = tokio::select! {
        done = stream(context, work, opened, lane, links, stop) => done,
        error = group.failed() => Err(error),
    };
    member.settle(outcome)
}

/// Packs steps into the archive of one stream and sends it, until it is committed.
async fn stream(
    context: &Context<'_>,
    work: &BackupWork,
    opened: Opened<dial::Write>,
    steps: impl Iterator<Item = ahead::Step> + Send + 'static,
    links: Arc<Links>,
    stop: CancellationToken,
) -> Result<BackupDone, Error> {
    let identity = identity(work)?;
    let threads = match usize::try_from(work.compression_threads) {
        Ok(0) | Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
        Ok(threads) => threads,
    };
    let threads = threads.min(THREADS_MAX);
    let level = match work.compression_level {
        0 => LEVEL,
        level => level.clamp(1, 19),
    };
    let (feed, sealed) = ordered::pool(
        "compress",
        threads,
        threads,
        move || Sealer::new(level),
        |sealer, raw| match sealer {
            Ok(sealer) => sealer.seal(raw).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
    )
    .map_err(|error| cannot_start(&error))?;
    let packing = tokio::task::spawn_blocking({
        let (issues, counters) = (context.issues.clone(), Arc::clone(&context.counters));
        move || {
            pack::pack(
                steps,
                identity,
                &links,
                Outlets {
                    segments: &mut |segment| feed.put_blocking(segment),
                    issues: &mut |issue| {
                        issues.put_blocking(&issue.path, issues::reason(issue.kind), issue.reason);
                    },
                    counters: &counters,
                    stop: &stop,
                },
            )
        }
    });
    let sent = send::send(opened, sealed, packing, &context.counters).await?;
    Ok(BackupDone {
        last_sequence: sent.last_sequence,
        file_count: sent.files,
        directory_count: sent.directories,
        byte_count: sent.bytes,
        tar_byte_count: sent.tar_bytes,
        stored_byte_count: Counters::get(&context.counters.stored),
        issue_count: Counters::get(&context.counters.issues),
        unchanged: false,
        dropped: false,
    })
}

fn identity(work: &BackupWork) -> Result<Identity, Error> {
    let archive = work
        .archive
        .as_ref()
        .ok_or_else(|| fault::protocol("the backup names no archive"))?;
    let uuid = |bytes: &[u8]| {
        Uuid::from_slice(bytes).map_err(|_| fault::protocol("the archive's uuids are not 16 bytes"))
    };
    Ok(Identity {
        line_uuid: uuid(&archive.line_uuid)?,
        version: archive.version,
        archive_ordinal: archive.ordinal,
        archive_uuid: uuid(&archive.archive_uuid)?,
        attempt: archive.attempt,
    })
}

fn cannot_start(error: &std::io::Error) -> Error {
    fault::internal(format!("threads can't be started on this host: {error}"))
}
