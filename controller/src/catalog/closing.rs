//! Closing records: what a version is and what it needs to be whole, for the tape; and the parts that it needs, for the catalog.
//!
//! Made in the transaction that publishes the version. What a version resolves to is counted before, outside of that
//! transaction, since a large version takes seconds and every part of it is committed by then; what is not counted yet is
//! counted then.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use prost::Message as _;
use taf_core::catalog::{Extent, Needs, Part, Span};
use taf_format::index::{
    CLOSING_VERSION, ClosedArchive, ClosedPart, ClosingRecord, Need, UnchangedVersion, VersionType,
};
use taf_format::page::{Decoder, Entry, Place};
use taf_proto::agent::FetchSelectionResponse;
use uuid::Uuid;

use super::{Error, view};
use crate::store::closings::{self, PartSpan};
use crate::store::pages::{self, Measured, PageRow, Scope};
use crate::store::{self, GenericClient, Store, Transaction, dictionaries, versions};

/// Keys looked at at once.
const KEYS: i64 = 4_000;
/// Bytes of bodies fetched at once, about; and most bodies.
const BODIES: (usize, usize) = (4 << 20, 1_000);

/// Counts what a staged version resolves to and keeps it for its publication, if that is not done yet.
pub async fn count(store: &Store, line: i64, version: i64) -> Result<(), Error> {
    let client = store.client().await?;
    let Some(uncounted) = closings::closing_uncounted(&client, line, version).await? else {
        return Ok(());
    };
    let scope = Scope::whole(line, version, uncounted.floor);
    let (counted, living) = count_with(&client, scope).await?;
    let encoded = counted.encode_to_vec();
    closings::closing_needs_set(&client, uncounted, &encoded, living).await?;
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
    let mut counted = if let Some(needs) = &facts.needs {
        ClosingRecord::decode(needs.as_slice())
            .map_err(|_| store::Error::Corrupt("what was counted of a version"))?
    } else {
        let scope = Scope::whole(line, version, facts.floor);
        let (counted, living) = count_with(tx, scope).await?;
        closings::closing_living_set_on(tx, line, version, living).await?;
        counted
    };
    let selection = FetchSelectionResponse::decode(facts.paths.as_slice())
        .map_err(|_| store::Error::Corrupt("a source's paths"))?;
    let parts = closings::closing_parts_on(tx, line, version).await?;
    let unchanged = closings::closing_unchanged_on(tx, line, version).await?;
    let needed: Vec<(i32, i32)> = counted
        .needs
        .iter()
        .map(|need| (need.archive_ordinal as i32, need.part_number as i32))
        .collect();
    versions::version_parts_add_on(tx, line, version, &needed).await?;
    // Who has only some of the cartridges is told by this which of the others to bring.
    let mut barcodes = closings::closing_barcodes_on(tx, line).await?;
    let mut archives = archives(&parts, &counted);
    for archive in &mut archives {
        for part in &mut archive.parts {
            let at = (archive.ordinal as i32, part.part_number as i32);
            part.barcode = barcodes.get(&at).cloned().unwrap_or_default();
        }
    }
    for need in &mut counted.needs {
        let at = (need.archive_ordinal as i32, need.part_number as i32);
        need.barcode = barcodes.remove(&at).unwrap_or_default();
    }
    let [files, directories, bytes, stored, issues] = facts.counts.map(|n| n as u64);
    let record = ClosingRecord {
        format_version: CLOSING_VERSION,
        installation_uuid: raw(facts.installation),
        line_uuid: raw(facts.line),
        version: version as u64,
        parent: facts.parent as u64,
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
        archives,
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
        "mirror" => VersionType::Mirror,
        "archive" => VersionType::Archive,
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
                ..ClosedPart::default()
            });
        }
    }
    archives
}

/// The needs of a version and the rows of its own parts, as a closing record with nothing else in it; and how many bytes of tar
/// belong to it, what lies at one place counted once.
pub(super) async fn count_with(
    client: &impl GenericClient,
    scope: Scope,
) -> Result<(ClosingRecord, i64), store::Error> {
    let spans = closings::closing_spans(client, scope.line_id).await?;
    let spans: Arc<Vec<Span>> = Arc::new(spans.iter().map(span).collect());
    let known = dictionaries::dictionaries(client, scope.line_id).await?;
    let mut needs = Needs::default();
    let mut living = Living::default();
    let mut behind: Option<Vec<u8>> = None;
    loop {
        let rows = pages::page_measure(client, scope, behind.as_deref(), KEYS).await?;
        let Some(last) = rows.last() else { break };
        behind = Some(last.chunk.clone());
        for row in &rows {
            needs.row(Part {
                version: row.version,
                archive_ordinal: row.archive_ordinal as u32,
                part_number: row.part_number as u32,
            });
        }
        for batch in batches(&rows) {
            let bodies = pages::page_bodies(client, scope.line_id, &batch).await?;
            let (spans, mut decoder) = (Arc::clone(&spans), Decoder::new(known.clone()));
            let mut so_far = std::mem::take(&mut living);
            let tallied = tokio::task::spawn_blocking(move || {
                let found = tally(&bodies, &mut decoder, &spans, &mut so_far);
                (found, so_far)
            });
            let found;
            (found, living) = tallied
                .await
                .map_err(|_| store::Error::Corrupt("a listing"))?;
            needs.merge(found);
        }
    }
    let mut own = ClosingRecord {
        needs: needs.iter().map(need).collect(),
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
    Ok((own, store::bigint(living.bytes)?))
}

/// Bytes of tar that belong to a version.
#[derive(Debug, Default)]
struct Living {
    bytes: u64,
    /// Where files with several names lie that were counted.
    linked: HashSet<Place>,
}

impl Living {
    fn entry(&mut self, entry: &Entry, place: Place) {
        if entry.link_group == 0 || self.linked.insert(place) {
            self.bytes = self.bytes.saturating_add(entry.tar_length);
        }
    }
}

/// Keys of pages, so many at a time that their bodies are not too large together.
fn batches(rows: &[Measured]) -> Vec<Vec<pages::Key>> {
    let mut batches: Vec<Vec<pages::Key>> = Vec::new();
    let mut bytes = usize::MAX;
    for row in rows {
        let Some(length) = row.length else {
            continue;
        };
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

/// What pages name, by the parts that it lies in.
fn tally(bodies: &[PageRow], decoder: &mut Decoder, spans: &[Span], living: &mut Living) -> Needs {
    let mut found = Needs::default();
    let extent = |place: Place, tar_length| Extent {
        archive_ordinal: place.archive_ordinal,
        tar_offset: place.tar_offset,
        tar_length,
    };
    for body in bodies {
        let page = match view::decode(decoder, body) {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "a version is counted without one of its listings");
                continue;
            }
        };
        for entry in &page.entries {
            if let Some(place) = entry.place {
                found.entry(spans, extent(place, entry.tar_length), entry.size);
                living.entry(entry, place);
            }
        }
        if let Some(header) = &page.header
            && let Some(place) = header.place
        {
            found.header(spans, extent(place, header.tar_length));
            living.bytes = living.bytes.saturating_add(header.tar_length);
        }
    }
    found
}

/// What a version needs of a part, as closing records have it.
pub(super) fn need((part, need): (Part, taf_core::catalog::Need)) -> Need {
    Need {
        version: part.version as u64,
        archive_ordinal: part.archive_ordinal,
        part_number: part.part_number,
        row_count: need.rows,
        entry_count: need.entries,
        byte_count: need.bytes,
        ..Need::default()
    }
}

/// Where a part lies in its archive.
pub(super) fn span(row: &PartSpan) -> Span {
    Span {
        part: Part {
            version: row.version,
            archive_ordinal: row.archive_ordinal as u32,
            part_number: row.part_number as u32,
        },
        first_tar_offset: row.first_tar_offset as u64,
        end_tar_offset: row.end_tar_offset as u64,
    }
}
