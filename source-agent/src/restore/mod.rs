//! One restore: what the controller lists is read from tape, proved, and written below an allowed directory.
//!
//! Owns its streams, the passes and the bounds. The planner asks for ranges, the receiver makes segments of them, the writer makes
//! files; each is bounded by the next, and no file is ever held whole. Damage costs the entries that it touches.

mod dump;
pub(crate) mod mapping;
mod owners;
pub(crate) mod parts;
pub(crate) mod pass;
mod passes;
pub(crate) mod plan;
pub(crate) mod recall;
pub(crate) mod receive;
mod sieve;
mod streams;
pub(crate) mod tape;
pub(crate) mod target;
mod turns;
pub(crate) mod window;
pub(crate) mod write;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use taf_proto::agent::{FetchRecallRequest, RestoreDone, RestoreWork};
use taf_proto::{path, v1};
use taf_tree::{Collision, Lookout, Target, Unpacker};

use self::mapping::Mapping;
use self::owners::Owners;
use self::parts::Parts;
use self::passes::{Broken, Passes, Rest};
use self::recall::{Counts, Items};
use self::sieve::Sieve;
pub use self::streams::Groups;
use self::streams::{Group, Turn, Working};
use self::tape::Tape;
use self::write::{Outlet, Writer};
use crate::backup::Context;
use crate::fault::{self, Error};
use crate::progress::Counters;

/// Between two questions whether other streams have done their turns.
const AGAIN: Duration = Duration::from_millis(500);

/// Does the work of one stream.
///
/// # Errors
/// The fault that ends it; what concerns single entries is an issue.
pub async fn run(
    context: Context<'_>,
    work: &RestoreWork,
    groups: &Groups,
) -> Result<RestoreDone, Error> {
    match work.dump_format() {
        v1::DumpFormat::Unspecified if work.leader_attempt == 0 => {
            Box::pin(Stream::of(&context, work)?.lead(groups)).await
        }
        v1::DumpFormat::Unspecified => Box::pin(Stream::of(&context, work)?.join(groups)).await,
        format => Box::pin(dump::run(context, work, format)).await,
    }
}

/// Reads everything with one drive and lets it out.
async fn bring(
    context: &Context<'_>,
    work: &RestoreWork,
    outlet: Outlet,
    sieve: Option<Sieve>,
) -> Result<RestoreDone, Error> {
    let mut stream = Stream::of(context, work)?;
    let counters = Arc::clone(&context.counters);
    let writer = Writer::new(outlet, context.issues.clone(), counters);
    let (parts, items) = stream.fetch(&[], sieve).await?;
    let turn = Turn {
        recordings: Vec::new(),
        parts,
        rest: Rest::of(items),
        writer,
    };
    let (turn, outcome) = match stream.read(turn).await {
        Ok(turn) => {
            let Counts { entries, beside } = turn.rest.items.counts();
            let complete = stream.is_complete(entries + beside);
            (Some(turn), complete)
        }
        Err((turn, broken)) => (turn, Err(broken.error())),
    };
    context.counters.phase("finishing");
    let writers = turn.map(|turn| turn.writer).into_iter().collect();
    let finished = finish(writers, outcome.is_ok()).await;
    outcome?;
    finished?;
    Ok(stream.done(false))
}

/// One stream of a restore.
struct Stream<'a> {
    context: &'a Context<'a>,
    work: &'a RestoreWork,
    tape: Tape<'a>,
}

impl<'a> Stream<'a> {
    /// That of an assignment.
    fn of(context: &'a Context<'a>, work: &'a RestoreWork) -> Result<Self, Error> {
        let worker = work
            .worker
            .as_ref()
            .ok_or_else(|| fault::protocol("the restore names no drive"))?;
        let (own, controller) = (context.own, context.controller.clone());
        let tape = Tape::new(own, controller, context.key, worker.clone(), &[]);
        Ok(Self {
            context,
            work,
            tape,
        })
    }

    /// The first stream: it reads what there is for it, and ends what all have written.
    async fn lead(mut self, groups: &Groups) -> Result<RestoreDone, Error> {
        let context = self.context;
        let (issues, counters) = (context.issues.clone(), Arc::clone(&context.counters));
        let (writer, sieve) = self.open().await?;
        let leading = groups.lead(context.key.attempt, issues, counters);
        let (own, outcome) = self.turns(&leading.group, writer, sieve).await;
        context.counters.phase("finishing");
        // Also after a fault: what was restored gets the metadata that it waits for.
        let mut writers = leading.close();
        writers.extend(own);
        let finished = finish(writers, outcome.is_ok()).await;
        outcome?;
        finished?;
        self.is_complete(leading.group.counted())?;
        Ok(self.done(false))
    }

    /// Whether the controller listed all that it had counted when this was asked for.
    fn is_complete(&self, listed: u64) -> Result<(), Error> {
        if listed >= self.work.entry_count {
            return Ok(());
        }
        Err(fault::fault(
            "RECALL_INCOMPLETE",
            format!(
                "{} entries were to be brought, and the controller listed {listed} of them",
                self.work.entry_count
            ),
            "look at `taf catalog check`, and ask for it again; a restore with --collision if-different",
        ))
    }

    /// Turn after turn until everything has been read, by whomever. Gives the writers that are to be finished.
    async fn turns(
        &mut self,
        group: &Arc<Group>,
        writer: Writer,
        mut sieve: Option<Sieve>,
    ) -> (Vec<Writer>, Result<(), Error>) {
        let mut own = vec![writer];
        let mut read: Vec<Bytes> = Vec::new();
        loop {
            let stop = self.context.stop.clone();
            let next = stop.run_until_cancelled(self.next(group, &read)).await;
            let mut working = match next.unwrap_or(Err(Error::Stopped)) {
                Ok(Some(working)) => working,
                Ok(None) => return (own, Ok(())),
                Err(error) => return (own, Err(error)),
            };
            let left = working.left.take();
            let is_left = left.is_some();
            let turn = match left {
                Some(left) => *left,
                None => match self.fetch(&working.recordings, sieve.take()).await {
                    Ok((parts, items)) => Turn {
                        recordings: working.recordings.clone(),
                        parts,
                        rest: Rest::of(items),
                        writer: own.remove(0),
                    },
                    Err(error) => return (own, Err(error)),
                },
            };
            match self.read(turn).await {
                Ok(turn) => {
                    group.count(turn.rest.items.counts());
                    read.extend(turn.recordings);
                    if is_left {
                        own.push(turn.writer);
                    } else {
                        own.insert(0, turn.writer);
                        sieve = turn.rest.items.into_sieve();
                    }
                }
                Err((turn, broken)) => {
                    own.extend(turn.map(|turn| turn.writer));
                    return (own, Err(broken.error()));
                }
            }
        }
    }

    /// What to read next; none if all is read. Waits for other streams, and leaves the drive to others for that long.
    async fn next(&mut self, group: &Arc<Group>, read: &[Bytes]) -> Result<Option<Working>, Error> {
        loop {
            match turns::next(self.context, read).await? {
                turns::Next::Read(some) => return Ok(Some(group.begin(&some).await)),
                turns::Next::Complete => return Ok(None),
                turns::Next::Wait => {
                    self.context.counters.phase("waiting");
                    self.tape.rest().await;
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// A further stream: it does one turn, or what another one has left of it.
    async fn join(mut self, groups: &Groups) -> Result<RestoreDone, Error> {
        // Who comes too late has nothing to do.
        let Some(group) = groups.get(self.work.leader_attempt) else {
            return Ok(self.done(true));
        };
        let stop = self.context.stop.clone();
        let next = stop.run_until_cancelled(turns::next(self.context, &[]));
        let turns::Next::Read(recordings) = next.await.unwrap_or(Err(Error::Stopped))? else {
            return Ok(self.done(true));
        };
        let working = stop.run_until_cancelled(group.begin(&recordings)).await;
        let mut working = working.ok_or(Error::Stopped)?;
        let turn = if let Some(left) = working.left.take() {
            *left
        } else {
            let (writer, sieve) = self.open().await?;
            let (parts, items) = self.fetch(&recordings, sieve).await?;
            Turn {
                recordings,
                parts,
                rest: Rest::of(items),
                writer,
            }
        };
        match self.read(turn).await {
            Ok(turn) => {
                group.count(turn.rest.items.counts());
                finish(group.done(turn.writer).into_iter().collect(), true).await?;
                Ok(self.done(false))
            }
            Err((Some(turn), Broken::Tape(error))) => {
                tracing::warn!(%error, "the stream has lost its tape; another one goes on with what is left");
                match group.give_back(turn) {
                    None => Ok(self.done(true)),
                    Some(turn) => {
                        finish(vec![turn.writer], false).await?;
                        Err(error)
                    }
                }
            }
            Err((turn, broken)) => {
                // What is wrong with the target was the cause before it was met again here.
                let writers = turn.map(|turn| turn.writer).into_iter().collect();
                drop(finish(writers, false).await);
                Err(broken.error())
            }
        }
    }

    /// What there is of these recordings.
    async fn fetch(
        &self,
        recordings: &[Bytes],
        sieve: Option<Sieve>,
    ) -> Result<(Parts, Items), Error> {
        let wanted = FetchRecallRequest {
            key: Some(self.context.key),
            recording_uuids: recordings.to_vec(),
            ..FetchRecallRequest::default()
        };
        let issues = Some(&self.context.issues);
        let controller = self.context.controller.clone();
        let fetching = recall::fetch(controller, wanted, &self.work.strip_prefix, sieve, issues);
        let fetched = self.context.stop.run_until_cancelled(fetching).await;
        fetched.unwrap_or(Err(Error::Stopped))
    }

    /// Restores what is left of a turn. Gives it back as far as it came, unless its writer died.
    async fn read(&mut self, turn: Turn) -> Result<Turn, (Option<Turn>, Broken)> {
        let Turn {
            recordings,
            parts,
            mut rest,
            writer,
        } = turn;
        self.tape.turn_to(parts.volumes());
        let passes = Passes {
            tape: &mut self.tape,
            parts: &parts,
            counters: Arc::clone(&self.context.counters),
            stop: self.context.stop.clone(),
        };
        let (writer, outcome) = Box::pin(passes.all(writer, &mut rest)).await;
        let turn = writer.map(|writer| Turn {
            recordings,
            parts,
            rest,
            writer,
        });
        match (turn, outcome) {
            (Some(turn), Ok(())) => Ok(turn),
            (turn, Err(broken)) => Err((turn, broken)),
            (None, Ok(())) => {
                let died = fault::internal("the writer died; see the log");
                Err((None, Broken::Here(died)))
            }
        }
    }

    /// Who writes, and who looks at what is there already.
    async fn open(&self) -> Result<(Writer, Option<Sieve>), Error> {
        let (outlet, sieve) = if self.work.verify_only {
            (Outlet::nowhere(), None)
        } else {
            let (outlet, sieve) = open(self.context, self.work).await?;
            (outlet, Some(sieve))
        };
        let counters = Arc::clone(&self.context.counters);
        let writer = Writer::new(outlet, self.context.issues.clone(), counters);
        Ok((writer, sieve))
    }

    /// What this stream came to.
    fn done(&self, dropped: bool) -> RestoreDone {
        let counters = &self.context.counters;
        RestoreDone {
            file_count: Counters::get(&counters.files),
            directory_count: Counters::get(&counters.directories),
            byte_count: Counters::get(&counters.bytes),
            issue_count: Counters::get(&counters.issues),
            kept_count: Counters::get(&counters.kept),
            issue_counts: counters.reasons(),
            dropped,
        }
    }
}

/// Gives the directories of these their metadata, and waits until everything is on the disk. `whole` if everything was read.
async fn finish(mut writers: Vec<Writer>, whole: bool) -> Result<(), Error> {
    let finishing = tokio::task::spawn_blocking(move || {
        for writer in &mut writers {
            writer.finish_files();
        }
        // All of them, whatever happens to one.
        let outcomes: Vec<_> = writers.into_iter().map(|one| one.finish(whole)).collect();
        outcomes.into_iter().collect::<Result<(), Error>>()
    });
    finishing
        .await
        .map_err(|error| fault::internal(error.to_string()))?
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
