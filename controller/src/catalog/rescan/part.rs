//! A part that was met on a cartridge: whose it is, what becomes of it, and where its rows go.

use futures::Stream;
use taf_format::index::{IndexOrphan, IndexPart};
use taf_format::table::SegmentTable;
use taf_proto::agent::ReportScanRequest;
use tonic::Status;

use super::rows::{Rows, Shelf};
use super::{Intake, rebuild, relocation};
use crate::catalog::Error;
use crate::catalog::rebuild::Claim;
use crate::catalog::report::uuid;
use crate::store::archives::Archive;
use crate::store::parts::{self, NewPart, Proof};
use crate::store::reclaims::{self, Placed};
use crate::store::{Client, Transaction, bigint, expiry, orphans, partials, rebuilds, unclaimed};

/// Why a part is none that the catalog lacks.
const OTHERWISE: &str = "a part of an archive that the catalog has otherwise";
/// See [`OTHERWISE`].
const COPIED: &str = "another tape file is this part of its archive";

/// What becomes of a part that was met on a cartridge.
enum Fate {
    /// It is one that the catalog lacks: archive.
    Add(i64),
    /// It is one that the catalog has elsewhere, and lies here from now on: archive, and where it was.
    Move(i64, Placed),
    /// The same, and all that the catalog has is a torn copy of it.
    Extend(i64, Placed),
    /// The same, but somebody reads it where it was before that.
    Wait,
    /// It is what the part that the catalog has elsewhere is a copy of, or another copy: archive, and where that is.
    Left(i64, Placed),
    /// It is as the catalog has it, or is none of what the catalog has.
    Known,
    /// It is as the catalog has it, but its rows went with their version or were given up, and one whose record was met since needs them.
    Again,
    /// It is nobody's, and why.
    Orphan(&'static str),
}

/// A part that was met, and what is known of it.
pub(super) struct Met {
    pub(super) line: i64,
    pub(super) version: i64,
    pub(super) ordinal: i32,
    pub(super) number: i32,
    claim: Claim,
    /// Its archive; none if the line has another one under the ordinal.
    archive: Option<Archive>,
    /// Whether its rows were given up, and are needed.
    again: bool,
}

impl Met {
    async fn of(tx: &Transaction<'_>, part: &IndexPart, attempt: i64) -> Result<Self, Error> {
        let line = rebuilds::line_rebuild_on(tx, uuid(&part.line_uuid, "the line")?).await?;
        let ordinal = i32::try_from(part.archive_ordinal)
            .map_err(|_| Error::Invalid("an archive's ordinal is too large".into()))?;
        let number = i32::try_from(part.part_number)
            .map_err(|_| Error::Invalid("a part's number is too large".into()))?;
        let archive = uuid(&part.archive_uuid, "the archive")?;
        let version = bigint(part.version)?;
        let claim = Claim::of(tx, line, version, (archive, part.part_number)).await?;
        let state = match claim {
            // It holds room on tape and nothing else.
            Claim::Unlisted => "abandoned",
            Claim::Untold => "unclaimed",
            _ if partials::version_is_given_up_on(tx, line, version).await? => "published",
            _ => "closed",
        };
        let mut archive =
            rebuilds::archive_rebuild_on(tx, archive, line, ordinal, version, attempt, state)
                .await?;
        let again = match &mut archive {
            Some(archive) => regain(tx, archive, claim, (ordinal, number)).await?,
            None => false,
        };
        Ok(Self {
            line,
            version,
            ordinal,
            number,
            claim,
            archive,
            again,
        })
    }

    /// Where its rows go.
    async fn shelf(&self, tx: &Transaction<'_>, fate: &Fate) -> Result<Shelf, Error> {
        let Some(archive) = &self.archive else {
            return Ok(Shelf::Nowhere);
        };
        let come = match fate {
            Fate::Add(_) | Fate::Extend(..) | Fate::Again => true,
            Fate::Move(..) | Fate::Left(..) => self.again,
            _ => false,
        };
        Ok(match (archive.state.as_str(), self.claim) {
            _ if !come => Shelf::Nowhere,
            ("abandoned", _) | (_, Claim::Unlisted | Claim::Late) => Shelf::Nowhere,
            ("unclaimed", _) => Shelf::Aside,
            (_, Claim::Listed) => Shelf::Pages,
            // The run that may go on with it takes all that is there for what was stored.
            _ if rebuilds::version_is_begun_on(tx, self.line, self.version).await? => Shelf::Pages,
            // Another version names the archive, but perhaps not this part.
            _ => Shelf::Aside,
        })
    }
}

impl Intake {
    /// Takes a part with all records up to its end.
    pub(super) async fn part<S>(
        &mut self,
        client: &mut Client,
        part: &IndexPart,
        messages: &mut S,
    ) -> Result<(), Error>
    where
        S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin + Send,
    {
        let tx = client.transaction().await?;
        let met = Met::of(&tx, part, self.attempt).await?;
        let fate = self.fate(&tx, &met, part).await?;
        let mut rows = Rows::of(&met, met.shelf(&tx, &fate).await?);
        rows.all(&tx, messages).await?;
        self.lines.insert(met.line);
        if rows.shelf == Shelf::Pages {
            expiry::version_unvacuum_on(&tx, met.line, met.version).await?;
        }
        if let (true, Some(archive)) = (met.again, &met.archive) {
            unclaimed::part_rows_give_up_on(&tx, archive.id, met.number, false).await?;
        }
        let table = rows.table;
        let why = match fate {
            Fate::Add(archive) => {
                parts::part_add_on(&tx, &self.row(archive, part, table)?).await?;
                if rows.shelf == Shelf::Nowhere && met.claim == Claim::Untold {
                    unclaimed::part_rows_give_up_on(&tx, archive, met.number, true).await?;
                }
                None
            }
            Fate::Move(archive, from)
                if relocation::have_same_segments(&from.segment_table, &table)? =>
            {
                let to = self.row(archive, part, table)?;
                self.relocate_on(&tx, &from, &to).await?;
                None
            }
            Fate::Extend(archive, from)
                if relocation::goes_on_from(&table, &from.segment_table)? =>
            {
                let to = self.row(archive, part, table)?;
                self.relocate_on(&tx, &from, &to).await?;
                reclaims::part_extend_on(&tx, from.id, &to).await?;
                None
            }
            Fate::Left(archive, copy)
                if relocation::have_same_segments(&copy.segment_table, &table)? =>
            {
                let here = self.row(archive, part, table)?;
                if here.copy < copy.copy {
                    reclaims::part_former_on(&tx, copy.id, &here).await?;
                }
                tx.commit().await?;
                let left = self.left.entry(copy.recording).or_default();
                left.parts += 1;
                left.unread += u64::from(!copy.read);
                return self.disown(client, part, COPIED).await;
            }
            Fate::Again => None,
            Fate::Known => {
                tx.rollback().await?;
                return Ok(());
            }
            Fate::Left(..) => Some(COPIED),
            Fate::Wait => {
                self.put_off.push(part.tape_file);
                Some(relocation::READ)
            }
            Fate::Move(..) | Fate::Extend(..) => Some(OTHERWISE),
            Fate::Orphan(why) => Some(why),
        };
        if let Some(why) = why {
            tx.rollback().await?;
            return self.disown(client, part, why).await;
        }
        tx.commit().await?;
        self.parts += 1;
        Ok(())
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

    /// What becomes of a part that was met here.
    async fn fate(&self, tx: &Transaction<'_>, met: &Met, part: &IndexPart) -> Result<Fate, Error> {
        let (recording, tape_file) = (self.volume.recording, bigint(part.tape_file)?);
        let known = rebuilds::tape_file_is_known_on(tx, recording, tape_file).await?;
        let Some(archive) = &met.archive else {
            return Ok(if known {
                Fate::Known
            } else {
                Fate::Orphan(OTHERWISE)
            });
        };
        // Nobody owns it so far: it may have come before what it is a copy of was known to be older, or gone.
        let free = !known || orphans::orphan_exists(tx, recording, tape_file).await?;
        let placed = reclaims::part_place_on(tx, archive.id, met.number).await?;
        let is_longer = |torn_at| bigint(part.last_sequence).is_ok_and(|last| last > torn_at);
        let fate = match placed {
            Some(placed) if free && placed.torn_at.is_some_and(is_longer) => {
                Fate::Extend(archive.id, placed)
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
                    && (met.again
                        || expiry::version_is_missed_on(tx, archive.line_id, archive.version)
                            .await?) =>
            {
                Fate::Again
            }
            _ if known => Fate::Known,
            // Written again after an error, or of another history.
            Some(_) => Fate::Orphan(COPIED),
            // A version that is readable is whole, and a record lists all that is of its version.
            None if met.claim == Claim::Late => Fate::Orphan(OTHERWISE),
            None if archive.state == "published"
                && rebuilds::version_is_published_on(tx, archive.line_id, archive.version)
                    .await? =>
            {
                Fate::Orphan(OTHERWISE)
            }
            None => Fate::Add(archive.id),
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
