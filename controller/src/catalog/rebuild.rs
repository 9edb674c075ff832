//! Versions out of closing records: each is whole when everything that it needs is in the catalog again, and not before (design.md, "The
//! catalog", rule 14). Until then it is a base for nothing, and is shown as far as it is known ([`super::gap`]).
//!
//! A version's number is taken as soon as its record is known, readable or not, so that no run gives it again.

use std::collections::BTreeSet;

use jiff::Timestamp;
use prost::Message as _;
use taf_core::catalog::{Needs, Part};
use taf_format::index::{CLOSING_VERSION, ClosedPart, ClosingRecord, Need, VersionType};
use taf_proto::agent::FetchSelectionResponse;

use super::report::uuid;
use super::{Error, closing};
use uuid::Uuid;

use crate::store::pages::{self, Scope};
use crate::store::partials::End;
use crate::store::parts::{self, Located};
use crate::store::rebuilds::{self, Owner, Published, Rebuilt, Waiting};
use crate::store::{
    Client, Store, Transaction, bigint, indexes, lines, partials, unclaimed, versions,
};

/// Why a version is lost as soon as it is back.
const GONE: &str = "a volume that it needs was written anew, or erased";
/// Most parts that are named as missing.
const NAMED: usize = 3;

/// A time on tape.
pub(super) fn time(nanos: i64) -> Result<Timestamp, Error> {
    Timestamp::from_nanosecond(i128::from(nanos))
        .map_err(|_| Error::Invalid("a time is out of range".into()))
}

/// Keeps a closing record; gives its line.
pub(super) async fn closing(client: &mut Client, encoded: &[u8], job: i64) -> Result<i64, Error> {
    let record = decode(encoded)?;
    let kind = kind_of(record.r#type())?;
    let tx = client.transaction().await?;
    let line = rebuilds::line_rebuild_on(&tx, uuid(&record.line_uuid, "the line")?).await?;
    let selection = FetchSelectionResponse {
        paths: record.paths.clone(),
        excluded_paths: record.excluded_paths.clone(),
        ..FetchSelectionResponse::default()
    };
    own(&tx, line, &record, &selection.encode_to_vec()).await?;
    let new = Rebuilt {
        version: bigint(record.version)?,
        kind,
        parent: bigint(record.parent)?,
        floor: bigint(record.floor)?,
        started_at: time(record.started_at_unix_nanos)?,
        closing: Some(encoded),
    };
    let own = record.archives.iter().map(|archive| archive.ordinal);
    let highest = own
        .chain(record.needs.iter().map(|need| need.archive_ordinal))
        .max();
    if let Some(highest) = highest {
        let highest = i32::try_from(highest)
            .map_err(|_| Error::Invalid("an archive's ordinal is too large".into()))?;
        rebuilds::line_ordinal_on(&tx, line, highest).await?;
    }
    if let Some(filled) = rebuilds::version_filled_upto_on(&tx, line, new.version).await? {
        let found = if filled == new.version {
            "which is on this cartridge already".into()
        } else {
            format!("and version {} is on this cartridge already", new.version)
        };
        return Err(Error::Position(format!(
            "a backup under way makes version {filled} of plan {}, {found}; cancel it, and take the cartridge in",
            record.plan
        )));
    }
    rebuilds::version_rebuild_on(&tx, line, &new, job).await?;
    // Runs in which nothing had changed were on the line before it, and are what the one before them is.
    for unchanged in &record.unchanged {
        let version = bigint(unchanged.version)?;
        let new = Rebuilt {
            version,
            kind: "incremental",
            parent: version - 1,
            floor: version - 1,
            started_at: time(unchanged.started_at_unix_nanos)?,
            closing: None,
        };
        rebuilds::version_rebuild_on(&tx, line, &new, job).await?;
    }
    // A run that an older catalog knew of goes on no more, and whether what it left counts, its version's own record tells.
    unclaimed::version_list_unbegin_on(&tx, line).await?;
    tx.commit().await?;
    Ok(line)
}

async fn own(
    tx: &Transaction<'_>,
    line: i64,
    record: &ClosingRecord,
    paths: &[u8],
) -> Result<(), Error> {
    let archives = record.r#type() == VersionType::Archive;
    // Who began anew before the cartridges came has versions of a plan of this name; what comes back stands beside it.
    for attempt in 0..100 {
        let plan = match attempt {
            0 => record.plan.clone(),
            1 => format!("{}-before", record.plan),
            n => format!("{}-before-{n}", record.plan),
        };
        let owner = Owner {
            plan: &plan,
            source: &record.source,
            agent: &record.agent,
            paths,
            one_file_system: record.one_file_system,
            archives,
        };
        if rebuilds::line_own_on(tx, line, &owner).await? {
            return Ok(());
        }
    }
    Err(Error::Invalid(format!(
        "plan {} has too many lines that came back",
        record.plan
    )))
}

pub(super) fn decode(encoded: &[u8]) -> Result<ClosingRecord, Error> {
    let record = ClosingRecord::decode(encoded)
        .map_err(|_| Error::Invalid("a closing record can't be read".into()))?;
    if record.format_version != CLOSING_VERSION {
        return Err(Error::Invalid(format!(
            "a closing record has version {}, which this controller does not know; use a newer one",
            record.format_version
        )));
    }
    Ok(record)
}

fn kind_of(of: VersionType) -> Result<&'static str, Error> {
    Ok(match of {
        VersionType::Full => "full",
        VersionType::Incremental => "incremental",
        VersionType::Differential => "differential",
        VersionType::SyntheticFull => "synthetic-full",
        VersionType::Mirror => "mirror",
        VersionType::Archive => "archive",
        VersionType::Unspecified => {
            return Err(Error::Invalid("a closing record of no type".into()));
        }
    })
}

/// What is known of whether a part is one of its version's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// The closing record of the version lists it.
    Listed,
    /// It lists the archive, and not this part: that came late.
    Late,
    /// It does not list the archive: a failed attempt left it.
    Unlisted,
    /// Nothing is known of that version.
    Untold,
}

impl Claim {
    pub(super) async fn of(
        tx: &Transaction<'_>,
        line: i64,
        version: i64,
        (archive, number): (Uuid, u32),
    ) -> Result<Self, Error> {
        let encoded = match rebuilds::version_closing_on(tx, line, version).await? {
            None => return Ok(Self::Untold),
            Some(None) => return Ok(Self::Unlisted),
            Some(Some(encoded)) => encoded,
        };
        let record = decode(&encoded)?;
        let raw = archive.as_bytes().as_slice();
        let mut archives = record.archives.iter();
        Ok(match archives.find(|listed| listed.archive_uuid == raw) {
            None => Self::Unlisted,
            Some(listed) if listed.parts.iter().any(|part| part.part_number == number) => {
                Self::Listed
            }
            Some(_) => Self::Late,
        })
    }
}

/// Whether a version that is not whole needs a part, by ordinal of its archive and number.
pub(super) async fn is_needed(
    tx: &Transaction<'_>,
    line: i64,
    part: (i32, i32),
) -> Result<bool, Error> {
    for version in rebuilds::version_list_waiting_on(tx, line).await? {
        let waiting = rebuilds::version_waiting_on(tx, line, version).await?;
        if let Some(closing) = waiting.and_then(|waiting| waiting.closing)
            && parts_of(&decode(&closing)?).contains(&part)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Counts anew what versions lack, of every line that has such. The first error, after all lines were tried.
pub async fn settle_all(store: &Store) -> Result<(), Error> {
    let lines = partials::line_list_incomplete(&store.client().await?).await?;
    let mut outcome = Ok(());
    for line in lines {
        outcome = outcome.and(settle(store, line).await);
    }
    outcome
}

/// Makes those versions of a line readable that are whole now, and says of the others what they lack.
pub(super) async fn settle(store: &Store, line: i64) -> Result<(), Error> {
    let mut client = store.client().await?;
    let waiting = {
        let tx = client.transaction().await?;
        rebuilds::version_list_waiting_on(&tx, line).await?
    };
    for version in waiting {
        // A large version takes seconds to count; the line is held for one at a time.
        let tx = client.transaction().await?;
        lines::line_lock_on(&tx, line).await?;
        // Another cartridge may have made it whole meanwhile.
        if let Some(version) = rebuilds::version_waiting_on(&tx, line, version).await? {
            settle_one(&tx, line, &version).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Holds what the versions of a line need that are not whole, as far as it is there, whether they were counted or not. Whoever calls it
/// holds the line.
pub async fn hold_on(tx: &Transaction<'_>, line: i64) -> Result<(), Error> {
    for version in rebuilds::version_list_waiting_on(tx, line).await? {
        let Some(of) = rebuilds::version_waiting_on(tx, line, version).await? else {
            continue;
        };
        match of.closing {
            Some(closing) => need_on(tx, line, version, &parts_of(&decode(&closing)?)).await?,
            None => partials::version_parts_hold_as_on(tx, line, version, of.parent).await?,
        }
    }
    Ok(())
}

/// A version needs these parts: as far as they are there, they stay, and their rows count.
async fn need_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    needed: &[(i32, i32)],
) -> Result<(), Error> {
    unclaimed::part_claim_on(tx, line, needed).await?;
    rebuilds::version_parts_hold_on(tx, line, version, needed).await?;
    Ok(())
}

async fn settle_one(tx: &Transaction<'_>, line: i64, of: &Waiting) -> Result<(), Error> {
    let Some(encoded) = &of.closing else {
        rebuilds::archive_list_on(tx, line, of.version, &[]).await?;
        unclaimed::version_disown_on(tx, line, of.version).await?;
        if !rebuilds::version_complete_as_on(tx, line, of.version, of.parent).await? {
            let why = match partials::version_end(tx, line, of.parent).await? {
                Some(end) => same_as_ended(of.parent, end),
                None => format!("it is as version {}, which is not whole", of.parent),
            };
            partials::version_incomplete_as_on(tx, line, of.version, of.parent, &why).await?;
        }
        return Ok(());
    };
    let record = decode(encoded)?;
    let own: Vec<(i32, i32)> = own_parts(&record).collect();
    rebuilds::archive_list_on(tx, line, of.version, &own).await?;
    let needed = parts_of(&record);
    need_on(tx, line, of.version, &needed).await?;
    unclaimed::version_disown_on(tx, line, of.version).await?;
    indexes::index_due_of_rebuilt_on(tx, line, of.version).await?;
    // Of what was erased since, the listings are there: such a version is lost, but whole.
    let unmet = partials::part_list_unmet(tx, line, &needed).await?;
    let unmet = unmet.iter().filter(|part| part.erased_from.is_none());
    let missing: Vec<(i32, i32)> = unmet.map(|part| (part.ordinal, part.number)).collect();
    let scope = Scope::whole(line, of.version, of.floor);
    let why = if missing.is_empty() {
        let (counted, living) = closing::count_with(tx, scope).await?;
        if same(&counted.needs, &record.needs) {
            complete(tx, line, of.version, &record, living).await?;
            return Ok(());
        }
        let held = parts::part_list_of_version(tx, line, of.version).await?;
        listings_lack(&record, &counted.needs, &held)
    } else {
        lacks(&record, &missing)?
    };
    let certain_from = certain_from(tx, scope, &record).await?;
    let counts = counts(&record)?;
    partials::version_incomplete_on(tx, line, of.version, &why, Some(certain_from), counts).await?;
    Ok(())
}

/// The archive from which on the rows of a version that is not whole are certain ([`super::gap`]).
async fn certain_from(
    tx: &Transaction<'_>,
    scope: Scope,
    record: &ClosingRecord,
) -> Result<(i64, i32), Error> {
    let (mut needs, mut found) = (Needs::default(), Needs::default());
    let rows = |rows| taf_core::catalog::Need {
        rows,
        ..Default::default()
    };
    for need in &record.needs {
        let part = Part {
            version: bigint(need.version)?,
            archive_ordinal: need.archive_ordinal,
            part_number: need.part_number,
        };
        needs.add(part, rows(need.row_count));
    }
    for (version, ordinal, number, count) in pages::page_count_parts(tx, scope).await? {
        let part = Part {
            version,
            archive_ordinal: ordinal as u32,
            part_number: number as u32,
        };
        found.add(part, rows(count as u64));
    }
    let (version, ordinal) = needs.certain_from(&found);
    Ok((version, ordinal as i32))
}

/// Files, directories, apparent bytes, bytes on tape, issues.
fn counts(record: &ClosingRecord) -> Result<[i64; 5], Error> {
    let counts = [
        record.file_count,
        record.directory_count,
        record.byte_count,
        record.stored_byte_count,
        record.issue_count,
    ];
    let mut rows = [0; 5];
    for (row, count) in rows.iter_mut().zip(counts) {
        *row = bigint(count)?;
    }
    Ok(rows)
}

async fn complete(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    record: &ClosingRecord,
    living: i64,
) -> Result<(), Error> {
    let needed: Vec<(i32, i32)> = parts_of(record);
    let ordinals: Vec<i32> = needed.iter().map(|(ordinal, _)| *ordinal).collect();
    rebuilds::archive_need_on(tx, line, &ordinals).await?;
    let of = Published {
        published_at: time(record.published_at_unix_nanos)?,
        counts: counts(record)?,
        living_tar_bytes: Some(living),
    };
    rebuilds::version_complete_on(tx, line, version, &of).await?;
    // A cartridge that it needs may have been written anew since.
    versions::version_lost_meanwhile_on(tx, line, version, GONE).await?;
    Ok(())
}

/// The parts that a version consists of and those that it needs of others, each by ordinal of its archive and number.
pub(super) fn parts_of(record: &ClosingRecord) -> Vec<(i32, i32)> {
    let needed = record.needs.iter();
    let needed = needed.map(|need| (need.archive_ordinal as i32, need.part_number as i32));
    let all: BTreeSet<(i32, i32)> = own_parts(record).chain(needed).collect();
    all.into_iter().collect()
}

/// Those that it consists of.
fn own_parts(record: &ClosingRecord) -> impl Iterator<Item = (i32, i32)> + '_ {
    record.archives.iter().flat_map(|archive| {
        let parts = archive.parts.iter();
        parts.map(|part| (archive.ordinal as i32, part.part_number as i32))
    })
}

/// Whether two counts of what a version resolves to are the same, in whichever order.
fn same(left: &[Need], right: &[Need]) -> bool {
    let sorted = |needs: &[Need]| {
        let mut rows: Vec<_> = needs
            .iter()
            .map(|n| {
                (
                    n.version,
                    n.archive_ordinal,
                    n.part_number,
                    n.row_count,
                    n.entry_count,
                    n.byte_count,
                )
            })
            .collect();
        rows.sort_unstable();
        rows
    };
    sorted(left) == sorted(right)
}

/// What a closing record tells of a part.
pub(super) struct Told<'a> {
    /// Where it was written, if it is the version's own.
    pub part: Option<&'a ClosedPart>,
    /// What the version needs of it.
    pub need: Option<&'a Need>,
}

impl<'a> Told<'a> {
    /// By ordinal of its archive and number.
    pub fn of(record: &'a ClosingRecord, ordinal: u32, number: u32) -> Self {
        let own = record.archives.iter().find(|a| a.ordinal == ordinal);
        let mut needs = record.needs.iter();
        Self {
            part: own.and_then(|a| a.parts.iter().find(|p| p.part_number == number)),
            need: needs.find(|n| n.archive_ordinal == ordinal && n.part_number == number),
        }
    }

    /// Its cartridge, if the record names it.
    pub fn barcode(&self) -> Option<&'a str> {
        let barcodes = [
            self.need.map(|need| need.barcode.as_str()),
            self.part.map(|part| part.barcode.as_str()),
        ];
        let mut named = barcodes.into_iter().flatten();
        named.find(|barcode| !barcode.is_empty())
    }
}

/// Why a version is not whole that had nothing of its own, since the one before it is kept no more; for people.
pub(super) fn same_as_ended(parent: i64, end: End) -> String {
    let what = match end {
        End::GivenUp => "was given up",
        End::Expired => "has expired",
    };
    format!("nothing had changed since version {parent}, which {what}")
}

/// Why a version is not whole whose parts are all there, for people: rows of them went with versions that expired before its record was
/// met, or there are some that it does not count.
fn listings_lack(record: &ClosingRecord, counted: &[Need], held: &[Located]) -> String {
    let key = |need: &Need| (need.archive_ordinal as i32, need.part_number as i32);
    let is_lacking = |need: &&Need| {
        let mut found = counted.iter().filter(|found| key(found) == key(need));
        found.next().map_or(0, |found| found.row_count) < need.row_count
    };
    let lacking: BTreeSet<(i32, i32)> = record.needs.iter().filter(is_lacking).map(key).collect();
    let on = held
        .iter()
        .filter(|part| lacking.contains(&(part.archive_ordinal, part.part_number)));
    let barcodes: BTreeSet<&str> = on.map(|part| part.barcode.as_str()).collect();
    if barcodes.is_empty() {
        return "its listings are not all that its closing record counts; look at the warnings of the scans"
            .to_owned();
    }
    let barcodes: Vec<&str> = barcodes.into_iter().collect();
    format!(
        "listings of it went with versions that had expired; to have them back take in again: taf catalog rebuild {}",
        barcodes.join(" ")
    )
}

/// What a version lacks, for people.
fn lacks(record: &ClosingRecord, missing: &[(i32, i32)]) -> Result<String, Error> {
    let mut named = Vec::new();
    for &(ordinal, number) in missing.iter().take(NAMED) {
        let told = Told::of(record, ordinal as u32, number as u32);
        let mut needs = record.needs.iter();
        let version = needs.find(|n| n.archive_ordinal as i32 == ordinal);
        if let Some(barcode) = told.barcode() {
            named.push(format!(
                "part {number} of archive {ordinal} (volume {barcode})"
            ));
            continue;
        }
        named.push(match (told.part, version) {
            (Some(part), _) => format!(
                "part {number} of archive {ordinal} (recording {})",
                uuid(&part.recording_uuid, "a recording")?
            ),
            (None, Some(need)) => format!(
                "part {number} of archive {ordinal}, of version {}",
                need.version
            ),
            (None, None) => format!("part {number} of archive {ordinal}"),
        });
    }
    let more = missing.len().saturating_sub(NAMED);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Ok(format!(
        "not met on any cartridge yet: {}{more}",
        named.join(", ")
    ))
}
