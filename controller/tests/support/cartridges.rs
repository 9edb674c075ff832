//! What a rescan tells of the cartridges of a world, and telling it to another one.

use bytes::Bytes;
use futures::StreamExt as _;
use prost::Message as _;
use taf_controller::catalog::{Error, rescan};
use taf_format::index::{Body, ClosingRecord, IndexPart, IndexPartEnd, IndexRecord};
use taf_proto::agent::report_scan_request::Message;
use taf_proto::agent::{AssignmentKey, ReportScanRequest, ScanHeader, ScanTrailer};
use taf_proto::tape::{Dictionary, Label, Page, Tombstone};
use tonic::Status;
use uuid::Uuid;

use crate::world::{BLOCK, TAPE, World};

/// The installation of every world.
pub const INSTALLATION: &str = "00000000-0000-4000-8000-000000000001";

/// What a rescan of a cartridge tells.
#[derive(Debug, Clone)]
pub struct Cartridge {
    pub recording: Uuid,
    pub label: Label,
    pub records: Vec<Body>,
    pub end: (u64, u64),
}

pub fn raw(uuid: Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

/// One more labelled volume beside the first one of a world, like it; gives its recording.
pub async fn one_more(world: &World, barcode: &str) -> Uuid {
    let recording = Uuid::new_v4();
    let sql = format!(
        "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, \
         labelled_at, created_at) SELECT '{barcode}', '{}', pool_id, state, '{recording}', block_size, 1, 4, now(), now() \
         FROM volumes WHERE barcode = 'TAF001L9'",
        Uuid::new_v4()
    );
    let client = world.store.client().await.unwrap();
    client.batch_execute(&sql).await.unwrap();
    recording
}

/// What is on the cartridges of a world.
pub async fn cartridges(world: &World) -> Vec<Cartridge> {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT v.recording_uuid, v.volume_uuid, v.barcode, o.pool_name, v.next_tape_file, v.next_block FROM volumes v \
               JOIN pools o ON o.id = v.pool_id WHERE v.next_tape_file > 1 ORDER BY v.barcode";
    let mut found = Vec::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let recording: Uuid = row.get(0);
        let label = Label {
            format_version: 1,
            installation_uuid: raw(INSTALLATION.parse().unwrap()),
            volume_uuid: raw(row.get(1)),
            recording_uuid: raw(recording),
            barcode: row.get(2),
            pool: row.get(3),
            block_size: BLOCK as u32,
            labelled_at_unix_nanos: 1_790_000_000_000_000_000,
            writer: "taf".into(),
        };
        found.push(Cartridge {
            recording,
            label,
            records: records(world, recording).await,
            end: (row.get::<_, i64>(4) as u64, row.get::<_, i64>(5) as u64),
        });
    }
    found
}

pub async fn records(world: &World, recording: Uuid) -> Vec<Body> {
    let client = world.store.client().await.unwrap();
    let mut all = Vec::new();
    let sql = "SELECT a.archive_uuid, l.line_uuid, a.version, a.ordinal, a.attempt_id, x.part_number, x.tape_file, x.first_block, \
               x.block_count, x.byte_count, x.first_sequence, x.last_sequence, x.first_tar_offset, x.end_tar_offset, x.final_part, \
               x.truncated, x.digest, x.segment_table, l.id, x.copy_number FROM parts x JOIN archives a ON a.id = x.archive_id \
               JOIN lines l ON l.id = a.line_id WHERE x.recording_uuid = $1 ORDER BY x.tape_file";
    for row in client.query(sql, &[&recording]).await.unwrap() {
        let number = |at: usize| row.get::<_, i64>(at) as u64;
        let (ordinal, part_number): (i32, i32) = (row.get(3), row.get(5));
        all.push(Body::Part(IndexPart {
            archive_uuid: raw(row.get(0)),
            line_uuid: raw(row.get(1)),
            version: number(2),
            archive_ordinal: ordinal as u32,
            attempt: number(4),
            part_number: part_number as u32,
            tape_file: number(6),
            first_block: number(7),
            block_count: number(8),
            byte_count: number(9),
            first_sequence: number(10),
            last_sequence: number(11),
            first_tar_offset: number(12),
            end_tar_offset: number(13),
            last: row.get(14),
            truncated: row.get(15),
            digest: row.get::<_, Vec<u8>>(16).into(),
            next_tape_file: number(6) + 1,
            next_block: number(7) + number(8) + 1,
            plan: "daily".into(),
            source: "home".into(),
            copy: row.get::<_, i32>(19) as u32,
        }));
        let table: Vec<u8> = row.get(17);
        let mut end = IndexPartEnd {
            table_byte_count: table.len() as u64,
            ..IndexPartEnd::default()
        };
        // In two pieces, as a large one comes.
        let (first, rest) = table.split_at(table.len() / 2);
        all.push(Body::Table(Bytes::copy_from_slice(first)));
        all.push(Body::Table(Bytes::copy_from_slice(rest)));
        let line: i64 = row.get(18);
        let sql = "SELECT number, body FROM dictionaries WHERE line_id = $1";
        for row in client.query(sql, &[&line]).await.unwrap() {
            end.dictionary_count += 1;
            all.push(Body::Dictionary(Dictionary {
                id: row.get::<_, i64>(0) as u32,
                body: row.get::<_, Vec<u8>>(1).into(),
            }));
        }
        let sql = "SELECT chunk, body, hashes FROM pages WHERE line_id = $1 AND archive_ordinal = $2 AND part_number = $3 ORDER BY chunk";
        let rows = client
            .query(sql, &[&line, &ordinal, &part_number])
            .await
            .unwrap();
        for row in rows {
            let chunk = Bytes::from(row.get::<_, Vec<u8>>(0));
            if let Some(body) = row.get::<_, Option<Vec<u8>>>(1) {
                end.page_count += 1;
                let hashes = row.get::<_, Option<Vec<u8>>>(2).unwrap_or_default().into();
                let body = body.into();
                all.push(Body::Page(Page {
                    chunk,
                    body,
                    hashes,
                }));
            } else {
                end.tombstone_count += 1;
                all.push(Body::Tombstone(Tombstone { chunk }));
            }
        }
        all.push(Body::PartEnd(end));
    }
    // The closing records of the versions that are on it.
    let sql = "SELECT v.closing FROM versions v WHERE v.closing IS NOT NULL AND EXISTS (SELECT 1 FROM archives a JOIN parts x \
               ON x.archive_id = a.id WHERE a.line_id = v.line_id AND a.version = v.version AND a.state <> 'abandoned' \
               AND x.recording_uuid = $1) ORDER BY v.version";
    for row in client.query(sql, &[&recording]).await.unwrap() {
        all.push(Body::Closing(row.get::<_, Vec<u8>>(0).into()));
    }
    all
}

/// What is on a recording of the newest archive there: its parts, each with its records.
#[allow(dead_code)]
pub async fn newest(world: &World, recording: Uuid) -> Vec<Body> {
    let all = records(world, recording).await;
    let of = |body: &Body| match body {
        Body::Part(part) => Some(part.archive_uuid.clone()),
        _ => None,
    };
    let wanted = all.iter().filter_map(of).next_back().unwrap();
    sections(&all)
        .filter(|section| of(&section[0]) == Some(wanted.clone()))
        .flatten()
        .cloned()
        .collect()
}

/// Parts with their records, each from its head to its end.
#[allow(dead_code)]
fn sections(records: &[Body]) -> impl Iterator<Item = &[Body]> {
    let parts = records.split_inclusive(|body| matches!(body, Body::PartEnd(_)));
    parts.filter(|section| matches!(section[0], Body::Part(_)))
}

/// The same records, with those of parts that somebody saw before their rows went as they were then.
#[allow(dead_code)]
pub fn as_seen(records: &[Body], seen: &[Body]) -> Vec<Body> {
    let (mut as_seen, mut rest) = (Vec::new(), records);
    for section in sections(records) {
        let then = sections(seen).find(|then| then[0] == section[0]);
        as_seen.extend_from_slice(then.unwrap_or(section));
        rest = &rest[section.len()..];
    }
    as_seen.extend_from_slice(rest);
    as_seen
}

/// The same cartridge as agents tell of it: the newest index first, and closing records before all else.
#[allow(dead_code)]
pub fn newest_first(cartridge: &Cartridge) -> Cartridge {
    let is_closing = |body: &Body| matches!(body, Body::Closing(_));
    let (mut closings, parts): (Vec<_>, Vec<_>) =
        cartridge.records.iter().cloned().partition(is_closing);
    let version = |body: &Body| match body {
        Body::Closing(record) => ClosingRecord::decode(record.clone()).unwrap().version,
        _ => 0,
    };
    closings.sort_by_key(|body| std::cmp::Reverse(version(body)));
    closings.extend(parts);
    Cartridge {
        records: closings,
        ..cartridge.clone()
    }
}

/// An empty catalog of the same installation, with the plan and the source made again, and an assignment that reads cartridges.
pub async fn empty() -> (World, AssignmentKey) {
    reading(World::new().await).await
}

/// The same in a world that is there already.
pub async fn reading(world: World) -> (World, AssignmentKey) {
    let key = rescanning(&world).await;
    let client = world.store.client().await.unwrap();
    let sql = "UPDATE volumes SET barcode = 'OTHER'";
    client.batch_execute(sql).await.unwrap();
    drop(client);
    (world, key)
}

/// An assignment that reads cartridges, and nobody else is at work.
pub async fn rescanning(world: &World) -> AssignmentKey {
    world.end_attempts().await;
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let sql = "INSERT INTO jobs (kind, state, creator, volume_id, created_at) VALUES ('rescan', 'running', 'test', $1, now()) RETURNING id";
    let job: i64 = tx.query_one(sql, &[&world.volume_id]).await.unwrap().get(0);
    let (_, key) = world.attempt_on(&tx, job).await;
    tx.commit().await.unwrap();
    key
}

pub async fn scan(world: &World, key: AssignmentKey, cartridge: &Cartridge) -> Result<(), Error> {
    scan_ended(world, key, cartridge, ScanTrailer::default()).await
}

/// The same that says more of how it ended.
pub async fn scan_ended(
    world: &World,
    key: AssignmentKey,
    cartridge: &Cartridge,
    end: ScanTrailer,
) -> Result<(), Error> {
    let trailer = Message::Trailer(ScanTrailer {
        next_tape_file: cartridge.end.0,
        next_block: cartridge.end.1,
        ..end
    });
    let last = async {
        Ok(ReportScanRequest {
            message: Some(trailer),
        })
    };
    told(world, key, cartridge, last).await
}

/// The same that breaks off before its end, when all records were taken and `seen` has looked at them.
#[allow(dead_code)]
pub async fn scan_broken(
    world: &World,
    key: AssignmentKey,
    cartridge: &Cartridge,
    seen: impl Future<Output = ()> + Send,
) -> Error {
    let last = async {
        seen.await;
        Err(Status::cancelled("the agent has gone"))
    };
    told(world, key, cartridge, last).await.unwrap_err()
}

async fn told(
    world: &World,
    key: AssignmentKey,
    cartridge: &Cartridge,
    last: impl Future<Output = Result<ReportScanRequest, Status>> + Send,
) -> Result<(), Error> {
    let client = world.store.client().await.unwrap();
    let sql = "UPDATE attempt_volumes SET cartridge = $1";
    client
        .execute(sql, &[&cartridge.label.barcode])
        .await
        .unwrap();
    drop(client);
    let header = Message::Header(ScanHeader {
        key: Some(key),
        label: Some(cartridge.label.clone()),
        medium_serial: String::new(),
    });
    let records = cartridge.records.iter().map(|record| {
        Message::Record(IndexRecord {
            record: Some(record.clone()),
        })
    });
    let messages: Vec<_> = std::iter::once(header)
        .chain(records)
        .map(|message| {
            Ok(ReportScanRequest {
                message: Some(message),
            })
        })
        .collect();
    let messages = futures::stream::iter(messages).chain(futures::stream::once(last));
    rescan::take(&world.store, TAPE, Box::pin(messages)).await
}
