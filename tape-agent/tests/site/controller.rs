//! The controller's side of a tape agent, in memory.

use std::collections::VecDeque;
use std::pin::Pin;
use std::result::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use taf_peer::faults;
use taf_peer::material::Material;
use taf_peer::serve::{Limits, serve};
use taf_peer::tls::{ClientAuth, server_config};
use taf_proto::agent::catalog_service_server::{CatalogService, CatalogServiceServer};
use taf_proto::agent::mount_service_server::{MountService, MountServiceServer};
use taf_proto::agent::session_service_server::{SessionService, SessionServiceServer};
use taf_proto::agent::{self, *};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A part that was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    pub header: PartHeader,
    pub records: Vec<u8>,
}

/// What happened, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Hello(Hello),
    Part(Committed),
    Orphan(ReportOrphanRequest),
    Volume(ReportVolumeRequest),
    Mount(Box<ReportMountRequest>),
    Drive(Option<AssignmentKey>, DriveObservation),
    Library(LibraryObservation),
    Result(agent::Result),
    Index(CommitIndexRequest),
    Verified(ReportVerificationRequest),
    Scanned(Box<Scanned>),
}

/// What a rescan told.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scanned {
    pub header: ScanHeader,
    pub records: Vec<taf_format::index::Body>,
    pub trailer: ScanTrailer,
}

#[derive(Clone)]
struct Told {
    events: Arc<Mutex<Vec<Event>>>,
    assignments: watch::Receiver<Vec<Assignment>>,
    away: watch::Receiver<bool>,
    /// Statuses that the next commits are refused with.
    refusals: Arc<Mutex<VecDeque<(Code, &'static str)>>>,
    /// What the next index is to tell of.
    to_tell: Arc<Mutex<Vec<fetch_index_response::Message>>>,
    away_at_commit: watch::Receiver<bool>,
    tells_all: Arc<AtomicBool>,
    /// What the next verification is to read, and for how many seconds.
    to_verify: Arc<Mutex<(Vec<VerifyPart>, u64)>>,
    /// Archives whose parts are current when they are found.
    open_archives: Arc<Mutex<Vec<Bytes>>>,
}

pub struct Controller {
    pub address: String,
    told: Told,
    assignments: watch::Sender<Vec<Assignment>>,
    away: watch::Sender<bool>,
    away_at_commit: watch::Sender<bool>,
    _stop: DropGuard,
}

impl Controller {
    pub async fn start(own: &Material, listen: &str) -> Controller {
        let stop = CancellationToken::new();
        let (assignments, assigned) = watch::channel(Vec::new());
        let (away, is_away) = watch::channel(false);
        let (away_at_commit, is_away_at_commit) = watch::channel(false);
        let told = Told {
            events: Arc::default(),
            assignments: assigned,
            away: is_away,
            refusals: Arc::default(),
            to_tell: Arc::default(),
            away_at_commit: is_away_at_commit,
            tells_all: Arc::default(),
            to_verify: Arc::default(),
            open_archives: Arc::default(),
        };
        let listener = TcpListener::bind(listen).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let routes = Routes::new(SessionServiceServer::new(told.clone()))
            .add_service(CatalogServiceServer::new(told.clone()))
            .add_service(MountServiceServer::new(told.clone()));
        let tls = server_config(own, ClientAuth::Required).unwrap();
        tokio::spawn(serve(
            listener,
            tls,
            routes,
            Limits::default(),
            stop.clone(),
        ));
        Controller {
            address,
            told,
            assignments,
            away,
            away_at_commit,
            _stop: stop.drop_guard(),
        }
    }

    pub fn assign(&self, assignments: Vec<Assignment>) {
        self.assignments.send_replace(assignments);
    }

    /// While it is away, calls of the catalog fail as if nobody were there.
    pub fn set_away(&self, away: bool) {
        self.away.send_replace(away);
    }

    /// While it is away then, indexes are not committed.
    pub fn set_away_at_commit(&self, away: bool) {
        self.away_at_commit.send_replace(away);
    }

    /// The next commit is refused for good.
    pub fn refuse_commit(&self, code: Code, reason: &'static str) {
        self.told.refusals.lock().unwrap().push_back((code, reason));
    }

    /// What the next index is to tell of.
    pub fn tell(&self, messages: Vec<fetch_index_response::Message>) {
        *self.told.to_tell.lock().unwrap() = messages;
    }

    /// Indexes are told of every part of their recording.
    pub fn tell_all(&self) {
        self.told.tells_all.store(true, Ordering::SeqCst);
    }

    /// What the next verification is to read.
    pub fn verify(&self, parts: Vec<VerifyPart>) {
        *self.told.to_verify.lock().unwrap() = (parts, 0);
    }

    /// The same for so many seconds, which are over when the first part is taken.
    pub fn verify_for(&self, parts: Vec<VerifyPart>, seconds: u64) {
        *self.told.to_verify.lock().unwrap() = (parts, seconds);
    }

    /// Parts of this archive are current when they are found on tape.
    pub fn keep_open(&self, archive: &Archive) {
        let mut open = self.told.open_archives.lock().unwrap();
        open.push(archive.archive_uuid.clone());
    }

    pub fn verified(&self) -> Vec<ReportVerificationRequest> {
        let events = self.events().into_iter();
        let verified = |event| match event {
            Event::Verified(report) => Some(report),
            _ => None,
        };
        events.filter_map(verified).collect()
    }

    /// What the newest rescan told.
    pub fn scanned(&self) -> Option<Scanned> {
        let mut events = self.events().into_iter().rev();
        events.find_map(|event| match event {
            Event::Scanned(scanned) => Some(*scanned),
            _ => None,
        })
    }

    pub fn indexes(&self) -> Vec<CommitIndexRequest> {
        let events = self.events().into_iter();
        let index = |event| match event {
            Event::Index(index) => Some(index),
            _ => None,
        };
        events.filter_map(index).collect()
    }

    pub fn events(&self) -> Vec<Event> {
        self.told.events.lock().unwrap().clone()
    }

    pub fn hellos(&self) -> Vec<Hello> {
        let events = self.events().into_iter();
        let hello = |event| match event {
            Event::Hello(hello) => Some(hello),
            _ => None,
        };
        events.filter_map(hello).collect()
    }

    pub fn parts(&self) -> Vec<Committed> {
        let events = self.events().into_iter();
        let part = |event| match event {
            Event::Part(part) => Some(part),
            _ => None,
        };
        events.filter_map(part).collect()
    }

    pub fn orphans(&self) -> Vec<ReportOrphanRequest> {
        let events = self.events().into_iter();
        let orphan = |event| match event {
            Event::Orphan(orphan) => Some(orphan),
            _ => None,
        };
        events.filter_map(orphan).collect()
    }

    pub fn mounts(&self) -> Vec<ReportMountRequest> {
        let events = self.events().into_iter();
        let mount = |event| match event {
            Event::Mount(report) => Some(*report),
            _ => None,
        };
        events.filter_map(mount).collect()
    }

    pub fn verdicts(&self) -> Vec<report_volume_request::Verdict> {
        let events = self.events().into_iter();
        let verdict = |event| match event {
            Event::Volume(report) => Some(report.verdict()),
            _ => None,
        };
        events.filter_map(verdict).collect()
    }

    pub fn result(&self, key: AssignmentKey) -> Option<agent::Result> {
        self.events().into_iter().find_map(|event| match event {
            Event::Result(result) if result.key == Some(key) => Some(result),
            _ => None,
        })
    }

    /// The newest observation of the drive, and what it was about.
    pub fn drive(&self) -> Option<(Option<AssignmentKey>, DriveObservation)> {
        let mut events = self.events().into_iter().rev();
        events.find_map(|event| match event {
            Event::Drive(key, drive) => Some((key, drive)),
            _ => None,
        })
    }

    /// The newest observation of the library.
    pub fn elements(&self) -> Option<Vec<Element>> {
        let mut events = self.events().into_iter().rev();
        events.find_map(|event| match event {
            Event::Library(library) => Some(library.elements),
            _ => None,
        })
    }
}

impl Told {
    fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    /// All parts of the recording.
    fn all_parts(&self, recording: &[u8]) -> Vec<fetch_index_response::Message> {
        let events = self.events.lock().unwrap();
        let parts = events.iter().filter_map(|event| match event {
            Event::Part(part) if part.header.recording_uuid == recording => Some(part),
            _ => None,
        });
        let parts: Vec<_> = parts
            .map(|part| fetch_index_response::Message::Part(super::index_part(part)))
            .collect();
        if parts.is_empty() {
            return parts;
        }
        let volume = taf_format::index::IndexVolume {
            recording_uuid: recording.to_vec().into(),
            volume_uuid: vec![1; 16].into(),
            barcode: super::BARCODE.into(),
        };
        let mut messages = vec![fetch_index_response::Message::Volume(volume)];
        messages.extend(parts);
        messages
    }

    fn answer(&self) -> Result<(), Status> {
        if *self.away.borrow() {
            return Err(Status::unavailable("the controller is away"));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl SessionService for Told {
    type OpenStream = Answers<OpenResponse>;

    async fn open(
        &self,
        request: Request<Streaming<OpenRequest>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.and_then(|first| first.message);
        let Some(open_request::Message::Hello(hello)) = first else {
            return Err(Status::invalid_argument("hello comes first"));
        };
        self.note(Event::Hello(hello));
        let (acks, acknowledged) = mpsc::channel(16);
        let told = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = incoming.message().await {
                match request.message {
                    Some(open_request::Message::Result(result)) => {
                        let ack = ResultAck { key: result.key };
                        told.note(Event::Result(result));
                        drop(acks.send(open_response::Message::ResultAck(ack)).await);
                    }
                    Some(open_request::Message::Observation(seen)) => match seen.seen {
                        Some(observation::Seen::Drive(drive)) => {
                            told.note(Event::Drive(seen.key, drive));
                        }
                        Some(observation::Seen::Library(library)) => {
                            told.note(Event::Library(library));
                        }
                        _ => {}
                    },
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
        let rest = futures::stream::select(sets, ReceiverStream::new(acknowledged));
        let down = futures::stream::once(async { welcome })
            .chain(rest)
            .map(|message| {
                Ok(OpenResponse {
                    message: Some(message),
                })
            });
        Ok(Response::new(Box::pin(down)))
    }
}

#[tonic::async_trait]
impl MountService for Told {
    async fn report_mount(
        &self,
        request: Request<ReportMountRequest>,
    ) -> Result<Response<ReportMountResponse>, Status> {
        self.answer()?;
        self.note(Event::Mount(Box::new(request.into_inner())));
        Ok(Response::new(ReportMountResponse {}))
    }
}

#[tonic::async_trait]
impl CatalogService for Told {
    type FetchSelectionStream = Answers<FetchSelectionResponse>;
    type FetchRecallStream = Answers<FetchRecallResponse>;
    type FetchBaseStream = Answers<FetchBaseResponse>;
    type FetchRemovalsStream = Answers<FetchRemovalsResponse>;
    type FetchListingsStream = Answers<FetchListingsResponse>;
    type FetchPagesStream = Answers<FetchPagesResponse>;

    async fn commit_part(
        &self,
        request: Request<Streaming<CommitPartRequest>>,
    ) -> Result<Response<CommitPartResponse>, Status> {
        self.answer()?;
        let mut messages = request.into_inner();
        let (mut header, mut records) = (None, Vec::new());
        loop {
            let message = messages.message().await?.and_then(|m| m.message);
            match message {
                Some(commit_part_request::Message::Header(found)) => header = Some(found),
                Some(commit_part_request::Message::Records(bytes)) => {
                    assert!(bytes.len() <= 1 << 20);
                    records.extend_from_slice(&bytes);
                }
                Some(commit_part_request::Message::Trailer(trailer)) => {
                    let header: PartHeader = header.expect("a header comes first");
                    let digest = blake3::Hasher::new()
                        .update(&records)
                        .update(&header.segment_table)
                        .finalize();
                    assert_eq!(trailer.digest, digest.as_bytes().as_slice());
                    let refusal = self.refusals.lock().unwrap().pop_front();
                    if let Some((code, reason)) = refusal {
                        return Err(faults::status(code, reason, "refused by the test", []));
                    }
                    self.note(Event::Part(Committed { header, records }));
                    return Ok(Response::new(CommitPartResponse {}));
                }
                None => return Err(Status::cancelled("it ended before the trailer")),
            }
        }
    }

    async fn report_orphan(
        &self,
        request: Request<ReportOrphanRequest>,
    ) -> Result<Response<ReportOrphanResponse>, Status> {
        self.answer()?;
        self.note(Event::Orphan(request.into_inner()));
        Ok(Response::new(ReportOrphanResponse {}))
    }

    async fn judge_part(
        &self,
        request: Request<JudgePartRequest>,
    ) -> Result<Response<JudgePartResponse>, Status> {
        self.answer()?;
        let open = self.open_archives.lock().unwrap();
        let current = open.contains(&request.into_inner().archive_uuid);
        let reason = if current {
            ""
        } else {
            "the test does not know its archive"
        };
        Ok(Response::new(JudgePartResponse {
            current,
            reason: reason.into(),
        }))
    }

    async fn report_volume(
        &self,
        request: Request<ReportVolumeRequest>,
    ) -> Result<Response<ReportVolumeResponse>, Status> {
        self.answer()?;
        self.note(Event::Volume(request.into_inner()));
        Ok(Response::new(ReportVolumeResponse {}))
    }

    type FetchIndexStream = Answers<FetchIndexResponse>;

    async fn fetch_index(
        &self,
        request: Request<FetchIndexRequest>,
    ) -> Result<Response<Self::FetchIndexStream>, Status> {
        self.answer()?;
        let mut messages = self.to_tell.lock().unwrap().clone();
        if self.tells_all.load(Ordering::SeqCst) {
            messages = self.all_parts(&request.into_inner().recording_uuid);
        }
        let messages = messages.into_iter().map(|message| {
            Ok(FetchIndexResponse {
                message: Some(message),
            })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }

    async fn commit_index(
        &self,
        request: Request<CommitIndexRequest>,
    ) -> Result<Response<CommitIndexResponse>, Status> {
        self.answer()?;
        let refusal = self.refusals.lock().unwrap().pop_front();
        if let Some((code, reason)) = refusal {
            return Err(faults::status(code, reason, "refused by the test", []));
        }
        if *self.away_at_commit.borrow() {
            return Err(Status::unavailable("the controller is away"));
        }
        self.note(Event::Index(request.into_inner()));
        Ok(Response::new(CommitIndexResponse {}))
    }

    type FetchVerificationStream = Answers<FetchVerificationResponse>;

    async fn fetch_verification(
        &self,
        _: Request<FetchVerificationRequest>,
    ) -> Result<Response<Self::FetchVerificationStream>, Status> {
        self.answer()?;
        let (parts, time_limit_seconds) = self.to_verify.lock().unwrap().clone();
        let parts = parts.into_iter().map(move |part| {
            Ok(FetchVerificationResponse {
                part: Some(part),
                time_limit_seconds,
            })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(parts))))
    }

    async fn report_scan(
        &self,
        request: Request<Streaming<ReportScanRequest>>,
    ) -> Result<Response<ReportScanResponse>, Status> {
        self.answer()?;
        let mut messages = request.into_inner();
        let mut scan = Scanned::default();
        loop {
            let message = messages.message().await?.and_then(|m| m.message);
            match message {
                Some(report_scan_request::Message::Header(header)) => scan.header = header,
                Some(report_scan_request::Message::Record(record)) => {
                    scan.records.extend(record.record);
                }
                Some(report_scan_request::Message::Trailer(trailer)) => {
                    scan.trailer = trailer;
                    self.note(Event::Scanned(Box::new(scan)));
                    return Ok(Response::new(ReportScanResponse {}));
                }
                None => return Err(Status::cancelled("it ended before the trailer")),
            }
        }
    }

    async fn report_verification(
        &self,
        request: Request<ReportVerificationRequest>,
    ) -> Result<Response<ReportVerificationResponse>, Status> {
        self.answer()?;
        let limit = self.to_verify.lock().unwrap().1;
        tokio::time::sleep(Duration::from_secs(limit)).await;
        self.note(Event::Verified(request.into_inner()));
        Ok(Response::new(ReportVerificationResponse {}))
    }

    async fn fetch_selection(
        &self,
        _: Request<FetchSelectionRequest>,
    ) -> Result<Response<Self::FetchSelectionStream>, Status> {
        Err(Status::unimplemented("tape agents take no selections"))
    }

    async fn fetch_base(
        &self,
        _: Request<FetchBaseRequest>,
    ) -> Result<Response<Self::FetchBaseStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_dictionaries(
        &self,
        _: Request<FetchDictionariesRequest>,
    ) -> Result<Response<FetchDictionariesResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn claim_drive(
        &self,
        _: Request<ClaimDriveRequest>,
    ) -> Result<Response<ClaimDriveResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_recall(
        &self,
        _: Request<FetchRecallRequest>,
    ) -> Result<Response<Self::FetchRecallStream>, Status> {
        Err(Status::unimplemented("tape agents take no recalls"))
    }

    async fn fetch_pages(
        &self,
        _: Request<FetchPagesRequest>,
    ) -> Result<Response<Self::FetchPagesStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_listings(
        &self,
        _: Request<FetchListingsRequest>,
    ) -> Result<Response<Self::FetchListingsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_removals(
        &self,
        _: Request<FetchRemovalsRequest>,
    ) -> Result<Response<Self::FetchRemovalsStream>, Status> {
        Err(Status::unimplemented("tape agents remove nothing"))
    }

    async fn locate_volume(
        &self,
        _: Request<LocateVolumeRequest>,
    ) -> Result<Response<LocateVolumeResponse>, Status> {
        Err(Status::unimplemented("tape agents look for no volumes"))
    }

    async fn take_volumes(
        &self,
        _: Request<TakeVolumesRequest>,
    ) -> Result<Response<TakeVolumesResponse>, Status> {
        Err(Status::unimplemented("tape agents restore nothing"))
    }

    async fn report_issues(
        &self,
        _: Request<ReportIssuesRequest>,
    ) -> Result<Response<ReportIssuesResponse>, Status> {
        Err(Status::unimplemented("tape agents have no issues"))
    }
}
