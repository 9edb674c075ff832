//! Which of an archive's entries may be removed where they came from: those whose bytes were read back and proved on as many volumes
//! as were asked for.
//!
//! A *copy* is a set of volumes that hold the entry's bytes, all of whose parts under it were verified and found whole. The archive
//! itself is the first one. Another archive of the same source counts if it has an entry of the same path, kind, size and hash
//! (of what has no content: link target or device number), and none of its volumes is one that a counted copy lies on. What could
//! not be read, or changed while it was, is never removed. Whether the entry still is what was archived is the source agent's to
//! prove.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message as _;
use taf_format::entry::Kind;
use taf_format::page::{Entry, Page};
use taf_proto::agent::{FetchRemovalsResponse, FetchSelectionResponse, Removal, RemovalDirectory};
use tokio::sync::mpsc;
use tonic::Status;

use super::walk::Walk;
use super::{Error, View, view};
use crate::store::removals::{self, Proved};
use crate::store::versions::Version;
use crate::store::{self, Store};

/// Entries of a message.
const ENTRIES: usize = 1_000;
/// Bytes of names at which a message is sent.
const NAME_BYTES: usize = 512 << 10;
/// Further archives that are looked at for copies.
const ARCHIVES: i64 = 16;
/// Most copies that can be asked for.
pub const COPIES_MOST: u32 = ARCHIVES as u32;

/// An archive with the parts that it needs.
struct Copy {
    view: View,
    parts: Vec<Proved>,
    /// The chunk that was looked at last.
    page: Option<Page>,
}

/// Decides on the entries of one archive, in the order of its pages.
pub struct Judge {
    own: Copy,
    others: Vec<Copy>,
    copies: usize,
    /// Paths of the source, without slash at either end: directories are removed strictly below them only.
    roots: Vec<Vec<u8>>,
}

impl Judge {
    /// A judge of this archive, who asks for so many copies.
    pub async fn new(store: &Store, version: &Version, copies: u32) -> Result<Self, Error> {
        let client = store.client().await?;
        let (line, number) = (version.line_id, version.version);
        let mut others = Vec::new();
        if copies > 1 {
            for (line, number) in
                removals::archive_list_others(&client, line, number, ARCHIVES).await?
            {
                if let Some(view) = View::open(store, line, number).await? {
                    let parts = removals::version_proofs(&client, line, number).await?;
                    others.push(Copy {
                        view,
                        parts,
                        page: None,
                    });
                }
            }
        }
        let selection = removals::line_selection(&client, line).await?;
        let selection = FetchSelectionResponse::decode(selection.as_slice())
            .map_err(|_| store::Error::Corrupt("a source's paths"))?;
        let root = |path: &Bytes| path.strip_prefix(b"/").unwrap_or(path).to_vec();
        Ok(Self {
            own: Copy {
                view: View::of(store, version).await?,
                parts: removals::version_proofs(&client, line, number).await?,
                page: None,
            },
            others,
            copies: copies.max(1) as usize,
            roots: selection.paths.iter().map(root).collect(),
        })
    }

    /// The archive's pages, in their order.
    pub(super) fn pages(&self) -> Walk {
        Walk::below(&self.own.view, b"")
    }

    /// Whether a directory may go once nothing is in it.
    fn may_go(&self, directory: &[u8]) -> bool {
        let below = |root: &Vec<u8>| {
            let rest = directory.strip_prefix(root.as_slice());
            rest.is_some_and(|rest| rest.first() == Some(&b'/') || root.is_empty())
        };
        !directory.is_empty() && self.roots.iter().any(below)
    }

    /// Why an entry stays; nothing if it may be removed.
    async fn obstacle(&mut self, directory: &[u8], entry: &Entry) -> Result<Option<String>, Error> {
        if entry.changed_while_read {
            return Ok(Some("it changed while it was archived".to_owned()));
        }
        let mut taken = match volumes(&self.own.parts, entry) {
            Ok(volumes) => volumes,
            Err(why) => return Ok(Some(why)),
        };
        let mut found = 1;
        for other in &mut self.others {
            if found >= self.copies {
                break;
            }
            let Some(same) = other.same(directory, entry).await? else {
                continue;
            };
            if let Ok(volumes) = volumes(&other.parts, &same)
                && volumes.is_disjoint(&taken)
            {
                taken.extend(volumes);
                found += 1;
            }
        }
        Ok((found < self.copies)
            .then(|| format!("it is verified on {found} of {} copies", self.copies)))
    }
}

impl Copy {
    /// The entry of the same path with the same content.
    async fn same(&mut self, directory: &[u8], entry: &Entry) -> Result<Option<Entry>, Error> {
        let holds = |page: &Page| page.directory == directory && view::holds(page, &entry.name);
        if !self.page.as_ref().is_some_and(holds) {
            let client = self.view.client().await?;
            self.page = self.view.chunk_of(&client, directory, &entry.name).await?;
        }
        let Some(page) = &self.page else {
            return Ok(None);
        };
        let found = page.entries.iter().find(|other| other.name == entry.name);
        let same = |other: &&Entry| {
            let content = match entry.kind {
                // Without a hash nobody knows.
                Kind::File => entry.hash.is_some() && other.hash == entry.hash,
                Kind::Symlink => other.link_target == entry.link_target,
                _ => (other.rdev_major, other.rdev_minor) == (entry.rdev_major, entry.rdev_minor),
            };
            (other.kind, other.size) == (entry.kind, entry.size) && content
        };
        Ok(found.filter(same).cloned())
    }
}

/// The volumes that an entry's bytes lie on, all of them verified; or why that can't be said.
fn volumes(parts: &[Proved], entry: &Entry) -> Result<HashSet<i64>, String> {
    let Some(place) = entry.place else {
        return Err("it is not in the archive: it could not be read".to_owned());
    };
    let (begin, end) = (
        place.tar_offset,
        place.tar_offset.saturating_add(entry.tar_length),
    );
    let touched = parts.iter().filter(|part| {
        part.archive_ordinal == place.archive_ordinal
            && part.tar_offsets.0 < end
            && begin < part.tar_offsets.1
    });
    let (mut volumes, mut at) = (HashSet::new(), begin);
    for part in touched {
        if part.damaged {
            return Err(format!("a part of it on {} is damaged", part.barcode));
        }
        if !part.verified {
            return Err(format!("a part of it on {} is not verified", part.barcode));
        }
        if part.tar_offsets.0 > at {
            break;
        }
        at = part.tar_offsets.1;
        volumes.insert(part.volume_id);
    }
    if at < end || volumes.is_empty() {
        return Err("a part of it is missing".to_owned());
    }
    Ok(volumes)
}

/// What may be removed of a page, and what stays.
pub async fn judge(judge: &mut Judge, page: &Page) -> Result<RemovalDirectory, Error> {
    let mut removals = Vec::new();
    let entries = page.entries.iter();
    for entry in entries.filter(|entry| entry.kind != Kind::Directory) {
        let obstacle = judge.obstacle(&page.directory, entry).await?;
        removals.push(removal(entry, obstacle.unwrap_or_default()));
    }
    Ok(RemovalDirectory {
        path: Bytes::copy_from_slice(&page.directory),
        may_go: judge.may_go(&page.directory) && !page.entries.is_empty(),
        removals,
    })
}

fn removal(entry: &Entry, obstacle: String) -> Removal {
    Removal {
        name: Bytes::copy_from_slice(&entry.name),
        kind: match entry.kind {
            Kind::File => taf_proto::v1::EntryKind::File,
            Kind::Directory => taf_proto::v1::EntryKind::Directory,
            Kind::Symlink => taf_proto::v1::EntryKind::Symlink,
            Kind::Fifo => taf_proto::v1::EntryKind::Fifo,
            Kind::CharDevice => taf_proto::v1::EntryKind::CharDevice,
            Kind::BlockDevice => taf_proto::v1::EntryKind::BlockDevice,
        }
        .into(),
        size: entry.size,
        mtime_seconds: entry.mtime.seconds,
        mtime_nanos: entry.mtime.nanos,
        ctime_seconds: entry.ctime.seconds,
        ctime_nanos: entry.ctime.nanos,
        inode: entry.inode,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        rdev_major: entry.rdev_major,
        rdev_minor: entry.rdev_minor,
        link_target: Bytes::copy_from_slice(&entry.link_target),
        hash: entry
            .hash
            .map(|hash| Bytes::copy_from_slice(&hash))
            .unwrap_or_default(),
        racy: entry.racy,
        has_names: entry.link_group != 0,
        obstacle,
    }
}

/// Sends what may be removed, directory by directory in the order of the walk. Waits while the receiver is slow; ends early when it
/// is gone.
pub async fn stream(
    mut by: Judge,
    sender: &mpsc::Sender<Result<FetchRemovalsResponse, Status>>,
) -> Result<(), Error> {
    let mut pages = by.pages();
    let (mut directories, mut entries, mut bytes) = (Vec::new(), 0, 0);
    loop {
        let page = pages.next().await?;
        let last = page.is_none();
        if let Some(page) = page {
            let directory = judge(&mut by, &page).await?;
            entries += 1 + directory.removals.len();
            bytes += directory.path.len();
            bytes += directory
                .removals
                .iter()
                .map(|removal| removal.name.len() + removal.obstacle.len())
                .sum::<usize>();
            directories.push(directory);
        }
        if entries >= ENTRIES || bytes >= NAME_BYTES || (last && !directories.is_empty()) {
            (entries, bytes) = (0, 0);
            let message = FetchRemovalsResponse {
                directories: std::mem::take(&mut directories),
            };
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        if last {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use taf_format::page::Place;

    /// Parts of 1,000 bytes each, by volume.
    fn parts(volumes: &[i64]) -> Vec<Proved> {
        let part = |(number, volume_id): (u64, &i64)| Proved {
            archive_ordinal: 3,
            tar_offsets: (number * 1_000, (number + 1) * 1_000),
            volume_id: *volume_id,
            barcode: format!("TAF00{volume_id}L8"),
            verified: true,
            damaged: false,
        };
        (0..).zip(volumes).map(part).collect()
    }

    fn entry(tar_offset: u64, tar_length: u64) -> Entry {
        Entry {
            place: Some(Place {
                archive_ordinal: 3,
                tar_offset,
            }),
            tar_length,
            ..Entry::bare(b"file".to_vec(), Kind::File)
        }
    }

    #[test]
    fn every_part_under_an_entry_must_be_proved() {
        let whole = parts(&[1, 1, 2]);
        let on = |parts: &[Proved], entry: &Entry| volumes(parts, entry);
        assert_eq!(on(&whole, &entry(500, 500)), Ok(HashSet::from([1])));
        assert_eq!(on(&whole, &entry(1_500, 1_000)), Ok(HashSet::from([1, 2])));
        let mut unproved = parts(&[1, 1, 2]);
        unproved[2].verified = false;
        assert_eq!(on(&unproved, &entry(1_500, 500)), Ok(HashSet::from([1])));
        let why = on(&unproved, &entry(1_500, 501)).unwrap_err();
        assert!(why.contains("TAF002L8 is not verified"), "{why}");
        let mut damaged = parts(&[1, 1, 2]);
        damaged[0].damaged = true;
        let why = on(&damaged, &entry(0, 512)).unwrap_err();
        assert!(why.contains("TAF001L8 is damaged"), "{why}");
    }

    #[test]
    fn what_is_not_all_there_is_on_no_volume() {
        let mut gap = parts(&[1, 1, 2]);
        gap.remove(1);
        for (parts, entry) in [
            (gap.clone(), entry(500, 1_000)),
            (gap, entry(1_200, 300)),
            (parts(&[1]), entry(500, 501)),
            (Vec::new(), entry(0, 512)),
        ] {
            assert!(volumes(&parts, &entry).is_err(), "{entry:?}");
        }
        let unread = Entry {
            place: None,
            ..entry(0, 512)
        };
        let why = volumes(&parts(&[1]), &unread).unwrap_err();
        assert!(why.contains("could not be read"), "{why}");
    }
}
