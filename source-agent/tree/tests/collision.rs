//! What becomes of what is in the way of a restored entry: a case for each rule, each kind, and each way round.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use taf_format::entry::{Kind, Metadata, Time};
use taf_tree::write::Error;
use taf_tree::{Collision, Facts, Lookout, Target};

const THERE: i64 = 1_000;

fn meta(kind: Kind, size: u64, seconds: i64) -> Metadata {
    Metadata {
        kind,
        size,
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
        link_target: if kind == Kind::Symlink {
            b"new".to_vec()
        } else {
            Vec::new()
        },
        xattrs: Vec::new(),
    }
}

/// A time of modification, of a link itself too.
fn touch(path: &Path, seconds: i64) {
    let moment = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: moment,
        last_modification: moment,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Writes a file of 3 bytes with this time where one of 3 bytes is.
fn write(folder: &Path, collision: Collision, size: u64, seconds: i64) -> Result<(), Error> {
    let mut target = Target::open(folder, collision)?;
    let mut file = target.file(b"d/f", &meta(Kind::File, size, seconds), None)?;
    file.write(&vec![b'n'; size as usize])?;
    file.finish(&mut target)?;
    target.finish_directories(|warning| drop(warning.unwrap()))
}

fn scene() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/f"), "old").unwrap();
    touch(&folder.path().join("d/f"), THERE);
    folder
}

/// Whether the file is replaced, by writer and lookout alike.
fn replaces(collision: Collision, size: u64, seconds: i64) -> bool {
    let folder = scene();
    let top = fs::File::open(folder.path()).unwrap().into();
    let facts = Facts::from(&meta(Kind::File, size, seconds));
    let stays = Lookout::new(top, collision).stays(b"d/f", facts);
    let written = write(folder.path(), collision, size, seconds);
    let now = fs::read(folder.path().join("d/f")).unwrap();
    let replaced = now != b"old";
    assert_eq!(replaced, written.is_ok(), "{written:?}");
    assert_eq!(stays, !replaced);
    match written {
        Ok(()) => assert_eq!(now, vec![b'n'; size as usize]),
        Err(Error::Exists { .. }) => assert_eq!(collision, Collision::Never),
        Err(Error::Kept { .. }) => assert_ne!(collision, Collision::Never),
        Err(error) => panic!("{error}"),
    }
    let left = fs::read_dir(folder.path().join("d")).unwrap().count();
    assert_eq!(left, 1, "nothing temporary stays");
    replaced
}

#[test]
fn each_rule_replaces_what_it_says_and_nothing_else() {
    use Collision::{Always, IfDifferent, IfNewer, IfOlder, Never};
    let (older, same, newer) = (THERE - 1, THERE, THERE + 1);
    for (collision, when_older, when_same, when_newer) in [
        (Never, false, false, false),
        (IfNewer, false, false, true),
        (IfOlder, true, false, false),
        (IfDifferent, true, false, true),
        (Always, true, true, true),
    ] {
        let told = [older, same, newer].map(|seconds| replaces(collision, 3, seconds));
        assert_eq!(told, [when_older, when_same, when_newer], "{collision:?}");
    }
    // Of the same time, but another size.
    assert!(replaces(IfDifferent, 4, same));
    assert!(!replaces(IfNewer, 4, same) && !replaces(IfOlder, 4, same));
}

#[test]
fn a_link_is_judged_by_itself_and_never_followed() {
    let folder = scene();
    let outside = folder.path().join("outside");
    fs::write(&outside, "mine").unwrap();
    touch(&outside, THERE + 100);
    let link = folder.path().join("d/l");
    symlink(&outside, &link).unwrap();
    touch(&link, THERE);
    let put = |collision, seconds| {
        let mut target = Target::open(folder.path(), collision).unwrap();
        target.symlink(b"d/l", &meta(Kind::Symlink, 0, seconds))
    };
    // It is as old as itself, however new what it points to.
    assert!(matches!(
        put(Collision::IfNewer, THERE),
        Err(Error::Kept { .. })
    ));
    assert!(matches!(
        put(Collision::IfDifferent, THERE),
        Err(Error::Kept { .. })
    ));
    put(Collision::IfNewer, THERE + 1).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("new"));
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
    // A file in the place of a link of the same time differs in kind.
    let mut target = Target::open(folder.path(), Collision::IfDifferent).unwrap();
    let file = target
        .file(b"d/l", &meta(Kind::File, 0, THERE + 1), None)
        .unwrap();
    file.finish(&mut target).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
    // Below a link nothing is looked at, nor written.
    symlink("d", folder.path().join("e")).unwrap();
    let top = fs::File::open(folder.path()).unwrap().into();
    let facts = Facts::from(&meta(Kind::File, 3, THERE));
    assert!(!Lookout::new(top, Collision::Never).stays(b"e/f", facts));
    let mut target = Target::open(folder.path(), Collision::IfDifferent).unwrap();
    let refused = target.file(b"e/f", &meta(Kind::File, 3, 5), None);
    assert!(matches!(refused, Err(Error::Conflict { .. })));
}

#[test]
fn directories_are_shared_and_give_way_to_nothing() {
    for collision in [
        Collision::Never,
        Collision::IfNewer,
        Collision::IfOlder,
        Collision::IfDifferent,
        Collision::Always,
    ] {
        let folder = scene();
        let mut target = Target::open(folder.path(), collision).unwrap();
        let refused = target.file(b"d", &meta(Kind::File, 3, THERE + 1_000_000_000), None);
        assert!(
            matches!(refused, Err(Error::Conflict { .. })),
            "{collision:?}"
        );
        target
            .directory(b"d", &meta(Kind::Directory, 0, 77))
            .unwrap();
        target
            .finish_directories(|warning| drop(warning.unwrap()))
            .unwrap();
        assert_eq!(fs::metadata(folder.path().join("d")).unwrap().mtime(), 77);
        assert_eq!(fs::read(folder.path().join("d/f")).unwrap(), b"old");
        let refused = target.directory(b"d/f", &meta(Kind::Directory, 0, 77));
        assert!(
            matches!(refused, Err(Error::Conflict { .. })),
            "{collision:?}"
        );
    }
}

#[test]
fn a_further_name_is_judged_by_the_file_that_it_names() {
    let folder = scene();
    fs::write(folder.path().join("first"), "new").unwrap();
    touch(&folder.path().join("first"), THERE + 1);
    let link = |collision| {
        let mut target = Target::open(folder.path(), collision).unwrap();
        target.hard_link(b"d/f", b"first")
    };
    assert!(matches!(link(Collision::Never), Err(Error::Exists { .. })));
    assert!(matches!(link(Collision::IfOlder), Err(Error::Kept { .. })));
    link(Collision::IfNewer).unwrap();
    assert_eq!(fs::read(folder.path().join("d/f")).unwrap(), b"new");
    assert!(matches!(
        link(Collision::IfDifferent),
        Err(Error::Kept { .. })
    ));
    link(Collision::Always).unwrap();
}

fn put(target: &mut Target, path: &[u8], seconds: i64) {
    let mut file = target
        .file(path, &meta(Kind::File, 3, seconds), None)
        .unwrap();
    file.write(b"new").unwrap();
    assert_eq!(file.finish(target).unwrap(), []);
}

#[test]
fn a_file_has_its_time_only_when_it_is_on_the_disk() {
    for (collision, seconds) in [
        (Collision::IfNewer, THERE + 1),
        (Collision::IfOlder, THERE - 1),
        (Collision::IfDifferent, THERE + 1),
    ] {
        let folder = scene();
        let stays = || {
            let top = fs::File::open(folder.path()).unwrap().into();
            let facts = Facts::from(&meta(Kind::File, 3, seconds));
            Lookout::new(top, collision).stays(b"d/f", facts)
        };
        // Who wrote it was cut short, twice: what is there has the right size, and is not taken for what was to come.
        for _ in 0..2 {
            let mut target = Target::open(folder.path(), collision).unwrap();
            put(&mut target, b"d/f", seconds);
            assert!(!stays(), "{collision:?}");
        }
        let mut target = Target::open(folder.path(), collision).unwrap();
        put(&mut target, b"d/f", seconds);
        // Another name is judged by the time that it is to have.
        fs::write(folder.path().join("d/g"), "old").unwrap();
        touch(&folder.path().join("d/g"), seconds);
        assert!(matches!(
            target.hard_link(b"d/g", b"d/f"),
            Err(Error::Kept { .. })
        ));
        target
            .finish_directories(|warning| drop(warning.unwrap()))
            .unwrap();
        target.sync().unwrap();
        assert!(stays(), "{collision:?}");
    }
}
