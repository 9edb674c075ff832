//! A session with a controller that goes away and comes back: nothing is lost, nothing old is told.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use taf_peer::session::{Connector, Session};
use taf_proto::agent::observation::Seen;
use taf_proto::agent::session_service_server::{SessionService, SessionServiceServer};
use taf_proto::agent::{
    Assignment, AssignmentKey, AssignmentSet, DriveObservation, Generation, Hello,
    LibraryObservation, Observation, OpenRequest, OpenResponse, Result as WorkResult, ResultAck,
    Welcome, open_request, open_response,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(10);

/// What a controller sees of one connection.
struct Heard {
    hello: Hello,
    incoming: Streaming<OpenRequest>,
    answers: mpsc::Sender<Result<OpenResponse, Status>>,
}

impl Heard {
    async fn say(&self, message: open_response::Message) {
        let message = Some(message);
        self.answers
            .send(Ok(OpenResponse { message }))
            .await
            .unwrap();
    }

    async fn welcome(&self) {
        self.say(open_response::Message::Welcome(Welcome::default()))
            .await;
    }

    /// The next message that is not a sign of life.
    async fn next(&mut self) -> open_request::Message {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.incoming.next()).await;
            match message.unwrap().unwrap().unwrap().message.unwrap() {
                open_request::Message::Observation(o) if o.seen.is_none() => {}
                message => return message,
            }
        }
    }
}

struct Controller(mpsc::Sender<Heard>);

#[tonic::async_trait]
impl SessionService for Controller {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<OpenResponse, Status>> + Send>>;

    async fn open(
        &self,
        request: Request<Streaming<OpenRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut incoming = request.into_inner();
        let Some(open_request::Message::Hello(hello)) =
            incoming.message().await?.and_then(|m| m.message)
        else {
            panic!("a session begins with hello");
        };
        let (answers, outgoing) = mpsc::channel(16);
        let heard = Heard {
            hello,
            incoming,
            answers,
        };
        self.0.send(heard).await.unwrap();
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

struct World {
    connections: mpsc::Receiver<Heard>,
    address: String,
}

impl World {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (sender, connections) = mpsc::channel(4);
        let server = Server::builder().add_service(SessionServiceServer::new(Controller(sender)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self {
            connections,
            address,
        }
    }

    fn session(&self, generation_file: Option<PathBuf>, stop: &CancellationToken) -> Session {
        let address = self.address.clone();
        let connector: Connector = Box::new(move || {
            let endpoint = Endpoint::from_shared(address.clone()).unwrap();
            Box::pin(async move { endpoint.connect().await.map_err(|e| e.to_string()) })
        });
        Session::start(connector, Hello::default(), generation_file, stop.clone())
    }

    async fn connection(&mut self) -> Heard {
        let heard = tokio::time::timeout(PATIENCE, self.connections.recv()).await;
        heard.unwrap().unwrap()
    }
}

fn key(attempt: u64) -> AssignmentKey {
    AssignmentKey {
        attempt,
        generation: Some(Generation {
            epoch: 1,
            counter: attempt,
        }),
        step: 1,
    }
}

fn result(attempt: u64) -> WorkResult {
    WorkResult {
        key: Some(key(attempt)),
        ..WorkResult::default()
    }
}

fn drive(phase: &str) -> Observation {
    Observation {
        key: None,
        seen: Some(Seen::Drive(DriveObservation {
            phase: phase.into(),
            ..DriveObservation::default()
        })),
    }
}

fn assignments(attempts: &[u64]) -> open_response::Message {
    open_response::Message::Assignments(AssignmentSet {
        assignments: attempts
            .iter()
            .map(|attempt| Assignment {
                key: Some(key(*attempt)),
                work: None,
            })
            .collect(),
    })
}

fn phase(message: &open_request::Message) -> &str {
    match message {
        open_request::Message::Observation(Observation {
            seen: Some(Seen::Drive(drive)),
            ..
        }) => &drive.phase,
        other => panic!("no observation of a drive: {other:?}"),
    }
}

#[tokio::test]
async fn results_come_until_they_are_acknowledged_and_behind_what_was_seen_before() {
    let mut world = World::new().await;
    let stop = CancellationToken::new();
    let session = world.session(None, &stop);
    session.observe(drive("writing"));
    session.observe(drive("idle"));
    session.finish(result(1));
    session.finish(result(2));

    let mut first = world.connection().await;
    first.welcome().await;
    // Only the newest of its kind.
    assert_eq!(phase(&first.next().await), "idle");
    assert_eq!(first.next().await, open_request::Message::Result(result(1)));
    assert_eq!(first.next().await, open_request::Message::Result(result(2)));
    first
        .say(open_response::Message::ResultAck(ResultAck {
            key: Some(key(1)),
        }))
        .await;
    let acknowledged = async {
        while session.is_finished(&key(1)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, acknowledged).await.unwrap();
    assert!(session.is_finished(&key(2)));
    drop(first);

    // What is seen is told anew, then what nobody acknowledged.
    let mut second = world.connection().await;
    second.welcome().await;
    assert_eq!(phase(&second.next().await), "idle");
    assert_eq!(
        second.next().await,
        open_request::Message::Result(result(2))
    );
    // A kind of its own does not replace the other.
    let elements = Observation {
        key: None,
        seen: Some(Seen::Library(LibraryObservation::default())),
    };
    session.observe(elements.clone());
    assert_eq!(
        second.next().await,
        open_request::Message::Observation(elements)
    );
    stop.cancel();
}

#[tokio::test]
async fn a_lost_connection_changes_nothing_in_the_assignments() {
    let mut world = World::new().await;
    let stop = CancellationToken::new();
    let session = world.session(None, &stop);
    let mut set = session.assignments();
    let mut connected = session.connected();

    let first = world.connection().await;
    first.welcome().await;
    first.say(assignments(&[3])).await;
    let given = set.wait_for(|set| set.len() == 1);
    tokio::time::timeout(PATIENCE, given)
        .await
        .unwrap()
        .unwrap();
    drop(first);
    let gone = connected.wait_for(|connected| !connected);
    tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap();
    assert_eq!(set.borrow_and_update().len(), 1);

    let second = world.connection().await;
    second.welcome().await;
    second.say(assignments(&[3])).await;
    second.say(assignments(&[])).await;
    let taken = set.wait_for(Vec::is_empty);
    tokio::time::timeout(PATIENCE, taken)
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
}

#[tokio::test]
async fn the_highest_generation_outlives_the_process() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("generation");
    let stop = CancellationToken::new();
    let session = world.session(Some(file.clone()), &stop);
    let mut set = session.assignments();
    let first = world.connection().await;
    assert_eq!(first.hello.highest_generation, Some(Generation::default()));
    first.welcome().await;
    first.say(assignments(&[7, 5])).await;
    let given = set.wait_for(|set| set.len() == 2);
    tokio::time::timeout(PATIENCE, given)
        .await
        .unwrap()
        .unwrap();
    // Before anybody sees the assignment it is on the disk, and nothing else is.
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1 7\n");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    stop.cancel();

    let stop = CancellationToken::new();
    let _session = world.session(Some(file), &stop);
    let second = world.connection().await;
    let highest = second.hello.highest_generation.unwrap();
    assert_eq!((highest.epoch, highest.counter), (1, 7));
    stop.cancel();
}
