//! An installation with one plan, one drive and one volume, and backups of made-up trees on it: pages as a source agent makes
//! them, parts as a drive's worker commits them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use taf_controller::catalog::{self, Opened, commit};
use taf_controller::store::{Store, attempt_volumes};
use taf_core::catalog::Kind as Made;
use taf_format::entry::{Kind, Time};
use taf_format::page::{self, Chunker, DirectoryStat, Entry, FLAG_LISTING_UNKNOWN, Page, Place};
use taf_format::record;
use taf_format::segment::{Header, Method};
use taf_format::table::SegmentTable;
use taf_proto::agent::commit_part_request::Message;
use taf_proto::agent::{
    AssignmentKey, BackupDone, CommitPartRequest, Generation, PartHeader, PartTrailer,
};
use uuid::Uuid;

/// The source agent.
pub const SOURCE: &str = "files-1";
/// The tape agent.
pub const TAPE: &str = "tape-1";
/// Block size of the volume.
pub const BLOCK: u64 = 65_536;
/// What every page is compressed with.
pub const DICTIONARY: (u32, &[u8]) = (16, b"pages of the tests: names, owners, likely numbers");

/// The record of a dictionary.
pub fn dictionary(id: u32, body: &'static [u8]) -> Vec<u8> {
    let mut records = Vec::new();
    let body = Bytes::from_static(body);
    record::encode(
        &record::dictionary(record::Dictionary { id, body }),
        &mut records,
    )
    .unwrap();
    records
}

/// See the module.
pub struct World {
    pub store: Store,
    pub line: i64,
    pub recording: Uuid,
    pub agent_id: i64,
    pub volume_id: i64,
    plan: i64,
    drive: i64,
}

/// A running attempt with its version.
pub struct Attempt {
    pub key: AssignmentKey,
    pub id: i64,
    #[allow(dead_code)]
    pub job: i64,
    pub opened: Opened,
}

impl World {
    pub async fn new() -> Self {
        let (store, _) = crate::support::store().await;
        let client = store.client().await.unwrap();
        client.batch_execute("INSERT INTO installation (id, installation_uuid, epoch, generation_counter, authority_der, authority_key, created_at) VALUES (1, '00000000-0000-4000-8000-000000000001', 1, 0, '', '', now())").await.unwrap();
        drop(client);
        Self::within(store).await
    }

    /// The same in an installation that is there already.
    pub async fn within(store: Store) -> Self {
        let client = store.client().await.unwrap();
        let one = async |sql: &str| -> i64 { client.query_one(sql, &[]).await.unwrap().get(0) };
        let agent_id = one(&format!("INSERT INTO agents (agent_name, role, enrolled_at, reads_incomplete) VALUES ('{SOURCE}', 'source-agent', now(), true) RETURNING id")).await;
        let tape = one(&format!("INSERT INTO agents (agent_name, role, enrolled_at) VALUES ('{TAPE}', 'tape-agent', now()) RETURNING id")).await;
        let source = one(&format!("INSERT INTO sources (source_name, agent_id, paths, one_file_system, created_at) VALUES ('home', {agent_id}, '', false, now()) RETURNING id")).await;
        let pool = one(&format!("INSERT INTO pools (pool_name, block_size, part_size, created_at) VALUES ('main', {BLOCK}, 17179869184, now()) RETURNING id")).await;
        let plan = one(&format!("INSERT INTO plans (plan_name, source_id, pool_id, compression_level, compression_threads, created_at) VALUES ('daily', {source}, {pool}, 3, 0, now()) RETURNING id")).await;
        let line = one(&format!("INSERT INTO lines (line_uuid, plan_id, source_id) VALUES ('{}', {plan}, {source}) RETURNING id", Uuid::new_v4())).await;
        let drive = one(&format!("INSERT INTO drives (serial, vendor, product, firmware, agent_id, addresses, incarnation, last_heard_at, connected) VALUES ('D1', 'v', 'p', 'f', {tape}, 'h:1', '{}', now(), true) RETURNING id", Uuid::new_v4())).await;
        let recording = Uuid::new_v4();
        let volume_id = one(&format!("INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, labelled_at, created_at) VALUES ('TAF001L9', '{}', {pool}, 'appendable', '{recording}', {BLOCK}, 1, 4, now(), now()) RETURNING id", Uuid::new_v4())).await;
        drop(client);
        Self {
            store,
            line,
            recording,
            agent_id,
            volume_id,
            plan,
            drive,
        }
    }

    /// A new job with an attempt; the one before has failed.
    pub async fn attempt(&self) -> Attempt {
        self.attempt_at(Made::Full).await
    }

    /// The same that is asked to make this.
    pub async fn attempt_at(&self, kind: Made) -> Attempt {
        self.end_attempts().await;
        let mut client = self.store.client().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let sql = "INSERT INTO jobs (kind, state, creator, plan_id, line_id, asked_kind, created_at) VALUES ('backup', 'running', 'test', $1, $2, $3, now()) RETURNING id";
        let job: i64 = tx
            .query_one(sql, &[&self.plan, &self.line, &kind.name()])
            .await
            .unwrap()
            .get(0);
        let (id, key) = self.attempt_on(&tx, job).await;
        let opened = catalog::open_version_on(&tx, self.line, id, job, kind)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        Attempt {
            key,
            id,
            job,
            opened,
        }
    }

    /// An attempt at a job of whatever kind.
    pub async fn attempt_on(
        &self,
        tx: &taf_controller::store::Transaction<'_>,
        job: i64,
    ) -> (i64, AssignmentKey) {
        let sql = "INSERT INTO attempts (job_id, epoch, generation, drive_id, agent_id, started_at) \
                   VALUES ($1::bigint, 1, $1::bigint + 100, $2, $3, now()) RETURNING id";
        let id: i64 = tx
            .query_one(sql, &[&job, &self.drive, &self.agent_id])
            .await
            .unwrap()
            .get(0);
        attempt_volumes::volume_hold_on(tx, id, self.volume_id, false)
            .await
            .unwrap();
        let generation = Some(Generation {
            epoch: 1,
            counter: job as u64 + 100,
        });
        (
            id,
            AssignmentKey {
                attempt: id as u64,
                generation,
                step: 1,
            },
        )
    }

    /// The same with another recording to write to.
    #[allow(dead_code)]
    pub async fn on(self, recording: Uuid) -> Self {
        let client = self.store.client().await.unwrap();
        let sql = "SELECT id FROM volumes WHERE recording_uuid = $1";
        let volume_id = client.query_one(sql, &[&recording]).await.unwrap().get(0);
        drop(client);
        Self {
            recording,
            volume_id,
            ..self
        }
    }

    pub async fn end_attempts(&self) {
        let client = self.store.client().await.unwrap();
        client.batch_execute("UPDATE attempts SET ended_at = now(), verdict = 'cancelled' WHERE ended_at IS NULL; UPDATE attempt_volumes SET held = false WHERE held").await.unwrap();
    }

    /// State, next tape file and next block of the volume.
    pub async fn volume(&self) -> (String, i64, i64) {
        let client = self.store.client().await.unwrap();
        let row = client
            .query_one(
                "SELECT state, next_tape_file, next_block FROM volumes WHERE recording_uuid = $1",
                &[&self.recording],
            )
            .await
            .unwrap();
        (row.get(0), row.get(1), row.get(2))
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.store
            .client()
            .await
            .unwrap()
            .query_one(&format!("SELECT count(*) FROM {sql}"), &[])
            .await
            .unwrap()
            .get(0)
    }

    /// Commits a part as the tape agent.
    pub async fn commit(&self, part: &Part) -> Result<(), catalog::Error> {
        commit::commit(
            &self.store,
            TAPE,
            futures::stream::iter(part.messages().into_iter().map(Ok)),
        )
        .await
    }

    pub async fn publish(
        &self,
        attempt: &Attempt,
        backup: &Backup,
    ) -> Result<(), taf_controller::store::Error> {
        self.publish_done(attempt, &backup.done()).await
    }

    /// Publishes what a source agent reports.
    pub async fn publish_done(
        &self,
        attempt: &Attempt,
        done: &BackupDone,
    ) -> Result<(), taf_controller::store::Error> {
        let mut client = self.store.client().await.unwrap();
        let tx = client.transaction().await.unwrap();
        catalog::publish_on(&tx, &[(attempt.id, *done)]).await?;
        tx.commit().await.unwrap();
        Ok(())
    }

    /// A whole backup, committed in `parts` parts and published.
    pub async fn back_up(&self, tree: &Tree, parts: usize) -> (Attempt, Backup) {
        let attempt = self.attempt().await;
        let backup = Backup::of(tree, attempt.opened.ordinal as u32);
        for part in backup.parts(self, &attempt, parts).await {
            self.commit(&part).await.unwrap();
        }
        self.publish(&attempt, &backup).await.unwrap();
        (attempt, backup)
    }
}

/// A made-up tree: files by path with size and link group (0 for none). Directories follow from the paths.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    pub files: BTreeMap<Vec<u8>, (u64, u64)>,
    /// A directory that could not be listed.
    pub shut: Option<Vec<u8>>,
}

impl Tree {
    pub fn of(files: &[(&str, u64, u64)]) -> Self {
        let files = files
            .iter()
            .map(|(path, size, group)| (path.as_bytes().to_vec(), (*size, *group)));
        Self {
            files: files.collect(),
            shut: None,
        }
    }

    fn directories(&self) -> BTreeSet<Vec<u8>> {
        let mut found = BTreeSet::from([Vec::new()]);
        for path in self.files.keys() {
            for (at, byte) in path.iter().enumerate() {
                if *byte == b'/' {
                    found.insert(path[..at].to_vec());
                }
            }
        }
        found
    }
}

/// What a source agent made of a tree.
pub struct Backup {
    /// In the order of the tape.
    pub pages: Vec<Page>,
    /// Length of the tar stream.
    pub length: u64,
    pub files: u64,
    pub directories: u64,
    segments: u64,
}

/// Tar bytes of a segment.
const SEGMENT: u64 = 16_384;

impl Backup {
    pub fn of(tree: &Tree, ordinal: u32) -> Self {
        let mut children: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, bool>> = BTreeMap::new();
        let directories = tree.directories();
        for directory in &directories {
            children.entry(directory.clone()).or_default();
        }
        let mut put = |path: &[u8], is_directory: bool| {
            let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&[][..], path),
            };
            children
                .entry(parent.to_vec())
                .or_default()
                .insert(name.to_vec(), is_directory);
        };
        for directory in directories.iter().filter(|path| !path.is_empty()) {
            put(directory, true);
        }
        for path in tree.files.keys() {
            put(path, false);
        }
        let mut made = Self {
            pages: Vec::new(),
            length: 0,
            files: tree.files.len() as u64,
            directories: directories.len() as u64,
            segments: 0,
        };
        made.directory(tree, &children, ordinal, b"", &mut HashMap::new());
        made.segments = made.length.div_ceil(SEGMENT);
        made
    }

    fn directory(
        &mut self,
        tree: &Tree,
        children: &BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, bool>>,
        ordinal: u32,
        path: &[u8],
        carriers: &mut HashMap<u64, Place>,
    ) {
        let time = Time {
            seconds: -5,
            nanos: 7,
        };
        let place = |tar_offset| Place {
            archive_ordinal: ordinal,
            tar_offset,
        };
        let header = DirectoryStat {
            mode: 0o755,
            uid: 3,
            mtime: time,
            place: Some(place(self.length)),
            tar_length: 512,
            flags: if tree.shut.as_deref() == Some(path) {
                FLAG_LISTING_UNKNOWN
            } else {
                0
            },
            ..DirectoryStat::default()
        };
        self.length += 512;
        let mut chunker = Chunker::new(path.to_vec(), Some(header));
        let mut below = Vec::new();
        for (name, is_directory) in &children[path] {
            let whole = if path.is_empty() {
                name.clone()
            } else {
                [path, b"/", name].concat()
            };
            let entry = if *is_directory {
                below.push(whole);
                Entry::bare(name.clone(), Kind::Directory)
            } else {
                let (size, group) = tree.files[&whole];
                let here = place(self.length);
                let carrier = if group == 0 {
                    here
                } else {
                    *carriers.entry(group).or_insert(here)
                };
                let length = 512 + size.div_ceil(512) * 512;
                self.length += if carrier == here { length } else { 512 };
                let mut hash = [0; 16];
                hash.copy_from_slice(&blake3::hash(&whole).as_bytes()[..16]);
                let hash = if group == 0 { hash } else { [9; 16] };
                Entry {
                    size,
                    mtime: time,
                    mode: 0o644,
                    link_group: group,
                    place: Some(carrier),
                    tar_length: length,
                    hash: Some(hash),
                    ..Entry::bare(name.clone(), Kind::File)
                }
            };
            self.pages.extend(chunker.push(entry).unwrap());
        }
        self.pages.push(chunker.finish());
        for directory in below {
            self.directory(tree, children, ordinal, &directory, carriers);
        }
    }

    pub fn done(&self) -> BackupDone {
        BackupDone {
            last_sequence: self.segments - 1,
            file_count: self.files,
            directory_count: self.directories,
            tar_byte_count: self.length,
            ..BackupDone::default()
        }
    }

    /// The backup in at most `count` parts, lying where the volume ends now.
    pub async fn parts(&self, world: &World, attempt: &Attempt, count: usize) -> Vec<Part> {
        let (_, tape_file, block) = world.volume().await;
        let end = (tape_file as u64, block as u64);
        self.parts_at(world.recording, end, attempt, count)
    }

    /// As [`Backup::parts`], behind `end` of any recording: the next tape file and the block at which it begins.
    pub fn parts_at(
        &self,
        recording: Uuid,
        end: (u64, u64),
        attempt: &Attempt,
        count: usize,
    ) -> Vec<Part> {
        let (mut tape_file, mut block) = end;
        let count = (count as u64).min(self.segments).max(1);
        let (mut parts, mut pages) = (Vec::new(), self.pages.as_slice());
        for number in 1..=count {
            let sequences = self.segments * (number - 1) / count..self.segments * number / count;
            let last = number == count;
            let mut table = SegmentTable::new(BLOCK);
            for sequence in sequences.clone() {
                table.push(&self.segment(attempt, sequence)).unwrap();
            }
            let take = if last {
                pages.len()
            } else {
                self.pages.len() / count as usize
            };
            let (now, rest) = pages.split_at(take);
            pages = rest;
            let mut records = dictionary(DICTIONARY.0, DICTIONARY.1);
            for page in now {
                let encoded = page::encode(page, Some(DICTIONARY)).unwrap();
                let page = record::Page {
                    chunk: encoded.chunk.into(),
                    body: encoded.body.into(),
                    hashes: encoded.hashes.into(),
                };
                record::encode(&record::page(page), &mut records).unwrap();
            }
            let block_count = table.byte_end().div_ceil(BLOCK);
            let header = PartHeader {
                key: Some(attempt.key),
                archive_uuid: Bytes::copy_from_slice(attempt.opened.archive_uuid.as_bytes()),
                part_number: number as u32,
                recording_uuid: Bytes::copy_from_slice(recording.as_bytes()),
                tape_file,
                first_block: block,
                block_count,
                byte_count: table.byte_end(),
                first_sequence: sequences.start,
                last_sequence: sequences.end - 1,
                first_tar_offset: table.tar_range().start,
                end_tar_offset: table.tar_range().end,
                last,
                truncated: false,
                segment_table: table.encode().into(),
                next_tape_file: tape_file + 1,
                next_block: block + block_count + 1,
                ..PartHeader::default()
            };
            (tape_file, block) = (header.next_tape_file, header.next_block);
            parts.push(Part { header, records });
        }
        parts
    }

    fn segment(&self, attempt: &Attempt, sequence: u64) -> Header {
        let tar_offset = sequence * SEGMENT;
        Header {
            line_uuid: attempt.opened.line_uuid,
            version: attempt.opened.version as u64,
            archive_ordinal: attempt.opened.ordinal as u32,
            archive_uuid: attempt.opened.archive_uuid,
            attempt: attempt.id as u64,
            sequence,
            tar_offset,
            next_entry: None,
            tar_length: SEGMENT.min(self.length - tar_offset) as u32,
            stored_length: 5_000,
            records_length: 100,
            stored_crc32c: 0,
            method: Method::Zstd,
            suite: 0,
            last: false,
        }
    }
}

/// A part as a worker sends it.
#[derive(Debug, Clone)]
pub struct Part {
    pub header: PartHeader,
    pub records: Vec<u8>,
}

impl Part {
    pub fn messages(&self) -> Vec<CommitPartRequest> {
        let mut hasher = blake3::Hasher::new();
        let digest = hasher
            .update(&self.records)
            .update(&self.header.segment_table)
            .finalize();
        let mut messages = vec![Message::Header(self.header.clone())];
        // An odd size cuts records anywhere.
        messages.extend(
            self.records
                .chunks(10_007)
                .map(|piece| Message::Records(Bytes::copy_from_slice(piece))),
        );
        messages.push(Message::Trailer(PartTrailer {
            digest: Bytes::copy_from_slice(digest.as_bytes()),
        }));
        messages
            .into_iter()
            .map(|message| CommitPartRequest {
                message: Some(message),
            })
            .collect()
    }
}
