//! Takes in a part that the drive has proved to be on tape.
//!
//! Pages go into the transaction as they come, in batches; nothing holds the records of a whole part. The line is locked
//! only at the end, when all is there: then it is decided whether the part belongs to its version, is known already, or is
//! an orphan. The same part again gets the same answer. A rescan calls this too.

use std::collections::HashSet;

use bytes::Bytes;
use futures::Stream;
use taf_format::page::Decoder;
use taf_format::record::Body;
use taf_format::table::SegmentTable;
use taf_proto::agent::commit_part_request::Message;
use taf_proto::agent::{CommitPartRequest, PartHeader};
use tonic::Status;

use super::records::Records;
use super::report::{self, Side, add_orphan, misplaced, uuid};
use super::{Error, relocation, view};
use crate::store::archives::{self, Archive};
use crate::store::orphans::{self, Extent};
use crate::store::pages::{self, NewPage};
use crate::store::parts::{self, NewPart, Proof};
use crate::store::{
    self, Client, Store, Transaction, attempt_volumes, bigint, dictionaries, indexes, lines,
};

/// Longest `records` message.
const PIECE: usize = 1 << 20;
/// Rows that are inserted at once.
const BATCH_ROWS: usize = 256;
/// Bytes at which a batch is inserted.
const BATCH_BYTES: usize = 2 << 20;
/// Why an abandoned archive takes no more parts.
pub(super) const SUPERSEDED: &str = "a newer attempt has opened the version";
/// Why a published one takes none.
pub(super) const PUBLISHED: &str = "its version is published without this part";

/// Commits the part that `messages` carry, as tape agent `agent`.
pub async fn commit<S>(store: &Store, agent: &str, mut messages: S) -> Result<(), Error>
where
    S: Stream<Item = Result<CommitPartRequest, Status>> + Unpin + Send,
{
    let Message::Header(header) = next(&mut messages).await? else {
        return Err(Error::Invalid("the first message is not the header".into()));
    };
    let mut client = store.client().await?;
    let assignment = report::assignment(&client, header.key.as_ref(), agent, Side::Tape).await?;
    let reclaims = assignment.kind == "reclaim" && header.moved_from.is_some();
    let part = Claimed::check(&client, &header, reclaims).await?;
    report::is_reserved(&client, &assignment, part.extent.recording).await?;
    let outcome = if let Some(from) = header.moved_from.as_ref().filter(|_| reclaims) {
        relocation::take_in(&mut client, &part, from, &header, &mut messages).await
    } else if parts::part_get(&client, part.archive.id, part.number)
        .await?
        .is_some()
    {
        // Known already: only the digest is compared.
        let digest = drain(&mut messages, &header).await?;
        judge_known(&client, &part, &digest).await
    } else {
        take_in(&mut client, &part, &header, &mut messages).await
    };
    let outcome = match outcome {
        Err(Error::Store(error)) if error.is_exists() => Err(twice(&client, &part).await?),
        other => other,
    };
    match outcome {
        Err(Error::Conflict(what)) => {
            quarantine(&mut client, &part, &what).await?;
            Err(Error::Conflict(what))
        }
        Err(Error::Closed(why)) => {
            add_orphan(&mut client, &part.extent, why).await?;
            Err(Error::Closed(why))
        }
        other => other,
    }
}

/// Why a row of the version was there already: a newer attempt wrote it, or the part has it twice.
async fn twice(client: &Client, part: &Claimed) -> Result<Error, Error> {
    let now = archives::archive_get(client, part.archive.uuid).await?;
    Ok(match now {
        Some(archive) if archive.state == "staged" => {
            Error::Invalid("a directory's chunk comes twice".into())
        }
        _ => Error::Closed(SUPERSEDED),
    })
}

/// A header that was checked against itself, its segment table and the catalog.
pub(super) struct Claimed {
    pub archive: Archive,
    pub number: i32,
    pub extent: Extent,
}

impl Claimed {
    /// `reclaims` if the assignment may speak of parts that others wrote.
    async fn check(client: &Client, header: &PartHeader, reclaims: bool) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Invalid(format!("the header is wrong: {what}"));
        let table = SegmentTable::decode(&header.segment_table)
            .map_err(|error| wrong(&error.to_string()))?;
        let (Some(first), Some(last)) = (table.segments().first(), table.segments().last()) else {
            return Err(wrong("the part has no segments"));
        };
        if (first.sequence, last.sequence) != (header.first_sequence, header.last_sequence)
            || table.tar_range() != (header.first_tar_offset..header.end_tar_offset)
            || table.byte_end() > header.byte_count
        {
            return Err(wrong("it does not agree with its segment table"));
        }
        let blocks = header.first_block.checked_add(header.block_count);
        // The drive may not have been able to write a filemark behind what it cut off.
        let marks = u64::from(!header.truncated);
        if header.tape_file < 1
            || header.block_count < 1
            || header.next_tape_file <= header.tape_file
            || blocks.is_none_or(|end| header.next_block < end.saturating_add(marks))
        {
            return Err(wrong(
                "the tape file ends before it begins, or has no filemark",
            ));
        }
        let number = i32::try_from(header.part_number)
            .ok()
            .filter(|number| *number > 0);
        let attempt = header.key.as_ref().map_or(0, |key| key.attempt);
        let archive =
            archives::archive_get(client, uuid(&header.archive_uuid, "the archive")?).await?;
        let recording = uuid(&header.recording_uuid, "the recording")?;
        let archive = match archive {
            Some(archive) if reclaims || archive.attempt_id as u64 == attempt => Some(archive),
            // Found on tape by another attempt; but its own must have had the volume.
            Some(archive) if header.adopted => {
                attempt_volumes::volume_is_given(client, archive.attempt_id, recording)
                    .await?
                    .then_some(archive)
            }
            _ => None,
        };
        Ok(Self {
            archive: archive.ok_or_else(|| wrong("the archive is not the attempt's"))?,
            number: number.ok_or_else(|| wrong("parts are numbered from 1"))?,
            extent: Extent {
                recording,
                tape_file: bigint(header.tape_file)?,
                first_block: bigint(header.first_block)?,
                next_tape_file: bigint(header.next_tape_file)?,
                next_block: bigint(header.next_block)?,
                byte_count: bigint(header.byte_count)?,
            },
        })
    }

    /// Its row, on this volume.
    pub fn row(
        &self,
        header: &PartHeader,
        volume_id: i64,
        digest: &blake3::Hash,
    ) -> Result<NewPart, Error> {
        Ok(NewPart {
            archive_id: self.archive.id,
            part_number: self.number,
            volume_id,
            proof: self.proof(digest),
            first_block: self.extent.first_block,
            block_count: bigint(header.block_count)?,
            byte_count: self.extent.byte_count,
            first_sequence: bigint(header.first_sequence)?,
            last_sequence: bigint(header.last_sequence)?,
            first_tar_offset: bigint(header.first_tar_offset)?,
            end_tar_offset: bigint(header.end_tar_offset)?,
            final_part: header.last,
            truncated: header.truncated,
            copy: i32::try_from(header.copy)
                .map_err(|_| Error::Invalid("it was copied too often".into()))?,
            segment_table: header.segment_table.clone(),
        })
    }

    pub fn proof(&self, digest: &blake3::Hash) -> Proof {
        Proof {
            recording: self.extent.recording,
            tape_file: self.extent.tape_file,
            digest: digest.as_bytes().to_vec(),
        }
    }
}

async fn next<S>(messages: &mut S) -> Result<Message, Error>
where
    S: Stream<Item = Result<CommitPartRequest, Status>> + Unpin,
{
    let message = report::next(messages).await?.message;
    message.ok_or_else(|| Error::Invalid("an empty message".into()))
}

/// The next piece of records, or the end: the digest of all, which the sender's must equal.
pub(super) async fn piece<S>(
    messages: &mut S,
    hasher: &mut blake3::Hasher,
    header: &PartHeader,
) -> Result<Result<Bytes, blake3::Hash>, Error>
where
    S: Stream<Item = Result<CommitPartRequest, Status>> + Unpin,
{
    match next(messages).await? {
        Message::Records(bytes) if bytes.len() > PIECE => {
            Err(Error::Invalid("a piece of records is over 1 MiB".into()))
        }
        Message::Records(bytes) => {
            hasher.update(&bytes);
            Ok(Ok(bytes))
        }
        Message::Trailer(trailer) => {
            let digest = hasher.update(&header.segment_table).finalize();
            if trailer.digest == digest.as_bytes().as_slice() {
                Ok(Err(digest))
            } else {
                Err(Error::Invalid(
                    "the digest is not that of what came; send the part again".into(),
                ))
            }
        }
        Message::Header(_) => Err(Error::Invalid("a second header".into())),
    }
}

async fn drain<S>(messages: &mut S, header: &PartHeader) -> Result<blake3::Hash, Error>
where
    S: Stream<Item = Result<CommitPartRequest, Status>> + Unpin,
{
    let mut hasher = blake3::Hasher::new();
    loop {
        if let Err(digest) = piece(messages, &mut hasher, header).await? {
            return Ok(digest);
        }
    }
}

/// What to answer for a part that is committed under this number.
async fn judge_known(
    client: &impl store::GenericClient,
    part: &Claimed,
    digest: &blake3::Hash,
) -> Result<(), Error> {
    match parts::part_get(client, part.archive.id, part.number).await? {
        Some(known) if known == part.proof(digest) => Ok(()),
        Some(known) => Err(Error::Conflict(format!(
            "part {} of archive {} is committed as tape file {} of recording {} with another digest or place",
            part.number, part.archive.uuid, known.tape_file, known.recording
        ))),
        None => Err(Error::Store(store::Error::Stale("part"))),
    }
}

async fn take_in<S>(
    client: &mut Client,
    part: &Claimed,
    header: &PartHeader,
    messages: &mut S,
) -> Result<(), Error>
where
    S: Stream<Item = Result<CommitPartRequest, Status>> + Unpin + Send,
{
    let tx = client.transaction().await?;
    let archive = &part.archive;
    let known = dictionaries::dictionaries(&tx, archive.line_id).await?;
    let ordinals = archives::archive_ordinals(&tx, archive.line_id, archive.version).await?;
    let mut batch = Batch {
        part,
        // Rows of an earlier attempt can only be there if one of its archives is.
        supersedes: archives::archive_is_resumed(&tx, archive.id).await?,
        ordinals,
        decoder: Decoder::new(known),
        dictionaries: Vec::new(),
        pages: Vec::new(),
        bytes: 0,
        stored: part.archive.state == "staged",
    };
    let mut records = Records::default();
    let mut hasher = blake3::Hasher::new();
    let digest = loop {
        match piece(messages, &mut hasher, header).await? {
            Err(digest) => break digest,
            Ok(bytes) => records.push(&bytes),
        }
        while let Some(record) = records.next().map_err(|what| Error::Invalid(what.into()))? {
            batch.take(record.record)?;
            if batch.is_full() {
                batch.insert_on(&tx).await?;
            }
        }
    };
    if !records.is_empty() {
        return Err(Error::Invalid(
            "the records end in the middle of one".into(),
        ));
    }
    batch.insert_on(&tx).await?;
    drop(batch);
    finish_on(&tx, part, header, &digest).await?;
    tx.commit().await?;
    tracing::info!(archive = %part.archive.uuid, part = part.number, tape_file = part.extent.tape_file, "committed a part");
    Ok(())
}

/// Decides under the line's lock, and makes the part count.
async fn finish_on(
    tx: &Transaction<'_>,
    part: &Claimed,
    header: &PartHeader,
    digest: &blake3::Hash,
) -> Result<(), Error> {
    lines::line_lock_on(tx, part.archive.line_id).await?;
    // What was true when the stream began may not be any more.
    if parts::part_get(tx, part.archive.id, part.number)
        .await?
        .is_some()
    {
        return judge_known(tx, part, digest).await;
    }
    let now = archives::archive_get(tx, part.archive.uuid)
        .await?
        .ok_or(store::Error::Stale("archive"))?;
    match now.state.as_str() {
        "staged" => {}
        "published" => return Err(Error::Closed(PUBLISHED)),
        _ => return Err(Error::Closed(SUPERSEDED)),
    }
    let recorded = orphans::recording_get(tx, part.extent.recording).await?;
    let Some(recorded) = recorded else {
        return Err(Error::Position(format!(
            "recording {} is not in the catalog; label the cartridge",
            part.extent.recording
        )));
    };
    if orphans::orphan_exists(tx, part.extent.recording, part.extent.tape_file).await? {
        return Err(Error::Conflict(format!(
            "tape file {} of volume {} is an orphan already",
            part.extent.tape_file, recorded.barcode
        )));
    }
    let new = part.row(header, recorded.volume_id, digest)?;
    match parts::part_add_on(tx, &new).await {
        Err(store::Error::Exists { .. }) => {
            return Err(Error::Conflict(format!(
                "tape file {} of volume {} is committed as another part",
                part.extent.tape_file, recorded.barcode
            )));
        }
        other => other?,
    }
    if orphans::recording_append_on(tx, &part.extent).await? {
        Ok(indexes::index_due_on(tx, part.extent.recording).await?)
    } else {
        Err(misplaced(&recorded, &part.extent))
    }
}

async fn quarantine(client: &mut Client, part: &Claimed, what: &str) -> Result<(), Error> {
    let tx = client.transaction().await?;
    orphans::recording_verdict_on(&tx, part.extent.recording, "quarantined", what).await?;
    tx.commit().await?;
    tracing::error!(recording = %part.extent.recording, "{what}; the volume is quarantined");
    Ok(())
}

/// Rows on their way into the transaction.
struct Batch<'a> {
    part: &'a Claimed,
    decoder: Decoder,
    /// New ones, by number.
    dictionaries: Vec<(u32, Bytes)>,
    pages: Vec<NewPage>,
    bytes: usize,
    /// Whether rows are worth inserting: those of an archive that takes no more parts are only checked.
    stored: bool,
    /// Whether earlier attempts left rows of the version, in whose place these may come.
    supersedes: bool,
    /// The archives that a page may name: those of other streams too, where the bytes of a file with several names may have gone first.
    ordinals: HashSet<u32>,
}

impl Batch<'_> {
    /// Proves a record and keeps it if it becomes a row. Entries do not: pages hold what they say.
    fn take(&mut self, record: Option<Body>) -> Result<(), Error> {
        let page = match record {
            Some(Body::Page(page)) => {
                let decoded = self
                    .decoder
                    .decode(&page.chunk, &page.body, Some(&page.hashes))
                    .map_err(|cause| {
                        let directory = taf_format::key::split(&page.chunk)
                            .map(|(path, _)| path)
                            .unwrap_or_default();
                        Error::Invalid(view::damaged(&directory, cause).to_string())
                    })?;
                let own = self.part.archive.ordinal as u32;
                let places = decoded.entries.iter().filter_map(|entry| entry.place);
                let places = places.chain(decoded.header.and_then(|header| header.place));
                for place in places {
                    let ordinal = place.archive_ordinal;
                    if ordinal != own && !self.ordinals.contains(&ordinal) {
                        return Err(Error::Invalid(format!(
                            "a page names archive {ordinal}, which the line does not have"
                        )));
                    }
                }
                NewPage {
                    chunk: page.chunk,
                    body: Some((page.body, page.hashes)),
                }
            }
            Some(Body::Tombstone(tombstone))
                if tombstone.chunk.len() > taf_format::key::SHORTENED =>
            {
                return Err(Error::Invalid("a tombstone's key is too long".into()));
            }
            Some(Body::Tombstone(tombstone)) => NewPage {
                chunk: tombstone.chunk,
                body: None,
            },
            Some(Body::Dictionary(dictionary)) => {
                let (id, body) = (dictionary.id, dictionary.body);
                if i64::from(id / 16) > i64::from(self.part.archive.ordinal) {
                    return Err(Error::Invalid(format!(
                        "dictionary {id} has a number that its archive may not give"
                    )));
                }
                // Repeated now and then, and mostly known from an earlier part.
                let learned = self.decoder.learn(id, &body);
                if learned.map_err(|cause| Error::Invalid(cause.to_string()))? {
                    self.dictionaries.push((id, body));
                }
                return Ok(());
            }
            Some(Body::Entry(_)) | None => return Ok(()),
        };
        self.bytes += page.chunk.len()
            + page
                .body
                .as_ref()
                .map_or(0, |(body, hashes)| body.len() + hashes.len());
        self.pages.push(page);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.pages.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    async fn insert_on(&mut self, tx: &Transaction<'_>) -> Result<(), Error> {
        let archive = &self.part.archive;
        for (number, body) in std::mem::take(&mut self.dictionaries) {
            if self.stored {
                dictionaries::dictionary_add_on(tx, archive.line_id, number, &body).await?;
            }
        }
        if self.stored && self.supersedes && !self.pages.is_empty() {
            let (line, version) = (archive.line_id, archive.version);
            pages::page_supersede_on(tx, line, version, archive.ordinal, &self.pages).await?;
        }
        if self.stored && !self.pages.is_empty() {
            pages::page_add_on(
                tx,
                archive.line_id,
                archive.version,
                archive.ordinal,
                self.part.number,
                &self.pages,
            )
            .await?;
        }
        self.pages.clear();
        self.bytes = 0;
        Ok(())
    }
}
