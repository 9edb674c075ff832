//! One restore: what the controller lists is read from tape, proved, and written below an allowed directory.
//!
//! Owns the passes and the bounds. The planner asks for ranges, the receiver makes segments of them, the writer makes
//! files; each is bounded by the next, and no file is ever held whole. Damage costs the entries that it touches.

mod dump;
pub(crate) mod mapping;
mod owners;
pub(crate) mod parts;
pub(crate) mod pass;
pub(crate) mod plan;
pub(crate) mod recall;
pub(crate) mod receive;
mod sieve;
pub(crate) mod tape;
pub(crate) mod target;
pub(crate) mod window;
pub(crate) mod write;

use std::collections::HashSet;
use std::sync::Arc;

use taf_proto::agent::{FetchRecallRequest, RecallItem, RestoreDone, RestoreWork};
use taf_proto::{path, v1};
use taf_tree::{Collision, Lookout, Target, Unpacker};
use tokio_util::sync::CancellationToken;

use self::mapping::Mapping;
use self::owners::Owners;
use self::parts::Parts;
use self::plan::Left;
use self::recall::Items;
use self::sieve::Sieve;
use self::tape::Tape;
use self::write::{Outlet, Writer};
use crate::backup::Context;
use crate::fault::{self, Error};
use crate::progress::Counters;

/// Does the work.
///
/// # Errors
/// The fault that ends it; what concerns single entries is an issue.
pub async fn run(context: Context<'_>, work: &RestoreWork) -> Result<RestoreDone, Error> {
    let (outlet, sieve) = match work.dump_format() {
        v1::DumpFormat::Unspecified if work.verify_only => (Outlet::nowhere(), None),
        v1::DumpFormat::Unspecified => {
            let (outlet, sieve) = open(&context, work).await?;
            (outlet, Some(sieve))
        }
        format => return Box::pin(dump::run(context, work, format)).await,
    };
    bring(&context, work, outlet, sieve).await
}

/// Reads everything and lets it out.
async fn bring(
    context: &Context<'_>,
    work: &RestoreWork,
    outlet: Outlet,
    sieve: Option<Sieve>,
) -> Result<RestoreDone, Error> {
    let worker = work
        .worker
        .as_ref()
        .ok_or_else(|| fault::protocol("the restore names no drive"))?;
    let counters = Arc::clone(&context.counters);
    let writer = Writer::new(outlet, context.issues.clone(), counters);
    let wanted = FetchRecallRequest {
        key: Some(context.key),
        ..FetchRecallRequest::default()
    };
    let fetching = recall::fetch(
        context.controller.clone(),
        wanted,
        sieve,
        Some(&context.issues),
    );
    let fetched = context.stop.run_until_cancelled(fetching).await;
    let (parts, items) = fetched.unwrap_or(Err(Error::Stopped))?;
    let passes = Passes {
        tape: Tape::new(
            context.own,
            context.controller.clone(),
            context.key,
            worker.clone(),
            parts.volumes(),
        ),
        parts: &parts,
        counters: Arc::clone(&context.counters),
        stop: context.stop.clone(),
    };
    let (writer, outcome) = Box::pin(passes.all(writer, items)).await;
    context.counters.phase("finishing");
    let whole = outcome.is_ok();
    let finished = match writer {
        Some(writer) => tokio::task::spawn_blocking(move || writer.finish(whole))
            .await
            .map_err(|error| fault::internal(error.to_string()))?,
        None => Ok(()),
    };
    outcome?;
    finished?;
    let counters = &context.counters;
    Ok(RestoreDone {
        file_count: Counters::get(&counters.files),
        directory_count: Counters::get(&counters.directories),
        byte_count: Counters::get(&counters.bytes),
        issue_count: Counters::get(&counters.issues),
        kept_count: Counters::get(&counters.kept),
        issue_counts: counters.reasons(),
    })
}

/// Opens the target of a restore that writes: for the writer, and for looking at what is there already.
async fn open(context: &Context<'_>, work: &RestoreWork) -> Result<(Outlet, Sieve), Error> {
    let raw = target_path(work.target.as_ref())?;
    let collision = collision(work.collision());
    let mapping = Mapping::new(&work.strip_prefix, &work.prefix)?;
    let (config, rules) = (context.config.clone(), work.owner_rules.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let again = target::open(&config, &raw)?;
        let place = target::open(&config, &raw)?;
        Ok::<_, Error>((place, again, Owners::new(&rules)?))
    });
    let (place, again, owners) = opening
        .await
        .map_err(|error| fault::internal(error.to_string()))??;
    let outlet = Outlet::Below {
        unpacker: Box::new(Unpacker::new(Target::new(place.directory, collision))),
        permit: place.permit,
        mapping: mapping.clone(),
        owners,
    };
    let sieve = Sieve {
        lookout: Lookout::new(again.directory, collision),
        collision,
        mapping,
        permit: again.permit,
        issues: context.issues.clone(),
        counters: Arc::clone(&context.counters),
    };
    Ok((outlet, sieve))
}

fn collision(asked: v1::Collision) -> Collision {
    match asked {
        v1::Collision::Never | v1::Collision::Unspecified => Collision::Never,
        v1::Collision::IfNewer => Collision::IfNewer,
        v1::Collision::IfOlder => Collision::IfOlder,
        v1::Collision::IfDifferent => Collision::IfDifferent,
        v1::Collision::Always => Collision::Always,
    }
}

/// The target's raw path.
pub fn target_path(target: Option<&v1::Path>) -> Result<Vec<u8>, Error> {
    let target = target.ok_or_else(|| fault::protocol("the restore names no target"))?;
    path::to_raw(target)
        .map(|raw| raw.to_vec())
        .map_err(|error| fault::protocol(format!("the target can't be read: {error}")))
}

struct Passes<'a> {
    tape: Tape<'a>,
    parts: &'a Parts,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Passes<'_> {
    /// Passes over the tape until nothing is left. Mostly it is one: a second brings what the first met too late.
    /// Gives the writer back unless it died.
    async fn all(
        mut self,
        writer: Writer,
        mut stream: Items,
    ) -> (Option<Writer>, Result<(), Error>) {
        let mut linked = HashSet::new();
        let mut exhausted = false;
        let mut late: Vec<RecallItem> = Vec::new();
        let mut writer = Some(writer);
        while let Some(idle) = writer.take() {
            let mut given;
            let from_stream = late.is_empty();
            let items = if from_stream {
                if exhausted {
                    return (Some(idle), Ok(()));
                }
                &mut stream
            } else {
                late.sort_by(|a, b| place(a).cmp(&place(b)));
                given = Items::given(std::mem::take(&mut late));
                &mut given
            };
            let outcome;
            (writer, outcome) = self.one(idle, items, &mut linked).await;
            let left = match outcome {
                Ok(left) => left,
                Err(error) => return (writer, Err(error)),
            };
            late = left.late;
            if from_stream {
                exhausted = left.exhausted;
            }
            // These carry their bytes themselves now.
            for item in writer.iter_mut().flat_map(Writer::take_late) {
                linked.remove(&(item.archive_ordinal, item.tar_offset));
                late.push(item);
            }
        }
        (None, Err(fault::internal("the writer died; see the log")))
    }

    /// One pass over the tape, forward.
    async fn one(
        &mut self,
        mut writer: Writer,
        items: &mut Items,
        linked: &mut HashSet<(u32, u64)>,
    ) -> (Option<Writer>, Result<Left, Error>) {
        self.counters.phase("mounting");
        let (inlets, taken, window) = match pass::open() {
            Ok(opened) => opened,
            Err(error) => return (Some(writer), Err(error)),
        };
        let writing = tokio::task::spawn_blocking({
            let stop = self.stop.clone();
            move || {
                let result = writer.pass(taken, window, &stop);
                (writer, result)
            }
        });
        let from = pass::From {
            tape: &mut self.tape,
            parts: self.parts,
            counters: &self.counters,
            stop: &self.stop,
        };
        let ((planned, received), written) =
            tokio::join!(pass::read(inlets, from, items, linked), writing);
        self.tape.close();
        let (writer, written) = match written {
            Ok(both) => both,
            Err(error) => return (None, Err(fault::internal(error.to_string()))),
        };
        // What the writer met is the cause, unless it only saw that nothing came any more.
        let outcome = match (written, received) {
            (Err(error @ Error::Fault(_)), _) | (_, Err(error)) => Err(error),
            (written, Ok(())) => planned.and_then(|left| written.map(|()| left)),
        };
        (Some(writer), outcome)
    }
}

/// The order of the tape; among equal places that of paths.
fn place(item: &RecallItem) -> (u32, u64, &[u8]) {
    (item.archive_ordinal, item.tar_offset, &item.path)
}
