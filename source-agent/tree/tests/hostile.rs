//! Hostile archives, and other processes that meddle: nothing ever lands outside, nothing is half there.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod copying;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use copying::again_as_user;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use taf_format::entry::{Extent, Kind, Metadata, Time, Xattr};
use taf_tree::WarningKind::{
    DeviceNotPermitted, ModeNotPermitted, OwnerNotPermitted, TimeNotSet, XattrNotPermitted,
    XattrUnsupported,
};
use taf_tree::write::Error;
use taf_tree::{Collision, Target};

fn meta(kind: Kind, size: u64) -> Metadata {
    Metadata {
        kind,
        size,
        mode: 0o644,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        user: Vec::new(),
        group: Vec::new(),
        mtime: Time {
            seconds: 1_000_000_000,
            nanos: 123_456_789,
        },
        ctime: Time::default(),
        inode: 0,
        links: 1,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs: Vec::new(),
    }
}

fn directory_meta(mode: u32) -> Metadata {
    Metadata {
        mode,
        ..meta(Kind::Directory, 0)
    }
}

fn link_to(target: &[u8]) -> Metadata {
    Metadata {
        link_target: target.to_vec(),
        ..meta(Kind::Symlink, 0)
    }
}

fn put(target: &mut Target, path: &[u8], content: &[u8]) -> Result<(), Error> {
    let mut writer = target.file(path, &meta(Kind::File, content.len() as u64), None)?;
    writer.write(content)?;
    writer.finish(target).map(|_| ())
}

/// A folder with a target and an outside that must stay empty.
fn arena() -> (tempfile::TempDir, Target) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    let target = Target::open(&folder.path().join("in"), Collision::Always).unwrap();
    (folder, target)
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let (folder, mut target) = arena();
    let long = [b'x'; 256];
    for path in [
        &b"../out/f"[..],
        b"/etc/f",
        b"a/../../out/f",
        b".",
        b"..",
        b"a//b",
        b"a/",
        b"a\0b",
        b"./a",
        &long,
    ] {
        assert!(
            matches!(put(&mut target, path, b"x"), Err(Error::Path { .. })),
            "{path:?}"
        );
        assert!(matches!(
            target.directory(path, &directory_meta(0o755)),
            Err(Error::Path { .. })
        ));
        assert!(matches!(
            target.symlink(path, &link_to(b"x")),
            Err(Error::Path { .. })
        ));
        assert!(matches!(
            target.fifo(path, &meta(Kind::Fifo, 0)),
            Err(Error::Path { .. })
        ));
        assert!(matches!(
            target.hard_link(path, b"f"),
            Err(Error::Path { .. })
        ));
        assert!(matches!(
            target.hard_link(b"f", path),
            Err(Error::Path { .. })
        ));
    }
    assert!(matches!(
        put(&mut target, b"", b"x"),
        Err(Error::Path { .. })
    ));
    assert!(is_empty(&folder.path().join("in")) && is_empty(&folder.path().join("out")));
}

#[test]
fn nothing_is_written_through_a_link() {
    let (folder, mut target) = arena();
    let out = folder.path().join("out");
    fs::write(out.join("victim"), "untouched").unwrap();
    for link in [&b"../out"[..], out.as_os_str().as_encoded_bytes()] {
        target.symlink(b"link", &link_to(link)).unwrap();
        assert!(matches!(
            put(&mut target, b"link/f", b"x"),
            Err(Error::Conflict { .. })
        ));
        assert!(matches!(
            put(&mut target, b"link/a/f", b"x"),
            Err(Error::Conflict { .. })
        ));
        assert!(matches!(
            target.directory(b"link", &directory_meta(0o777)),
            Err(Error::Conflict { .. })
        ));
        assert!(matches!(
            target.directory(b"link/d", &directory_meta(0o777)),
            Err(Error::Conflict { .. })
        ));
        assert!(matches!(
            target.symlink(b"link/l", &link_to(b"x")),
            Err(Error::Conflict { .. })
        ));
        assert!(matches!(
            target.hard_link(b"link/l", b"link"),
            Err(Error::Conflict { .. })
        ));
        assert!(matches!(
            target.hard_link(b"stolen", b"link/victim"),
            Err(Error::Conflict { .. })
        ));
    }
    // A file in the place of a link replaces the link, not what it leads to.
    target.symlink(b"f", &link_to(b"../out/victim")).unwrap();
    put(&mut target, b"f", b"new").unwrap();
    assert_eq!(fs::read(out.join("victim")).unwrap(), b"untouched");
    assert_eq!(fs::read(folder.path().join("in/f")).unwrap(), b"new");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    assert_eq!(fs::symlink_metadata(out.join("victim")).unwrap().nlink(), 1);
}

#[test]
fn a_link_put_in_the_place_of_a_restored_directory_gets_none_of_its_metadata() {
    let (folder, mut target) = arena();
    fs::set_permissions(folder.path().join("out"), fs::Permissions::from_mode(0o700)).unwrap();
    target.directory(b"d", &directory_meta(0o777)).unwrap();
    fs::remove_dir(folder.path().join("in/d")).unwrap();
    symlink("../out", folder.path().join("in/d")).unwrap();
    let mut errors = 0;
    target
        .finish_directories(|outcome| errors += usize::from(outcome.is_err()))
        .unwrap();
    assert_eq!(errors, 1);
    assert_eq!(
        fs::metadata(folder.path().join("out")).unwrap().mode() & 0o777,
        0o700
    );
}

#[test]
fn a_parent_swapped_during_the_restore_never_leads_outside() {
    let folder = tempfile::tempdir().unwrap();
    let (inside, out) = (folder.path().join("in"), folder.path().join("out"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir_all(out.join("sub")).unwrap();
    let (parent, link) = (inside.join("parent"), inside.join("link"));
    fs::create_dir_all(parent.join("sub")).unwrap();
    symlink(&out, &link).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // In one step, so that there is always one of the two.
                renameat_with(CWD, &parent, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let (mut written, mut refused) = (0, 0);
        let mut n = 0;
        while n < 5_000 && (n < 1000 || written < 100 || refused < 100) {
            n += 1;
            // A new target each time, so that nothing is known from before.
            let mut target = Target::open(&inside, Collision::Always).unwrap();
            for path in [
                format!("parent/f{}", n % 7),
                format!("parent/sub/g{}", n % 7),
                format!("parent/new{}/h", n % 7),
            ] {
                match put(&mut target, path.as_bytes(), b"content") {
                    Ok(()) => written += 1,
                    Err(_) => refused += 1,
                }
            }
            let _ = target.directory(b"parent/sub", &directory_meta(0o755));
            let _ = target.symlink(b"parent/s", &link_to(b"x"));
        }
        stop.store(true, Ordering::Relaxed);
        println!("{written} written, {refused} refused");
        assert!(written >= 100 && refused >= 100);
    });
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    assert!(is_empty(&out.join("sub")));
}

#[test]
fn what_is_dropped_or_incomplete_leaves_nothing() {
    let (folder, mut target) = arena();
    let mut writer = target.file(b"f", &meta(Kind::File, 10), None).unwrap();
    writer.write(b"12345").unwrap();
    assert_eq!(writer.remaining(), 5);
    drop(writer);
    assert!(is_empty(&folder.path().join("in")));
    let mut writer = target.file(b"f", &meta(Kind::File, 10), None).unwrap();
    writer.write(b"12345").unwrap();
    assert!(matches!(
        writer.finish(&mut target),
        Err(Error::Incomplete { missing: 5, .. })
    ));
    let mut writer = target.file(b"f", &meta(Kind::File, 3), None).unwrap();
    assert!(matches!(writer.write(b"12345"), Err(Error::Overrun { .. })));
    drop(writer);
    for bad in [
        &[Extent {
            offset: 0,
            length: 11,
        }][..],
        &[
            Extent {
                offset: 5,
                length: 1,
            },
            Extent {
                offset: 5,
                length: 1,
            },
        ],
        &[Extent {
            offset: u64::MAX,
            length: 1,
        }],
        &[Extent {
            offset: 0,
            length: 0,
        }],
    ] {
        assert!(matches!(
            target.file(b"f", &meta(Kind::File, 10), Some(bad)),
            Err(Error::Extents { .. })
        ));
    }
    assert!(
        target
            .file(b"f", &meta(Kind::File, u64::MAX), None)
            .is_err()
    );
    assert!(is_empty(&folder.path().join("in")));
}

#[test]
fn collisions_are_decided_as_asked() {
    let (folder, mut always) = arena();
    let inside = folder.path().join("in");
    fs::write(inside.join("f"), "old").unwrap();
    fs::create_dir(inside.join("d")).unwrap();
    let mut never = Target::open(&inside, Collision::Never).unwrap();
    assert!(matches!(
        put(&mut never, b"f", b"new"),
        Err(Error::Exists { .. })
    ));
    assert!(matches!(
        never.symlink(b"f", &link_to(b"x")),
        Err(Error::Exists { .. })
    ));
    assert!(matches!(
        never.hard_link(b"f", b"f"),
        Err(Error::Exists { .. })
    ));
    assert_eq!(fs::read(inside.join("f")).unwrap(), b"old");
    // Something that came while the file was written also stays.
    let mut writer = never.file(b"g", &meta(Kind::File, 3), None).unwrap();
    writer.write(b"new").unwrap();
    fs::write(inside.join("g"), "other").unwrap();
    assert!(matches!(
        writer.finish(&mut never),
        Err(Error::Exists { .. })
    ));
    assert_eq!(fs::read(inside.join("g")).unwrap(), b"other");

    put(&mut always, b"f", b"new").unwrap();
    assert_eq!(fs::read(inside.join("f")).unwrap(), b"new");
    assert!(matches!(
        put(&mut always, b"d", b"new"),
        Err(Error::Conflict { .. })
    ));
    assert!(matches!(
        always.directory(b"f", &directory_meta(0o755)),
        Err(Error::Conflict { .. })
    ));
    assert!(matches!(
        put(&mut always, b"f/x", b"new"),
        Err(Error::Conflict { .. })
    ));
    always.hard_link(b"h", b"f").unwrap();
    always.hard_link(b"h", b"f").unwrap();
    assert_eq!(fs::metadata(inside.join("h")).unwrap().nlink(), 2);
    assert_eq!(fs::read_dir(&inside).unwrap().count(), 4);
}

#[test]
fn an_ordinary_user_gets_warnings_for_what_needs_root() {
    if again_as_user("an_ordinary_user_gets_warnings_for_what_needs_root") {
        return;
    }
    let (folder, mut target) = arena();
    let mut foreign = meta(Kind::File, 0);
    foreign.uid = 0;
    foreign.mode = 0o6755;
    foreign.xattrs = vec![
        Xattr {
            name: b"security.capability".to_vec(),
            value: [0x0200_0001u32, 1 << 10, 0, 0, 0]
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect(),
        },
        Xattr {
            name: b"strange.name".to_vec(),
            value: vec![0; 20],
        },
        Xattr {
            name: b"user.fine".to_vec(),
            value: b"1".to_vec(),
        },
    ];
    let file = target.file(b"f", &foreign, None).unwrap();
    let warnings = file.finish(&mut target).unwrap();
    let kinds: Vec<_> = warnings.iter().map(|warning| warning.kind).collect();
    assert_eq!(
        kinds,
        [
            OwnerNotPermitted,
            ModeNotPermitted,
            XattrNotPermitted,
            XattrUnsupported
        ]
    );
    // Never lend our own rights in another's name.
    assert_eq!(
        fs::metadata(folder.path().join("in/f")).unwrap().mode() & 0o7777,
        0o2755
    );
    let device = Metadata {
        rdev_major: 1,
        rdev_minor: 3,
        ..meta(Kind::CharDevice, 0)
    };
    assert_eq!(
        target.device(b"null", &device).unwrap()[0].kind,
        DeviceNotPermitted
    );
    assert_eq!(fs::read_dir(folder.path().join("in")).unwrap().count(), 1);
}

#[test]
fn files_get_their_time_before_another_writer_closes_their_directory() {
    let (folder, mut first) = arena();
    let inside = folder.path().join("in");
    let mut second = Target::open(&inside, Collision::Always).unwrap();
    first.directory(b"d", &directory_meta(0o311)).unwrap();
    for name in [&b"d/f"[..], b"d/g"] {
        put(&mut second, name, b"bytes").unwrap();
    }
    let wanted = meta(Kind::File, 5).mtime.seconds;
    assert_eq!(second.finish_files(), []);
    put(&mut second, b"d/late", b"bytes").unwrap();
    second.close_directories();
    first
        .finish_directories(|warning| drop(warning.unwrap()))
        .unwrap();
    let mut told = second.finish_files();
    for name in ["d/f", "d/g"] {
        assert_eq!(fs::metadata(inside.join(name)).unwrap().mtime(), wanted);
    }
    // Who comes too late is told so, unless nothing is closed to him.
    if !rustix::process::geteuid().is_root() {
        let told = told.pop().unwrap();
        assert_eq!((&told.path[..], told.kind), (&b"d/late"[..], TimeNotSet));
    }
    assert_eq!(told, []);
    fs::set_permissions(inside.join("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_ordinary_users_files_get_it_before_too() {
    again_as_user("files_get_their_time_before_another_writer_closes_their_directory");
}

#[test]
fn hostile_metadata_is_a_warning_at_most() {
    let (_folder, mut target) = arena();
    let mut strange = meta(Kind::File, 0);
    strange.uid = u32::MAX;
    strange.gid = u32::MAX;
    strange.mode = u32::MAX;
    strange.mtime = Time {
        seconds: i64::MAX,
        nanos: u32::MAX,
    };
    strange.xattrs = vec![
        Xattr {
            name: Vec::new(),
            value: Vec::new(),
        },
        Xattr {
            name: b"a\0b".to_vec(),
            value: Vec::new(),
        },
        Xattr {
            name: vec![b'x'; 1000],
            value: Vec::new(),
        },
        Xattr {
            name: b"user.big".to_vec(),
            value: vec![0; 100_000],
        },
        Xattr {
            name: b"system.posix_acl_access".to_vec(),
            value: vec![0xff; 33],
        },
    ];
    let file = target.file(b"f", &strange, None).unwrap();
    let warnings = file.finish(&mut target).unwrap();
    assert!(warnings.len() >= 6, "{warnings:?}");
    let mut directory = strange.clone();
    directory.kind = Kind::Directory;
    target.directory(b"d", &directory).unwrap();
    target
        .finish_directories(|warning| assert!(warning.is_ok(), "{warning:?}"))
        .unwrap();
}
