//! The fakes' part in runs with a base: pages that earlier runs sent, and drives that are claimed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Mutex;

use taf_format::key;
use taf_format::record::{self, Body};
use taf_format::segment;
use taf_peer::faults;
use taf_proto::agent::{
    Archive, BackupWork, Base, BaseKind, BasePage, ClaimDriveResponse, FetchBaseRequest,
    FetchBaseResponse, FetchSelectionResponse, Worker, assignment,
};
use tonic::{Code, Status};

use super::{Site, raw, uuid_bytes};

/// What the fake controller has and was asked for.
#[derive(Default)]
pub struct Bases {
    pages: Mutex<HashMap<BaseKind, BTreeMap<Vec<u8>, BasePage>>>,
    /// How many pages come before the controller goes away, for each call in turn.
    pub breaks: Mutex<Vec<usize>>,
    /// The status that a call ends with instead.
    pub refusal: Mutex<Option<Status>>,
    /// Claims that are still to be refused as early.
    pub early: Mutex<u32>,
    /// Claims that were granted.
    pub claimed: Mutex<u32>,
    pub worker: Mutex<Option<Worker>>,
    /// Calls.
    pub fetched: Mutex<usize>,
}

impl Bases {
    pub fn fetch(&self, request: &FetchBaseRequest) -> Vec<Result<FetchBaseResponse, Status>> {
        *self.fetched.lock().unwrap() += 1;
        if let Some(status) = self.refusal.lock().unwrap().clone() {
            return vec![Err(status)];
        }
        let all = self.pages.lock().unwrap();
        let pages = all.get(&request.kind()).into_iter().flatten();
        let wanted = pages.filter(|(key, _)| {
            if !request.chunks.is_empty() {
                return request.chunks.iter().any(|chunk| chunk == *key);
            }
            let behind = request.after_chunk.is_empty() || request.after_chunk < key.as_slice();
            behind && !(request.without_shortened && key::is_shortened(key))
        });
        let mut wanted: Vec<_> = wanted.map(|(_, page)| page.clone()).collect();
        let mut breaks = self.breaks.lock().unwrap();
        let broken = (!breaks.is_empty()).then(|| breaks.remove(0));
        wanted.truncate(broken.unwrap_or(usize::MAX));
        let mut answers: Vec<_> = wanted
            .chunks(3)
            .map(|pages| {
                Ok(FetchBaseResponse {
                    pages: pages.to_vec(),
                })
            })
            .collect();
        if broken.is_some() {
            answers.push(Err(Status::unavailable("the controller goes down")));
        }
        answers
    }

    pub fn claim(&self) -> Result<ClaimDriveResponse, Status> {
        let mut early = self.early.lock().unwrap();
        if *early > 0 {
            *early -= 1;
            let none: [(&str, String); 0] = [];
            return Err(faults::status(
                Code::Unavailable,
                "NOT_READY",
                "not yet",
                none,
            ));
        }
        *self.claimed.lock().unwrap() += 1;
        let worker = self.worker.lock().unwrap().clone();
        Ok(ClaimDriveResponse { worker })
    }
}

impl Site {
    /// Publishes what the last run sent: the next one has it for its base, over what was there.
    pub fn publish(&self) {
        let mut all = self.told.base.pages.lock().unwrap();
        let head = all.entry(BaseKind::Head).or_default();
        for bytes in self.told.segments.lock().unwrap().iter() {
            let opened = segment::open(bytes).unwrap();
            for record in record::iter(&opened.records) {
                match record.unwrap().record {
                    Some(Body::Page(page)) => {
                        let chunk = page.chunk.to_vec();
                        let page = BasePage {
                            chunk: page.chunk,
                            body: page.body,
                            hashes: page.hashes,
                        };
                        head.insert(chunk, page);
                    }
                    Some(Body::Tombstone(tombstone)) => {
                        head.remove(&tombstone.chunk[..]);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Assigns an incremental run of `roots`, with an archive of this ordinal.
    pub fn assign_incremental(&mut self, roots: &[&Path], ordinal: u32) -> u64 {
        let paths = roots.iter().map(|root| raw(root)).collect();
        *self.told.selection.lock().unwrap() = FetchSelectionResponse {
            paths,
            ..FetchSelectionResponse::default()
        };
        self.told.segments.lock().unwrap().clear();
        *self.told.base.worker.lock().unwrap() = Some(self.worker.clone());
        let work = BackupWork {
            archive: Some(Archive {
                archive_uuid: uuid_bytes(1 + u128::from(ordinal)),
                line_uuid: uuid_bytes(1),
                version: u64::from(ordinal),
                ordinal,
                attempt: self.next_attempt,
                installation_uuid: uuid_bytes(3),
                ..Archive::default()
            }),
            compression_level: 1,
            compression_threads: 2,
            base: Some(Base {
                head_version: u64::from(ordinal) - 1,
                ..Base::default()
            }),
            ..BackupWork::default()
        };
        self.assign(assignment::Work::Backup(work))
    }

    /// The paths of the entries and the keys of the pages and tombstones of the last run.
    pub fn sent(&self) -> (Vec<String>, Vec<Vec<u8>>) {
        let (mut entries, mut keys) = (Vec::new(), Vec::new());
        for bytes in self.told.segments.lock().unwrap().iter() {
            let opened = segment::open(bytes).unwrap();
            for record in record::iter(&opened.records) {
                match record.unwrap().record.unwrap() {
                    Body::Entry(entry) => {
                        entries.push(String::from_utf8(entry.path.to_vec()).unwrap());
                    }
                    Body::Page(page) => keys.push(page.chunk.to_vec()),
                    Body::Tombstone(tombstone) => keys.push(tombstone.chunk.to_vec()),
                    Body::Dictionary(_) => {}
                }
            }
        }
        (entries, keys)
    }
}
