//! The agent's process: one session with the controller, one task for each assignment.
//!
//! The set of assignments is state: what is in it runs, what leaves it is stopped. A task that ends gives its result to
//! the session, which keeps it until the controller has it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use taf_format::page::Dictionaries;
use taf_peer::channel;
use taf_peer::identity::Role;
use taf_peer::material::{self, Material};
use taf_peer::session::{Connector, Session};
use taf_peer::tls::{self, Expect, Trust, client_config};
use taf_proto::agent::{
    self, Assignment, AssignmentKey, Hello, SourceAbility, SourceUnit, assignment::Work,
    hello::Unit, result::Done,
};
use taf_proto::v1;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::backup::streams::Groups;
use crate::backup::{self, Context};
use crate::config::Config;
use crate::fault::{self, Error};
use crate::issues;
use crate::progress::{self, Counters};
use crate::synthetic::{self, Feeds};
use crate::{remove, restore};

/// Issues get this long to arrive after their job was stopped.
const LAST_ISSUES: Duration = Duration::from_secs(5);
/// Tasks get this long to end after the process was asked to.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No identity.
    #[error("{0}; is this host enrolled? if not, run taf-source-agent enrol")]
    Material(#[from] material::Error),
    /// The identity can't be used.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The controller's address can't be used.
    #[error(transparent)]
    Channel(#[from] channel::Error),
}

/// A running agent's surroundings.
struct Agent {
    config: Config,
    own: Material,
    controller: Channel,
    session: Session,
    /// Backups that further streams may join.
    groups: Groups,
    /// Feeds that wait for their backups.
    feeds: Feeds,
    /// Restores that further streams may join.
    restores: restore::Groups,
}

/// Runs until `stop`.
///
/// # Errors
/// What keeps it from starting; later trouble is logged and tried again.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), StartError> {
    let own = Material::load_as(&config.state, Role::SourceAgent)?;
    let trust = Trust::Authority(own.authority().clone());
    let expect = Expect::controller(Some(own.identity().installation));
    let tls = client_config(trust, Some(&own), expect)?;
    let controller = channel::connect_lazy(&config.controller, Arc::clone(&tls))?;
    let address = config.controller.clone();
    let connector: Connector = Box::new(move || {
        let (address, tls) = (address.clone(), Arc::clone(&tls));
        Box::pin(async move {
            let connected = channel::connect(&address, tls).await;
            connected.map_err(|error| error.to_string())
        })
    });
    // The session outlives the tasks, so that their last results are heard.
    let session_stop = CancellationToken::new();
    let _session_ends = session_stop.clone().drop_guard();
    let session = Session::start(
        connector,
        hello(&config),
        Some(config.state.join("generation")),
        session_stop,
    );
    tracing::info!(identity = %own.identity(), controller = %config.controller, "ready");
    let agent = Arc::new(Agent {
        config,
        own,
        controller,
        session,
        groups: Groups::default(),
        feeds: Feeds::default(),
        restores: restore::Groups::default(),
    });
    agent.work(&stop).await;
    Ok(())
}

fn hello(config: &Config) -> Hello {
    let raw = |paths: &[std::path::PathBuf]| {
        let bytes = paths.iter().map(|path| path.as_os_str().as_bytes());
        bytes.map(Bytes::copy_from_slice).collect()
    };
    Hello {
        program_version: env!("CARGO_PKG_VERSION").into(),
        incarnation: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        highest_generation: None,
        unit: Some(Unit::Source(SourceUnit {
            host_name: taf_peer::enrol::host_name(),
            backup_allowed: raw(&config.backup_allowed),
            restore_allowed: raw(&config.restore_allowed),
            abilities: vec![SourceAbility::IncompleteVersions.into()],
        })),
    }
}

impl Agent {
    /// Keeps the tasks as the newest set of assignments says.
    async fn work(self: &Arc<Self>, stop: &CancellationToken) {
        let mut assignments = self.session.assignments();
        let mut running: HashMap<AssignmentKey, CancellationToken> = HashMap::new();
        // Results may be acknowledged before the assignment leaves the set.
        let mut done: HashSet<AssignmentKey> = HashSet::new();
        let mut tasks = JoinSet::new();
        let mut keys = HashMap::new();
        let mut previews = Previews::new(self.session.previews());
        loop {
            previews.follow(self, stop);
            let set = assignments.borrow_and_update().clone();
            let wanted: HashSet<AssignmentKey> =
                set.iter().filter_map(|assignment| assignment.key).collect();
            done.retain(|key| wanted.contains(key));
            for (key, token) in &running {
                if !wanted.contains(key) && !token.is_cancelled() {
                    tracing::info!(attempt = key.attempt, "the assignment is gone; stopping");
                    token.cancel();
                }
            }
            for assignment in set {
                let Some(key) = assignment.key else { continue };
                if running.contains_key(&key)
                    || done.contains(&key)
                    || self.session.is_finished(&key)
                {
                    continue;
                }
                let token = stop.child_token();
                running.insert(key, token.clone());
                // The set has the first stream of a backup before the others: they find it.
                if may_be_joined(&assignment) {
                    self.groups.open(key.attempt);
                }
                let agent = Arc::clone(self);
                let task = tasks.spawn(async move {
                    Box::pin(agent.assignment(key, assignment, token)).await;
                });
                keys.insert(task.id(), key);
            }
            tokio::select! {
                () = stop.cancelled() => break,
                changed = assignments.changed() => if changed.is_err() { break },
                () = previews.changed() => {},
                Some(ended) = tasks.join_next_with_id() => {
                    let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                    let Some(key) = keys.remove(&id) else { continue };
                    if let Err(error) = ended {
                        tracing::error!(attempt = key.attempt, %error, "a task died");
                        self.session.finish(agent::Result {
                            key: Some(key),
                            fault: Some(fault::internal("the job's task died").into_fault()),
                            ..agent::Result::default()
                        });
                    }
                    running.remove(&key);
                    done.insert(key);
                },
            }
        }
        for token in running.values() {
            token.cancel();
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        drop(tokio::time::timeout(DRAIN, ended).await);
    }

    /// Does one assignment and gives its result.
    async fn assignment(
        &self,
        key: AssignmentKey,
        assignment: Assignment,
        stop: CancellationToken,
    ) {
        let counters = Arc::new(Counters::default());
        let (above, known) = match &assignment.work {
            Some(Work::Restore(work)) => (
                restore::target_path(work.target.as_ref()).unwrap_or_default(),
                v1::Progress {
                    estimated_file_count: work.entry_count,
                    estimated_byte_count: work.byte_count,
                    ..v1::Progress::default()
                },
            ),
            Some(Work::Feed(work)) => (
                Vec::new(),
                v1::Progress {
                    estimated_file_count: work.entry_count,
                    estimated_byte_count: work.byte_count,
                    ..v1::Progress::default()
                },
            ),
            Some(Work::RemoveExtra(work)) => (
                restore::target_path(work.target.as_ref()).unwrap_or_default(),
                v1::Progress::default(),
            ),
            _ => (Vec::new(), v1::Progress::default()),
        };
        tracing::info!(attempt = key.attempt, step = key.step, "begins");
        let (issues, queue) = issues::queue(Arc::clone(&counters), &above);
        // Cancelled late: issues of a job that was stopped still count.
        let issues_stop = CancellationToken::new();
        let reporting = issues::report(queue, key, self.controller.clone(), issues_stop.clone());
        let reporting = tokio::spawn(reporting);
        let context = Context {
            config: &self.config,
            own: &self.own,
            controller: self.controller.clone(),
            key,
            counters: Arc::clone(&counters),
            issues,
            dictionaries: Dictionaries::new(),
            stop: stop.clone(),
        };
        let observing = progress::observe(&self.session, key, &counters, &above, known);
        let outcome = tokio::select! {
            outcome = self.perform(context, assignment.work) => outcome,
            () = observing => Err(Error::Stopped),
        };
        self.groups.close(key.attempt);
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_ISSUES).await;
            issues_stop.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            reported = reporting => {
                if let Err(error) = reported {
                    tracing::error!(%error, "reporting issues died");
                }
            }
            () = patience => {}
        }
        let mut result = agent::Result {
            key: Some(key),
            ..agent::Result::default()
        };
        match outcome {
            Ok(done) => {
                tracing::info!(attempt = key.attempt, step = key.step, "done");
                result.done = Some(done);
            }
            Err(error) => {
                tracing::warn!(attempt = key.attempt, step = key.step, %error, "failed");
                result.fault = Some(error.into_fault());
            }
        }
        self.session.finish(result);
    }

    async fn perform(&self, context: Context<'_>, work: Option<Work>) -> Result<Done, Error> {
        let (groups, feeds) = (&self.groups, &self.feeds);
        match work {
            Some(Work::Backup(work)) if work.synthetic => {
                let stop = context.stop.clone();
                let running = Box::pin(synthetic::run(context, &work, feeds));
                let done = stop.run_until_cancelled(running).await;
                done.unwrap_or(Err(Error::Stopped)).map(Done::Backup)
            }
            Some(Work::Feed(work)) => synthetic::lend(&context, &work, feeds)
                .await
                .map(Done::Restore),
            Some(Work::Backup(work)) => {
                let stop = context.stop.clone();
                let running = Box::pin(backup::run(context, &work, groups));
                let done = stop.run_until_cancelled(running).await;
                done.unwrap_or(Err(Error::Stopped)).map(Done::Backup)
            }
            // It stops by itself, leaving nothing half done.
            Some(Work::Restore(work)) => Box::pin(restore::run(context, &work, &self.restores))
                .await
                .map(Done::Restore),
            // As that one.
            Some(Work::Remove(work)) => remove::run(context, &work).await.map(Done::Remove),
            Some(Work::RemoveExtra(work)) => remove::extra(context, &work).await.map(Done::Remove),
            _ => Err(fault::protocol(
                "a source agent was given the work of another kind of agent",
            )),
        }
    }
}

/// The previews that somebody waits for. They end with this.
struct Previews {
    wanted: watch::Receiver<Vec<Bytes>>,
    running: HashMap<Bytes, DropGuard>,
}

impl Previews {
    fn new(wanted: watch::Receiver<Vec<Bytes>>) -> Self {
        Self {
            wanted,
            running: HashMap::new(),
        }
    }

    /// Begins those that are new, stops those that nobody waits for any more.
    fn follow(&mut self, agent: &Arc<Agent>, stop: &CancellationToken) {
        let wanted = self.wanted.borrow_and_update().clone();
        self.running.retain(|id, _| wanted.contains(id));
        for id in wanted {
            let Entry::Vacant(place) = self.running.entry(id) else {
                continue;
            };
            let token = stop.child_token();
            let (config, controller) = (agent.config.clone(), agent.controller.clone());
            let id = place.key().clone();
            place.insert(token.clone().drop_guard());
            tokio::spawn(backup::preview::run(config, controller, id, token));
        }
    }

    async fn changed(&mut self) {
        // Without a session there will be no more.
        if self.wanted.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether it is the first stream of a backup that may have several.
fn may_be_joined(assignment: &Assignment) -> bool {
    match &assignment.work {
        Some(Work::Backup(work)) => work.streams > 1 && work.leader_attempt == 0,
        _ => false,
    }
}
