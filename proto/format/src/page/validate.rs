//! The rules that every page obeys, whether we made it or read it.

use super::{
    DirectoryStat, Entry, Error, MAX_ENTRIES, MAX_NAME, MAX_PATH, MAX_TARGET, MAX_TEXT, MAX_XATTRS,
    Page, Place,
};
use crate::entry::{Kind, Time};
use crate::tar::BLOCK;

/// Proves a page against FORMAT.md, "Directory pages".
pub(super) fn page(page: &Page) -> Result<(), Error> {
    limit("a path", page.directory.len(), MAX_PATH)?;
    limit("entries", page.entries.len(), MAX_ENTRIES)?;
    let text = page
        .entries
        .iter()
        .map(|entry| entry.name.len() + entry.link_target.len());
    limit("bytes of names and link targets", text.sum(), MAX_TEXT)?;
    check(page).map_err(|reason| Error::Invalid {
        directory: page.directory.escape_ascii().to_string(),
        reason,
    })
}

pub(super) fn limit(what: &'static str, length: usize, limit: usize) -> Result<(), Error> {
    if length > limit {
        return Err(Error::TooLarge {
            what,
            length: length as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}

fn check(page: &Page) -> Result<(), &'static str> {
    if !page.directory.is_empty() && !page.directory.split(|&byte| byte == b'/').all(is_name) {
        return Err("its path has a component that is no name");
    }
    if let Some(stat) = &page.header {
        directory_stat(stat)?;
    }
    if let Some(lower) = &page.lower {
        if page.header.is_some() {
            return Err("a chunk that is not the first has the directory's metadata");
        }
        if page.entries.first().map(|entry| &entry.name) != Some(lower) {
            return Err("its lower bound is not its first name");
        }
    }
    if let Some(upper) = &page.upper {
        if !is_name(upper) {
            return Err("its upper bound is no name");
        }
        if page.entries.last().is_none_or(|last| &last.name >= upper) {
            return Err("its last name is not below its upper bound");
        }
    }
    for entry in &page.entries {
        self::entry(entry)?;
    }
    if !page.entries.is_sorted_by(|a, b| a.name < b.name) {
        return Err("its names are not in order");
    }
    Ok(())
}

fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..")
        && name.len() <= MAX_NAME
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

fn time(time: Time) -> Result<(), &'static str> {
    if time.nanos >= 1_000_000_000 {
        return Err("a time has more than 999,999,999 nanoseconds");
    }
    Ok(())
}

fn place(place: Option<Place>, length: u64) -> Result<(), &'static str> {
    let block = BLOCK as u64;
    match place {
        None if length != 0 => Err("an entry has a length on tape but no place"),
        Some(place) if !place.tar_offset.is_multiple_of(block) || !length.is_multiple_of(block) => {
            Err("a place is not in whole tar blocks")
        }
        _ => Ok(()),
    }
}

fn directory_stat(stat: &DirectoryStat) -> Result<(), &'static str> {
    time(stat.mtime)?;
    time(stat.ctime)?;
    place(stat.place, stat.tar_length)?;
    if stat.user.len() > MAX_NAME || stat.group.len() > MAX_NAME {
        return Err("the owner's or group's name is too long");
    }
    let bytes: usize = stat
        .xattrs
        .iter()
        .map(|xattr| xattr.name.len() + xattr.value.len())
        .sum();
    if bytes > MAX_XATTRS {
        return Err("the directory's extended attributes are too large");
    }
    if stat.xattrs.iter().any(|xattr| xattr.name.is_empty())
        || !stat.xattrs.is_sorted_by(|a, b| a.name < b.name)
    {
        return Err("the directory's extended attributes are not in order");
    }
    Ok(())
}

/// Proves one entry alone.
pub(super) fn entry(entry: &Entry) -> Result<(), &'static str> {
    if !is_name(&entry.name) {
        return Err("an entry has no usable name");
    }
    time(entry.mtime)?;
    time(entry.ctime)?;
    place(entry.place, entry.tar_length)?;
    let device = matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice);
    if entry.kind != Kind::File && (entry.size != 0 || entry.hash.is_some()) {
        return Err("an entry that is not a file has a size or a hash");
    }
    if entry.kind != Kind::Symlink && !entry.link_target.is_empty() {
        return Err("an entry that is not a symbolic link has a target");
    }
    if entry.link_target.len() > MAX_TARGET {
        return Err("a link target is too long");
    }
    if !device && (entry.rdev_major, entry.rdev_minor) != (0, 0) {
        return Err("an entry that is not a device has a device number");
    }
    if entry.kind == Kind::Directory && *entry != Entry::bare(entry.name.clone(), Kind::Directory) {
        return Err("a directory's entry has more than name and kind");
    }
    Ok(())
}
