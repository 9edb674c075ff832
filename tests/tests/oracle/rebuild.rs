//! The catalog is rebuilt from what is on tape: with all tapes it is what it was; with one missing, nothing is shown that is
//! wrong without being said to be uncertain (rule 14).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use taf_core::catalog::{self, Needs, Part, Protected};
use taf_format::entry::Kind;
use taf_format::page::Place;
use taf_source_agent::backup::merge::Known;

use super::catalog::{Catalog, Version};
use super::check::same;
use super::run::{self, Live, Off, decode};
use super::walk::join;

/// What was read from tape: by key and version, the row of the highest ordinal.
type Read = BTreeMap<Vec<u8>, BTreeMap<i64, (Part, Option<Arc<Known>>)>>;

/// Where a chunk begins and ends.
type Bounds = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Reads all parts that are there, of all archives but one.
fn read(line: &Catalog, missing: Option<u32>) -> Read {
    let mut read = Read::new();
    let archives = line.archives.iter().filter(|(_, archive)| archive.counts);
    for (ordinal, archive) in archives.filter(|(ordinal, _)| Some(**ordinal) != missing) {
        for part in archive.parts.iter().filter(|part| part.there) {
            for row in &part.rows {
                let page = row.page.as_ref().map(decode);
                let rows = read.entry(row.key.clone()).or_default();
                let known = rows.get(&archive.version);
                if known.is_none_or(|(known, _)| known.archive_ordinal <= *ordinal) {
                    rows.insert(archive.version, (part.span.part, page));
                }
            }
        }
    }
    read
}

fn resolve(read: &Read, of: Protected) -> BTreeMap<Vec<u8>, (Part, Option<Arc<Known>>)> {
    let mut found = BTreeMap::new();
    for (key, rows) in read {
        let numbers: Vec<i64> = rows.keys().copied().collect();
        if let Some(row) = catalog::resolve(&numbers, of) {
            let (part, page) = &rows[&row];
            found.insert(key.clone(), (*part, page.clone()));
        }
    }
    found
}

/// What lies at a place, if the tape is there.
fn content(line: &Catalog, missing: Option<u32>, place: Place) -> Option<u64> {
    let there = Some(place.archive_ordinal) != missing;
    there.then(|| line.content(place)).flatten()
}

/// With all tapes.
pub fn whole(line: &Catalog) -> Result<(), String> {
    let read = read(line, None);
    for version in line.versions.values().filter(|version| version.kept) {
        let rows = resolve(&read, version.of);
        let live: Live = rows
            .into_iter()
            .filter_map(|(key, (_, page))| Some((key, page?)))
            .collect();
        let number = version.of.version;
        same(version, &live, &|place| content(line, None, place))
            .map_err(|what| format!("version {number} rebuilt: {what}"))?;
    }
    Ok(())
}

/// Without the tape of one archive.
pub fn with_one_missing(line: &Catalog, random: &mut StdRng) -> Result<(), String> {
    let there = |ordinal: &&u32| {
        let archive = &line.archives[*ordinal];
        archive.counts && archive.parts.iter().any(|part| part.there)
    };
    let archives: Vec<u32> = line.archives.keys().filter(there).copied().collect();
    if archives.is_empty() {
        return Ok(());
    }
    let missing = archives[random.random_range(0..archives.len())];
    let read = read(line, Some(missing));
    for version in line.versions.values().filter(|version| version.kept) {
        // Its closing record is on the tape of its last archive.
        if version.archives.last() == Some(&missing) {
            continue;
        }
        check(line, version, &read, missing).map_err(|what| {
            format!(
                "version {} rebuilt without archive {missing}: {what}",
                version.of.version
            )
        })?;
    }
    Ok(())
}

fn check(line: &Catalog, version: &Version, read: &Read, missing: u32) -> Result<(), String> {
    let rows = resolve(read, version.of);
    let mut found = Needs::default();
    for (part, _) in rows.values() {
        found.row(*part);
    }
    let lacking = version
        .needs
        .missing(&found)
        .filter(|_| line.off != Off::Needs);
    let mut unknown: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut live = Live::new();
    let mut bounds: BTreeMap<Vec<u8>, Vec<Bounds>> = BTreeMap::new();
    for (key, (part, page)) in rows {
        let Some(known) = page else { continue };
        let page = &known.page;
        let directory = taf_format::key::of_path(&page.directory);
        if lacking.is_some_and(|lacking| part.archive() < lacking) {
            unknown.insert(directory.clone());
        }
        let chunk = (page.lower.clone(), page.upper.clone());
        bounds.entry(directory).or_default().push(chunk);
        live.insert(key, known);
    }
    let shown = run::shown(&live, &|place| content(line, Some(missing), place));
    if lacking.is_some() {
        // Every chunk states its bounds: where they do not meet, one is missing.
        for (directory, chunks) in &mut bounds {
            chunks.sort();
            let meets = chunks
                .windows(2)
                .all(|pair| pair[0].1 == pair[1].0 && pair[1].0.is_some());
            let first = chunks.first().is_some_and(|chunk| chunk.0.is_none());
            let last = chunks.last().is_some_and(|chunk| chunk.1.is_none());
            if !(meets && first && last) {
                unknown.insert(directory.clone());
            }
        }
        for (key, (_, entries)) in &shown {
            let directories = entries
                .iter()
                .filter(|(_, (e, _))| e.kind == Kind::Directory);
            for (name, _) in directories {
                let below = join(key, name);
                if !shown.contains_key(&below) {
                    unknown.insert(below);
                }
            }
        }
        if !shown.contains_key(&Vec::new()) {
            return Ok(());
        }
    }
    let mut open = vec![Vec::new()];
    while let Some(key) = open.pop() {
        if unknown.contains(&key) {
            continue;
        }
        let text = key.escape_ascii().to_string();
        let (Some((header, entries)), Some(listing)) = (shown.get(&key), version.truth.get(&key))
        else {
            // A directory that never could be looked at has a name and no more.
            if !shown.contains_key(&key) && !version.truth.contains_key(&key) {
                continue;
            }
            return Err(format!("{text}: a hole, or a ghost"));
        };
        let stat = header.as_ref().map(|header| (header.inode, header.mode));
        if stat != Some((listing.inode, listing.mode)) || !entries.keys().eq(listing.entries.keys())
        {
            return Err(format!("{text}: silently wrong"));
        }
        for (name, (entry, bytes)) in entries {
            let lost = entry
                .place
                .is_some_and(|place| place.archive_ordinal == missing);
            if let Some(what) = run::wrong(listing.entries[name], entry, *bytes, lost) {
                return Err(format!("{text}: silently wrong: {what}"));
            }
            if entry.kind == Kind::Directory {
                open.push(join(&key, name));
            }
        }
    }
    Ok(())
}
