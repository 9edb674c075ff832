//! A source agent as the worker of a drive meets it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use std::result::Result;
use taf_format::record;
use taf_format::segment::{Cutter, Identity, Method, Sealed, Sealer};
use taf_peer::material::Material;
use taf_peer::tls::{Expect, Trust, client_config};
use taf_peer::{DATA_MESSAGE_LIMIT, channel, faults};
use taf_proto::agent::transfer_service_client::TransferServiceClient;
use taf_proto::agent::*;
use taf_proto::v1::Fault;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use uuid::Uuid;

use super::PATIENCE;

pub fn archive(installation: Uuid, attempt: u64) -> Archive {
    let uuid = |uuid: Uuid| Bytes::copy_from_slice(uuid.as_bytes());
    Archive {
        archive_uuid: uuid(Uuid::new_v4()),
        line_uuid: uuid(Uuid::new_v4()),
        version: 1,
        ordinal: 1,
        attempt,
        plan: "nightly".into(),
        source: "files".into(),
        installation_uuid: uuid(installation),
    }
}

/// Bytes of a tar stream, random so that they do not shrink, and the records that go with them.
pub struct Segments {
    pub tar: Vec<u8>,
    size: usize,
    /// Bytes of each page; there are two in a segment.
    pub page: usize,
    /// How they are stored.
    pub method: Method,
}

impl Segments {
    /// `count` segments of `size` bytes each.
    pub fn new(seed: u64, count: usize, size: usize) -> Segments {
        let mut tar = vec![0; count * size];
        StdRng::seed_from_u64(seed).fill_bytes(&mut tar);
        Segments {
            tar,
            size,
            page: 100,
            method: Method::Zstd,
        }
    }

    pub fn seal(&self, archive: &Archive) -> Vec<Sealed> {
        let mut cutter = Cutter::with_segment_size(
            Identity {
                line_uuid: Uuid::from_slice(&archive.line_uuid).unwrap(),
                version: archive.version,
                archive_ordinal: archive.ordinal,
                archive_uuid: Uuid::from_slice(&archive.archive_uuid).unwrap(),
                attempt: archive.attempt,
            },
            self.size,
        );
        for entry in self.tar.chunks(self.size / 2) {
            cutter.entry_starts(entry.len() as u64).unwrap();
            cutter.push_tar(entry);
            let record = record::Entry {
                path: Bytes::from_static(b"some/path"),
                size: entry.len() as u64,
                ..record::Entry::default()
            };
            cutter.push_record(&record::entry(record)).unwrap();
            let page = record::Page {
                chunk: cutter.tar_offset().to_be_bytes().to_vec().into(),
                body: entry[..self.page.min(entry.len())].to_vec().into(),
                hashes: Bytes::new(),
            };
            cutter.push_record(&record::page(page)).unwrap();
        }
        let level = self.method.default_level().min(1);
        let mut sealer = Sealer::by(self.method, level).unwrap();
        let segments = cutter.finish().into_iter();
        segments.map(|raw| sealer.seal(raw).unwrap()).collect()
    }
}

pub async fn client(own: &Material, addresses: &[String]) -> TransferServiceClient<Channel> {
    let trust = Trust::Authority(own.authority().clone());
    let expect = Expect::tape_agent(own.identity().installation, "tapes");
    let tls = client_config(trust, Some(own), expect).unwrap();
    let channel = channel::connect(&addresses[0], tls).await.unwrap();
    TransferServiceClient::new(channel)
        .max_decoding_message_size(DATA_MESSAGE_LIMIT)
        .max_encoding_message_size(DATA_MESSAGE_LIMIT)
}

fn is_not_ready(status: &Status) -> bool {
    faults::reason_of(status).is_some_and(|(reason, _)| reason == "NOT_READY")
}

/// A transfer towards the tape.
pub struct Writing {
    requests: mpsc::Sender<WriteRequest>,
    responses: Streaming<WriteResponse>,
}

impl Writing {
    /// Calls until the worker is ready.
    pub async fn open(own: &Material, addresses: &[String], key: AssignmentKey) -> Writing {
        let begun = Instant::now();
        loop {
            match Self::attempt(own, addresses, key).await {
                Ok(writing) => return writing,
                Err(status) => assert!(
                    is_not_ready(&status) && begun.elapsed() < PATIENCE,
                    "{status:?}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls once.
    pub async fn attempt(
        own: &Material,
        addresses: &[String],
        key: AssignmentKey,
    ) -> Result<Writing, Status> {
        let (requests, outgoing) = mpsc::channel(2);
        let open = write_request::Message::Open(TransferOpen { key: Some(key) });
        requests.send(say(open)).await.unwrap();
        let mut client = client(own, addresses).await;
        let call = client.write(ReceiverStream::new(outgoing)).await?;
        let mut responses = call.into_inner();
        match responses.message().await?.and_then(|first| first.message) {
            Some(write_response::Message::Ready(_)) => Ok(Writing {
                requests,
                responses,
            }),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a segment in at least two chunks. A worker that hangs up is no error here.
    pub async fn segment(&mut self, segment: &Sealed) {
        let mut rest = segment.bytes.clone();
        let piece = (rest.len() / 2 + 1).min(1 << 20);
        while !rest.is_empty() {
            let data = rest.split_to(piece.min(rest.len()));
            let end = rest.is_empty();
            let chunk = write_request::Message::Chunk(SegmentChunk { data, end });
            drop(self.requests.send(say(chunk)).await);
        }
    }

    pub async fn finish(&mut self, last_sequence: u64) {
        let finish = write_request::Message::Finish(WriteFinish { last_sequence });
        drop(self.requests.send(say(finish)).await);
    }

    /// Hears the worker until parts up to this sequence are committed.
    pub async fn durable(&mut self, sequence: u64) {
        loop {
            let heard = tokio::time::timeout(PATIENCE, self.responses.message()).await;
            match heard.unwrap().unwrap().and_then(|said| said.message) {
                Some(write_response::Message::Durable(durable)) if durable.sequence >= sequence => {
                    return;
                }
                Some(write_response::Message::Durable(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Hears until the worker hangs up, whatever it says.
    pub async fn ended(mut self) {
        while let Ok(Some(_)) = self.responses.message().await {}
    }

    /// Hears the worker to its end: how many parts are committed, or its fault.
    pub async fn committed(mut self) -> Result<u32, Fault> {
        loop {
            let heard = tokio::time::timeout(PATIENCE, self.responses.message()).await;
            match heard.unwrap().unwrap().and_then(|said| said.message) {
                Some(write_response::Message::Committed(committed)) => {
                    return Ok(committed.part_count);
                }
                Some(write_response::Message::Fault(fault)) => return Err(fault),
                Some(write_response::Message::Durable(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn say(message: write_request::Message) -> WriteRequest {
    WriteRequest {
        message: Some(message),
    }
}

/// A transfer from the tape.
pub struct Reading {
    requests: mpsc::Sender<ReadRequest>,
    responses: Streaming<ReadResponse>,
    next: u32,
}

impl Reading {
    /// Calls until the worker is ready.
    pub async fn open(own: &Material, addresses: &[String], key: AssignmentKey) -> Reading {
        let begun = Instant::now();
        loop {
            let (requests, outgoing) = mpsc::channel(64);
            let open = read_request::Message::Open(TransferOpen { key: Some(key) });
            let message = Some(open);
            requests.send(ReadRequest { message }).await.unwrap();
            let mut client = client(own, addresses).await;
            match client.read(ReceiverStream::new(outgoing)).await {
                Ok(call) => {
                    let mut responses = call.into_inner();
                    let first = responses.message().await.unwrap();
                    let first = first.and_then(|first| first.message);
                    assert!(
                        matches!(first, Some(read_response::Message::Ready(_))),
                        "{first:?}"
                    );
                    return Reading {
                        requests,
                        responses,
                        next: 1,
                    };
                }
                Err(status) => assert!(
                    is_not_ready(&status) && begun.elapsed() < PATIENCE,
                    "{status:?}"
                ),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn ask(&mut self, part: &PartHeader, byte_offset: u64, length: u64) {
        let range = read_request::Message::Range(ReadRange {
            id: self.next,
            tape_file: part.tape_file,
            first_block: part.first_block,
            byte_offset,
            length,
        });
        self.next += 1;
        let message = Some(range);
        self.requests.send(ReadRequest { message }).await.unwrap();
    }

    /// The bytes of the next range; zeros where they are lost, and how many those are.
    pub async fn range(&mut self) -> (Vec<u8>, u64) {
        let (mut bytes, mut lost) = (Vec::new(), 0);
        loop {
            let heard = tokio::time::timeout(PATIENCE, self.responses.message()).await;
            match heard.unwrap().unwrap().and_then(|said| said.message) {
                Some(read_response::Message::Chunk(chunk)) => {
                    assert!(chunk.data.len() <= 1 << 20);
                    bytes.extend_from_slice(&chunk.data);
                    if chunk.end {
                        return (bytes, lost);
                    }
                }
                Some(read_response::Message::Damaged(damaged)) => {
                    lost += damaged.length;
                    bytes.resize(bytes.len() + damaged.length as usize, 0);
                    if damaged.end {
                        return (bytes, lost);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
