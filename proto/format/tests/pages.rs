//! Directory pages: any listing survives, chunks tile, damage is refused, and old pages stay readable.
#![allow(clippy::unwrap_used, missing_docs)]

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use taf_format::entry::{Kind, Metadata, Time, Xattr};
use taf_format::key;
use taf_format::page::{
    self, Chunker, Dictionaries, DirectoryStat, Entry, Error, MAX_ENTRIES, Page, Place, decode,
    encode,
};

fn any_time() -> impl Strategy<Value = Time> {
    let seconds = prop_oneof![any::<i64>(), 1_000_000_000..2_000_000_000_i64];
    let nanos = prop_oneof![Just(0), 0..1_000_000_000_u32];
    (seconds, nanos).prop_map(|(seconds, nanos)| Time { seconds, nanos })
}

fn any_place() -> impl Strategy<Value = Option<(Place, u64)>> {
    let blocks = prop_oneof![0..1_000_u64, 0..1_u64 << 55];
    let place = (0..4_u32, blocks.clone(), blocks).prop_map(|(archive_ordinal, offset, length)| {
        let place = Place {
            archive_ordinal,
            tar_offset: offset * 512,
        };
        (place, length * 512)
    });
    prop::option::of(place)
}

fn any_stat() -> impl Strategy<Value = DirectoryStat> {
    let xattrs = prop::collection::btree_map(
        "[a-z]{1,9}",
        prop::collection::vec(any::<u8>(), 0..99),
        0..3,
    );
    (
        (
            any::<u32>(),
            any::<u32>(),
            any::<u32>(),
            "[a-z]{0,9}",
            "[a-z]{0,9}",
        ),
        (
            any_time(),
            any_time(),
            any::<u64>(),
            any::<u32>(),
            any_place(),
            xattrs,
        ),
    )
        .prop_map(
            |((mode, uid, gid, user, group), (mtime, ctime, inode, flags, place, xattrs))| {
                DirectoryStat {
                    mode,
                    uid,
                    gid,
                    user: user.into_bytes(),
                    group: group.into_bytes(),
                    mtime,
                    ctime,
                    inode,
                    flags,
                    xattrs: BTreeMap::into_iter(xattrs)
                        .map(|(name, value)| Xattr {
                            name: name.into_bytes(),
                            value,
                        })
                        .collect(),
                    place: place.map(|place| place.0),
                    tar_length: place.map_or(0, |place| place.1),
                }
            },
        )
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop::sample::select(vec![
        Kind::File,
        Kind::File,
        Kind::File,
        Kind::Directory,
        Kind::Symlink,
        Kind::Fifo,
        Kind::CharDevice,
        Kind::BlockDevice,
    ]);
    let number = || prop_oneof![0..50_u64, any::<u64>()];
    (
        (
            kind,
            number(),
            any_time(),
            prop::option::of(any_time()),
            any::<u32>(),
        ),
        (
            any::<u32>(),
            any::<u32>(),
            number(),
            any::<u32>(),
            any::<u32>(),
        ),
        (
            "[a-z/]{0,50}",
            prop_oneof![Just(0), number()],
            any::<bool>(),
            any::<bool>(),
        ),
        (
            any_place(),
            prop::option::of(any::<[u8; 16]>()),
            prop::option::of(any::<[u8; 8]>()),
        ),
    )
        .prop_map(
            |(
                (kind, size, mtime, ctime, mode),
                (uid, gid, inode, major, minor),
                (target, group, racy, changed),
                (place, hash, xattrs),
            )| {
                let bare = Entry::bare(Vec::new(), kind);
                if kind == Kind::Directory {
                    return bare;
                }
                let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
                Entry {
                    size: if kind == Kind::File { size } else { 0 },
                    mtime,
                    ctime: ctime.unwrap_or(mtime),
                    mode,
                    uid,
                    gid,
                    inode,
                    rdev_major: if device { major } else { 0 },
                    rdev_minor: if device { minor } else { 0 },
                    link_target: if kind == Kind::Symlink {
                        target.into_bytes()
                    } else {
                        Vec::new()
                    },
                    link_group: group,
                    racy,
                    changed_while_read: changed,
                    place: place.map(|place| place.0),
                    tar_length: place.map_or(0, |place| place.1),
                    hash: hash.filter(|_| kind == Kind::File),
                    xattrs,
                    ..bare
                }
            },
        )
}

fn any_listing() -> impl Strategy<Value = Vec<Entry>> {
    let name = prop::collection::vec(any::<u8>(), 1..30).prop_map(|mut name| {
        for byte in &mut name {
            if matches!(*byte, 0 | b'/' | b'.') {
                *byte = b'n';
            }
        }
        name
    });
    prop::collection::btree_map(name, any_entry(), 0..60).prop_map(|entries| {
        let named = entries
            .into_iter()
            .map(|(name, entry)| Entry { name, ..entry });
        named.collect()
    })
}

fn any_page() -> impl Strategy<Value = Page> {
    let path = prop_oneof![
        Just(Vec::new()),
        "[a-z]{1,9}(/[a-z]{1,9}){0,3}".prop_map(String::into_bytes),
        "[a-z]{200}(/[a-z]{200}){4,6}".prop_map(String::into_bytes),
    ];
    (
        path,
        prop::option::of(any_stat()),
        any_listing(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(directory, header, entries, first, last)| {
            let lower = entries
                .first()
                .filter(|_| !first)
                .map(|entry| entry.name.clone());
            let upper = entries.last().filter(|_| !last).map(|entry| {
                let mut name = entry.name.clone();
                name.push(b'+');
                name
            });
            Page {
                directory,
                header: header.filter(|_| lower.is_none()),
                lower,
                upper,
                entries,
            }
        })
}

fn read(encoded: &page::Encoded) -> Result<Page, Error> {
    decode(
        &encoded.chunk,
        &encoded.body,
        Some(&encoded.hashes),
        &Dictionaries::new(),
    )
}

fn cases(cases: u32) -> ProptestConfig {
    let kept = FileFailurePersistence::WithSource("regressions");
    ProptestConfig {
        cases,
        failure_persistence: Some(Box::new(kept)),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn any_page_survives(page in any_page()) {
        let encoded = encode(&page, None).unwrap();
        prop_assert_eq!(&read(&encoded).unwrap(), &page);
        let dictionary = b"anything may be a dictionary, even this text of some length".repeat(20);
        let with = encode(&page, Some((7, &dictionary))).unwrap();
        let mut dictionaries = Dictionaries::new();
        dictionaries.insert(7, &dictionary).unwrap();
        let again = decode(&with.chunk, &with.body, Some(&with.hashes), &dictionaries).unwrap();
        prop_assert_eq!(&again, &page);
        let unhashed = decode(&with.chunk, &with.body, None, &dictionaries).unwrap();
        prop_assert!(unhashed.entries.iter().all(|entry| entry.hash.is_none()));
        let mut names = page::Names::default();
        page::Decoder::new(dictionaries)
            .names(&with.chunk, &with.body, &mut names)
            .unwrap();
        prop_assert_eq!(names.directory(), page.directory.as_slice());
        let known: Vec<_> = page.entries.iter().map(|entry| (entry.name.as_slice(), entry.kind)).collect();
        prop_assert_eq!(names.iter().collect::<Vec<_>>(), known);
    }

    #[test]
    fn damaged_pages_are_refused_without_harm(
        page in any_page(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        unpacked in any::<bool>(),
    ) {
        let mut encoded = encode(&page, None).unwrap();
        if unpacked && encoded.body[1] == 0 {
            encoded.body = stored(&encoded.body);
        }
        for (index, value) in hits {
            let at = index.index(encoded.body.len());
            encoded.body[at] = value;
        }
        if let Ok(read) = read(&encoded) {
            // What is still a page obeys the rules: it can be written again.
            let again = encode(&read, None).unwrap();
            prop_assert_eq!(self::read(&again).unwrap(), read);
        }
    }

    #[test]
    fn random_bytes_are_no_page(mut body in prop::collection::vec(any::<u8>(), 0..400), flags in 0..3_u8) {
        let _ = decode(b"a", &body, None, &Dictionaries::new());
        if body.len() > 2 {
            body[0] = 1;
            body[1] = flags;
            let _ = decode(b"a", &body, None, &Dictionaries::new());
        }
    }
}

/// The same page with its columns as they are, so that damage reaches what lies behind zstd.
fn stored(body: &[u8]) -> Vec<u8> {
    let mut rest = &body[2..];
    let mut number = || {
        let (mut value, mut shift) = (0_usize, 0);
        loop {
            let (&byte, behind) = rest.split_first().unwrap();
            rest = behind;
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break value;
            }
        }
    };
    let (length, packed) = (number(), number());
    let head = body.len() - rest.len() - if packed < 0x80 { 1 } else { 2 };
    let (packed, bits) = rest.split_at(packed);
    let words = zstd::bulk::decompress(packed, length).unwrap();
    [&[1, 2][..], &body[2..head], &words, bits].concat()
}

fn entry(index: usize) -> Entry {
    let offset = 4096 + index as u64 * 2048;
    Entry {
        size: 700 + (index as u64 * 7919) % 300,
        mtime: Time {
            seconds: 1_700_000_000 + (index as i64 * 31) % 1_000,
            nanos: ((index as u64 * 123_457_789) % 1_000_000_000) as u32,
        },
        ctime: Time {
            seconds: 1_700_000_000 + (index as i64 * 31) % 1_000,
            nanos: ((index as u64 * 123_457_789) % 1_000_000_000) as u32,
        },
        mode: 0o644,
        uid: 1000,
        gid: 100,
        inode: 70_000 + index as u64,
        place: Some(Place {
            archive_ordinal: 3,
            tar_offset: offset,
        }),
        tar_length: 2048,
        hash: Some([index as u8; 16]),
        ..Entry::bare(format!("file-{index:07}.txt").into_bytes(), Kind::File)
    }
}

fn chunks(entries: impl IntoIterator<Item = Entry>) -> Vec<Page> {
    let mut chunker = Chunker::new(b"home/anna".to_vec(), Some(DirectoryStat::default()));
    let mut pages = Vec::new();
    for entry in entries {
        pages.extend(chunker.push(entry).unwrap());
    }
    pages.push(chunker.finish());
    pages
}

fn assert_tile(pages: &[Page], entries: &[Entry]) {
    assert!(pages[0].lower.is_none() && pages[0].header.is_some());
    assert!(pages.last().unwrap().upper.is_none());
    for pair in pages.windows(2) {
        assert_eq!(pair[0].upper, pair[1].lower);
        assert!(pair[1].header.is_none() && pair[0].chunk() < pair[1].chunk());
    }
    let all: Vec<_> = pages.iter().flat_map(|page| page.entries.clone()).collect();
    assert!(all == entries, "entries were lost or moved");
    for page in pages {
        assert!(page.entries.len() <= MAX_ENTRIES);
        let encoded = encode(page, None).unwrap();
        assert!(read(&encoded).unwrap() == *page);
    }
}

#[test]
fn chunks_tile_a_large_directory_and_one_new_name_rewrites_one() {
    let entries: Vec<_> = (0..30_000).map(entry).collect();
    let before = chunks(entries.clone());
    assert!((15..60).contains(&before.len()), "{}", before.len());
    assert_tile(&before, &entries);
    let mut more = entries;
    more.insert(
        15_000,
        Entry::bare(b"file-0014999.txt~".to_vec(), Kind::File),
    );
    assert!(!Chunker::begins_at(b"file-0014999.txt~"));
    let after = chunks(more);
    assert_eq!(before.len(), after.len());
    assert_eq!(before.iter().zip(&after).filter(|(a, b)| a != b).count(), 1);
}

#[test]
fn a_chunk_ends_at_its_limits_even_without_a_cut() {
    let uncut = (0..)
        .map(entry)
        .filter(|entry| !Chunker::begins_at(&entry.name));
    let entries: Vec<_> = uncut.take(MAX_ENTRIES + 10).collect();
    let pages = chunks(entries.clone());
    assert_eq!(
        pages
            .iter()
            .map(|page| page.entries.len())
            .collect::<Vec<_>>(),
        [MAX_ENTRIES, 10]
    );
    assert_tile(&pages, &entries);
    let links: Vec<_> = (0..200)
        .map(|index| Entry {
            link_target: vec![b't'; 4_096],
            ..Entry::bare(format!("{index:03}").into_bytes(), Kind::Symlink)
        })
        .collect();
    let pages = chunks(links.clone());
    assert!(pages.len() >= 4);
    assert_tile(&pages, &links);
    assert_tile(&chunks([]), &[]);
}

#[test]
fn a_listing_out_of_order_or_with_a_wrong_entry_is_refused() {
    let mut chunker = Chunker::new(Vec::new(), None);
    chunker.push(entry(5)).unwrap();
    assert!(chunker.push(entry(5)).is_err());
    assert!(chunker.push(entry(4)).is_err());
    for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 1_025]] {
        let wrong = Entry::bare(name.to_vec(), Kind::File);
        assert!(Chunker::new(Vec::new(), None).push(wrong).is_err());
    }
}

#[test]
fn a_page_under_another_key_is_refused() {
    let long = [[b'd'; 200]; 6].join(&b'/');
    for directory in [b"home".to_vec(), long] {
        let page = Page {
            directory,
            ..Page::default()
        };
        let mut encoded = encode(&page, None).unwrap();
        assert_eq!(read(&encoded).unwrap(), page);
        encoded.chunk = key::chunk(&[b'e'; 1_200], None);
        assert!(read(&encoded).is_err());
    }
    let encoded = encode(&Page::default(), Some((9, b"words words words"))).unwrap();
    assert!(read(&encoded).is_ok() || read(&encoded) == Err(Error::Dictionary(9)));
}

/// The page of `golden/page/chunk.bin`.
fn golden() -> Page {
    let stat = DirectoryStat {
        mode: 0o2755,
        uid: 1000,
        gid: 100,
        user: b"anna".to_vec(),
        group: b"users".to_vec(),
        mtime: Time {
            seconds: 1_700_000_500,
            nanos: 9,
        },
        ctime: Time {
            seconds: 1_700_000_600,
            nanos: 0,
        },
        inode: 69_999,
        flags: page::FLAG_CARRIED,
        xattrs: vec![Xattr {
            name: b"user.k".to_vec(),
            value: b"v\0".to_vec(),
        }],
        place: Some(Place {
            archive_ordinal: 3,
            tar_offset: 2560,
        }),
        tar_length: 1536,
    };
    let mut entries: Vec<_> = (0..20).map(entry).collect();
    entries[3].place = Some(Place {
        archive_ordinal: 1,
        tar_offset: 51_200,
    });
    entries[4].racy = true;
    entries[5].changed_while_read = true;
    entries[6].link_group = entries[6].inode;
    entries[7] = Entry {
        name: entries[7].name.clone(),
        ..Entry::bare(Vec::new(), Kind::Directory)
    };
    entries[8] = Entry {
        link_target: b"../x".to_vec(),
        ..Entry::bare(entries[8].name.clone(), Kind::Symlink)
    };
    entries[9] = Entry {
        rdev_major: 8,
        rdev_minor: 1,
        ..Entry::bare(entries[9].name.clone(), Kind::BlockDevice)
    };
    entries[10].ctime.nanos = 1;
    entries[11].mtime.seconds = -7;
    Page {
        directory: b"home/anna".to_vec(),
        lower: None,
        upper: Some(b"g".to_vec()),
        header: Some(stat),
        entries,
    }
}

#[test]
fn golden_pages_stay_readable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/page");
    let mut encoded = encode(&golden(), None).unwrap();
    let plain = stored(&encoded.body);
    if std::env::var_os("TAF_WRITE_GOLDEN").is_some() {
        fs::write(folder.join("chunk.zst.bin"), &encoded.body).unwrap();
        fs::write(folder.join("chunk.bin"), &plain).unwrap();
    }
    // Another zstd may compress in another way; the columns may not change.
    assert!(
        plain == fs::read(folder.join("chunk.bin")).unwrap(),
        "the columns changed"
    );
    for name in ["chunk.zst.bin", "chunk.bin"] {
        encoded.body = fs::read(folder.join(name)).unwrap();
        assert_eq!(read(&encoded).unwrap(), golden());
    }
}

#[test]
fn golden_pages_with_attributes_stay_readable() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/page/chunk-xattrs.bin");
    let mut page = golden();
    for entry in page
        .entries
        .iter_mut()
        .filter(|entry| entry.kind == Kind::File)
    {
        let value = entry.name.clone();
        let name = b"user.golden".to_vec();
        entry.xattrs = page::xattr_digest(&[Xattr { name, value }]);
    }
    let mut encoded = encode(&page, None).unwrap();
    let plain = stored(&encoded.body);
    if std::env::var_os("TAF_WRITE_GOLDEN").is_some() {
        fs::write(&path, &plain).unwrap();
    }
    encoded.body = fs::read(&path).unwrap();
    assert!(plain == encoded.body, "the columns changed");
    assert_eq!(read(&encoded).unwrap(), page);
}

#[test]
fn a_page_of_twenty_likely_files_is_small() {
    let page = Page {
        directory: b"home/anna".to_vec(),
        header: Some(DirectoryStat {
            inode: 69_999,
            ..DirectoryStat::default()
        }),
        entries: (0..20).map(entry).collect(),
        ..Page::default()
    };
    let body = encode(&page, None).unwrap().body;
    println!("{} bytes", body.len());
    assert!(body.len() < 20 * 24, "{} bytes", body.len());
}

#[test]
fn a_directory_with_huge_attributes_says_that_they_are_left_out() {
    let mut meta = Metadata {
        kind: Kind::Directory,
        size: 0,
        mode: 0o755,
        uid: 1,
        gid: 2,
        user: Vec::new(),
        group: Vec::new(),
        mtime: Time::default(),
        ctime: Time::default(),
        inode: 5,
        links: 2,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs: vec![Xattr {
            name: b"user.a".to_vec(),
            value: vec![0; 9],
        }],
    };
    assert_eq!(DirectoryStat::new(&meta).xattrs, meta.xattrs);
    meta.xattrs[0].value = vec![0; page::MAX_XATTRS];
    let stat = DirectoryStat::new(&meta);
    assert_eq!(
        (stat.flags, stat.xattrs.len()),
        (page::FLAG_XATTRS_OMITTED, 0)
    );
    let bare = Entry::bare(b"d".to_vec(), Kind::Directory);
    assert_eq!(Entry::new(b"d".to_vec(), &meta), bare);
    meta.kind = Kind::File;
    assert_eq!(Entry::new(b"f".to_vec(), &meta).link_group, 5);
}

#[test]
fn a_dictionary_is_learned_and_pages_with_it_are_smaller() {
    let mut encoder = page::Encoder::learning().unwrap();
    let mut learned = Dictionaries::new();
    let mut number = 0;
    let mut sizes = Vec::new();
    for nth in 0..3_000_usize {
        let page = Page {
            directory: format!("srv/projects/{nth:05}").into_bytes(),
            header: Some(DirectoryStat::default()),
            entries: (0..8).map(|at| entry(nth * 37 + at)).collect(),
            ..Page::default()
        };
        let encoded = encoder.encode(&page).unwrap();
        assert_eq!(
            page::dictionary_of(&encoded.body).unwrap(),
            (number > 0).then_some(number)
        );
        let again = decode(
            &encoded.chunk,
            &encoded.body,
            Some(&encoded.hashes),
            &learned,
        );
        assert_eq!(again.unwrap(), page);
        sizes.push(encoded.body.len());
        if let Some(dictionary) = encoder.learned() {
            assert!(dictionary.len() <= page::MAX_DICTIONARY);
            number += 1;
            learned.insert(number, &dictionary).unwrap();
            encoder.follow(number, &dictionary).unwrap();
        }
    }
    assert_eq!(number, 1, "one is learned early");
    let mean = |sizes: &[usize]| sizes.iter().sum::<usize>() / sizes.len();
    let (before, behind) = (mean(&sizes[..2_000]), mean(&sizes[2_000..]));
    assert!(
        behind * 4 < before * 3,
        "{before} bytes before, {behind} behind"
    );
}
