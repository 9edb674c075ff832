//! A tree is packed into segments and unpacked from them again, without any network.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/src/nasty.rs"]
#[allow(dead_code)]
mod nasty;
mod packing;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use packing::{Packed, differences, pack, unpack, unpack_all};
use taf_format::entry::Kind;
use taf_format::page::{self, Dictionaries};
use taf_format::record::{self, Body};
use taf_tree::IssueKind;

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// All pages and entry records of an archive.
fn records(packed: &Packed) -> (Vec<page::Page>, Vec<record::Entry>) {
    let dictionaries = Dictionaries::default();
    let (mut pages, mut entries) = (Vec::new(), Vec::new());
    for segment in &packed.opened {
        for record in record::iter(&segment.records) {
            match record.unwrap().record.unwrap() {
                Body::Entry(entry) => {
                    // In the segment in which the entry ends, if it is not a further name.
                    if entry.hard_link_to.is_empty() {
                        let end = entry.tar_offset + entry.tar_length;
                        let range = segment.header.tar_offset..=segment.header.tar_end();
                        assert!(range.contains(&end), "{entry:?}");
                    }
                    entries.push(entry);
                }
                Body::Page(page) => {
                    let decoded =
                        page::decode(&page.chunk, &page.body, Some(&page.hashes), &dictionaries);
                    pages.push(decoded.unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
    }
    (pages, entries)
}

#[test]
fn a_nasty_tree_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let summary = nasty::build(&from, 7, root()).unwrap();
    let packed = pack(&from, 3);
    let unexpected: Vec<_> = packed
        .issues
        .iter()
        .filter(|issue| issue.kind != IssueKind::Unsupported)
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    let entries = packed.totals.files + packed.totals.directories;
    assert_eq!(entries + packed.issues.len() as u64, summary.entries as u64);
    unpack_all(&packed, &to);
    let sockets = packed.issues.len();
    let left: Vec<_> = differences(&from, &to)
        .into_iter()
        .filter(|line| !line.starts_with("./") && !line.contains("socket"))
        .collect();
    assert!(left.len() <= sockets, "{left:#?}");
}

#[test]
fn pages_say_what_the_tar_stream_holds() {
    let folder = tempfile::tempdir().unwrap();
    nasty::build(folder.path(), 8, root()).unwrap();
    let packed = pack(folder.path(), 2);
    let (pages, records) = records(&packed);
    let members = packed.members();
    let by_offset: BTreeMap<u64, usize> = members
        .iter()
        .enumerate()
        .map(|(index, member)| (member.header_offset, index))
        .collect();
    let record_of: BTreeMap<&[u8], &record::Entry> = records
        .iter()
        .map(|record| (&record.path[..], record))
        .collect();
    assert_eq!(records.len(), members.len());
    let mut listed = 0;
    for page in &pages {
        if let Some(place) = page
            .header
            .as_ref()
            .unwrap_or(&page::DirectoryStat::default())
            .place
        {
            let member = &members[by_offset[&place.tar_offset]];
            assert_eq!(member.path, page.directory);
            assert_eq!(member.meta.kind, Kind::Directory);
            listed += 1;
        }
        for entry in page
            .entries
            .iter()
            .filter(|entry| entry.kind != Kind::Directory)
        {
            listed += 1;
            let place = entry.place.unwrap();
            let index = by_offset[&place.tar_offset];
            let next = members
                .get(index + 1)
                .map_or(packed.totals.tar_bytes - 1024, |next| next.header_offset);
            assert_eq!(next - place.tar_offset, entry.tar_length);
            let path = taf_tree::path::join(&page.directory, &entry.name);
            let record = record_of[&path[..]];
            assert_eq!(record.tar_offset, place.tar_offset);
            if record.hard_link_to.is_empty() {
                assert_eq!(members[index].path, path);
            } else {
                assert_eq!(members[index].path, &record.hard_link_to[..]);
                assert_ne!(entry.link_group, 0);
            }
            assert_eq!(entry.hash.is_some(), entry.kind == Kind::File);
            if let Some(hash) = entry.hash {
                assert_eq!(hash, record.blake3[..16]);
            }
        }
    }
    assert_eq!(listed, members.len());
    // Catalog order, and each page no later than what is below it.
    let keys: Vec<_> = pages.iter().map(page::Page::chunk).collect();
    let whole = keys
        .iter()
        .filter(|key| !taf_format::key::is_shortened(key));
    assert!(whole.is_sorted());
}

#[test]
fn nothing_but_the_chosen_and_what_leads_there_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    for name in ["a/b/deep", "a/other", "z"] {
        fs::create_dir_all(top.join(name)).unwrap();
    }
    fs::write(top.join("a/b/deep/file"), "x").unwrap();
    fs::write(top.join("a/other/secret"), "x").unwrap();
    let packed = packing::pack_with(top, 1, |options| {
        options.roots = vec![b"/a/b".to_vec()];
    });
    let paths: Vec<_> = packed
        .members()
        .into_iter()
        .map(|member| String::from_utf8(member.path).unwrap())
        .collect();
    assert_eq!(paths, ["a", "a/b", "a/b/deep", "a/b/deep/file"]);
    let (pages, _) = records(&packed);
    let names: Vec<_> = pages
        .iter()
        .map(|page| (page.directory.clone(), page.entries.len()))
        .collect();
    let expected = [(&b""[..], 1), (b"a", 1), (b"a/b", 1), (b"a/b/deep", 1)];
    assert_eq!(names, expected.map(|(name, count)| (name.to_vec(), count)));
    assert!(pages[0].header.as_ref().unwrap().place.is_none());
}

#[test]
fn an_unreadable_directory_is_not_an_empty_one() {
    if packing::again_as_user("an_unreadable_directory_is_not_an_empty_one") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let shut = folder.path().join("shut");
    fs::create_dir(&shut).unwrap();
    fs::write(shut.join("x"), "x").unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o311)).unwrap();
    let packed = pack(folder.path(), 1);
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(packed.issues.len(), 1);
    assert_eq!(packed.issues[0].kind, IssueKind::UnreadableDirectory);
    let (pages, _) = records(&packed);
    let page = pages.iter().find(|page| page.directory == b"shut").unwrap();
    let header = page.header.as_ref().unwrap();
    assert_ne!(header.flags & page::FLAG_LISTING_UNKNOWN, 0);
    assert!(header.place.is_some());
}

#[test]
fn a_tree_that_changes_under_the_reader_makes_issues_and_a_right_archive() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let file = |n: u32| from.join(format!("file{n:03}"));
    for n in 0..200 {
        let mut content = vec![n as u8; if n % 3 == 0 { 700_000 } else { 5_000 }];
        content[0] = 1;
        fs::write(file(n), content).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = Arc::new(AtomicU64::new(0));
    let meddler = std::thread::spawn({
        let (stop, rounds, from) = (Arc::clone(&stop), Arc::clone(&rounds), from.clone());
        move || {
            let mut n = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let path = from.join(format!("file{:03}", n / 7 % 200));
                match n % 4 {
                    0 => drop(
                        fs::OpenOptions::new()
                            .write(true)
                            .open(&path)
                            .map(|f| f.set_len(100)),
                    ),
                    1 => drop(
                        fs::OpenOptions::new()
                            .append(true)
                            .open(&path)
                            .map(|mut f| f.write_all(&[9; 9_000])),
                    ),
                    2 => drop(fs::remove_file(&path)),
                    _ => drop(fs::File::create(&path).map(|mut f| {
                        f.seek(SeekFrom::Start(200_000))
                            .and_then(|_| f.write_all(b"end"))
                    })),
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    // Until the meddling has surely been met.
    let mut kinds = BTreeMap::new();
    for _ in 0..200 {
        let packed = pack(&from, 2);
        for issue in &packed.issues {
            *kinds.entry(issue.kind).or_insert(0) += 1;
        }
        // Everything that was packed can be unpacked, with the hash that its record has.
        let (_, records) = records(&packed);
        assert_eq!(records.len(), packed.members().len());
        fs::remove_dir_all(&to).unwrap();
        fs::create_dir(&to).unwrap();
        unpack_all(&packed, &to);
        if kinds.len() >= 2 && rounds.load(Ordering::Relaxed) > 1000 {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    meddler.join().unwrap();
    assert!(kinds.len() >= 2, "{kinds:?}");
}

#[test]
fn a_file_is_not_put_in_place_with_another_content() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    fs::write(from.join("a"), "right").unwrap();
    let mut packed = pack(&from, 1);
    let tar = &mut packed.opened[0].tar;
    let at = tar.windows(5).position(|bytes| bytes == b"right").unwrap();
    tar[at] = b'R';
    let failed = unpack(&packed, &to);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].1.contains("hash"), "{failed:?}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
}

#[test]
fn all_names_of_a_file_have_the_place_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("b")).unwrap();
    fs::write(folder.path().join("a"), "one").unwrap();
    for name in ["b/second", "b/third"] {
        fs::hard_link(folder.path().join("a"), folder.path().join(name)).unwrap();
    }
    let packed = pack(folder.path(), 1);
    assert_eq!((packed.totals.files, packed.totals.bytes), (3, 3));
    let (pages, _) = records(&packed);
    let places: Vec<_> = pages
        .iter()
        .flat_map(|page| &page.entries)
        .filter(|entry| entry.kind == Kind::File)
        .map(|entry| (entry.place, entry.hash, entry.link_group))
        .collect();
    assert_eq!(places.len(), 3);
    assert!(
        places.windows(2).all(|pair| pair[0] == pair[1]),
        "{places:?}"
    );
}

#[test]
fn memory_stays_small_whatever_the_size() {
    // 3 GB of holes and a gigabyte of data through two slots: the segments in flight are counted.
    let folder = tempfile::tempdir().unwrap();
    let file = fs::File::create(folder.path().join("large")).unwrap();
    file.set_len(64 << 20).unwrap();
    drop(file);
    fs::write(folder.path().join("dense"), vec![7; 48 << 20]).unwrap();
    let packed = pack(folder.path(), 2);
    assert!(
        packed.most_in_flight <= 2 * 2 + 3,
        "{}",
        packed.most_in_flight
    );
    assert!(packed.opened.len() >= 12);
}
