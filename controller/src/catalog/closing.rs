//! Closing records: what a version is and what it needs to be whole, for the tape.
//!
//! Made in the transaction that publishes the version. What a version resolves to is counted before, outside of that
//! transaction, since a large version takes seconds and every part of it is committed by then; what is not counted yet is
//! counted then.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use taf_format::index::{
    CLOSING_VERSION, ClosedArchive, ClosedPart, ClosingRecord, Need, UnchangedVersion, VersionType,
};
use taf_proto::agent::FetchSelectionResponse;
use uuid::Uuid;

use super::{Error, view};
use crate::store::closings::{self, PartSpan, Resolved};
use crate::store::pages::{self, PageRow, Scope};
use crate::store::{self, GenericClient, Store, Transaction};

/// Keys looked at at once.
const KEYS: i64 = 4_000;
/// Bytes of bodies fetched at once, about; and most bodies.
const BODIES: (usize, usize) = (4 << 20, 1_000);

/// What a version resolves to, by version, archive and part.
type Needs = BTreeMap<(i64, u32, u32), Need>;

/// Counts what a staged version resolves to and keeps it for its publication, if that is not done yet.
pub async fn count(store: &Store, line: i64, version: i64) -> Result<(), Error> {
    let client = store.client().await?;
    let Some(floor) = closings::closing_floor_wanted(&client, line, version).await? else {
        return Ok(());
    };
    let scope = Scope {
        line_id: line,
        version,
        floor,
    };
    let counted = count_with(&client, scope).await?;
    let encoded = counted.encode_to_vec();
    closings::closing_needs_set(&client, scope.line_id, scope.version, &encoded).await?;
    Ok(())
}

/// Makes the closing record of a version that this transaction has published.
pub(super) async fn close_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<(), store::Error> {
    let facts = closings::closing_facts_on(tx, line, version)
        .await?
        .ok_or(store::Error::Stale("version"))?;
    let counted = if let Some(needs) = &facts.needs {
        ClosingRecord::decode(needs.as_slice())
            .map_err(|_| store::Error::Corrupt("what was counted of a version"))?
    } else {
        let scope = Scope {
            line_id: line,
            version,
            floor: facts.floor,
        };
        count_with(tx, scope).await?
    };
    let selection = FetchSelectionResponse::decode(facts.paths.as_slice())
        .map_err(|_| store::Error::Corrupt("a source's paths"))?;
    let parts = closings::closing_parts_on(tx, line, version).await?;
    let unchanged = closings::closing_unchanged_on(tx, line, version).await?;
    let full = facts.floor == version;
    let [files, directories, bytes, stored, issues] = facts.counts.map(|n| n as u64);
    let record = ClosingRecord {
        format_version: CLOSING_VERSION,
        installation_uuid: raw(facts.installation),
        line_uuid: raw(facts.line),
        version: version as u64,
        parent: if full { 0 } else { version as u64 - 1 },
        floor: facts.floor as u64,
        r#type: type_of(&facts.kind).into(),
        plan: facts.plan,
        source: facts.source,
        agent: facts.agent,
        paths: selection.paths,
        excluded_paths: selection.excluded_paths,
        one_file_system: facts.one_file_system,
        started_at_unix_nanos: nanos(facts.started_at),
        published_at_unix_nanos: facts.published_at.map_or(0, nanos),
        tags: Vec::new(),
        file_count: files,
        directory_count: directories,
        byte_count: bytes,
        stored_byte_count: stored,
        issue_count: issues,
        archives: archives(&parts, &counted),
        needs: counted.needs,
        unchanged: unchanged
            .into_iter()
            .map(|(version, started_at, published_at)| UnchangedVersion {
                version: version as u64,
                started_at_unix_nanos: nanos(started_at),
                published_at_unix_nanos: nanos(published_at),
                tags: Vec::new(),
            })
            .collect(),
    };
    closings::closing_set_on(tx, line, version, &record.encode_to_vec()).await
}

fn raw(uuid: Uuid) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(uuid.as_bytes())
}

fn nanos(time: jiff::Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or_default()
}

fn type_of(kind: &str) -> VersionType {
    match kind {
        "full" => VersionType::Full,
        "incremental" => VersionType::Incremental,
        "differential" => VersionType::Differential,
        "synthetic-full" => VersionType::SyntheticFull,
        _ => VersionType::Unspecified,
    }
}

/// The version's archives with the rows that each part brought.
fn archives(parts: &[closings::ClosedPart], counted: &ClosingRecord) -> Vec<ClosedArchive> {
    let rows: BTreeMap<(u32, u32), u64> = counted
        .archives
        .iter()
        .flat_map(|archive| {
            let rows = archive.parts.iter();
            rows.map(|part| ((archive.ordinal, part.part_number), part.row_count))
        })
        .collect();
    let mut archives: Vec<ClosedArchive> = Vec::new();
    for part in parts {
        let ordinal = part.archive_ordinal as u32;
        if archives.last().is_none_or(|last| last.ordinal != ordinal) {
            archives.push(ClosedArchive {
                ordinal,
                archive_uuid: raw(part.archive),
                ..ClosedArchive::default()
            });
        }
        if let Some(archive) = archives.last_mut() {
            let number = part.part_number as u32;
            archive.last_sequence = part.last_sequence as u64;
            archive.parts.push(ClosedPart {
                part_number: number,
                recording_uuid: raw(part.recording),
                tape_file: part.tape_file as u64,
                row_count: rows.get(&(ordinal, number)).copied().unwrap_or(0),
            });
        }
    }
    archives
}

/// The needs of a version and the rows of its own parts, as a closing record with nothing else in it.
async fn count_with(
    client: &impl GenericClient,
    scope: Scope,
) -> Result<ClosingRecord, store::Error> {
    let spans = Arc::new(closings::closing_spans(client, scope.line_id).await?);
    let mut needs = Needs::new();
    let mut behind: Option<Vec<u8>> = None;
    loop {
        let rows = closings::closing_rows(client, scope, behind.as_deref(), KEYS).await?;
        let Some(last) = rows.last() else { break };
        behind = Some(last.chunk.clone());
        for row in &rows {
            let key = (
                row.version,
                row.archive_ordinal as u32,
                row.part_number as u32,
            );
            needs.entry(key).or_default().row_count += 1;
        }
        for batch in batches(&rows) {
            let bodies = pages::page_bodies(client, scope.line_id, &batch).await?;
            let spans = Arc::clone(&spans);
            let found = tokio::task::spawn_blocking(move || tally(&bodies, &spans)).await;
            let found = found.map_err(|_| store::Error::Corrupt("a listing"))?;
            for (key, (entries, bytes)) in found {
                let need = needs.entry(key).or_default();
                need.entry_count += entries;
                need.byte_count += bytes;
            }
        }
    }
    let mut own = ClosingRecord {
        needs: needs
            .into_iter()
            .map(|((version, archive_ordinal, part_number), need)| Need {
                version: version as u64,
                archive_ordinal,
                part_number,
                ..need
            })
            .collect(),
        ..ClosingRecord::default()
    };
    for (ordinal, part_number, rows) in
        closings::closing_counts(client, scope.line_id, scope.version).await?
    {
        let ordinal = ordinal as u32;
        if own.archives.last().is_none_or(|a| a.ordinal != ordinal) {
            own.archives.push(ClosedArchive {
                ordinal,
                ..ClosedArchive::default()
            });
        }
        if let Some(archive) = own.archives.last_mut() {
            archive.parts.push(ClosedPart {
                part_number: part_number as u32,
                row_count: rows as u64,
                ..ClosedPart::default()
            });
        }
    }
    Ok(own)
}

/// Keys of pages, so many at a time that their bodies are not too large together.
fn batches(rows: &[Resolved]) -> Vec<Vec<pages::Key>> {
    let mut batches: Vec<Vec<pages::Key>> = Vec::new();
    let mut bytes = usize::MAX;
    for row in rows {
        let Some(length) = row.body_length else {
            continue;
        };
        let length = length.max(0) as usize;
        let full = batches.last().is_none_or(|b| b.len() >= BODIES.1);
        if full || bytes.saturating_add(length) > BODIES.0 {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += length;
        if let Some(batch) = batches.last_mut() {
            batch.push((row.chunk.clone(), row.version));
        }
    }
    batches
}

/// Entries and bytes of pages by the part that they begin in.
fn tally(bodies: &[PageRow], spans: &[PartSpan]) -> BTreeMap<(i64, u32, u32), (u64, u64)> {
    let mut found: BTreeMap<(i64, u32, u32), (u64, u64)> = BTreeMap::new();
    for body in bodies {
        let page = match view::decode(body) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "a version is counted without one of its listings");
                continue;
            }
        };
        for entry in &page.entries {
            let Some(place) = entry.place else { continue };
            let place_key = (
                place.archive_ordinal,
                i64::try_from(place.tar_offset).unwrap_or(i64::MAX),
            );
            let after = spans
                .partition_point(|s| (s.archive_ordinal as u32, s.first_tar_offset) <= place_key);
            let Some(span) = spans[..after].last().filter(|span| {
                span.archive_ordinal as u32 == place.archive_ordinal
                    && place_key.1 < span.end_tar_offset
            }) else {
                continue;
            };
            let key = (
                span.version,
                span.archive_ordinal as u32,
                span.part_number as u32,
            );
            let (entries, bytes) = found.entry(key).or_default();
            *entries += 1;
            *bytes += entry.size;
        }
    }
    found
}
