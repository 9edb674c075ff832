//! An agent's side of its session with the controller: stays connected, shows the newest assignments, and sees
//! to it that results arrive.
//!
//! Assignments are state, not commands: a consumer sees the latest complete set and works from it. A lost
//! connection changes nothing in it, so work goes on while the controller is away. Results are kept until the
//! controller has acknowledged them, over any number of connections; an observation is replaced by the next.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use taf_proto::agent::{
    self, Assignment, AssignmentKey, Generation, Hello, Observation, OpenRequest,
    observation::Seen, open_request, open_response, session_service_client::SessionServiceClient,
};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::backoff::Backoff;
use crate::secret_file;

/// Dials the controller once.
pub type Connector = Box<dyn Fn() -> BoxFuture<'static, Result<Channel, String>> + Send + Sync>;

/// Messages that may wait for a slow connection.
const OUTBOX: usize = 16;
/// News that come in a burst go together.
const BURST: Duration = Duration::from_millis(25);
/// The controller is given a sign of life this often.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Between two attempts to connect.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// Between two attempts to connect.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A session; cheap to clone. It ends when its token is cancelled.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    assignments: watch::Receiver<Vec<Assignment>>,
    previews: watch::Receiver<Vec<Bytes>>,
    connected: watch::Receiver<bool>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    generation_file: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    results: Vec<agent::Result>,
    /// Newest observation of each subject, and whether it still has to be sent.
    observations: HashMap<Subject, (Observation, bool)>,
    highest: Generation,
}

/// What an observation is about: a newer one of the same subject replaces it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    /// That this unit is alive.
    Nothing,
    /// The drive or the library, whatever it works on.
    Device,
    /// How far one assignment is; several may run side by side.
    Assignment(Option<AssignmentKey>),
}

impl Subject {
    fn of(observation: &Observation) -> Subject {
        match observation.seen {
            None => Subject::Nothing,
            Some(Seen::Drive(_) | Seen::Library(_)) => Subject::Device,
            Some(Seen::Progress(_)) => Subject::Assignment(observation.key),
        }
    }
}

impl Session {
    /// Starts a session that connects by `connector` and introduces itself with `hello` each time.
    ///
    /// `generation_file` keeps the highest generation seen over restarts. The session's task ends with `stop`.
    pub fn start(
        connector: Connector,
        hello: Hello,
        generation_file: Option<PathBuf>,
        stop: CancellationToken,
    ) -> Session {
        let highest = generation_file
            .as_deref()
            .map(read_generation)
            .unwrap_or_default();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                highest,
                ..State::default()
            }),
            changed: Notify::new(),
            generation_file,
        });
        let (set_assignments, assignments) = watch::channel(Vec::new());
        let (set_previews, previews) = watch::channel(Vec::new());
        let (set_connected, connected) = watch::channel(false);
        let task = Task {
            shared: Arc::clone(&shared),
            connector,
            hello,
            assignments: set_assignments,
            previews: set_previews,
            connected: set_connected,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task.run() => {}
            }
        });
        Session {
            shared,
            assignments,
            previews,
            connected,
        }
    }

    /// The newest complete set of assignments; empty until the controller has sent one.
    pub fn assignments(&self) -> watch::Receiver<Vec<Assignment>> {
        self.assignments.clone()
    }

    /// Ids of the previews that somebody waits for now. Those of a connection that is lost go with it.
    pub fn previews(&self) -> watch::Receiver<Vec<Bytes>> {
        self.previews.clone()
    }

    /// Whether the controller hears us now.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Says what is seen now; replaces the observation of the same device, or of the same assignment's progress.
    pub fn observe(&self, observation: Observation) {
        self.shared
            .lock()
            .observations
            .insert(Subject::of(&observation), (observation, true));
        self.shared.changed.notify_one();
    }

    /// Gives the outcome of an assignment. It is sent until the controller has it. Observations made before
    /// are sent before it.
    pub fn finish(&self, result: agent::Result) {
        {
            let mut state = self.shared.lock();
            state.results.retain(|r| r.key != result.key);
            state.results.push(result);
        }
        self.shared.changed.notify_one();
    }

    /// Whether a result for this assignment waits to be acknowledged.
    pub fn is_finished(&self, key: &AssignmentKey) -> bool {
        self.shared
            .lock()
            .results
            .iter()
            .any(|r| r.key.as_ref() == Some(key))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is plain data and whole after every statement, so a poisoned lock is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a generation that is higher than any before, in the file first: work must not begin before it is known.
    fn saw_generation(&self, generation: Generation) {
        if order(&generation) <= order(&self.lock().highest) {
            return;
        }
        if let Some(file) = &self.generation_file {
            let text = format!("{} {}\n", generation.epoch, generation.counter);
            if let Err(error) = secret_file::write(file, text.as_bytes()) {
                tracing::warn!(%error, "could not keep the highest generation");
            }
        }
        self.lock().highest = generation;
    }
}

struct Task {
    shared: Arc<Shared>,
    connector: Connector,
    hello: Hello,
    assignments: watch::Sender<Vec<Assignment>>,
    previews: watch::Sender<Vec<Bytes>>,
    connected: watch::Sender<bool>,
}

impl Task {
    async fn run(self) {
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        let mut said = String::new();
        loop {
            let ended = match (self.connector)().await {
                Ok(channel) => self.converse(channel, &mut backoff).await,
                Err(reason) => reason,
            };
            self.connected.send_replace(false);
            self.previews.send_replace(Vec::new());
            if ended != said {
                tracing::warn!(reason = %ended, "no session with the controller; trying again until there is one");
                said = ended;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// One connection, until it ends; says why.
    async fn converse(&self, channel: Channel, backoff: &mut Backoff) -> String {
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let hello = {
            let mut state = self.shared.lock();
            for (_, unsent) in state.observations.values_mut() {
                *unsent = true;
            }
            Hello {
                highest_generation: Some(state.highest),
                ..self.hello.clone()
            }
        };
        let hello = open_request::Message::Hello(hello);
        if outbox.try_send(request(hello)).is_err() {
            return "the session's outbox is full".to_owned();
        }
        let mut client =
            SessionServiceClient::new(channel).max_decoding_message_size(crate::MESSAGE_LIMIT);
        let mut answers = match client.open(ReceiverStream::new(outgoing)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return status.message().to_owned(),
        };
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut welcomed = false;
        let mut results_sent = Vec::new();
        loop {
            tokio::select! {
                answer = answers.next() => match answer {
                    Some(Ok(answer)) => {
                        welcomed |= self.take(answer, &mut results_sent);
                        if welcomed && !*self.connected.borrow() {
                            backoff.reset();
                            tracing::info!("in session with the controller");
                            self.connected.send_replace(true);
                            if let Err(reason) = self.send_news(&outbox, &mut results_sent).await {
                                return reason;
                            }
                        }
                    }
                    Some(Err(status)) => return status.message().to_owned(),
                    None => return "the controller ended the session".to_owned(),
                },
                () = self.shared.changed.notified(), if welcomed => {
                    if let Err(reason) = self.send_news(&outbox, &mut results_sent).await {
                        return reason;
                    }
                    tokio::time::sleep(BURST).await;
                }
                _ = heartbeat.tick(), if welcomed => {
                    let alive = open_request::Message::Observation(Observation::default());
                    if outbox.send(request(alive)).await.is_err() {
                        return "the session was closed".to_owned();
                    }
                }
            }
        }
    }

    /// Takes one message of the controller. Returns whether it was the welcome.
    fn take(&self, answer: agent::OpenResponse, results_sent: &mut Vec<AssignmentKey>) -> bool {
        match answer.message {
            Some(open_response::Message::Welcome(_)) => return true,
            Some(open_response::Message::Assignments(set)) => {
                let generations = set.assignments.iter().filter_map(|a| a.key?.generation);
                if let Some(highest) = generations.max_by_key(order) {
                    self.shared.saw_generation(highest);
                }
                self.assignments.send_if_modified(|now| {
                    let differs = *now != set.assignments;
                    *now = set.assignments;
                    differs
                });
            }
            Some(open_response::Message::Previews(set)) => {
                self.previews.send_replace(set.preview_ids);
            }
            Some(open_response::Message::ResultAck(ack)) => {
                let mut state = self.shared.lock();
                state.results.retain(|r| r.key != ack.key);
                state.observations.remove(&Subject::Assignment(ack.key));
                drop(state);
                results_sent.retain(|key| Some(key) != ack.key.as_ref());
            }
            None => {}
        }
        false
    }

    /// Sends observations that changed, then results that this connection has not sent yet.
    async fn send_news(
        &self,
        outbox: &mpsc::Sender<OpenRequest>,
        results_sent: &mut Vec<AssignmentKey>,
    ) -> Result<(), String> {
        let mut news = Vec::new();
        {
            let mut state = self.shared.lock();
            for (observation, unsent) in state.observations.values_mut() {
                if std::mem::take(unsent) {
                    news.push(open_request::Message::Observation(observation.clone()));
                }
            }
            for result in &state.results {
                let Some(key) = result.key else { continue };
                if !results_sent.contains(&key) {
                    results_sent.push(key);
                    news.push(open_request::Message::Result(result.clone()));
                }
            }
        }
        for message in news {
            if outbox.send(request(message)).await.is_err() {
                return Err("the session was closed".to_owned());
            }
        }
        Ok(())
    }
}

fn request(message: open_request::Message) -> OpenRequest {
    OpenRequest {
        message: Some(message),
    }
}

/// Generations compare by epoch, then counter.
pub fn order(generation: &Generation) -> (u64, u64) {
    (generation.epoch, generation.counter)
}

/// The generation in a file; 0 if there is none.
fn read_generation(file: &std::path::Path) -> Generation {
    let Ok(text) = std::fs::read_to_string(file) else {
        return Generation::default();
    };
    let numbers = text.trim().split_once(' ').and_then(|(epoch, counter)| {
        Some(Generation {
            epoch: epoch.parse().ok()?,
            counter: counter.parse().ok()?,
        })
    });
    numbers.unwrap_or_else(|| {
        tracing::warn!(file = %file.display(), "the highest generation can't be read; going on without it");
        Generation::default()
    })
}
