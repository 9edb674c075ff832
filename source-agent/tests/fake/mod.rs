//! A controller and a tape agent that keep everything in memory, over real TLS.
#![allow(dead_code)]

mod base;
mod catalog;
pub mod dump;
pub mod noise;
mod transfer;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::result::Result;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use taf_format::entry::Kind;
use taf_format::page::{self, Dictionaries, Page};
use taf_format::record::{self, Body};
use taf_format::segment;
use taf_format::table::SegmentTable;
use taf_peer::authority::Authority;
use taf_peer::identity::{Identity, Role};
use taf_peer::serve::{Limits, serve};
use taf_peer::tls::{ClientAuth, server_config};
use taf_peer::{DATA_MESSAGE_LIMIT, faults};
use taf_proto::agent::catalog_service_server::{CatalogService, CatalogServiceServer};
use taf_proto::agent::dump_service_server::DumpServiceServer;
use taf_proto::agent::session_service_server::{SessionService, SessionServiceServer};
use taf_proto::agent::transfer_service_server::{TransferService, TransferServiceServer};
use taf_proto::agent::*;
use taf_proto::v1;
use taf_source_agent::config::Config;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use catalog::FakeCatalog;
use transfer::FakeTransfer;

pub const BLOCK: u32 = 16 << 10;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the two fakes know and were told.
#[derive(Default)]
pub struct Told {
    pub selection: Mutex<FetchSelectionResponse>,
    pub recall: Mutex<Vec<FetchRecallResponse>>,
    /// How many messages of the recall come before the controller goes away, for each call in turn.
    pub recall_breaks: Mutex<Vec<usize>>,
    /// What the recall is after the controller went away.
    pub recall_then: Mutex<Option<Vec<FetchRecallResponse>>>,
    pub issues: Mutex<HashMap<u64, Vec<(u64, v1::Issue)>>>,
    pub progress: Mutex<Vec<v1::Progress>>,
    /// Segments of the archive, as they came.
    pub segments: Mutex<Vec<Bytes>>,
    /// What the tape file holds, block 0 included, for reading.
    pub tape: Mutex<Vec<u8>>,
    /// Byte ranges that can't be read.
    pub bad: Mutex<Vec<std::ops::Range<u64>>>,
    /// Calls that are still refused as not ready.
    pub not_ready: Mutex<u32>,
    /// The fault that a write ends with after this many chunks.
    pub write_fault: Mutex<Option<(usize, v1::Fault)>>,
    /// The fault that a worker answers with at once.
    pub open_fault: Mutex<Option<v1::Fault>>,
    /// Break the connection after this many chunks.
    pub write_break: Mutex<Option<usize>>,
    /// Take no chunk while this is set.
    pub hold: Mutex<Option<watch::Receiver<bool>>>,
    pub reads: Mutex<u32>,
    /// Of a restore: what is read one after the other, if not all of it is on one volume.
    pub turns: Mutex<Vec<Turn>>,
    /// The recording in this drive.
    pub recording: Mutex<[u8; 16]>,
    /// Whether the drive was left to others.
    pub rested: Mutex<bool>,
    /// What else is in a drive, and where; and which recordings were asked for.
    pub place: Mutex<Option<(Bytes, Worker)>>,
    pub asked: Mutex<Vec<Bytes>>,
    /// Of a restore: who gets nothing to read as long as another stream has it.
    pub waits: Mutex<Option<u64>>,
    /// How often it was told so.
    pub waited: Mutex<u32>,
    /// Why the drive of a restore never gives anything.
    pub lost: Mutex<Option<&'static str>>,
    pub base: base::Bases,
    pub reader: Arc<dump::Reader>,
}

/// What a stream of a restore is given at a time.
#[derive(Clone)]
pub struct Turn {
    pub recordings: Vec<Bytes>,
    pub recall: Vec<FetchRecallResponse>,
}

struct FakeSession {
    told: Arc<Told>,
    assignments: watch::Receiver<Vec<Assignment>>,
    results: mpsc::UnboundedSender<taf_proto::agent::Result>,
}

#[tonic::async_trait]
impl SessionService for FakeSession {
    type OpenStream = Answers<OpenResponse>;

    async fn open(
        &self,
        request: Request<Streaming<OpenRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut incoming = request.into_inner();
        let hello = incoming.message().await?.unwrap().message.unwrap();
        assert!(matches!(hello, open_request::Message::Hello(_)));
        let (acks, acknowledged) = mpsc::channel(16);
        let (told, results) = (Arc::clone(&self.told), self.results.clone());
        tokio::spawn(async move {
            while let Ok(Some(request)) = incoming.message().await {
                match request.message {
                    Some(open_request::Message::Result(result)) => {
                        let ack = ResultAck { key: result.key };
                        results.send(result).unwrap();
                        drop(acks.send(open_response::Message::ResultAck(ack)).await);
                    }
                    Some(open_request::Message::Observation(observation)) => {
                        if let Some(observation::Seen::Progress(progress)) = observation.seen {
                            told.progress.lock().unwrap().push(progress);
                        }
                    }
                    _ => {}
                }
            }
        });
        let welcome = open_response::Message::Welcome(Welcome {
            lease_millis: 60_000,
            server_time: None,
        });
        let sets = WatchStream::new(self.assignments.clone())
            .map(|assignments| open_response::Message::Assignments(AssignmentSet { assignments }));
        let down = futures::stream::once(async { welcome })
            .chain(futures::stream::select(
                sets,
                ReceiverStream::new(acknowledged),
            ))
            .map(|message| {
                Ok(OpenResponse {
                    message: Some(message),
                })
            });
        Ok(Response::new(Box::pin(down)))
    }
}

/// An installation with a source agent at work in it.
pub struct Site {
    pub told: Arc<Told>,
    /// What a second drive's worker is told.
    pub second: Arc<Told>,
    /// How many streams backups may have.
    pub streams: u32,
    /// How many entries a restore is told to have.
    pub entry_count: u64,
    pub state: PathBuf,
    assignments: watch::Sender<Vec<Assignment>>,
    results: mpsc::UnboundedReceiver<taf_proto::agent::Result>,
    worker: Worker,
    second_worker: Worker,
    next_attempt: u64,
    _folder: tempfile::TempDir,
    _stop: DropGuard,
}

impl Site {
    /// Starts everything. The agent may read and write below these.
    pub async fn start(backup: &[&Path], restore: &[&Path]) -> Self {
        let authority = Authority::create(Uuid::new_v4()).unwrap();
        let issue = |role, id: &str| {
            let identity = Identity::new(authority.installation(), role, id).unwrap();
            authority.issue(&identity, Duration::from_hours(1)).unwrap()
        };
        let told = Arc::new(Told::default());
        let stop = CancellationToken::new();
        let (assignments, assigned) = watch::channel(Vec::new());
        let (results_in, results) = mpsc::unbounded_channel();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let controller = listener.local_addr().unwrap().to_string();
        let session = FakeSession {
            told: Arc::clone(&told),
            assignments: assigned,
            results: results_in,
        };
        let routes = Routes::new(SessionServiceServer::new(session))
            .add_service(CatalogServiceServer::new(FakeCatalog(Arc::clone(&told))))
            .add_service(DumpServiceServer::new(dump::FakeDumps(Arc::clone(
                &told.reader,
            ))));
        let tls = server_config(&issue(Role::Controller, "main"), ClientAuth::Optional).unwrap();
        tokio::spawn(serve(
            listener,
            tls,
            routes,
            Limits::default(),
            stop.clone(),
        ));

        let second = Arc::new(Told::default());
        let mut workers = Vec::new();
        for (agent, told) in [("tape1", &told), ("tape2", &second)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            workers.push(Worker {
                agent_id: agent.into(),
                // The first one is wrong: nobody listens there.
                addresses: vec![
                    "127.0.0.1:1".into(),
                    listener.local_addr().unwrap().to_string(),
                ],
            });
            let transfer = TransferServiceServer::new(FakeTransfer(Arc::clone(told)))
                .max_decoding_message_size(DATA_MESSAGE_LIMIT)
                .max_encoding_message_size(DATA_MESSAGE_LIMIT);
            let tls = server_config(&issue(Role::TapeAgent, agent), ClientAuth::Required).unwrap();
            tokio::spawn(serve(
                listener,
                tls,
                Routes::new(transfer),
                Limits::default(),
                stop.clone(),
            ));
        }
        let second_worker = workers.pop().unwrap();
        let worker = workers.pop().unwrap();

        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        issue(Role::SourceAgent, "files").store(&state).unwrap();
        let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
        let config = Config {
            controller,
            state: state.clone(),
            backup_allowed: owned(backup),
            restore_allowed: owned(restore),
            remove_allowed: Vec::new(),
            readers: 3,
            exclude: Vec::new(),
            spool: None,
            log_json: false,
        };
        let running = stop.clone();
        tokio::spawn(async move { taf_source_agent::agent::run(config, running).await.unwrap() });
        Self {
            told,
            second,
            streams: 0,
            entry_count: 1,
            state,
            assignments,
            results,
            worker,
            second_worker,
            next_attempt: 1,
            _folder: folder,
            _stop: stop.drop_guard(),
        }
    }

    /// Assigns work; returns its attempt.
    pub fn assign(&mut self, work: assignment::Work) -> u64 {
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        let key = AssignmentKey {
            attempt,
            generation: Some(Generation {
                epoch: 1,
                counter: attempt,
            }),
            step: 1,
        };
        self.assignments.send_modify(|set| {
            set.push(Assignment {
                key: Some(key),
                work: Some(work),
            });
        });
        attempt
    }

    pub fn unassign_all(&self) {
        self.assignments.send_replace(Vec::new());
    }

    pub async fn result(&mut self) -> taf_proto::agent::Result {
        let waiting = tokio::time::timeout(Duration::from_mins(2), self.results.recv());
        waiting.await.expect("a result in time").unwrap()
    }

    pub fn assign_backup(&mut self, roots: &[&Path]) -> u64 {
        let paths = roots.iter().map(|root| raw(root)).collect();
        *self.told.selection.lock().unwrap() = FetchSelectionResponse {
            paths,
            ..FetchSelectionResponse::default()
        };
        self.told.segments.lock().unwrap().clear();
        let work = BackupWork {
            archive: Some(Archive {
                archive_uuid: uuid_bytes(2),
                line_uuid: uuid_bytes(1),
                version: 1,
                ordinal: 1,
                attempt: self.next_attempt,
                installation_uuid: uuid_bytes(3),
                ..Archive::default()
            }),
            worker: Some(self.worker.clone()),
            compression_level: 1,
            compression_threads: 2,
            streams: self.streams,
            ..BackupWork::default()
        };
        self.assign(assignment::Work::Backup(work))
    }

    /// Assigns a further stream of a backup, to the second drive.
    pub fn assign_stream(&mut self, leader: u64) -> u64 {
        let work = BackupWork {
            archive: Some(Archive {
                archive_uuid: uuid_bytes(4),
                line_uuid: uuid_bytes(1),
                version: 1,
                ordinal: 2,
                attempt: self.next_attempt,
                installation_uuid: uuid_bytes(3),
                ..Archive::default()
            }),
            worker: Some(self.second_worker.clone()),
            compression_level: 1,
            compression_threads: 2,
            streams: self.streams,
            leader_attempt: leader,
            ..BackupWork::default()
        };
        self.assign(assignment::Work::Backup(work))
    }

    pub async fn backup(&mut self, roots: &[&Path]) -> taf_proto::agent::Result {
        self.assign_backup(roots);
        self.result().await
    }

    pub fn assign_restore(&mut self, target: &Path, collision: v1::Collision) -> u64 {
        let work = RestoreWork {
            worker: Some(self.worker.clone()),
            target: Some(taf_proto::path::from_raw(raw(target))),
            collision: collision.into(),
            entry_count: self.entry_count,
            byte_count: 1,
            ..RestoreWork::default()
        };
        self.assign(assignment::Work::Restore(work))
    }

    /// Assigns a further stream of a restore, with the second drive.
    pub fn assign_reader(&mut self, target: &Path, leader: u64) -> u64 {
        let work = RestoreWork {
            worker: Some(self.second_worker.clone()),
            target: Some(taf_proto::path::from_raw(raw(target))),
            collision: v1::Collision::Never.into(),
            entry_count: self.entry_count,
            byte_count: 1,
            leader_attempt: leader,
            ..RestoreWork::default()
        };
        self.assign(assignment::Work::Restore(work))
    }

    pub fn assign_dump(&mut self, format: v1::DumpFormat) -> u64 {
        self.told.reader.clear();
        let work = RestoreWork {
            worker: Some(self.worker.clone()),
            entry_count: self.entry_count,
            byte_count: 1,
            dump_format: format.into(),
            ..RestoreWork::default()
        };
        self.assign(assignment::Work::Restore(work))
    }

    /// A dump, and what came of it.
    pub async fn dump(&mut self, format: v1::DumpFormat) -> (taf_proto::agent::Result, Vec<u8>) {
        self.assign_dump(format);
        let result = self.result().await;
        (result, self.told.reader.bytes.lock().unwrap().clone())
    }

    pub async fn restore(&mut self, target: &Path) -> taf_proto::agent::Result {
        self.assign_restore(target, v1::Collision::Never);
        self.result().await
    }

    /// Reasons and paths of an attempt's issues.
    pub fn issues(&self, attempt: u64) -> Vec<(String, PathBuf)> {
        use std::os::unix::ffi::OsStrExt;
        let issues = self.told.issues.lock().unwrap();
        let issues = issues.get(&attempt).map_or(&[][..], Vec::as_slice);
        issues
            .iter()
            .map(|(_, issue)| {
                let raw = &issue.path.as_ref().unwrap().raw;
                let path = PathBuf::from(std::ffi::OsStr::from_bytes(raw));
                (issue.reason.clone(), path)
            })
            .collect()
    }

    /// Puts the segments on the tape, and everything in them into the recall, as a controller would list it.
    pub fn write_tape(&self) -> (Vec<Page>, SegmentTable) {
        let segments = self.told.segments.lock().unwrap().clone();
        let mut tape = vec![0; BLOCK as usize];
        let mut table = SegmentTable::new(u64::from(BLOCK));
        let mut pages = Vec::new();
        let dictionaries = Dictionaries::default();
        for bytes in &segments {
            let opened = segment::open(bytes).unwrap();
            assert!(bytes.len() > opened.header.length());
            table.push(&opened.header).unwrap();
            tape.extend_from_slice(bytes);
            for record in record::iter(&opened.records) {
                if let Some(Body::Page(page)) = record.unwrap().record {
                    let decoded =
                        page::decode(&page.chunk, &page.body, Some(&page.hashes), &dictionaries);
                    pages.push(decoded.unwrap());
                }
            }
        }
        *self.told.tape.lock().unwrap() = tape;
        let items = items(&pages);
        self.set_recall(&table, &items);
        (pages, table)
    }

    pub fn set_recall(&self, table: &SegmentTable, items: &[RecallItem]) {
        let one = Bytes::from_static(&[0; 16]);
        *self.told.recall.lock().unwrap() = recall(table, items, &one);
    }

    /// The second drive has the same tape as another recording, and is found.
    pub fn is_in_second_drive(&self, recording: [u8; 16]) {
        *self.second.recording.lock().unwrap() = recording;
        let tape = self.told.tape.lock().unwrap().clone();
        *self.second.tape.lock().unwrap() = tape;
        let place = (
            Bytes::copy_from_slice(&recording),
            self.second_worker.clone(),
        );
        *self.told.place.lock().unwrap() = Some(place);
    }
}

/// A recall of items on the volume with this recording.
pub fn recall(
    table: &SegmentTable,
    items: &[RecallItem],
    recording: &Bytes,
) -> Vec<FetchRecallResponse> {
    let tar = table.tar_range();
    let part = RecallPart {
        recording_uuid: recording.clone(),
        barcode: "TAF001L9".into(),
        archive_ordinal: 1,
        archive_uuid: uuid_bytes(2),
        part_number: 1,
        tape_file: 1,
        first_block: 4,
        block_size: BLOCK,
        byte_count: table.byte_end(),
        first_tar_offset: tar.start,
        end_tar_offset: tar.end,
        segment_table: table.encode().into(),
    };
    let message = |message| FetchRecallResponse {
        message: Some(message),
        ..FetchRecallResponse::default()
    };
    let mut recall = vec![message(fetch_recall_response::Message::Part(part))];
    for items in items.chunks(100) {
        let items = items.to_vec();
        recall.push(message(fetch_recall_response::Message::Items(
            RecallItems { items },
        )));
    }
    recall
}

/// All entries of pages in the order of their places.
pub fn items(pages: &[Page]) -> Vec<RecallItem> {
    let mut items = Vec::new();
    for page in pages {
        if let Some(header) = &page.header
            && let Some(place) = header.place
        {
            items.push(RecallItem {
                path: page.directory.clone().into(),
                archive_ordinal: place.archive_ordinal,
                tar_offset: place.tar_offset,
                tar_length: header.tar_length,
                ..RecallItem::default()
            });
        }
        for entry in page
            .entries
            .iter()
            .filter(|entry| entry.kind != Kind::Directory)
        {
            let place = entry.place.unwrap();
            items.push(RecallItem {
                path: taf_tree::path::join(&page.directory, &entry.name).into(),
                archive_ordinal: place.archive_ordinal,
                tar_offset: place.tar_offset,
                tar_length: entry.tar_length,
                hash: entry
                    .hash
                    .map_or_else(Bytes::new, |hash| Bytes::copy_from_slice(&hash)),
                link_group: entry.link_group,
                ancestor: None,
                stat: None,
            });
        }
    }
    items.sort_by_key(|item| item.tar_offset);
    items
}

pub fn raw(path: &Path) -> Bytes {
    use std::os::unix::ffi::OsStrExt;
    Bytes::copy_from_slice(path.as_os_str().as_bytes())
}

pub fn uuid_bytes(n: u128) -> Bytes {
    Bytes::copy_from_slice(Uuid::from_u128(n).as_bytes())
}
