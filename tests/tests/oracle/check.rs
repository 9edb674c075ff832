//! What a version has to be: exactly what was there, with one place for all names of a file, and not leaning on more than its kind says.

use taf_core::catalog::Protected;
use taf_format::page::Place;

use super::catalog::{Catalog, Version};
use super::files::{Inode, Seen};
use super::run::{self, Live, Truth};

/// Whether pages show exactly what the version has to.
pub fn same(
    version: &Version,
    live: &Live,
    content: &dyn Fn(Place) -> Option<u64>,
) -> Result<(), String> {
    let truth = &version.truth;
    let shown = run::shown(live, content);
    let text = |key: &[u8]| key.escape_ascii().to_string();
    for (key, (header, entries)) in &shown {
        let listing = truth
            .get(key)
            .ok_or_else(|| format!("{}: a ghost", text(key)))?;
        let header = header
            .as_ref()
            .ok_or_else(|| format!("{}: no header", text(key)))?;
        if (header.inode, header.mode) != (listing.inode, listing.mode) {
            return Err(format!("{}: the directory's metadata", text(key)));
        }
        // The root has none.
        if !key.is_empty() && header.place.and_then(content).is_none() {
            return Err(format!("{}: the directory's header is gone", text(key)));
        }
        if !entries.keys().eq(listing.entries.keys()) {
            return Err(format!("{}: names", text(key)));
        }
        for (name, (entry, bytes)) in entries {
            if let Some(what) = run::wrong(listing.entries[name], entry, *bytes, false) {
                return Err(format!("{}: {}: {what}", text(key), text(name)));
            }
        }
    }
    // What is carried could not be looked at together with the rest.
    if version.saw_all {
        one_place(&shown, truth)?;
    }
    match truth.keys().find(|key| !shown.contains_key(*key)) {
        Some(key) => Err(format!("{}: is not shown", text(key))),
        None => Ok(()),
    }
}

/// All names of a file have one place, so that a restore makes one file of them.
fn one_place(shown: &run::Shown, truth: &Truth) -> Result<(), String> {
    let mut places: Vec<(Inode, Option<Place>)> = Vec::new();
    for (key, (_, entries)) in shown {
        for (name, (entry, _)) in entries {
            let Seen::File(inode) = truth[key].entries[name] else {
                continue;
            };
            if inode.links < 2 {
                continue;
            }
            match places.iter().find(|(known, _)| *known == inode) {
                Some((_, place)) if *place != entry.place => {
                    let at = (key.escape_ascii(), name.escape_ascii());
                    return Err(format!("{}: {}: another name's place differs", at.0, at.1));
                }
                Some(_) => {}
                None => places.push((inode, entry.place)),
            }
        }
    }
    Ok(())
}

/// A differential leans on its full alone: rows are its own or the full's, and so are bytes, but those of what is carried.
pub fn leans(line: &Catalog, of: Protected, saw_all: bool) -> Result<(), String> {
    let own = |version: i64| version == of.version || version == of.floor;
    let full = line.live(Protected {
        version: of.floor,
        floor: of.floor,
    });
    for (key, row) in line.resolve(of) {
        let between = || {
            let text = key.escape_ascii();
            format!(
                "{text}: differential {} leans on more than its full",
                of.version
            )
        };
        if !own(row.part.version) && row.page.as_ref() != full.get(key) {
            return Err(between());
        }
        if !saw_all {
            continue;
        }
        let entries = row.page.iter().flat_map(|known| &known.page.entries);
        for place in entries.filter_map(|entry| entry.place) {
            let archive = line.archives.get(&place.archive_ordinal);
            if !archive.is_some_and(|archive| own(archive.version)) {
                return Err(between());
            }
        }
    }
    Ok(())
}
