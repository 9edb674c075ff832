//! Cartridges that are read together: an archive may go on from one to the next.

use std::collections::BTreeMap;
use std::ffi::OsString;

use uuid::Uuid;

use super::Error;
use super::medium::Medium;
use super::survey::{Content, Part, Survey, TapeFile, survey};

/// See the module.
pub struct Shelf {
    media: Vec<Medium>,
    surveys: Vec<Survey>,
}

/// A tape file of one of the cartridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which cartridge, in the order in which they were named.
    pub tape: usize,
    /// Index of the tape file in its survey.
    pub file: usize,
}

/// The parts of one archive on these cartridges, in order.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Its uuid.
    pub uuid: Uuid,
    /// Its ordinal on its line.
    pub ordinal: u32,
    /// Its parts, in the archive's order.
    pub parts: Vec<Place>,
    /// Of each part, where else it is: what can't be read of it may be there.
    pub copies: Vec<Vec<Place>>,
}

impl Shelf {
    /// Opens the cartridges and looks at every tape file.
    pub fn open(names: &[OsString]) -> Result<Self, Error> {
        let mut shelf = Self {
            media: Vec::new(),
            surveys: Vec::new(),
        };
        for name in names {
            let mut medium = Medium::open(name)?;
            shelf.surveys.push(survey(&mut medium)?);
            shelf.media.push(medium);
        }
        Ok(shelf)
    }

    /// What the cartridges are called in messages.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.media.iter().map(Medium::name).collect();
        names.join(", ")
    }

    /// What is on each cartridge, and how it is called.
    pub fn surveys(&self) -> impl Iterator<Item = (&str, &Survey)> {
        self.media.iter().map(Medium::name).zip(&self.surveys)
    }

    /// The cartridges.
    pub fn media(&mut self) -> &mut [Medium] {
        &mut self.media
    }

    /// A tape file.
    pub fn file(&self, place: Place) -> &TapeFile {
        &self.surveys[place.tape].files[place.file]
    }

    /// The part that a tape file is.
    pub fn part(&self, place: Place) -> Option<&Part> {
        self.surveys[place.tape].part(place.file)
    }

    /// The archives with parts here, in the order in which they were begun.
    pub fn archives(&self) -> Vec<Archive> {
        let mut by_uuid: BTreeMap<Uuid, Vec<Place>> = BTreeMap::new();
        for (tape, survey) in self.surveys.iter().enumerate() {
            for (file, found) in survey.files.iter().enumerate() {
                if let Content::Part(part) = &found.content {
                    by_uuid
                        .entry(part.archive)
                        .or_default()
                        .push(Place { tape, file });
                }
            }
        }
        let mut archives: Vec<Archive> = by_uuid
            .into_iter()
            .map(|(uuid, mut parts)| {
                let begins = |place: Place| self.part(place).map(|part| part.first.sequence);
                let created = |place: Place| {
                    let block0 = self.part(place).and_then(|part| part.block0.as_ref());
                    block0.map(|block0| block0.created_at_unix_nanos)
                };
                // Blocks of different sizes are compared by what they hold.
                let length = |place: Place| {
                    let file = self.file(place);
                    let block = file.first_length.unwrap_or_default();
                    file.blocks.saturating_sub(1).saturating_mul(block)
                };
                parts.sort_by_key(|&place| (begins(place), length(place), created(place), place));
                // A part that was torn before it held a whole segment was begun again elsewhere, as the same part; one that was copied
                // to another cartridge is there twice, and the copy may be torn: the longest is whole.
                let same = parts.chunk_by(|one, other| begins(*one) == begins(*other));
                let mut found: Vec<Vec<Place>> = same.map(<[Place]>::to_vec).collect();
                for same in &mut found {
                    same.reverse();
                }
                let found = self.with_headless(found);
                let copies = found.iter().map(|same| same[1..].to_vec()).collect();
                let parts: Vec<Place> = found.iter().map(|same| same[0]).collect();
                let first = parts.first().and_then(|&place| self.part(place));
                Archive {
                    uuid,
                    ordinal: first.map_or(0, |part| part.ordinal),
                    parts,
                    copies,
                }
            })
            .collect();
        archives.sort_by_key(|archive| archive.parts.iter().min().copied());
        archives
    }

    /// What lost its first block and lies between two parts of which one follows the other is a copy of the earlier one.
    fn with_headless(&self, found: Vec<Vec<Place>>) -> Vec<Vec<Place>> {
        let number = |same: &[Place]| {
            let block0 = same
                .iter()
                .find_map(|&place| self.part(place)?.block0.as_ref());
            block0.map(|block0| block0.part)
        };
        let mut kept: Vec<Vec<Place>> = Vec::new();
        for same in found {
            let named = kept.iter().rposition(|before| number(before).is_some());
            if let (Some(named), Some(of)) = (named, number(&same))
                && number(&kept[named]).is_some_and(|before| before + 1 == of)
            {
                let headless: Vec<Place> = kept.drain(named + 1..).flatten().collect();
                kept[named].extend(headless);
            }
            kept.push(same);
        }
        kept
    }

    /// Whether the archive has a beginning here, all parts behind it, and its last segment. Reads the end of its last part
    /// only.
    pub fn complete(&mut self, archive: &Archive) -> Result<bool, Error> {
        if self.missing(archive).is_some() {
            return Ok(false);
        }
        match archive.parts.last() {
            Some(&Place { tape, file }) => {
                self.surveys[tape].ends(file, archive.uuid, &mut self.media[tape])
            }
            None => Ok(false),
        }
    }

    /// The first part that is not here though a later one is, and on which cartridge it is if that is known.
    pub fn missing(&self, archive: &Archive) -> Option<String> {
        let mut expected = 1;
        for &place in &archive.parts {
            let part = self.part(place)?;
            let Some(block0) = &part.block0 else {
                // What its first block would have said is not known; its segments tell of gaps when they are read.
                if expected == 1 && part.first.sequence != 0 {
                    return Some("its first part is on another cartridge".to_owned());
                }
                expected += 1;
                continue;
            };
            if block0.part != expected {
                let before = block0
                    .predecessor
                    .as_ref()
                    .map_or_else(String::new, |before| {
                        format!(
                            ", which goes on here from volume {} tape file {}",
                            before.volume, before.tape_file
                        )
                    });
                return Some(format!("it lacks part {expected}{before}"));
            }
            expected += 1;
        }
        None
    }
}
