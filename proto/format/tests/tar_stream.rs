//! The tar stream: what we write comes back through our reader and through GNU tar, and we read GNU tar's.
#![allow(clippy::unwrap_used, missing_docs)]

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use taf_format::entry::{Extent, Kind, Metadata, Time, Xattr};
use taf_format::tar::decode::{self, Content, Decoder, Member};
use taf_format::tar::{BLOCK, END_OF_ARCHIVE, encode, padding};

#[path = "tar_stream/gnu_tar.rs"]
mod gnu_tar;

#[path = "tar_stream/golden.rs"]
mod golden;

fn meta(kind: Kind) -> Metadata {
    Metadata {
        kind,
        size: 0,
        mode: 0o640,
        uid: 1000,
        gid: 100,
        user: b"anna".to_vec(),
        group: b"users".to_vec(),
        mtime: Time {
            seconds: 1_700_000_000,
            nanos: 123_456_789,
        },
        ctime: Time {
            seconds: 1_700_000_001,
            nanos: 5,
        },
        inode: 0,
        links: 0,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs: Vec::new(),
    }
}

/// Appends a member; its content is one byte repeated.
fn put(archive: &mut Vec<u8>, path: &[u8], meta: &Metadata, what: encode::Content<'_>) {
    let header = encode::header(path, meta, what).unwrap();
    assert_eq!(header.len() % BLOCK, 0);
    archive.extend_from_slice(&header);
    let length = encode::data_length(meta, what);
    archive.resize(archive.len() + usize::try_from(length).unwrap(), b'd');
    archive.resize(archive.len() + padding(length), 0);
}

fn file(archive: &mut Vec<u8>, path: &[u8], meta: &Metadata) {
    put(archive, path, meta, encode::Content::Data);
}

/// All members with the number of bytes read of each.
fn read_all(archive: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, decode::Error> {
    let mut decoder = Decoder::new(archive);
    let mut members = Vec::new();
    while let Some(member) = decoder.next()? {
        let mut data = Vec::new();
        let mut buffer = [0; 300];
        loop {
            match decoder.read_data(&mut buffer)? {
                0 => break,
                read => data.extend_from_slice(&buffer[..read]),
            }
        }
        members.push((member, data));
    }
    Ok(members)
}

fn bytes(range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), range)
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let name = bytes(1..200).prop_map(|mut name| {
        for byte in &mut name {
            if matches!(*byte, 0 | b'/' | b'.') {
                *byte = b'n';
            }
        }
        name
    });
    prop::collection::vec(name, 1..6).prop_map(|names| names.join(&b'/'))
}

fn any_time() -> impl Strategy<Value = Time> {
    let seconds = prop_oneof![any::<i64>(), -5..5_i64, 1_000_000_000..2_000_000_000_i64];
    let nanos = prop_oneof![Just(0), 0..1_000_000_000_u32];
    (seconds, nanos).prop_map(|(seconds, nanos)| Time { seconds, nanos })
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![
        Kind::File,
        Kind::Directory,
        Kind::Symlink,
        Kind::Fifo,
        Kind::CharDevice,
        Kind::BlockDevice,
    ])
}

fn any_meta() -> impl Strategy<Value = Metadata> {
    let name = || prop_oneof![Just(Vec::new()), bytes(1..60)];
    let text = move || {
        name().prop_map(|mut name| {
            name.retain(|&byte| byte != 0);
            name
        })
    };
    let xattrs = prop::collection::btree_map("user\\.[a-z=%25D3\n]{1,20}", bytes(0..600), 0..4);
    (
        (
            any_kind(),
            0..2_000_u64,
            0..0o10000_u32,
            any::<u32>(),
            any::<u32>(),
        ),
        (text(), text(), any_time(), any_time()),
        (
            0..0o10_000_000_u32,
            0..0o10_000_000_u32,
            bytes(1..4_000),
            xattrs,
        ),
    )
        .prop_map(
            |((kind, size, mode, uid, gid), (user, group, mtime, ctime), rest)| {
                let (rdev_major, rdev_minor, mut link_target, xattrs) = rest;
                let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
                for byte in &mut link_target {
                    *byte = (*byte).max(1);
                }
                let xattrs: BTreeMap<_, _> = xattrs;
                Metadata {
                    kind,
                    size: if kind == Kind::File { size } else { 0 },
                    mode,
                    uid,
                    gid,
                    user,
                    group,
                    mtime,
                    ctime,
                    rdev_major: if device { rdev_major } else { 0 },
                    rdev_minor: if device { rdev_minor } else { 0 },
                    link_target: if kind == Kind::Symlink {
                        link_target
                    } else {
                        Vec::new()
                    },
                    xattrs: xattrs
                        .into_iter()
                        .map(|(name, value)| Xattr {
                            name: name.into_bytes(),
                            value,
                        })
                        .collect(),
                    ..self::meta(kind)
                }
            },
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
    #![proptest_config(cases(128))]

    #[test]
    fn any_entry_comes_back(entries in prop::collection::vec((any_path(), any_meta()), 1..5)) {
        let mut archive = Vec::new();
        let mut offsets = Vec::new();
        for (path, meta) in &entries {
            offsets.push(archive.len() as u64);
            file(&mut archive, path, meta);
        }
        let cut_short = archive.len() - 1;
        archive.extend_from_slice(&END_OF_ARCHIVE);
        let members = read_all(&archive).unwrap();
        prop_assert_eq!(members.len(), entries.len());
        for (((path, meta), offset), (member, data)) in entries.iter().zip(offsets).zip(members) {
            prop_assert_eq!(&member.path, path);
            prop_assert_eq!(&member.meta, meta);
            prop_assert_eq!(member.content, Content::Data { len: meta.size });
            prop_assert_eq!(member.header_offset, offset);
            prop_assert_eq!(member.unread.len(), 0);
            prop_assert_eq!(data, vec![b'd'; meta.size as usize]);
        }
        prop_assert!(read_all(&archive[..cut_short]).is_err());
    }

    #[test]
    fn any_sparse_file_comes_back(
        path in any_path(),
        pieces in prop::collection::vec((0..5_000_u64, 1..3_000_u64), 0..60),
        tail in prop_oneof![Just(0_u64), 1..9_999_u64],
        base in prop_oneof![Just(0_u64), 0..1_u64 << 62],
    ) {
        let mut extents = Vec::new();
        let mut end = base;
        for (hole, length) in pieces {
            extents.push(Extent { offset: end + hole, length });
            end += hole + length;
        }
        let mut meta = meta(Kind::File);
        meta.size = end + tail;
        let mut archive = Vec::new();
        put(&mut archive, &path, &meta, encode::Content::Sparse(&extents));
        file(&mut archive, b"next", &self::meta(Kind::File));
        let members = read_all(&archive).unwrap();
        let stored_len = extents.iter().map(|extent| extent.length).sum::<u64>();
        prop_assert_eq!(&members[0].0.path, &path);
        prop_assert_eq!(&members[0].0.meta, &meta);
        prop_assert_eq!(&members[0].0.content, &Content::Sparse { extents, stored_len });
        prop_assert_eq!(members[0].1.len() as u64, stored_len);
        prop_assert_eq!(&members[1].0.path, b"next");
    }

    #[test]
    fn damaged_streams_are_refused_without_harm(
        entries in prop::collection::vec((any_path(), any_meta()), 1..3),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        reseal in any::<bool>(),
    ) {
        let mut archive = Vec::new();
        for (path, meta) in &entries {
            file(&mut archive, path, meta);
        }
        put(&mut archive, b"s", &meta(Kind::File), encode::Content::Sparse(&[]));
        for (index, value) in hits {
            let at = index.index(archive.len());
            archive[at] = value;
        }
        if reseal {
            // Past the checksums, which hide the checks behind them.
            for block in archive.chunks_exact_mut(BLOCK).filter(|block| &block[257..262] == b"ustar") {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = read_all(&archive);
    }
}

#[test]
fn hard_links_and_the_root_come_back() {
    let mut archive = Vec::new();
    file(&mut archive, b"", &meta(Kind::Directory));
    let target = [b'a'; 300];
    put(
        &mut archive,
        b"other",
        &meta(Kind::File),
        encode::Content::HardLink(&target),
    );
    let members = read_all(&archive).unwrap();
    assert_eq!(members[0].0.path, b"");
    assert_eq!(members[0].0.meta, meta(Kind::Directory));
    assert_eq!(
        members[1].0.content,
        Content::HardLink {
            target: target.to_vec()
        }
    );
    assert_eq!(members[1].0.meta, meta(Kind::File));
}

#[test]
fn what_tar_can_not_hold_is_refused() {
    let plain = meta(Kind::File);
    for path in [
        &b"/a"[..],
        b"a/",
        b"a//b",
        b"a/../b",
        b".",
        b"a\0b",
        b"",
        &vec![b'x'; 70_000],
    ] {
        assert!(
            encode::header(path, &plain, encode::Content::Data).is_err(),
            "{path:?}"
        );
    }
    let huge = Metadata {
        xattrs: (0..200)
            .map(|i| Xattr {
                name: format!("user.{i:03}").into_bytes(),
                value: vec![0; 65_536],
            })
            .collect(),
        ..plain.clone()
    };
    let error = encode::header(b"a", &huge, encode::Content::Data).unwrap_err();
    assert!(matches!(error, encode::Error::TooLarge { .. }));
    let sized = Metadata { size: 100, ..plain };
    for extents in [
        vec![Extent {
            offset: 90,
            length: 11,
        }],
        vec![Extent {
            offset: 5,
            length: 0,
        }],
        vec![
            Extent {
                offset: 5,
                length: 9,
            },
            Extent {
                offset: 13,
                length: 2,
            },
        ],
        vec![Extent {
            offset: u64::MAX,
            length: 9,
        }],
    ] {
        let error = encode::header(b"a", &sized, encode::Content::Sparse(&extents)).unwrap_err();
        assert!(
            matches!(error, encode::Error::Extents { .. }),
            "{extents:?}"
        );
    }
}

#[test]
fn large_sizes_and_lengths_are_stated_and_bounded() {
    let large = Metadata {
        size: 1 << 40,
        uid: u32::MAX,
        ..meta(Kind::File)
    };
    let header = encode::header(b"large", &large, encode::Content::Data).unwrap();
    let mut decoder = Decoder::starting_at(&header[..], 4096);
    let member = decoder.next().unwrap().unwrap();
    assert_eq!((member.header_offset, &member.meta), (4096, &large));
    let error = decoder.next().unwrap_err();
    assert!(
        matches!(error, decode::Error::Truncated { offset } if offset == 4096 + header.len() as u64)
    );
}
