//! One backup: what is selected and allowed is walked, packed, compressed and sent, until it is committed. It may have several
//! streams, each with an assignment and a drive of its own: the first one walks for all.
//!
//! Owns the order of these and the bounds between them. Every channel is bounded, so a drive that takes nothing stops
//! the reading, and memory is a few segments for each compressor thread. A backup with a base walks without a drive, and asks
//! for one when it has something to store.

pub mod ahead;
pub mod base;
mod drive;
mod leave_out;
pub mod links;
mod listing;
pub mod merge;
pub mod pack;
mod path_lists;
pub mod preview;
mod select;
mod send;
pub mod step;
pub mod streams;

use std::pin::pin;
use std::sync::Arc;

use taf_format::page::Dictionaries;
use taf_format::segment::{Identity, Method, Sealer};
use taf_peer::material::Material;
use taf_proto::agent::{AssignmentKey, BackupDone, BackupWork};
use taf_tree::Walk;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;

use self::links::Links;
use self::merge::{Merger, Rules};
use self::pack::{Mode, Outlets, Totals};
use self::step::Step;
use self::streams::{Group, Groups, Taker};
use crate::config::Config;
use crate::dial::{self, Opened};
use crate::fault::{self, Error};
use crate::issues::{self, Issues};
use crate::ordered;
use crate::progress::Counters;

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
    /// Those of its line, once they are known.
    pub dictionaries: Dictionaries,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Does the work: one stream, with the walk if it is the first one.
///
/// # Errors
/// The fault that ends the attempt: the selection's, the worker's, or `PEER_LOST`.
pub async fn run(
    mut context: Context<'_>,
    work: &BackupWork,
    groups: &Groups,
) -> Result<BackupDone, Error> {
    if work.leader_attempt != 0 {
        return further(context, work, groups).await;
    }
    let options = select::options(&context, work.one_file_system).await?;
    let given = drive::given(&context, work).await?;
    if given.is_none() {
        context.counters.phase("comparing");
    }
    context.dictionaries = base::dictionaries(context.controller.clone(), context.key).await?;
    let walk = Walk::new(options).map_err(|error| fault::internal(error.to_string()))?;
    // Ends the threads however this function is left.
    let stop = context.stop.child_token();
    let _ended = stop.clone().drop_guard();
    let (steps, mut mode) =
        steps(&context, work, walk, &stop).map_err(|error| cannot_start(&error))?;
    // A drive that waits already gets its archive.
    mode.always |= given.is_some();
    let Some(group) = groups.get(context.key.attempt) else {
        let packing = packing(&context, work, steps, mode, Arc::default())?;
        return stream(&context, work, given, packing, stop).await;
    };
    group.compares(mode.against);
    let lane = group
        .lanes
        .add()
        .ok_or_else(|| fault::internal("the walk was over before it began"))?;
    let lanes = Arc::clone(&group.lanes);
    std::thread::Builder::new()
        .name("share".into())
        .spawn(move || lanes.share(steps))
        .map_err(|error| cannot_start(&error))?;
    together(&context, work, given, lane, mode, &group, stop).await
}

/// The walk's steps, beside those of its base if there is one.
fn steps(
    context: &Context<'_>,
    work: &BackupWork,
    walk: Walk,
    stop: &CancellationToken,
) -> std::io::Result<(ahead::Steps, Mode)> {
    let readers = context.config.readers;
    let Some(base) = &work.base else {
        return Ok((ahead::start(walk, readers, stop.clone())?, Mode::FULL));
    };
    let mode = Mode {
        against: base::against(base),
        always: false,
    };
    let detection = work.detection.unwrap_or_default();
    let rules = Rules {
        ignore_ctime: detection.ignore_ctime,
        ignore_inode: detection.ignore_inode,
        always_compare: detection.always_compare_content,
    };
    let pages = base::Pages::start(
        context.controller.clone(),
        context.key,
        base,
        context.dictionaries.clone(),
    )?;
    let merger = Merger::new(pages, mode.against, rules);
    let steps = ahead::start_with(walk, merger, true, readers, stop.clone())?;
    Ok((steps, mode))
}

/// A further stream of a backup that is under way.
async fn further(
    mut context: Context<'_>,
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
    let given = tokio::select! {
        given = drive::given(&context, work) => given,
        () = group.lanes.over() => return dropped(),
        _ = group.failed() => return dropped(),
    };
    let dictionaries = base::dictionaries(context.controller.clone(), context.key);
    let begins = match given {
        Ok(given) => dictionaries.await.map(|dictionaries| (given, dictionaries)),
        Err(error) => Err(error),
    };
    let (given, dictionaries) = match begins {
        Ok(begins) => begins,
        // Nothing is lost: it has nothing yet.
        Err(error) => {
            tracing::warn!(attempt = context.key.attempt, %error, "a further stream can't begin; the backup goes on without it");
            return dropped();
        }
    };
    context.dictionaries = dictionaries;
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
    // It has a drive, so it has an archive, also if nothing of what it gets differs.
    let mode = Mode {
        against: group.against(),
        always: true,
    };
    together(&context, work, given, lane, mode, &group, stop).await
}

/// One stream of several: when one fails they all end.
async fn together(
    context: &Context<'_>,
    work: &BackupWork,
    given: Option<Opened<dial::Write>>,
    lane: Taker,
    mode: Mode,
    group: &Arc<Group>,
    stop: CancellationToken,
) -> Result<BackupDone, Error> {
    let member = group.member();
    let packing = packing(context, work, lane, mode, Arc::clone(&group.links));
    let outcome = tokio::select! {
        done = async { stream(context, work, given, packing?, stop).await } => done,
        error = group.failed() => Err(error),
    };
    member.settle(outcome)
}

/// What makes an archive of a walk's steps.
fn packing(
    context: &Context<'_>,
    work: &BackupWork,
    steps: impl Iterator<Item = Step> + Send + 'static,
    mode: Mode,
    links: Arc<Links>,
) -> Result<impl FnOnce(Outlets<'_>) -> Result<Totals, pack::Error> + Send + 'static, Error> {
    let (identity, dictionaries) = (identity(work)?, context.dictionaries.clone());
    Ok(
        move |outlets: Outlets<'_>| {
            pack::pack(steps, identity, mode, &links, dictionaries, outlets)
        },
    )
}

/// Packs the archive of one stream and sends it, until it is committed.
pub(crate) async fn stream(
    context: &Context<'_>,
    work: &BackupWork,
    given: Option<Opened<dial::Write>>,
    pack: impl FnOnce(Outlets<'_>) -> Result<Totals, pack::Error> + Send + 'static,
    stop: CancellationToken,
) -> Result<BackupDone, Error> {
    let threads = match usize::try_from(work.compression_threads) {
        Ok(0) | Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
        Ok(threads) => threads,
    };
    let threads = threads.min(THREADS_MAX);
    let method = Method::of_api(work.compression_method)
        .map_err(|words| fault::protocol(format!("the compression method {words}")))?;
    let level = method
        .level(work.compression_level)
        .map_err(|words| fault::protocol(format!("the compression level: {words}")))?;
    let (feed, sealed) = ordered::pool(
        "compress",
        threads,
        threads,
        move || Sealer::by(method, level),
        |sealer, raw| match sealer {
            Ok(sealer) => sealer.seal(raw).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
    )
    .map_err(|error| cannot_start(&error))?;
    let (begins, begun) = oneshot::channel();
    let mut packing = tokio::task::spawn_blocking({
        let (issues, counters) = (context.issues.clone(), Arc::clone(&context.counters));
        let mut begins = Some(begins);
        move || {
            let outlets = Outlets {
                begins: &mut || {
                    // Without a listener the drive was given.
                    begins.take().map(|begins| begins.send(()));
                },
                segments: &mut |segment| feed.put_blocking(segment),
                issues: &mut |issue| {
                    issues.put_blocking(&issue.path, issues::reason(issue.kind), issue.reason);
                },
                counters: &counters,
                stop: &stop,
            };
            pack(outlets)
        }
    });
    let done = |totals: Totals| BackupDone {
        last_sequence: totals.last_sequence,
        file_count: totals.files,
        directory_count: totals.directories,
        byte_count: totals.bytes,
        tar_byte_count: totals.tar_bytes,
        stored_byte_count: Counters::get(&context.counters.stored),
        issue_count: Counters::get(&context.counters.issues),
        unchanged: totals.unchanged,
        dropped: false,
    };
    let mut packed = None;
    let opened = if let Some(opened) = given {
        opened
    } else {
        if begun.await.is_err() {
            return send::totals(packing.await).map(done);
        }
        let mut claimed = pin!(drive::claimed(context));
        tokio::select! {
            opened = &mut claimed => opened?,
            result = &mut packing => {
                packed = Some(send::totals(result)?);
                claimed.await?
            }
        }
    };
    let packing = async {
        match packed {
            Some(totals) => Ok(totals),
            None => send::totals(packing.await),
        }
    };
    let sent = send::send(opened, sealed, packing, &context.counters).await?;
    Ok(done(sent))
}

pub(crate) fn identity(work: &BackupWork) -> Result<Identity, Error> {
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
