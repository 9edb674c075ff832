#![allow(clippy::unwrap_used)]
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, statat, utimensat};
use taf_format::entry::{Kind, Metadata, Time};

use super::super::{Collision, Error, Target, WarningKind, apply};
use super::*;

const NEVER: Duration = Duration::MAX;

fn target(folder: &Path, rest: Duration, write_out: WriteOut) -> Target {
    let target = Target::open(folder, Collision::Always).unwrap();
    let unsettled = Unsettled::with(target.beneath.root(), rest, write_out);
    Target {
        unsettled,
        ..target
    }
}

fn put(target: &mut Target, path: &[u8], seconds: i64) -> Result<Vec<Warning>, Error> {
    let meta = Metadata {
        kind: Kind::File,
        size: 3,
        mode: 0o644,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        user: Vec::new(),
        group: Vec::new(),
        mtime: Time { seconds, nanos: 0 },
        ctime: Time::default(),
        inode: 0,
        links: 1,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs: Vec::new(),
    };
    let mut file = target.file(path, &meta, None)?;
    file.write(b"new")?;
    file.finish(target)
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_mins(2);
    while !is_so() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn time(folder: &Path, name: &str) -> i64 {
    fs::symlink_metadata(folder.join(name)).unwrap().mtime()
}

#[test]
fn files_get_their_time_while_nobody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = target(folder.path(), Duration::ZERO, |_| Ok(()));
    for (name, seconds) in [("a", 5), ("b", 6)] {
        put(&mut target, name.as_bytes(), seconds).unwrap();
        until("it never gets it", || time(folder.path(), name) == seconds);
    }
    assert_eq!(target.finish_files(), []);
}

#[test]
fn what_cannot_be_written_out_ends_the_writing() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = target(folder.path(), Duration::ZERO, |_| Err(Errno::IO));
    put(&mut target, b"a", 5).unwrap();
    // Begun before it is known.
    let known = Arc::clone(&target.unsettled.shared);
    until("it is never known", || known.lock().failed.is_some());
    assert!(matches!(
        put(&mut target, b"b", 6),
        Err(Error::WriteOut { .. })
    ));
    assert_eq!(target.finish_files(), []);
    assert!(matches!(target.sync(), Err(Error::WriteOut { .. })));
    assert!(time(folder.path(), "a") > 5);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_somebody_elses_by_now_keeps_its_time_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut target = target(folder.path(), NEVER, |_| Ok(()));
    for name in ["taken", "linked", "replaced", "changed", "grown", "kept"] {
        put(&mut target, name.as_bytes(), 5).unwrap();
    }
    fs::remove_file(at("taken")).unwrap();
    fs::remove_file(at("linked")).unwrap();
    symlink("kept", at("linked")).unwrap();
    let mine = time(folder.path(), "linked");
    fs::rename(at("replaced"), at("moved")).unwrap();
    fs::write(at("replaced"), "her").unwrap();
    let later = apply::modified(Time {
        seconds: 4_000_000_000,
        nanos: 0,
    });
    utimensat(CWD, at("changed"), &later, AtFlags::empty()).unwrap();
    fs::write(at("grown"), "longer").unwrap();
    let warnings = target.finish_files();
    let told: Vec<_> = warnings
        .iter()
        .map(|one| (&one.path[..], one.kind))
        .collect();
    let kind = WarningKind::TimeNotSet;
    assert_eq!(
        told,
        [
            (&b"replaced"[..], kind),
            (b"changed", kind),
            (b"grown", kind)
        ]
    );
    assert!(!at("taken").exists());
    assert_eq!(time(folder.path(), "linked"), mine);
    assert_eq!(time(folder.path(), "changed"), 4_000_000_000);
    assert!(["replaced", "grown"].map(|name| time(folder.path(), name)) > [5, 5]);
    assert_eq!(time(folder.path(), "kept"), 5);
}

#[test]
fn what_we_replace_ourselves_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut target = target(folder.path(), NEVER, |_| Ok(()));
    for (name, seconds) in [(b"a", 5), (b"b", 6), (b"a", 7)] {
        put(&mut target, name, seconds).unwrap();
    }
    target.hard_link(b"b", b"a").unwrap();
    assert_eq!(target.finish_files(), []);
    assert_eq!(["a", "b"].map(|name| time(folder.path(), name)), [7, 7]);
}

#[test]
fn where_inodes_are_made_up_anew_a_file_is_known_by_size_and_time() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), "new").unwrap();
    let stat = statat(CWD, folder.path().join("f"), AtFlags::empty()).unwrap();
    let (device, inode) = super::super::identity_of(&stat);
    let meanwhile = metadata::mtime(&stat);
    let written = |inode, size, seconds| Written {
        path: b"f".to_vec(),
        identity: (device, inode),
        size,
        meanwhile: Time {
            seconds: meanwhile.seconds + seconds,
            ..meanwhile
        },
        mtime: Time::default(),
    };
    assert!(written(inode, 3, 0).is(&stat, true));
    assert!(!written(inode + 1, 3, 0).is(&stat, true));
    assert!(written(inode + 1, 3, -2).is(&stat, false));
    assert!(!written(inode + 1, 3, -3).is(&stat, false));
    assert!(!written(inode + 1, 4, 0).is(&stat, false));
}
