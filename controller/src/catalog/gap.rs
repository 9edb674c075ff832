//! What is known of a version that came back from cartridges and is not whole, and what is not (design.md, "The catalog", rule 14).
//!
//! Of a missing part two things are missing: rows, and bytes. A row that is missing may stand above each row that is there of an
//! older archive: it may be a newer listing of that directory, or the tombstone that says that it went. A row of a newer archive
//! it can't concern, nor one of its own archive, since a key is written once in an archive. So of the newest archive that lacks rows
//! which the version resolved to, and of those after it, every row that the version resolves to is what it was; what resolves to an
//! older one, or to none, is not known, not even whether there was such a directory. [`Scope::from`] is that rule: older rows are
//! as if they had never been, so a view of such a version has nothing that is wrong, and "nothing there" means "not known" unless a
//! certain listing or tombstone above says otherwise. Bytes that are missing concern only what lies there: such names are listed.

mod lacking;

use bytes::Bytes;
use taf_format::index::ClosingRecord;
use taf_format::page::{Page, Place};
use uuid::Uuid;

pub use self::lacking::{Lack, Lacking, Shown, What, is_unknown_below, lacks};
use super::rebuild::Told;
use super::report::uuid;
use super::{Error, rebuild};
use crate::store::pages::Scope;
use crate::store::parts::{self, Located};
use crate::store::{GenericClient, partials};

/// Volumes that are named in a sentence.
const NAMED: usize = 3;
/// Bytes of a revision.
const REVISION: usize = 16;

/// What a version that is not whole lacks.
#[derive(Debug)]
pub struct Gap {
    /// None if all its listings are known.
    unknown: Option<Unknown>,
    /// Its parts that are not there, by ordinal of the archive and number.
    missing: Vec<Missing>,
    /// Its parts that are there and can be read, in the order of their bytes.
    parts: Vec<Located>,
    revision: Bytes,
}

/// Which listings are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// All of what does not come from later versions than this.
    Version(i64),
    /// All: what the version is made of was never told, or nobody has counted it yet.
    Ever,
}

#[derive(Debug)]
struct Unknown {
    since: Since,
    /// What would tell, in words.
    told_by: Vec<String>,
}

#[derive(Debug)]
struct Missing {
    ordinal: u32,
    number: u32,
    /// Its cartridge, if that is known.
    barcode: Option<String>,
    /// The same for people, or what else is known of it.
    words: String,
    /// Whether the rows are missing that came with it and that the version resolved to.
    rows: bool,
    /// Its rows are there; its recording was given up since, so that no cartridge can bring its bytes.
    erased: bool,
}

impl Gap {
    /// What is certain of a version that is not whole, and what it lacks. None if it is no such version. One that had nothing of its own
    /// is what the one before it is.
    pub(super) async fn open(
        client: &impl GenericClient,
        line: i64,
        version: i64,
    ) -> Result<Option<(Scope, Self)>, Error> {
        let mut number = version;
        let mut found = partials::version_partial(client, line, number).await?;
        if found.is_none() {
            return Ok(None);
        }
        while let Some(before) = found.as_ref().filter(|of| of.closing.is_none()) {
            number = before.parent;
            found = partials::version_partial(client, line, number).await?;
        }
        let Some(of) = found else {
            let end = partials::version_end(client, line, number).await?;
            let told_by = end.map(|end| rebuild::same_as_ended(number, end));
            return Ok(Some(Self::nothing(line, version, told_by)));
        };
        let record = rebuild::decode(of.closing.as_deref().unwrap_or_default())?;
        let mut parts = parts::part_list_of_version(client, line, number).await?;
        parts.retain(|part| part.in_place);
        let missing = missing(client, line, &record).await?;
        let Some(from) = of.certain_from else {
            let (scope, gap) = Self::nothing(line, number, None);
            let revision = revision(scope, &missing, &parts);
            return Ok(Some((
                scope,
                Self {
                    missing,
                    parts,
                    revision,
                    ..gap
                },
            )));
        };
        let scope = Scope::whole(line, number, of.floor).from(from);
        let unknown = (from != (0, 0)).then(|| Unknown {
            since: Since::Version(from.0),
            told_by: words(missing.iter().filter(|part| part.rows)),
        });
        let gap = Self {
            unknown,
            revision: revision(scope, &missing, &parts),
            missing,
            parts,
        };
        Ok(Some((scope, gap)))
    }

    /// What a version lacks; none if it is whole.
    pub async fn of(
        client: &impl GenericClient,
        line: i64,
        version: i64,
    ) -> Result<Option<Self>, Error> {
        let opened = Self::open(client, line, version).await?;
        Ok(opened.map(|(_, gap)| gap))
    }

    /// Nothing is certain; `why` in words, if that is known.
    fn nothing(line: i64, version: i64, why: Option<String>) -> (Scope, Self) {
        let scope = Scope::whole(line, version, version).from((version + 1, 0));
        let gap = Self {
            unknown: Some(Unknown {
                since: Since::Ever,
                told_by: Vec::from_iter(why),
            }),
            missing: Vec::new(),
            parts: Vec::new(),
            revision: revision(scope, &[], &[]),
        };
        (scope, gap)
    }

    /// Changes whenever what is shown of the version does: when a rescan has met more of it, and when something of it was erased.
    pub fn revision(&self) -> Bytes {
        self.revision.clone()
    }

    /// The parts of it that are there and can be read, in the order of their bytes.
    pub(super) fn parts(&self) -> &[Located] {
        &self.parts
    }

    /// Why what is not certain is not, in words; none if all listings are known.
    pub fn unknown(&self) -> Option<String> {
        let unknown = self.unknown.as_ref()?;
        let since = match unknown.since {
            Since::Ever => "unknown".to_owned(),
            Since::Version(since) => format!("unknown since version {since}"),
        };
        Some(match enumerated(&unknown.told_by) {
            None => format!("{since} (see taf catalog rebuild --status)"),
            Some(volumes) => format!("{since} ({volumes})"),
        })
    }

    /// Which listings are not known; none if all are.
    pub fn since(&self) -> Option<Since> {
        self.unknown.as_ref().map(|unknown| unknown.since)
    }

    /// Barcodes of the cartridges that have what is missing, as far as they are known, each once.
    pub fn volumes(&self) -> Vec<&str> {
        let mut barcodes: Vec<&str> = self
            .missing
            .iter()
            .filter(|part| !part.erased)
            .filter_map(|part| part.barcode.as_deref())
            .collect();
        barcodes.sort_unstable();
        barcodes.dedup();
        barcodes
    }

    /// Why so many bytes of tar from a place on can't be read; none if they can, or there are none.
    pub fn unmet(&self, place: Option<Place>, length: u64) -> Option<String> {
        let place = place?;
        let end = place.tar_offset.saturating_add(length.max(1));
        let mut at = place.tar_offset;
        let of_archive = |part: &&Located| part.archive_ordinal as u32 == place.archive_ordinal;
        for part in self.parts.iter().filter(of_archive) {
            if part.first_tar_offset as u64 <= at && at < part.end_tar_offset as u64 {
                at = part.end_tar_offset as u64;
            }
        }
        if at >= end {
            return None;
        }
        // Between which parts what is lacking first lies.
        let parts = || self.parts.iter().filter(of_archive);
        let before = parts().filter(|part| part.end_tar_offset as u64 <= at);
        let behind = parts().filter(|part| part.first_tar_offset as u64 > at);
        let lower = before.map(|part| part.part_number as u32).max();
        let upper = behind.map(|part| part.part_number as u32).min();
        let candidates = self.missing.iter().filter(|part| {
            part.ordinal == place.archive_ordinal
                && lower.is_none_or(|lower| lower < part.number)
                && upper.is_none_or(|upper| part.number < upper)
        });
        let (erased, lacking): (Vec<&Missing>, Vec<&Missing>) =
            candidates.partition(|part| part.erased);
        if let (Some(volumes), true) = (enumerated(&words(erased)), lacking.is_empty()) {
            return Some(format!(
                "its bytes were erased, or written over ({volumes})"
            ));
        }
        Some(match enumerated(&words(lacking)) {
            None => "its bytes were not met".to_owned(),
            Some(volumes) => {
                format!("its bytes were not met since the catalog was rebuilt ({volumes})")
            }
        })
    }

    /// Leaves out of a page where things lie that can't be read: as if they had no bytes on tape.
    pub(super) fn strip(&self, page: &mut Page) {
        if let Some(header) = &mut page.header
            && self.unmet(header.place, header.tar_length).is_some()
        {
            header.place = None;
        }
        for entry in &mut page.entries {
            if self.unmet(entry.place, entry.tar_length).is_some() {
                entry.place = None;
            }
        }
    }
}

/// What is shown of a version, in short.
fn revision(scope: Scope, missing: &[Missing], parts: &[Located]) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    for number in [scope.version, scope.floor, i64::from(scope.ordinal)] {
        hasher.update(&number.to_le_bytes());
    }
    for part in missing {
        hasher.update(&[1, u8::from(part.rows), u8::from(part.erased)]);
        hasher.update(&part.ordinal.to_le_bytes());
        hasher.update(&part.number.to_le_bytes());
    }
    for part in parts {
        hasher.update(&[2]);
        hasher.update(&part.archive_ordinal.to_le_bytes());
        hasher.update(&part.part_number.to_le_bytes());
        // A torn copy may have given way to the whole part.
        hasher.update(&part.end_tar_offset.to_le_bytes());
    }
    Bytes::copy_from_slice(&hasher.finalize().as_bytes()[..REVISION])
}

/// The parts of a version that the catalog does not have, or that are on no volume any more.
async fn missing(
    client: &impl GenericClient,
    line: i64,
    record: &ClosingRecord,
) -> Result<Vec<Missing>, Error> {
    let all = rebuild::parts_of(record);
    let unmet = partials::part_list_unmet(client, line, &all).await?;
    let mut found = Vec::with_capacity(unmet.len());
    for part in unmet {
        let (ordinal, number) = (part.ordinal as u32, part.number as u32);
        let told = Told::of(record, ordinal, number);
        let erased = part.erased_from.is_some();
        // It may have been copied since it was written.
        let mut barcode = part
            .erased_from
            .or_else(|| told.barcode().map(str::to_owned));
        let recording = match told.part {
            Some(part) => Some(uuid(&part.recording_uuid, "a recording")?),
            None => None,
        };
        if let (None, Some(recording)) = (&barcode, recording) {
            barcode = partials::recording_barcode(client, recording).await?;
        }
        let version = told.need.map_or(record.version, |need| need.version);
        found.push(Missing {
            ordinal,
            number,
            words: named(barcode.as_deref(), recording, (ordinal, number, version)),
            barcode,
            rows: !erased && told.need.is_some_and(|need| need.row_count > 0),
            erased,
        });
    }
    Ok(found)
}

/// Where a part is, for people.
fn named(
    barcode: Option<&str>,
    recording: Option<Uuid>,
    (ordinal, number, version): (u32, u32, u64),
) -> String {
    match (barcode, recording) {
        (Some(barcode), _) => format!("volume {barcode}"),
        (None, Some(recording)) => format!("the volume with recording {recording}"),
        (None, None) => {
            format!("the volume with part {number} of archive {ordinal}, of version {version}")
        }
    }
}

/// Where parts are, each place once, that of the newest archive first.
fn words<'a, I>(parts: I) -> Vec<String>
where
    I: IntoIterator<Item = &'a Missing, IntoIter: DoubleEndedIterator>,
{
    let mut words: Vec<String> = Vec::new();
    for part in parts.into_iter().rev() {
        if !words.contains(&part.words) {
            words.push(part.words.clone());
        }
    }
    words
}

/// Some words, with commas between them and how many more there are; none of none.
fn enumerated(words: &[String]) -> Option<String> {
    let named = words.get(..NAMED).unwrap_or(words).join(", ");
    match words.len().saturating_sub(NAMED) {
        _ if words.is_empty() => None,
        0 => Some(named),
        more => Some(format!("{named} and {more} more")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(archive_ordinal: i32, part_number: i32, first: i64, end: i64) -> Located {
        Located {
            archive_ordinal,
            archive_uuid: Uuid::nil(),
            part_number,
            volume_id: 1,
            barcode: "HERE".into(),
            recording: Uuid::nil(),
            block_size: 0,
            tape_file: 1,
            first_block: 0,
            byte_count: 0,
            first_tar_offset: first,
            end_tar_offset: end,
            in_place: true,
        }
    }

    fn missing(ordinal: u32, number: u32, barcode: &str) -> Missing {
        Missing {
            ordinal,
            number,
            barcode: Some(barcode.into()),
            words: format!("volume {barcode}"),
            rows: number == 2,
            erased: false,
        }
    }

    #[test]
    fn bytes_are_there_only_if_all_of_them_are_and_the_volume_of_the_first_that_lack_is_named() {
        let gap = Gap {
            unknown: None,
            missing: vec![missing(1, 2, "A"), missing(1, 4, "B"), missing(2, 1, "C")],
            parts: vec![located(1, 1, 0, 100), located(1, 3, 200, 300)],
            revision: Bytes::new(),
        };
        let unmet = |archive_ordinal, tar_offset, length| {
            let place = Place {
                archive_ordinal,
                tar_offset,
            };
            gap.unmet(Some(place), length)
        };
        assert_eq!(gap.unmet(None, 5), None);
        assert_eq!(unmet(1, 0, 100), None);
        assert_eq!(unmet(1, 200, 100), None);
        for (archive, offset, length, volume) in [
            (1, 50, 51, "(volume A)"),
            (1, 100, 1, "(volume A)"),
            (1, 250, 60, "(volume B)"),
            (1, 300, 0, "(volume B)"),
            (2, 0, 1, "(volume C)"),
        ] {
            let why = unmet(archive, offset, length).unwrap_or_default();
            assert!(why.ends_with(volume), "{archive} {offset}: {why}");
        }
        assert_eq!(gap.volumes(), ["A", "B", "C"]);
    }

    #[test]
    fn what_is_unknown_says_since_when_and_what_would_tell() {
        let gap = |since, told_by: &[&str]| Gap {
            unknown: Some(Unknown {
                since,
                told_by: told_by
                    .iter()
                    .map(|word| format!("volume {word}"))
                    .collect(),
            }),
            missing: Vec::new(),
            parts: Vec::new(),
            revision: Bytes::new(),
        };
        let said = |since, told_by: &[&str]| gap(since, told_by).unknown().unwrap_or_default();
        let second = Since::Version(2);
        assert_eq!(said(second, &["A"]), "unknown since version 2 (volume A)");
        assert_eq!(
            said(second, &["A", "B", "C", "D", "E"]),
            "unknown since version 2 (volume A, volume B, volume C and 2 more)"
        );
        assert_eq!(
            said(Since::Ever, &[]),
            "unknown (see taf catalog rebuild --status)"
        );
    }
}
