//! An archive is copied into another one, by its pages: all that they say stays, each entry is where they then say, and what is damaged
//! is named.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/src/nasty.rs"]
#[allow(dead_code)]
mod nasty;
mod packing;

use std::fs;
use std::io::Read;
use std::vec::IntoIter;

use packing::{Packed, differences, pack, unpack_all};
use taf_format::entry::Kind;
use taf_format::page::{self, Dictionaries, Page, Place};
use taf_format::record::{self, Body};
use taf_format::segment::{self, Identity, Sealer};
use taf_format::tar::decode::Decoder;
use taf_source_agent::backup::links::Links;
use taf_source_agent::backup::pack::{self as packer, Copies, Error, Missing, Outlets};
use taf_source_agent::fault;
use taf_source_agent::progress::Counters;
use tokio_util::sync::CancellationToken;

/// The pages of an archive, in the order of its tape.
fn pages(packed: &Packed) -> Vec<Page> {
    let records = packed.opened.iter().flat_map(|s| record::iter(&s.records));
    let pages = records.filter_map(|record| match record.unwrap().record {
        Some(Body::Page(page)) => Some(page),
        _ => None,
    });
    let decode = |page: record::Page| {
        page::decode(
            &page.chunk,
            &page.body,
            Some(&page.hashes),
            &Dictionaries::default(),
        )
    };
    pages.map(|page| decode(page).unwrap()).collect()
}

fn tar(packed: &Packed) -> Vec<u8> {
    let mut tar = Vec::new();
    packed.tar().read_to_end(&mut tar).unwrap();
    tar
}

/// An archive in memory.
struct Memory {
    pages: IntoIter<Page>,
    tar: Vec<u8>,
    named: Named,
}

impl Copies for Memory {
    fn page(&mut self) -> Result<Option<Page>, fault::Error> {
        Ok(self.pages.next())
    }

    fn member(&mut self, place: Place, length: u64) -> Result<Box<dyn Read + '_>, Missing> {
        assert_eq!(place.archive_ordinal, 1);
        let begin = place.tar_offset as usize;
        match self.tar.get(begin..begin + length as usize) {
            Some(bytes) => Ok(Box::new(bytes)),
            None => Err(Missing::Damaged("behind the end".into())),
        }
    }

    fn ended(&self) -> bool {
        false
    }

    fn damaged(&mut self, path: &[u8], why: String) {
        self.named.push((path.to_vec(), why));
    }
}

/// Path, and what is wrong with it.
type Named = Vec<(Vec<u8>, String)>;
/// Something that goes wrong with pages or tar.
type Damage = fn(&mut Vec<Page>, &mut [u8]);

/// Copies; gives the new archive, or what went wrong, and what was named.
fn copy(pages: Vec<Page>, tar: Vec<u8>) -> (Result<Packed, Error>, Named) {
    let mut memory = Memory {
        pages: pages.into_iter(),
        tar,
        named: Vec::new(),
    };
    let identity = Identity {
        archive_ordinal: 2,
        ..packing::identity()
    };
    let (mut sealer, mut sealed) = (Sealer::new(1).unwrap(), Vec::new());
    let copied = packer::copy(
        &mut memory,
        identity,
        &Links::default(),
        Dictionaries::new(),
        Outlets {
            begins: &mut || {},
            segments: &mut |segment| {
                sealed.push(sealer.seal(segment).unwrap());
                Ok(())
            },
            issues: &mut |issue| panic!("{issue:?}"),
            counters: &Counters::default(),
            stop: &CancellationToken::new(),
        },
    );
    let opened = sealed.iter().map(|sealed| segment::open(&sealed.bytes));
    let opened: Vec<_> = opened.map(Result::unwrap).collect();
    let copied = copied.map(|totals| Packed {
        sealed,
        opened,
        issues: Vec::new(),
        totals,
        most_in_flight: 0,
    });
    (copied, memory.named)
}

/// A page without places.
fn without_places(mut page: Page) -> Page {
    if let Some(header) = &mut page.header {
        header.place = header.place.map(|_| nowhere());
        header.tar_length = 0;
    }
    for entry in &mut page.entries {
        entry.place = entry.place.map(|_| nowhere());
        entry.tar_length = 0;
    }
    page
}

fn nowhere() -> Place {
    Place {
        archive_ordinal: 0,
        tar_offset: 0,
    }
}

#[test]
fn a_nasty_tree_is_the_same_in_the_copy_and_in_what_its_pages_say() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    nasty::build(&from, 11, rustix::process::geteuid().is_root()).unwrap();
    let packed = pack(&from, 2);
    let old = pages(&packed);
    let (copied, named) = copy(old.clone(), tar(&packed));
    let copied = copied.unwrap();
    assert!(named.is_empty(), "{named:?}");
    let (before, after) = (packed.totals, copied.totals);
    assert_eq!(
        (before.files, before.directories, before.bytes),
        (after.files, after.directories, after.bytes)
    );
    let new = pages(&copied);
    assert_eq!(new.len(), old.len());
    for (old, new) in old.iter().zip(&new) {
        assert_eq!(without_places(old.clone()), without_places(new.clone()));
    }
    // Each place leads to its entry in the new archive.
    let bytes = tar(&copied);
    for page in &new {
        for entry in page.entries.iter().filter(|e| e.kind != Kind::Directory) {
            let place = entry.place.unwrap();
            assert_eq!(place.archive_ordinal, 2);
            let at = place.tar_offset as usize;
            let member = &bytes[at..at + entry.tar_length as usize];
            let mut decoder = Decoder::starting_at(member, place.tar_offset);
            let member = decoder.next().unwrap().unwrap();
            assert_eq!(
                (member.meta.kind, member.meta.mode),
                (entry.kind, entry.mode)
            );
            let path = taf_tree::path::join(&page.directory, &entry.name);
            assert!(entry.link_group != 0 || member.path == path);
        }
    }
    unpack_all(&copied, &to);
    let left: Vec<_> = differences(&from, &to)
        .into_iter()
        .filter(|line| !line.starts_with("./") && !line.contains("socket"))
        .collect();
    assert!(left.len() <= packed.issues.len(), "{left:#?}");
}

/// Three files and their archive.
fn three() -> (tempfile::TempDir, Packed) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(folder.path().join(name), name.repeat(5_000)).unwrap();
    }
    let packed = pack(folder.path(), 1);
    (folder, packed)
}

fn entry<'a>(pages: &'a mut [Page], name: &[u8]) -> &'a mut page::Entry {
    let mut entries = pages.iter_mut().flat_map(|page| &mut page.entries);
    entries.find(|entry| entry.name == name).unwrap()
}

#[test]
fn owner_mode_and_times_are_the_pages_and_marks_stay() {
    let (_folder, packed) = three();
    let mut old = pages(&packed);
    let changed = entry(&mut old, b"b");
    (changed.mode, changed.uid, changed.racy) = (0o4711, 4_242, true);
    changed.mtime.seconds = 1_000_000_000;
    let unread = entry(&mut old, b"c");
    (unread.place, unread.tar_length, unread.hash) = (None, 0, None);
    let (copied, named) = copy(old, tar(&packed));
    let copied = copied.unwrap();
    assert!(named.is_empty(), "{named:?}");
    let members = copied.members();
    let names: Vec<&[u8]> = members.iter().map(|member| &member.path[..]).collect();
    assert_eq!(names, [b"a", b"b"], "what has no bytes has none");
    let meta = &members[1].meta;
    assert_eq!((meta.mode, meta.uid), (0o4711, 4_242));
    assert_eq!(meta.mtime.seconds, 1_000_000_000);
    assert!(meta.user.is_empty(), "the name was of another owner");
    let mut new = pages(&copied);
    assert!(entry(&mut new, b"b").racy);
    assert_eq!(entry(&mut new, b"c").place, None);
}

#[test]
fn all_that_is_damaged_is_named_and_the_archive_has_no_end() {
    let damage: [Damage; 4] = [
        |pages, tar| tar[entry(pages, b"b").place.unwrap().tar_offset as usize + 3_000] ^= 1,
        |pages, tar| tar[entry(pages, b"b").place.unwrap().tar_offset as usize] ^= 1,
        |pages, _| {
            let other = entry(pages, b"c").place;
            entry(pages, b"b").place = other;
        },
        |pages, _| entry(pages, b"b").place.as_mut().unwrap().tar_offset = 1 << 30,
    ];
    for (number, damage) in damage.iter().enumerate() {
        let (_folder, packed) = three();
        let (mut old, mut tar) = (pages(&packed), tar(&packed));
        damage(&mut old, &mut tar);
        // A second one behind it.
        entry(&mut old, b"c").hash = Some([0; 16]);
        let (copied, named) = copy(old, tar);
        assert!(matches!(copied, Err(Error::Damaged(2))), "{number}");
        let names: Vec<&[u8]> = named.iter().map(|(path, _)| &path[..]).collect();
        assert_eq!(names, [b"b", b"c"], "{number}: {named:?}");
    }
}
