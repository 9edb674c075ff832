//! Directories so deep that keys are shortened (from 1,000 bytes on): such keys have no order among themselves, and are looked
//! up one by one, from the pages above them.

use taf_format::entry::Kind;
use taf_format::key;

use super::merger::Base;
use super::row::Row;
use crate::fault::Error;

/// Longest name that file systems have, in bytes.
const NAME: usize = 255;

/// Whether chunks of the directory with this full key may have shortened keys.
pub(super) fn may_have_shortened(full: &[u8]) -> bool {
    full.len() + 2 + NAME >= key::SHORTENED
}

/// The subdirectories that a row's pages list and whose keys are shortened.
pub(super) fn children(row: &Row) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    if row.key.len() + 1 + NAME < key::SHORTENED {
        return found;
    }
    for page in row.pages() {
        for entry in page
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::Directory)
        {
            let child = taf_tree::path::join(&page.directory, &entry.name);
            if child.len() >= key::SHORTENED && !found.contains(&child) {
                found.push(child);
            }
        }
    }
    found
}

/// The shortened keys of the chunks that follow a row's pages.
fn following(row: &Row) -> Vec<Vec<u8>> {
    if row.key.len() + 2 + NAME < key::SHORTENED {
        return Vec::new();
    }
    let next = row.pages().filter_map(|page| {
        let upper = page.upper.as_deref()?;
        let key = key::chunk(&key::of_path(&page.directory), Some(upper));
        key::is_shortened(&key).then_some(key)
    });
    next.collect()
}

/// The shortened keys that a row leads to.
pub(super) fn onward(row: &Row) -> Vec<Vec<u8>> {
    let mut keys = following(row);
    let children = children(row).into_iter();
    keys.extend(children.map(|child| first_chunk(&child)));
    keys
}

/// The key of a directory.
pub(super) fn first_chunk(path: &[u8]) -> Vec<u8> {
    key::chunk(&key::of_path(path), None)
}

/// All rows of a directory in the order of its names: `known`, and those that are found from there by their upper bounds.
pub(super) fn chunks(
    base: &mut impl Base,
    full: &[u8],
    known: Vec<Row>,
) -> Result<Vec<Row>, Error> {
    let mut rows: Vec<Row> = Vec::new();
    let mut news = known;
    let first = key::chunk(full, None);
    let mut asked = Vec::new();
    let mut wanted: Vec<Vec<u8>> = Vec::new();
    if key::is_shortened(&first) {
        wanted.push(first);
    }
    loop {
        for row in &news {
            wanted.extend(following(row));
        }
        rows.append(&mut news);
        wanted.sort();
        wanted.dedup();
        wanted.retain(|key| !asked.contains(key));
        if wanted.is_empty() {
            break;
        }
        asked.extend_from_slice(&wanted);
        news = base.look_up(std::mem::take(&mut wanted))?;
    }
    rows.sort_by_key(Row::lower);
    Ok(rows)
}
