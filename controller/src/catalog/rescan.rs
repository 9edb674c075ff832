//! Takes in what was found on a cartridge: its label, its parts with their records, orphans, closing records. Nothing is believed but
//! what bears this installation's name.
//!
//! Each part is a transaction of its own; what the catalog has already stays as it is, so that the same cartridge may come again,
//! and cartridges in any order. Rows of a part lie aside until a closing record names it. When all of a cartridge has come, the
//! versions that are whole now become readable ([`super::rebuild`]).

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::{Stream, StreamExt};
use taf_format::index::{Body, IndexOrphan, IndexPart};
use taf_format::table::SegmentTable;
use taf_format::{key, limits};
use taf_proto::agent::report_scan_request::Message;
use taf_proto::agent::{ReportScanRequest, ScanHeader, ScanTrailer};
use taf_proto::tape::{Dictionary, IndexPartEnd, Label};
use tonic::Status;
use uuid::Uuid;

use super::Error;
use super::rebuild::Claim;
use super::report::{self, Side, uuid};
use super::{rebuild, relocation, trust};
use crate::store::archives::Archive;
use crate::store::issues::{self, Issue};
use crate::store::orphans::{self, Extent};
use crate::store::pages::NewPage;
use crate::store::parts::{self, NewPart, Proof};
use crate::store::rebuilds::{self, Labelled};
use crate::store::reclaims::{self, Placed};
use crate::store::trust::trust_is_lost;
use crate::store::{
    Client, Store, Transaction, bigint, dictionaries, expiry, indexes, partials, unclaimed,
};

/// Longest silence within the stream.
const SILENCE: Duration = Duration::from_mins(2);
/// Rows that are inserted at once.
const BATCH_ROWS: usize = 256;
/// Bytes at which a batch is inserted.
const BATCH_BYTES: usize = 2 << 20;
/// Who says that the catalog lacks something.
const CREATOR: &str = "controller";
/// Why a part is none that the catalog lacks.
const OTHERWISE: &str = "a part of an archive that the catalog has otherwise";
/// See [`OTHERWISE`].
const COPIED: &str = "another tape file is this part of its archive";
/// Bytes of the largest segment table.
const TABLE: usize = 64 << 20;

/// Takes in what tape agent `agent` found on a cartridge.
pub async fn take<S>(store: &Store, agent: &str, mut messages: S) -> Result<(), Error>
where
    S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin + Send,
{
    let Message::Header(header) = next(&mut messages).await? else {
        return Err(Error::Invalid("the first message is not the header".into()));
    };
    let mut client = store.client().await?;
    let assignment = report::assignment(&client, header.key.as_ref(), agent, Side::Tape).await?;
    let barcode = header
        .label
        .as_ref()
        .map_or("", |label| label.barcode.as_str());
    if !rebuilds::cartridge_is_given(&client, assignment.attempt_id, barcode).await? {
        return Err(Error::Invalid(format!(
            "cartridge {barcode} is none that attempt {} is to take in",
            assignment.attempt_id
        )));
    }
    let installation = store.installation_get().await?.map(|i| i.uuid);
    let volume = volume(&mut client, &header, installation).await?;
    let mut intake = Intake {
        volume,
        attempt: assignment.attempt_id,
        job: assignment.job_id,
        lines: BTreeSet::new(),
        parts: 0,
        put_off: Vec::new(),
        left: HashMap::new(),
    };
    let taken = intake.all(&mut client, &mut messages).await;
    drop(client);
    // What came before the stream broke off is there: it is counted, too, so that nothing is taken for certain that is not any more.
    let settled = settle(store, &intake.lines).await;
    taken.and(settled)?;
    tracing::info!(
        barcode = intake.volume.barcode,
        parts = intake.parts,
        lines = intake.lines.len(),
        "took in what is on a cartridge"
    );
    Ok(())
}

/// Says of the versions of all these lines what they lack, as far as that can be done.
async fn settle(store: &Store, lines: &BTreeSet<i64>) -> Result<(), Error> {
    let mut settled = Ok(());
    for line in lines {
        if let Err(error) = rebuild::settle(store, *line).await {
            tracing::warn!(line, %error, "what versions lack could not be counted; it is when the next cartridge comes, or the controller starts");
            settled = settled.and(Err(error));
        }
    }
    settled
}

async fn next<S>(messages: &mut S) -> Result<Message, Error>
where
    S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin,
{
    let waited = tokio::time::timeout(SILENCE, messages.next()).await;
    let message = waited
        .map_err(|_| Error::Stream(Status::deadline_exceeded("nothing came for two minutes")))?;
    let message =
        message.ok_or_else(|| Error::Stream(Status::cancelled("it ended before the trailer")))?;
    message
        .map_err(Error::Stream)?
        .message
        .ok_or_else(|| Error::Invalid("an empty message".into()))
}

/// The volume that the cartridge is.
struct Volume {
    id: i64,
    barcode: String,
    recording: Uuid,
}

/// The volume of a label, which is made if the catalog has none.
async fn volume(
    client: &mut Client,
    header: &ScanHeader,
    installation: Option<Uuid>,
) -> Result<Volume, Error> {
    let label: &Label = header
        .label
        .as_ref()
        .ok_or_else(|| Error::Invalid("it has no label".into()))?;
    let owner = uuid(&label.installation_uuid, "the installation")?;
    if Some(owner) != installation {
        return Err(Error::Position(format!(
            "cartridge {} belongs to installation {owner}, and this is another one; to take its cartridges over, start the \
             controller on an empty database with installation = \"{owner}\"",
            label.barcode
        )));
    }
    let recording = uuid(&label.recording_uuid, "the recording")?;
    let labelled = Labelled {
        barcode: &label.barcode,
        volume: uuid(&label.volume_uuid, "the volume")?,
        recording,
        pool: &label.pool,
        block_size: i32::try_from(label.block_size)
            .map_err(|_| Error::Invalid("its blocks are too large".into()))?,
        labelled_at: rebuild::time(label.labelled_at_unix_nanos)?,
        medium_serial: Some(header.medium_serial.as_str()).filter(|serial| !serial.is_empty()),
    };
    let tx = client.transaction().await?;
    if rebuilds::volume_rebuild_on(&tx, &labelled).await? && !trust_is_lost(&tx).await? {
        // Further cartridges may bear the numbers that a run would be given now.
        let why = format!("volume {} was not in it", label.barcode);
        trust::lose_on(&tx, CREATOR, (0, 0), &why).await?;
    }
    tx.commit().await?;
    let known = orphans::recording_get(client, recording).await?;
    let known = known.ok_or_else(|| {
        Error::Position(format!(
            "the catalog knows volume {} with another recording than the cartridge has ({recording}); it is not touched",
            label.barcode
        ))
    })?;
    Ok(Volume {
        id: known.volume_id,
        barcode: known.barcode,
        recording,
    })
}

/// What becomes of a part that was met on a cartridge.
enum Fate {
    /// It is one that the catalog lacks.
    Add(Archive),
    /// It is one that the catalog has elsewhere, and lies here from now on: archive, and where it was.
    Move(i64, Placed),
    /// The same, and all that the catalog has is a torn copy of it.
    Extend(Archive, Placed),
    /// The same, but somebody reads it where it was before that.
    Wait,
    /// It is what the part that the catalog has elsewhere is a copy of, or another copy: archive, and where that is.
    Left(i64, Placed),
    /// It is as the catalog has it, or is none of what the catalog has.
    Known,
    /// It is as the catalog has it, but its rows went with their version or were given up, and one whose record was met since needs them.
    Again(i64),
    /// It is nobody's, and why.
    Orphan(&'static str),
}

/// A cartridge under way.
struct Intake {
    volume: Volume,
    attempt: i64,
    job: i64,
    /// Lines of which something came.
    lines: BTreeSet<i64>,
    parts: u64,
    /// Tape files that can't be taken in before somebody has read to the end.
    put_off: Vec<u64>,
    /// Parts that the catalog has on other recordings, and that are here too.
    left: HashMap<Uuid, Left>,
}

/// See [`Intake::left`].
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    parts: u64,
    /// Of these, such as nobody has read back there.
    unread: u64,
}

impl Intake {
    /// Takes all that comes, up to the trailer.
    async fn all<S>(&mut self, client: &mut Client, messages: &mut S) -> Result<(), Error>
    where
        S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin + Send,
    {
        loop {
            match next(messages).await? {
                Message::Record(record) => self.record(client, record.record, messages).await?,
                Message::Trailer(trailer) => return self.end(client, &trailer).await,
                Message::Header(_) => return Err(Error::Invalid("a second header".into())),
            }
        }
    }

    async fn record<S>(
        &mut self,
        client: &mut Client,
        record: Option<Body>,
        messages: &mut S,
    ) -> Result<(), Error>
    where
        S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin + Send,
    {
        match record {
            Some(Body::Part(part)) => self.part(client, &part, messages).await,
            Some(Body::Orphan(orphan)) => self.orphan(client, &orphan).await,
            Some(Body::Closing(record)) => {
                let line = rebuild::closing(client, &record, self.job).await?;
                self.lines.insert(line);
                Ok(())
            }
            Some(
                Body::Table(_)
                | Body::Page(_)
                | Body::Tombstone(_)
                | Body::Dictionary(_)
                | Body::PartEnd(_),
            ) => Err(Error::Invalid("a record of no part".into())),
            Some(
                Body::Volume(_)
                | Body::Uncovered(_)
                | Body::Earlier(_)
                | Body::Text(_)
                | Body::End(_),
            )
            | None => Ok(()),
        }
    }

    async fn orphan(&self, client: &mut Client, orphan: &IndexOrphan) -> Result<(), Error> {
        let tape_file = bigint(orphan.tape_file)?;
        let extent = Extent {
            recording: self.volume.recording,
            tape_file,
            first_block: bigint(orphan.first_block)?,
            next_tape_file: tape_file + 1,
            next_block: bigint(orphan.next_block)?,
            byte_count: 0,
        };
        let tx = client.transaction().await?;
        if !rebuilds::tape_file_is_known_on(&tx, extent.recording, tape_file).await? {
            orphans::orphan_add_on(&tx, self.volume.id, &extent, &orphan.reason).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Takes a part with all records up to its end.
    async fn part<S>(
        &mut self,
        client: &mut Client,
        part: &IndexPart,
        messages: &mut S,
    ) -> Result<(), Error>
    where
        S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin + Send,
    {
        let tx = client.transaction().await?;
        let line = rebuilds::line_rebuild_on(&tx, uuid(&part.line_uuid, "the line")?).await?;
        let ordinal = i32::try_from(part.archive_ordinal)
            .map_err(|_| Error::Invalid("an archive's ordinal is too large".into()))?;
        let number = i32::try_from(part.part_number)
            .map_err(|_| Error::Invalid("a part's number is too large".into()))?;
        let (uuid, version) = (
            uuid(&part.archive_uuid, "the archive")?,
            bigint(part.version)?,
        );
        let claim = Claim::of(&tx, line, version, (uuid, part.part_number)).await?;
        let state = match claim {
            // It holds room on tape and nothing else.
            Claim::Unlisted => "abandoned",
            Claim::Untold => "unclaimed",
            _ if partials::version_is_given_up_on(&tx, line, version).await? => "published",
            _ => "closed",
        };
        let mut archive =
            rebuilds::archive_rebuild_on(&tx, uuid, line, ordinal, version, self.attempt, state)
                .await?;
        let part_of = (ordinal, number);
        let again = match &mut archive {
            Some(archive) => regain(&tx, archive, claim, part_of).await?,
            None => false,
        };
        let shelf = match &archive {
            Some(archive) => shelf(&tx, archive, claim).await?,
            None => Shelf::Nowhere,
        };
        let given_up = archive.as_ref().is_some_and(|it| it.state == "abandoned");
        let fate = match self.fate(&tx, archive, part, again).await? {
            Fate::Add(_) if claim == Claim::Late => Fate::Orphan(OTHERWISE),
            fate => fate,
        };
        let mut rows = Rows {
            line,
            version,
            ordinal,
            part: number,
            shelf: match &fate {
                Fate::Add(_) | Fate::Extend(..) | Fate::Again(_) => shelf,
                Fate::Move(..) if again => shelf,
                _ => Shelf::Nowhere,
            },
            pages: Vec::new(),
            bytes: 0,
            table: Vec::new(),
            counts: IndexPartEnd::default(),
        };
        let end = loop {
            let Message::Record(record) = next(messages).await? else {
                return Err(Error::Invalid("a part without an end".into()));
            };
            match record.record {
                Some(Body::PartEnd(end)) => break end,
                Some(body) => rows.take(&tx, body).await?,
                None => {}
            }
        };
        rows.insert_on(&tx).await?;
        rows.counts.table_byte_count = rows.table.len() as u64;
        if end != rows.counts {
            return Err(Error::Invalid(format!(
                "records of part {} of archive {ordinal} are missing",
                part.part_number
            )));
        }
        self.lines.insert(line);
        if rows.shelf == Shelf::Pages {
            expiry::version_unvacuum_on(&tx, line, version).await?;
        }
        let why = match fate {
            Fate::Add(archive) => {
                parts::part_add_on(&tx, &self.row(archive.id, part, rows.table)?).await?;
                if given_up && claim == Claim::Untold {
                    unclaimed::part_rows_give_up_on(&tx, archive.id, number, true).await?;
                }
                tx.commit().await?;
                self.parts += 1;
                return Ok(());
            }
            Fate::Move(archive, from)
                if relocation::have_same_segments(&from.segment_table, &rows.table)? =>
            {
                let to = self.row(archive, part, rows.table)?;
                self.relocate_on(&tx, &from, &to).await?;
                if again {
                    unclaimed::part_rows_give_up_on(&tx, archive, number, false).await?;
                }
                tx.commit().await?;
                self.parts += 1;
                return Ok(());
            }
            Fate::Extend(archive, from)
                if relocation::goes_on_from(&rows.table, &from.segment_table)? =>
            {
                let to = self.row(archive.id, part, rows.table)?;
                self.relocate_on(&tx, &from, &to).await?;
                reclaims::part_extend_on(&tx, from.id, &to).await?;
                if again {
                    unclaimed::part_rows_give_up_on(&tx, archive.id, number, false).await?;
                }
                tx.commit().await?;
                self.parts += 1;
                return Ok(());
            }
            Fate::Left(archive, copy)
                if relocation::have_same_segments(&copy.segment_table, &rows.table)? =>
            {
                let here = self.row(archive, part, rows.table)?;
                if here.copy < copy.copy {
                    reclaims::part_former_on(&tx, copy.id, &here).await?;
                }
                tx.commit().await?;
                let left = self.left.entry(copy.recording).or_default();
                left.parts += 1;
                left.unread += u64::from(!copy.read);
                return self.disown(client, part, COPIED).await;
            }
            Fate::Again(archive) => {
                if again {
                    unclaimed::part_rows_give_up_on(&tx, archive, number, false).await?;
                }
                tx.commit().await?;
                return Ok(());
            }
            Fate::Known => {
                tx.rollback().await?;
                return Ok(());
            }
            Fate::Left(..) => COPIED,
            Fate::Wait => {
                self.put_off.push(part.tape_file);
                relocation::READ
            }
            Fate::Move(..) | Fate::Extend(..) => OTHERWISE,
            Fate::Orphan(why) => why,
        };
        tx.rollback().await?;
        self.disown(client, part, why).await
    }

    /// What was met is nobody's.
    async fn disown(&self, client: &mut Client, part: &IndexPart, why: &str) -> Result<(), Error> {
        let orphan = IndexOrphan {
            tape_file: part.tape_file,
            first_block: part.first_block,
            next_block: part.next_block,
            reason: why.into(),
        };
        self.orphan(client, &orphan).await
    }

    /// What becomes of a part that was met here; `again` is whether its rows were given up, and are needed.
    async fn fate(
        &self,
        tx: &Transaction<'_>,
        archive: Option<Archive>,
        part: &IndexPart,
        again: bool,
    ) -> Result<Fate, Error> {
        let (recording, tape_file) = (self.volume.recording, bigint(part.tape_file)?);
        let known = rebuilds::tape_file_is_known_on(tx, recording, tape_file).await?;
        let Some(archive) = archive else {
            return Ok(if known {
                Fate::Known
            } else {
                Fate::Orphan(OTHERWISE)
            });
        };
        // Nobody owns it so far: it may have come before what it is a copy of was known to be older, or gone.
        let free = !known || orphans::orphan_exists(tx, recording, tape_file).await?;
        let number = i32::try_from(part.part_number).unwrap_or_default();
        let placed = reclaims::part_place_on(tx, archive.id, number).await?;
        let is_longer = |torn_at| bigint(part.last_sequence).is_ok_and(|last| last > torn_at);
        let fate = match placed {
            Some(placed) if free && placed.torn_at.is_some_and(is_longer) => {
                Fate::Extend(archive, placed)
            }
            Some(placed)
                if free && (i64::from(part.copy) > i64::from(placed.copy) || !placed.in_place) =>
            {
                Fate::Move(archive.id, placed)
            }
            Some(placed) if free && placed.copy > 0 && placed.recording != recording => {
                Fate::Left(archive.id, placed)
            }
            Some(placed)
                if (placed.recording, placed.tape_file) == (recording, tape_file)
                    && placed.digest == part.digest
                    && (again
                        || expiry::version_is_missed_on(tx, archive.line_id, archive.version)
                            .await?) =>
            {
                Fate::Again(archive.id)
            }
            _ if known => Fate::Known,
            // Written again after an error, or of another history.
            Some(_) => Fate::Orphan(COPIED),
            // A version that is readable is whole.
            None if archive.state == "published"
                && rebuilds::version_is_published_on(tx, archive.line_id, archive.version)
                    .await? =>
            {
                Fate::Orphan(OTHERWISE)
            }
            None => Fate::Add(archive),
        };
        Ok(match fate {
            Fate::Move(_, from) | Fate::Extend(_, from)
                if reclaims::part_is_read_on(tx, from.id).await? =>
            {
                Fate::Wait
            }
            fate => fate,
        })
    }

    /// The part lies here from now on: this is a newer copy of it, or the only one that is left.
    async fn relocate_on(
        &self,
        tx: &Transaction<'_>,
        from: &Placed,
        to: &NewPart,
    ) -> Result<(), Error> {
        let (recording, tape_file) = (to.proof.recording, to.proof.tape_file);
        reclaims::orphan_forget_on(tx, recording, tape_file).await?;
        reclaims::part_move_on(tx, from, to).await?;
        reclaims::recording_grow_on(tx, recording, to.byte_count).await?;
        reclaims::version_found_on(tx, from.id).await?;
        Ok(())
    }

    fn row(&self, archive_id: i64, part: &IndexPart, table: Vec<u8>) -> Result<NewPart, Error> {
        let wrong = |what: &str| Error::Invalid(format!("a part is wrong: {what}"));
        let decoded = SegmentTable::decode(&table).map_err(|error| wrong(&error.to_string()))?;
        if decoded.tar_range() != (part.first_tar_offset..part.end_tar_offset)
            || decoded.byte_end() > part.byte_count
        {
            return Err(wrong("it does not agree with its segment table"));
        }
        Ok(NewPart {
            archive_id,
            part_number: i32::try_from(part.part_number).map_err(|_| wrong("its number"))?,
            volume_id: self.volume.id,
            proof: Proof {
                recording: self.volume.recording,
                tape_file: bigint(part.tape_file)?,
                digest: part.digest.to_vec(),
            },
            first_block: bigint(part.first_block)?,
            block_count: bigint(part.block_count)?,
            byte_count: bigint(part.byte_count)?,
            first_sequence: bigint(part.first_sequence)?,
            last_sequence: bigint(part.last_sequence)?,
            first_tar_offset: bigint(part.first_tar_offset)?,
            end_tar_offset: bigint(part.end_tar_offset)?,
            final_part: part.last,
            truncated: part.truncated,
            copy: i32::try_from(part.copy).map_err(|_| wrong("how often it was copied"))?,
            segment_table: table.into(),
        })
    }

    /// All has come: the recording ends where it ends on tape.
    async fn end(&self, client: &mut Client, trailer: &ScanTrailer) -> Result<(), Error> {
        let recording = self.volume.recording;
        let tx = client.transaction().await?;
        for index in &trailer.indexes {
            let tape_file = bigint(index.tape_file)?;
            let extent = Extent {
                recording,
                tape_file,
                first_block: bigint(index.first_block)?,
                next_tape_file: tape_file + 1,
                next_block: 0,
                byte_count: bigint(index.byte_count)?,
            };
            if !rebuilds::tape_file_is_known_on(&tx, recording, tape_file).await? {
                let (id, blocks) = (
                    uuid(&index.index_uuid, "the index")?,
                    bigint(index.block_count)?,
                );
                indexes::index_add_on(&tx, id, self.volume.id, &extent, blocks).await?;
            }
        }
        let (file, block) = (bigint(trailer.next_tape_file)?, bigint(trailer.next_block)?);
        rebuilds::recording_reach_on(&tx, recording, file, block).await?;
        orphans::recording_weigh_on(&tx, recording).await?;
        if trailer.open {
            let why = "nothing closes its last tape file";
            orphans::recording_verdict_on(&tx, recording, "read-only", why).await?;
        }
        if !trailer.problems.is_empty() {
            // Nothing may take for free what could not be read this time.
            orphans::recording_unread_on(&tx, recording).await?;
        } else if !trailer.open && self.put_off.is_empty() {
            orphans::recording_read_on(&tx, recording, file).await?;
        }
        let unreadable = trailer.problems.iter();
        let unreadable = unreadable.map(|problem| (problem.tape_file, problem.reason.as_str()));
        let put_off = self.put_off.iter().map(|file| (*file, relocation::READ));
        let unreadable = unreadable.map(|said| ("TAPE_FILE_UNREADABLE", said));
        let put_off = put_off.map(|said| ("PART_IS_READ", said));
        let barcode = &self.volume.barcode;
        let mut told: Vec<(&str, String)> = unreadable
            .chain(put_off)
            .map(|(reason, (file, why))| {
                let said = format!("tape file {file} of {barcode} was not taken in: {why}");
                (reason, said)
            })
            .collect();
        for said in self.left_on(&tx).await? {
            told.push(("PART_ELSEWHERE", said));
        }
        let told: Vec<Issue> = (1..)
            .zip(told)
            .map(|(number, (reason, message))| Issue {
                attempt_id: self.attempt,
                number,
                path: Vec::new(),
                reason: reason.into(),
                message,
            })
            .collect();
        issues::issue_add_on(&tx, self.attempt, &told).await?;
        reclaims::version_found_again_on(&tx, recording, file).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Intake {
    /// What was left here since the catalog has it elsewhere, for people: unless it was read back there, and is at hand.
    async fn left_on(&self, tx: &Transaction<'_>) -> Result<Vec<String>, Error> {
        let recordings: Vec<Uuid> = self.left.keys().copied().collect();
        let mut said = Vec::new();
        for (recording, other, inside) in reclaims::recording_places(tx, &recordings).await? {
            let left = self.left.get(&recording).copied().unwrap_or_default();
            let why = match (inside, left.unread) {
                (true, 0) => continue,
                (true, _) => format!("nobody has read them back: `taf volume verify {other}`"),
                (false, _) => "no library shows it".to_owned(),
            };
            let what = match left.parts {
                1 => format!("1 part of {} was", self.volume.barcode),
                count => format!("{count} parts of {} were", self.volume.barcode),
            };
            said.push(format!(
                "{what} left, since the catalog has copies on volume {other}, and {why}; if {other} is lost or can't be read, say so with `taf volume erase {other} --force`, and run this again"
            ));
        }
        Ok(said)
    }
}

/// Whether a part whose rows were given up is needed, so that they are taken again. An archive that was given up is wanted again if any
/// part of it is needed.
async fn regain(
    tx: &Transaction<'_>,
    archive: &mut Archive,
    claim: Claim,
    (ordinal, number): (i32, i32),
) -> Result<bool, Error> {
    let given_up = unclaimed::part_rows_are_given_up_on(tx, archive.id, number).await?;
    if claim == Claim::Unlisted || (archive.state != "abandoned" && !given_up) {
        return Ok(false);
    }
    let needed = claim == Claim::Listed
        || rebuild::is_needed(tx, archive.line_id, (ordinal, number)).await?;
    if needed && archive.state == "abandoned" {
        unclaimed::archive_want_on(tx, archive.id).await?;
        archive.state = "unclaimed".into();
    }
    Ok(needed && given_up)
}

/// Where rows of a part are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shelf {
    /// Where versions resolve to them.
    Pages,
    /// Aside, until a closing record claims the part.
    Aside,
    /// They are wanted by nobody.
    Nowhere,
}

async fn shelf(tx: &Transaction<'_>, archive: &Archive, claim: Claim) -> Result<Shelf, Error> {
    Ok(match (archive.state.as_str(), claim) {
        ("abandoned", _) | (_, Claim::Unlisted | Claim::Late) => Shelf::Nowhere,
        ("unclaimed", _) => Shelf::Aside,
        (_, Claim::Listed) => Shelf::Pages,
        // The run that may go on with it takes all that is there for what it has stored.
        (_, Claim::Untold)
            if rebuilds::version_is_begun_on(tx, archive.line_id, archive.version).await? =>
        {
            Shelf::Pages
        }
        // Another version names the archive, but perhaps not this part.
        (_, Claim::Untold) => Shelf::Aside,
    })
}

/// Rows of a part on their way into the transaction.
struct Rows {
    line: i64,
    version: i64,
    ordinal: i32,
    part: i32,
    shelf: Shelf,
    pages: Vec<NewPage>,
    bytes: usize,
    table: Vec<u8>,
    counts: IndexPartEnd,
}

impl Rows {
    async fn take(&mut self, tx: &Transaction<'_>, body: Body) -> Result<(), Error> {
        let page = match body {
            Body::Table(bytes) => {
                if self.table.len() + bytes.len() > TABLE {
                    return Err(Error::Invalid("a segment table is too large".into()));
                }
                self.table.extend_from_slice(&bytes);
                return Ok(());
            }
            Body::Dictionary(dictionary) => {
                self.counts.dictionary_count += 1;
                return self.dictionary(tx, dictionary).await;
            }
            Body::Page(page) => {
                self.counts.page_count += 1;
                NewPage {
                    chunk: page.chunk,
                    body: Some((page.body, page.hashes)),
                }
            }
            Body::Tombstone(tombstone) => {
                self.counts.tombstone_count += 1;
                NewPage {
                    chunk: tombstone.chunk,
                    body: None,
                }
            }
            _ => {
                return Err(Error::Invalid(
                    "a record within a part that is none of it".into(),
                ));
            }
        };
        if page.chunk.len() > key::SHORTENED {
            return Err(Error::Invalid("a listing's key is too long".into()));
        }
        let length = page
            .body
            .as_ref()
            .map_or(0, |(body, hashes)| body.len() + hashes.len());
        if length > limits::RECORD {
            return Err(Error::Invalid("a listing is too large".into()));
        }
        self.bytes += page.chunk.len() + length;
        self.pages.push(page);
        if self.pages.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
            self.insert_on(tx).await?;
        }
        Ok(())
    }

    /// A dictionary that the line does not have. Pages that use it may have come before.
    async fn dictionary(&self, tx: &Transaction<'_>, dictionary: Dictionary) -> Result<(), Error> {
        if self.shelf == Shelf::Nowhere {
            return Ok(());
        }
        let mut known = dictionaries::dictionaries(tx, self.line).await?;
        if known.get(dictionary.id).is_none() {
            known
                .insert(dictionary.id, &dictionary.body)
                .map_err(|cause| Error::Invalid(cause.to_string()))?;
            let (id, body) = (dictionary.id, &dictionary.body);
            dictionaries::dictionary_add_on(tx, self.line, id, body).await?;
        }
        Ok(())
    }

    async fn insert_on(&mut self, tx: &Transaction<'_>) -> Result<(), Error> {
        if !self.pages.is_empty() {
            let (line, version) = (self.line, self.version);
            let (part, rows) = ((self.ordinal, self.part), &self.pages);
            match self.shelf {
                Shelf::Pages => rebuilds::page_rebuild_on(tx, line, version, part, rows).await?,
                Shelf::Aside => unclaimed::page_put_aside_on(tx, line, version, part, rows).await?,
                Shelf::Nowhere => {}
            }
        }
        self.pages.clear();
        self.bytes = 0;
        Ok(())
    }
}
