//! One backup: what is selected and allowed is walked, packed, compressed and sent, until it is committed.
//!
//! Owns the order of these and the bounds between them. Every channel is bounded, so a drive that takes nothing stops
//! the reading, and memory is a few segments for each compressor thread.

pub mod ahead;
mod links;
mod listing;
pub mod pack;
mod select;
mod send;

use std::sync::Arc;

use taf_format::segment::{Identity, Sealer};
use taf_peer::material::Material;
use taf_proto::agent::{AssignmentKey, BackupDone, BackupWork};
use taf_tree::Walk;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use uuid::Uuid;

use self::pack::Outlets;
use crate::config::Config;
use crate::dial;
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

/// Does the work.
///
/// # Errors
/// The fault that ends the attempt: the selection's, the worker's, or `PEER_LOST`.
pub async fn run(context: Context<'_>, work: &BackupWork) -> Result<BackupDone, Error> {
    let archive = work
        .archive
        .as_ref()
        .ok_or_else(|| fault::protocol("the backup names no archive"))?;
    let worker = work
        .worker
        .as_ref()
        .ok_or_else(|| fault::protocol("the backup names no drive"))?;
    let uuid = |bytes: &[u8]| {
        Uuid::from_slice(bytes).map_err(|_| fault::protocol("the archive's uuids are not 16 bytes"))
    };
    let identity = Identity {
        line_uuid: uuid(&archive.line_uuid)?,
        version: archive.version,
        archive_ordinal: archive.ordinal,
        archive_uuid: uuid(&archive.archive_uuid)?,
        attempt: archive.attempt,
    };
    let options = select::options(&context, work.one_file_system).await?;
    context.counters.phase("mounting");
    let (opened, _) = dial::open::<dial::Write>(context.own, worker, context.key).await?;
    context.counters.phase("writing");

    let threads = match usize::try_from(work.compression_threads) {
        Ok(0) | Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
        Ok(threads) => threads,
    };
    let threads = threads.min(THREADS_MAX);
    let level = match work.compression_level {
        0 => LEVEL,
        level => level.clamp(1, 19),
    };
    let cannot_start = |error: std::io::Error| {
        fault::internal(format!("threads can't be started on this host: {error}"))
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
    .map_err(cannot_start)?;
    let walk = Walk::new(options).map_err(|error| fault::internal(error.to_string()))?;
    // Ends the threads however this function is left.
    let stop = context.stop.child_token();
    let _ended = stop.clone().drop_guard();
    let steps = ahead::start(walk, context.config.readers, stop.clone()).map_err(cannot_start)?;
    let packing = tokio::task::spawn_blocking({
        let (issues, counters) = (context.issues.clone(), Arc::clone(&context.counters));
        move || {
            pack::pack(
                steps,
                identity,
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
    })
}
