//! GNU tar reads what we write, and we read what it writes.

use super::*;

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
