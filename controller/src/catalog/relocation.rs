//! Takes in the copy of a part: what was read from one volume was written to another, proved by a flush, and lies there from now on.
//!
//! The copy must be the part: its records by the digest that was committed, its segments by their table. One transaction changes the
//! place, guarded by the old one, so that a copy that comes late, or twice, changes nothing. Nothing of the old volume is touched but
//! what the catalog says of it.

use futures::Stream;
use taf_format::table::{Located, SegmentTable};
use taf_proto::agent::{CommitPartRequest, PartHeader, PartPlace};
use tonic::Status;

use super::Error;
use super::commit::{Claimed, piece};
use super::report::{misplaced, uuid};
use crate::store::reclaims::{self, Placed};
use crate::store::trust::trust_is_lost;
use crate::store::{self, Client, Transaction, bigint, indexes, lines, orphans};

/// Why a copy is of no use.
const ELSEWHERE: &str = "the part is not where it was copied from any more";
/// See [`ELSEWHERE`].
pub(super) const READ: &str = "a job that began before the part was copied last reads it where it was then; run it again when that has ended";
/// See [`ELSEWHERE`].
const DISTRUSTED: &str =
    "the catalog may be older than the tapes, and lets nothing go until they are inspected";

/// Takes in the copy that `messages` carry.
pub(super) async fn take_in<S>(
    client: &mut Client,
    part: &Claimed,
    from: &PartPlace,
    header: &PartHeader,
    messages: &mut S,
) -> Result<(), Error>
where
    S: Stream<Item = Result<CommitPartRequest, Status>> + Unpin,
{
    // Of the records alone, so that the digest that they had with the old table can be made too.
    let mut records = blake3::Hasher::new();
    let digest = loop {
        let mut hasher = records.clone();
        match piece(messages, &mut hasher, header).await? {
            Err(digest) => break digest,
            Ok(_) => records = hasher,
        }
    };
    let tx = client.transaction().await?;
    lines::line_lock_on(&tx, part.archive.line_id).await?;
    let known = reclaims::part_place_on(&tx, part.archive.id, part.number).await?;
    let Some(known) = known else {
        return Err(Error::Closed(ELSEWHERE));
    };
    let place = (known.recording, known.tape_file);
    if place == (part.extent.recording, part.extent.tape_file) {
        if known.digest == digest.as_bytes() {
            return Ok(());
        }
        return Err(Error::Conflict(format!(
            "tape file {} was committed with another digest",
            part.extent.tape_file
        )));
    }
    if place
        != (
            uuid(&from.recording_uuid, "the recording")?,
            bigint(from.tape_file)?,
        )
        || orphans::orphan_exists(&tx, part.extent.recording, part.extent.tape_file).await?
    {
        return Err(Error::Closed(ELSEWHERE));
    }
    if trust_is_lost(&tx).await? {
        return Err(Error::Closed(DISTRUSTED));
    }
    if reclaims::part_is_read_on(&tx, known.id).await? {
        return Err(Error::Closed(READ));
    }
    is_same(&known, header, records)?;
    let new = part.row(header, 0, &digest)?;
    if new.copy <= known.copy {
        return Err(Error::Invalid("a copy that is not newer".into()));
    }
    move_on(&tx, part, &known, new).await?;
    tx.commit().await?;
    tracing::info!(
        archive = %part.archive.uuid,
        part = part.number,
        tape_file = part.extent.tape_file,
        "a part was copied to another volume"
    );
    Ok(())
}

/// Proves that the copy holds what the part holds.
fn is_same(known: &Placed, header: &PartHeader, mut records: blake3::Hasher) -> Result<(), Error> {
    let wrong = |what: &str| Error::Invalid(format!("a copy is not the part: {what}"));
    records.update(&known.segment_table);
    if records.finalize().as_bytes() != known.digest.as_slice() {
        return Err(wrong("its records differ"));
    }
    if !have_same_segments(&known.segment_table, &header.segment_table)? {
        return Err(wrong("its segments differ"));
    }
    Ok(())
}

/// Whether two encoded tables are of the same segments; the first block of a copy may have another size.
pub(super) fn have_same_segments(one: &[u8], other: &[u8]) -> Result<bool, Error> {
    Ok(segments(one)? == segments(other)?)
}

/// Whether an encoded table is of the segments of another one and more.
pub(super) fn goes_on_from(longer: &[u8], shorter: &[u8]) -> Result<bool, Error> {
    let (longer, shorter) = (segments(longer)?, segments(shorter)?);
    Ok(longer.len() > shorter.len() && longer.starts_with(&shorter))
}

/// What the segments of an encoded table are, wherever they lie.
fn segments(encoded: &[u8]) -> Result<Vec<(u64, u32, u64, u32)>, Error> {
    let table = SegmentTable::decode(encoded).map_err(|error| Error::Invalid(error.to_string()))?;
    let what = |s: &Located| (s.sequence, s.stored_length, s.tar_offset, s.tar_length);
    Ok(table.segments().iter().map(what).collect())
}

async fn move_on(
    tx: &Transaction<'_>,
    part: &Claimed,
    known: &Placed,
    new: store::parts::NewPart,
) -> Result<(), Error> {
    let recorded = orphans::recording_get(tx, part.extent.recording).await?;
    let Some(recorded) = recorded else {
        return Err(Error::Position(format!(
            "recording {} is not in the catalog; label the cartridge",
            part.extent.recording
        )));
    };
    let new = store::parts::NewPart {
        volume_id: recorded.volume_id,
        ..new
    };
    match reclaims::part_move_on(tx, known, &new).await {
        Err(store::Error::Exists { .. }) => {
            return Err(Error::Conflict(format!(
                "tape file {} of volume {} is committed as another part",
                part.extent.tape_file, recorded.barcode
            )));
        }
        other => other?,
    }
    if !orphans::recording_append_on(tx, &part.extent).await? {
        return Err(misplaced(&recorded, &part.extent));
    }
    indexes::index_due_on(tx, part.extent.recording).await?;
    Ok(())
}
