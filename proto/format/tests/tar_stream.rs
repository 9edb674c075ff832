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

/// A folder on a file system that keeps extended attributes and sparse files, as /tmp may not.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn tar(folder: &Path, arguments: &[&str]) {
    let output = Command::new("tar")
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(!stderr.contains("unknown"), "{stderr}");
}

fn at(folder: &Path, path: &[u8]) -> PathBuf {
    folder.join(OsStr::from_bytes(path))
}

#[test]
fn gnu_tar_restores_what_we_write() {
    let long: Vec<u8> = [[b'l'; 199]; 5].join(&b'/');
    let acl: Vec<u8> = [
        (1_u16, 6_u16, u32::MAX),
        (2, 4, 1234),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 0, u32::MAX),
    ]
    .iter()
    .fold(vec![2, 0, 0, 0], |mut acl, (tag, bits, id)| {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&bits.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
        acl
    });
    let full = Metadata {
        size: 700,
        mode: 0o660,
        xattrs: vec![
            Xattr {
                name: b"system.posix_acl_access".to_vec(),
                value: acl.clone(),
            },
            Xattr {
                name: b"user.bin".to_vec(),
                value: b"a\0\n=b\xff".to_vec(),
            },
            Xattr {
                name: b"user.eq=%3D".to_vec(),
                value: vec![b'v'; 2_000],
            },
        ],
        ..meta(Kind::File)
    };
    let names: [&[u8]; 6] = [
        b"plain",
        b"new\nline",
        b"inv\xff\xfealid \xc3\xa9",
        b"sub/x",
        &[b'e'; 200],
        &long,
    ];
    let mut archive = Vec::new();
    file(
        &mut archive,
        b"",
        &Metadata {
            mode: 0o750,
            ..meta(Kind::Directory)
        },
    );
    file(
        &mut archive,
        b"sub",
        &Metadata {
            mode: 0o2711,
            ..meta(Kind::Directory)
        },
    );
    for name in names {
        file(&mut archive, name, &full);
    }
    let old = Metadata {
        mtime: Time {
            seconds: -2,
            nanos: 500_000_000,
        },
        ..meta(Kind::File)
    };
    file(&mut archive, b"old", &old);
    let late = Metadata {
        mtime: Time {
            seconds: 9_000_000_000,
            nanos: 7,
        },
        ..meta(Kind::File)
    };
    file(&mut archive, b"late", &late);
    file(&mut archive, b"fifo", &meta(Kind::Fifo));
    let target = vec![b't'; 4_000];
    file(
        &mut archive,
        b"symlink",
        &Metadata {
            link_target: target.clone(),
            ..meta(Kind::Symlink)
        },
    );
    put(
        &mut archive,
        b"hard",
        &meta(Kind::File),
        encode::Content::HardLink(names[2]),
    );
    put(
        &mut archive,
        b"hard-long",
        &meta(Kind::File),
        encode::Content::HardLink(&long),
    );
    let sparse = Metadata {
        size: 64 << 20,
        ..full.clone()
    };
    let extents: Vec<_> = (1..40)
        .map(|i| Extent {
            offset: i << 20,
            length: 4096,
        })
        .collect();
    let sparse_name = [&b"sub/"[..], &[b's'; 150]].concat();
    put(
        &mut archive,
        &sparse_name,
        &sparse,
        encode::Content::Sparse(&extents),
    );
    put(&mut archive, b"hole", &sparse, encode::Content::Sparse(&[]));
    archive.extend_from_slice(&END_OF_ARCHIVE);

    let folder = folder();
    fs::write(folder.path().join("a.tar"), &archive).unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    let mut arguments = vec![
        "-C",
        "out",
        "-xpf",
        "a.tar",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
    ];
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        arguments.push("--no-same-owner");
    }
    tar(folder.path(), &arguments);
    let out = folder.path().join("out");
    for name in names {
        let path = at(&out, name);
        let stat = fs::symlink_metadata(&path).unwrap();
        assert_eq!((stat.size(), stat.mode() & 0o7777), (700, 0o660));
        assert_eq!(
            (stat.mtime(), stat.mtime_nsec()),
            (1_700_000_000, 123_456_789)
        );
        for xattr in &full.xattrs {
            let value = xattr::get(&path, OsStr::from_bytes(&xattr.name)).unwrap();
            assert_eq!(value.as_ref(), Some(&xattr.value), "{path:?} {xattr:?}");
        }
        if root {
            assert_eq!((stat.uid(), stat.gid()), (1000, 100));
        }
    }
    let stat = |name: &[u8]| fs::symlink_metadata(at(&out, name)).unwrap();
    assert_eq!(stat(b"").mode() & 0o7777, 0o750);
    assert_eq!(stat(b"sub").mode() & 0o777, 0o711);
    assert_eq!(
        (stat(b"old").mtime(), stat(b"old").mtime_nsec()),
        (-2, 500_000_000)
    );
    assert_eq!(
        (stat(b"late").mtime(), stat(b"late").mtime_nsec()),
        (9_000_000_000, 7)
    );
    assert_eq!(
        fs::read_link(out.join("symlink"))
            .unwrap()
            .as_os_str()
            .as_bytes(),
        target
    );
    assert_eq!(stat(b"hard").ino(), stat(names[2]).ino());
    assert_eq!(stat(b"hard-long").ino(), stat(&long).ino());
    assert_eq!(stat(&sparse_name).size(), 64 << 20);
    assert!(stat(&sparse_name).blocks() * 512 <= 8 << 20);
    let content = fs::read(at(&out, &sparse_name)).unwrap();
    for (at, &byte) in content.iter().enumerate().step_by(512) {
        let inside = extents
            .iter()
            .any(|e| (e.offset..e.offset + e.length).contains(&(at as u64)));
        assert_eq!(byte, if inside { b'd' } else { 0 }, "{at}");
    }
    assert_eq!(stat(b"hole").size(), 64 << 20);
    assert!(stat(b"hole").blocks() <= 16);
}

#[test]
fn we_read_what_gnu_tar_writes() {
    let folder = folder();
    let source = folder.path().join("in");
    fs::create_dir(&source).unwrap();
    let long = "n".repeat(150);
    fs::write(source.join("new\nline"), b"hello").unwrap();
    fs::create_dir(source.join(&long)).unwrap();
    fs::write(source.join(&long).join(&long), vec![b'x'; 1_000]).unwrap();
    xattr::set(source.join("new\nline"), "user.a=%3D", b"v\0\n").unwrap();
    fs::hard_link(source.join("new\nline"), source.join("zlink")).unwrap();
    std::os::unix::fs::symlink("t".repeat(500), source.join("symlink")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[b's'; 4096], 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    for format in ["--format=pax", "--format=gnu"] {
        let pax = format == "--format=pax";
        let mut arguments = vec![format, "--sort=name", "-C", "in", "-cf", "b.tar"];
        if pax {
            arguments.extend(["--sparse", "--xattrs", "--xattrs-include=*"]);
        }
        arguments.push(".");
        tar(folder.path(), &arguments);
        let archive = fs::read(folder.path().join("b.tar")).unwrap();
        let members: BTreeMap<Vec<u8>, (Member, Vec<u8>)> = read_all(&archive)
            .unwrap()
            .into_iter()
            .map(|(member, data)| (member.path.clone(), (member, data)))
            .collect();
        assert_eq!(members.len(), 7, "{:?}", members.keys());
        assert_eq!(members[&b""[..]].0.meta.kind, Kind::Directory);
        let (hello, data) = &members[&b"./new\nline"[..]];
        assert_eq!(data, b"hello");
        let stat = fs::metadata(source.join("new\nline")).unwrap();
        assert_eq!(hello.meta.mtime.seconds, stat.mtime());
        assert_eq!(hello.meta.uid, stat.uid());
        if pax {
            assert_eq!(i64::from(hello.meta.mtime.nanos), stat.mtime_nsec());
            let xattrs = [Xattr {
                name: b"user.a=%3D".to_vec(),
                value: b"v\0\n".to_vec(),
            }];
            assert_eq!(hello.meta.xattrs, xattrs);
            let (sparse, data) = &members[&b"./sparse"[..]];
            let extents = vec![Extent {
                offset: 1 << 20,
                length: 4096,
            }];
            assert_eq!(
                sparse.content,
                Content::Sparse {
                    extents,
                    stored_len: 4096
                }
            );
            assert_eq!((sparse.meta.size, &data[..]), (3 << 20, &[b's'; 4096][..]));
        }
        assert_eq!(
            members[format!("./{long}/{long}").as_bytes()].1.len(),
            1_000
        );
        assert_eq!(members[&b"./symlink"[..]].0.meta.link_target, [b't'; 500]);
        assert_eq!(
            members[&b"./zlink"[..]].0.content,
            Content::HardLink {
                target: b"./new\nline".to_vec()
            }
        );
    }
}

/// The members of `golden/tar/members.tar`, one of each shape.
fn golden() -> Vec<u8> {
    let mut archive = Vec::new();
    file(&mut archive, b"", &meta(Kind::Directory));
    file(
        &mut archive,
        b"empty",
        &Metadata {
            mtime: Time {
                seconds: 1,
                nanos: 0,
            },
            ctime: Time::default(),
            ..meta(Kind::File)
        },
    );
    let full = Metadata {
        size: 3,
        uid: 4_000_000,
        xattrs: vec![Xattr {
            name: b"user.k=".to_vec(),
            value: b"\0v".to_vec(),
        }],
        ..meta(Kind::File)
    };
    file(&mut archive, b"full\n\xff", &full);
    file(
        &mut archive,
        &[&[b'd'; 90][..], &[b'f'; 90]].join(&b'/'),
        &full,
    );
    file(
        &mut archive,
        &[[b'p'; 130]; 2].join(&b'/'),
        &Metadata {
            mtime: Time {
                seconds: -2,
                nanos: 500_000_000,
            },
            ..meta(Kind::File)
        },
    );
    file(
        &mut archive,
        b"link",
        &Metadata {
            link_target: vec![b't'; 120],
            ..meta(Kind::Symlink)
        },
    );
    file(
        &mut archive,
        b"null",
        &Metadata {
            rdev_major: 1,
            rdev_minor: 3,
            ..meta(Kind::CharDevice)
        },
    );
    put(
        &mut archive,
        b"name",
        &full,
        encode::Content::HardLink(b"full\n\xff"),
    );
    let extents = [
        Extent {
            offset: 4096,
            length: 512,
        },
        Extent {
            offset: 65_536,
            length: 1,
        },
    ];
    put(
        &mut archive,
        b"d/sparse",
        &Metadata {
            size: 1 << 34,
            ..full
        },
        encode::Content::Sparse(&extents),
    );
    archive.extend_from_slice(&END_OF_ARCHIVE);
    archive
}

#[test]
fn the_golden_archive_has_not_changed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tar/members.tar");
    if std::env::var_os("TAF_WRITE_GOLDEN").is_some() {
        fs::write(&path, golden()).unwrap();
    }
    let mut kept = Vec::new();
    fs::File::open(path)
        .unwrap()
        .read_to_end(&mut kept)
        .unwrap();
    assert!(
        kept == golden(),
        "the bytes of headers changed: tapes written before would differ"
    );
    assert_eq!(read_all(&kept).unwrap().len(), 9);
}
