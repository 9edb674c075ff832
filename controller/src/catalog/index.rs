//! Volume indexes: what the next one on a recording is to tell of, and that it is on tape.

use bytes::Bytes;
use taf_format::index::{IndexOrphan, IndexPart, IndexPointer, IndexVolume};
use taf_proto::agent::fetch_index_response::Message;
use taf_proto::agent::{
    CommitIndexRequest, FetchIndexRequest, FetchIndexResponse, IndexClosing, IndexedPart,
};
use tokio::sync::mpsc;
use tonic::Status;
use uuid::Uuid;

use super::Error;
use super::report::{self, Side, misplaced, uuid};
use crate::store::indexes::{self, Closing, Indexed, Uncovered};
use crate::store::orphans::{self, Extent};
use crate::store::{self, Client, Store, bigint};

/// Parts fetched at once.
const PARTS: i64 = 500;
/// Closing records fetched at once; one is a few KB, but may be megabytes.
const CLOSINGS: i64 = 8;

type Sender = mpsc::Sender<Result<FetchIndexResponse, Status>>;

/// Sends what the next index on the recording is to tell of.
pub async fn stream(
    store: &Store,
    agent: &str,
    request: &FetchIndexRequest,
    sender: &Sender,
) -> Result<(), Error> {
    let client = store.client().await?;
    let assignment = report::assignment(&client, request.key.as_ref(), agent, Side::Tape).await?;
    let recording = uuid(&request.recording_uuid, "the recording")?;
    report::is_reserved(&client, &assignment, recording).await?;
    let recordings = indexes::index_recordings(&client, recording).await?;
    for of in &recordings {
        if !stream_recording(&client, of, sender).await? {
            return Ok(());
        }
    }
    for of in &recordings {
        let mut behind = (0, 0);
        loop {
            let closings = indexes::index_closings(&client, of.recording, behind, CLOSINGS).await?;
            let Some(last) = closings.last() else { break };
            behind = (last.line_id, last.version);
            for closing in closings {
                if !send(sender, Message::Closing(closing_message(closing))).await {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// False if nobody takes it any more.
async fn stream_recording(client: &Client, of: &Indexed, sender: &Sender) -> Result<bool, Error> {
    let volume = IndexVolume {
        recording_uuid: raw(of.recording),
        volume_uuid: raw(of.volume_uuid),
        barcode: of.barcode.clone(),
    };
    if !send(sender, Message::Volume(volume)).await {
        return Ok(false);
    }
    let earlier = indexes::index_list(client, of.recording).await?;
    let newest = earlier.last().map_or(0, |pointer| pointer.tape_file);
    for pointer in earlier {
        let pointer = IndexPointer {
            tape_file: pointer.tape_file as u64,
            first_block: pointer.first_block as u64,
        };
        if !send(sender, Message::Earlier(pointer)).await {
            return Ok(false);
        }
    }
    let mut behind = 0;
    loop {
        let parts = indexes::index_parts(client, of.recording, behind, PARTS).await?;
        let Some(last) = parts.last() else { break };
        behind = last.tape_file;
        for part in parts {
            if !send(sender, Message::Part(part_message(part))).await {
                return Ok(false);
            }
        }
    }
    for orphan in indexes::index_orphans(client, of.recording, newest).await? {
        let orphan = IndexOrphan {
            tape_file: orphan.tape_file as u64,
            first_block: orphan.first_block as u64,
            next_block: orphan.next_block as u64,
            reason: orphan.reason,
        };
        if !send(sender, Message::Orphan(orphan)).await {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn send(sender: &Sender, message: Message) -> bool {
    let response = FetchIndexResponse {
        message: Some(message),
    };
    sender.send(Ok(response)).await.is_ok()
}

fn raw(uuid: Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

fn closing_message(closing: Closing) -> IndexClosing {
    IndexClosing {
        line_uuid: raw(closing.line),
        version: closing.version as u64,
        record: closing.record.into(),
        plan: closing.plan,
    }
}

fn part_message(part: Uncovered) -> IndexPart {
    IndexPart {
        archive_uuid: raw(part.archive),
        line_uuid: raw(part.line),
        version: part.version as u64,
        archive_ordinal: part.ordinal as u32,
        attempt: part.attempt as u64,
        part_number: part.part_number as u32,
        tape_file: part.tape_file as u64,
        first_block: part.first_block as u64,
        block_count: part.block_count as u64,
        byte_count: part.byte_count as u64,
        first_sequence: part.sequences.0 as u64,
        last_sequence: part.sequences.1 as u64,
        first_tar_offset: part.tar_offsets.0 as u64,
        end_tar_offset: part.tar_offsets.1 as u64,
        last: part.final_part,
        truncated: part.truncated,
        digest: part.digest.into(),
        next_tape_file: 0,
        next_block: 0,
        plan: part.plan,
        source: part.source,
        copy: part.copy as u32,
    }
}

/// Makes an index count: its tape file is owned, and what it tells of needs no further index.
pub async fn commit(store: &Store, agent: &str, request: &CommitIndexRequest) -> Result<(), Error> {
    let mut client = store.client().await?;
    let assignment = report::assignment(&client, request.key.as_ref(), agent, Side::Tape).await?;
    let index = uuid(&request.index_uuid, "the index")?;
    let extent = extent(request)?;
    report::is_reserved(&client, &assignment, extent.recording).await?;
    let tx = client.transaction().await?;
    match indexes::index_get(&tx, index).await? {
        Some(known) if known == (extent.recording, extent.tape_file) => return Ok(()),
        Some(_) => {
            return Err(Error::Conflict(format!(
                "index {index} is committed elsewhere"
            )));
        }
        None => {}
    }
    let recorded = orphans::recording_get(&tx, extent.recording).await?;
    let recorded = recorded.ok_or_else(|| {
        Error::Position(format!(
            "recording {} is not in the catalog; label the cartridge",
            extent.recording
        ))
    })?;
    let blocks = bigint(request.block_count)?;
    let row = indexes::index_add_on(&tx, index, recorded.volume_id, &extent, blocks).await;
    let row = match row {
        Err(store::Error::Exists { .. }) => return Err(misplaced(&recorded, &extent)),
        other => other?,
    };
    if !orphans::recording_append_on(&tx, &extent).await? {
        return Err(misplaced(&recorded, &extent));
    }
    let mut recordings: Vec<Uuid> = indexes::index_recordings(&tx, extent.recording)
        .await?
        .into_iter()
        .map(|of| of.recording)
        .collect();
    for (parts, covered) in [(&request.covered, true), (&request.uncovered, false)] {
        for (recording, tape_files) in by_recording(parts)? {
            indexes::index_parts_mark_on(&tx, row, recording, &tape_files, covered).await?;
            recordings.push(recording);
        }
    }
    for version in &request.versions {
        let line = uuid(&version.line_uuid, "the line")?;
        let number = bigint(version.version)?;
        for recording in &recordings {
            indexes::index_closing_mark_on(&tx, row, *recording, line, number).await?;
        }
    }
    recordings.sort_unstable();
    recordings.dedup();
    for recording in recordings {
        indexes::index_settle_on(&tx, recording).await?;
    }
    tx.commit().await?;
    tracing::info!(
        barcode = recorded.barcode,
        tape_file = extent.tape_file,
        parts = request.covered.len(),
        uncovered = request.uncovered.len(),
        versions = request.versions.len(),
        "committed a volume index"
    );
    Ok(())
}

fn extent(request: &CommitIndexRequest) -> Result<Extent, Error> {
    let end = request.first_block.checked_add(request.block_count);
    if request.tape_file < 1
        || request.block_count < 1
        || request.next_tape_file <= request.tape_file
        || end.is_none_or(|end| request.next_block <= end)
    {
        return Err(Error::Invalid(
            "the tape file ends before it begins, or has no filemark".into(),
        ));
    }
    Ok(Extent {
        recording: uuid(&request.recording_uuid, "the recording")?,
        tape_file: bigint(request.tape_file)?,
        first_block: bigint(request.first_block)?,
        next_tape_file: bigint(request.next_tape_file)?,
        next_block: bigint(request.next_block)?,
        byte_count: bigint(request.byte_count)?,
    })
}

fn by_recording(parts: &[IndexedPart]) -> Result<Vec<(Uuid, Vec<i64>)>, Error> {
    let mut found: Vec<(Uuid, Vec<i64>)> = Vec::new();
    for part in parts {
        let recording = uuid(&part.recording_uuid, "the recording")?;
        let tape_file = bigint(part.tape_file)?;
        match found.last_mut() {
            Some((last, files)) if *last == recording => files.push(tape_file),
            _ => found.push((recording, vec![tape_file])),
        }
    }
    Ok(found)
}
