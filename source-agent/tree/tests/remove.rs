//! Removing what is archived: only what still is what was recorded, whatever happens meanwhile, a kill included.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use taf_format::entry::{Kind, Metadata, Time};
use taf_tree::Remover;
use taf_tree::remove::{ASIDE, Error, Outcome, Recorded, Sum, Sweep, aside};

/// What an archive would have of a file now. Content proves it, as nothing here is older than two seconds.
fn recorded(path: &Path) -> Recorded {
    let stat = path.symlink_metadata().unwrap();
    let kind = match stat.file_type() {
        t if t.is_symlink() => Kind::Symlink,
        _ => Kind::File,
    };
    let time = |seconds, nanos: i64| Time {
        seconds,
        nanos: nanos as u32,
    };
    let hash = (kind == Kind::File).then(|| {
        let hash = blake3::hash(&fs::read(path).unwrap());
        hash.as_bytes()[..16].try_into().unwrap()
    });
    Recorded {
        meta: Metadata {
            kind,
            size: if kind == Kind::File { stat.size() } else { 0 },
            mode: stat.mode() & 0o7777,
            uid: stat.uid(),
            gid: stat.gid(),
            user: Vec::new(),
            group: Vec::new(),
            mtime: time(stat.mtime(), stat.mtime_nsec()),
            ctime: time(stat.ctime(), stat.ctime_nsec()),
            inode: stat.ino(),
            links: 1,
            rdev_major: 0,
            rdev_minor: 0,
            link_target: fs::read_link(path)
                .map(|to| to.into_os_string().into_encoded_bytes())
                .unwrap_or_default(),
            xattrs: Vec::new(),
        },
        hash,
        doubtful: true,
        has_names: stat.nlink() > 1,
    }
}

fn remover(top: &Path) -> Remover {
    Remover::new(fs::File::open(top).unwrap().into())
}

fn remove(top: &Path, name: &str, recorded: &Recorded) -> Result<Outcome, Error> {
    remover(top).entry(name.as_bytes(), recorded, &|| false)
}

fn no_asides(top: &Path) {
    for entry in fs::read_dir(top).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            !name.to_string_lossy().starts_with(ASIDE),
            "{}",
            name.display()
        );
    }
}

#[test]
fn what_is_as_recorded_goes_and_what_is_gone_is_no_trouble() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir_all(top.path().join("a/b")).unwrap();
    let file = top.path().join("a/b/file");
    fs::write(&file, "content").unwrap();
    symlink("file", top.path().join("a/b/link")).unwrap();
    for name in ["a/b/file", "a/b/link"] {
        let recorded = recorded(&top.path().join(name));
        assert_eq!(
            remove(top.path(), name, &recorded).unwrap(),
            Outcome::Removed
        );
        assert_eq!(remove(top.path(), name, &recorded).unwrap(), Outcome::Gone);
        assert_eq!(remove(top.path(), "x/y", &recorded).unwrap(), Outcome::Gone);
    }
    let mut remover = remover(top.path());
    assert!(!remover.empty_directory(b"a").unwrap(), "b is in it");
    assert!(remover.empty_directory(b"a/b").unwrap());
    assert!(remover.empty_directory(b"a").unwrap());
    assert!(!remover.empty_directory(b"a").unwrap(), "gone already");
}

#[test]
fn each_difference_keeps_an_entry_under_its_name() {
    let top = tempfile::tempdir().unwrap();
    let file = top.path().join("file");
    fs::write(&file, "content").unwrap();
    let as_it_is = recorded(&file);
    let changes: [fn(&mut Recorded); 9] = [
        |r| r.meta.kind = Kind::Fifo,
        |r| r.meta.size += 1,
        |r| r.meta.mtime.nanos ^= 1,
        |r| r.meta.ctime.nanos ^= 1,
        |r| r.meta.inode += 1,
        |r| r.meta.mode ^= 0o100,
        |r| r.meta.uid += 1,
        |r| r.hash = Some([0; 16]),
        |r| r.hash = None,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut other = as_it_is.clone();
        change(&mut other);
        let refused = remove(top.path(), "file", &other);
        assert!(
            matches!(refused, Err(Error::Differs(_))),
            "{number}: {refused:?}"
        );
        assert_eq!(fs::read(&file).unwrap(), b"content");
        no_asides(top.path());
        // Renaming it aside and back has changed its status change time.
        if number >= 7 {
            assert!(matches!(
                remove(top.path(), "file", &as_it_is),
                Err(Error::Differs(_))
            ));
        }
    }
    let refused = remove(top.path(), "../file", &as_it_is);
    assert!(matches!(refused, Err(Error::Path(_))));
}

#[test]
fn a_link_on_the_way_leads_nowhere() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir(top.path().join("real")).unwrap();
    fs::write(top.path().join("real/file"), "x").unwrap();
    symlink("real", top.path().join("door")).unwrap();
    let recorded = recorded(&top.path().join("real/file"));
    assert!(matches!(
        remove(top.path(), "door/file", &recorded),
        Err(Error::Io { .. })
    ));
    assert!(top.path().join("real/file").exists());
}

#[test]
fn all_names_of_a_file_go_though_each_changes_the_others() {
    let top = tempfile::tempdir().unwrap();
    fs::write(top.path().join("a"), "content").unwrap();
    for name in ["b", "c"] {
        fs::hard_link(top.path().join("a"), top.path().join(name)).unwrap();
    }
    let recorded = recorded(&top.path().join("a"));
    for name in ["a", "b"] {
        assert_eq!(
            remove(top.path(), name, &recorded).unwrap(),
            Outcome::Removed
        );
    }
    // Its content is what counts now: the same times and size do not save it.
    let last = top.path().join("c");
    let old = last.metadata().unwrap().modified().unwrap();
    fs::write(&last, "CONTENT").unwrap();
    fs::File::options()
        .write(true)
        .open(&last)
        .unwrap()
        .set_modified(old)
        .unwrap();
    assert!(matches!(
        remove(top.path(), "c", &recorded),
        Err(Error::Differs(_))
    ));
    assert_eq!(fs::read(&last).unwrap(), b"CONTENT");
}

#[test]
fn what_an_earlier_try_left_aside_is_finished_or_put_back() {
    let top = tempfile::tempdir().unwrap();
    let (file, left) = (
        top.path().join("file"),
        top.path().join(String::from_utf8(aside(b"file")).unwrap()),
    );
    fs::write(&file, "content").unwrap();
    let archived = recorded(&file);
    fs::rename(&file, &left).unwrap();
    assert_eq!(
        remove(top.path(), "file", &archived).unwrap(),
        Outcome::Removed
    );
    no_asides(top.path());

    fs::write(&file, "content").unwrap();
    let archived = recorded(&file);
    fs::rename(&file, &left).unwrap();
    fs::write(&left, "changed").unwrap();
    assert!(matches!(
        remove(top.path(), "file", &archived),
        Err(Error::Differs(_))
    ));
    assert_eq!(fs::read(&file).unwrap(), b"changed");
    no_asides(top.path());

    // Its name was taken meanwhile: both stay, and it is said where.
    fs::rename(&file, &left).unwrap();
    fs::write(&file, "new").unwrap();
    let refused = remove(top.path(), "file", &archived).unwrap_err();
    assert!(matches!(refused, Error::Aside { .. }), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), b"new");
    assert_eq!(fs::read(&left).unwrap(), b"changed");
}

const CHILD: &str = "TAF_TEST_REMOVES";
const FILES: u64 = 400;

/// Removes all files that the list beside the tree has, over and over.
fn removes(top: &Path) {
    let files: Vec<(String, Recorded)> = (0..FILES)
        .map(|number| format!("f{number}"))
        .filter(|name| top.join(name).exists())
        .map(|name| {
            let recorded = recorded(&top.join(&name));
            (name, recorded)
        })
        .collect();
    println!("ready");
    for (name, recorded) in files {
        let _ = remove(top, &name, &recorded);
    }
}

fn child(top: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_kill_loses_nothing", "--nocapture"])
        .env(CHILD, top)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let said = std::io::BufRead::lines(out).any(|line| line.unwrap().contains("ready"));
    assert!(said);
    child
}

#[test]
fn a_kill_loses_nothing() {
    if let Some(top) = std::env::var_os(CHILD) {
        return removes(Path::new(&top));
    }
    let top = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        let path = top.path().join(format!("f{number}"));
        fs::write(&path, format!("content {number}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let archived: Vec<Recorded> = (0..FILES)
        .map(|number| recorded(&top.path().join(format!("f{number}"))))
        .collect();
    let mut left = 0;
    for delay in [200_u64, 900, 2_000, 400, 1_500, 700] {
        let mut child = child(top.path());
        std::thread::sleep(Duration::from_micros(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        // What is not gone is whole, under its own name or aside.
        for number in 0..FILES {
            let name = format!("f{number}");
            let own = fs::read(top.path().join(&name));
            let other = fs::read(
                top.path()
                    .join(String::from_utf8(aside(name.as_bytes())).unwrap()),
            );
            left += u64::from(other.is_ok());
            for found in [own, other].into_iter().flatten() {
                assert_eq!(found, format!("content {number}").into_bytes());
            }
        }
    }
    println!("{left} were found aside");
    for (number, archived) in archived.iter().enumerate() {
        let outcome = remove(top.path(), &format!("f{number}"), archived);
        outcome.unwrap();
    }
    assert_eq!(fs::read_dir(top.path()).unwrap().count(), 0);
}

#[test]
fn a_tree_is_counted_or_swept_and_what_stays_keeps_what_leads_to_it() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir_all(top.path().join("a/b/c")).unwrap();
    fs::create_dir(top.path().join("outside")).unwrap();
    fs::write(top.path().join("outside/file"), "stays").unwrap();
    for name in ["a/one", "a/b/two", "a/b/c/three"] {
        fs::write(top.path().join(name), name).unwrap();
    }
    symlink("../../outside", top.path().join("a/b/door")).unwrap();
    let modified = || top.path().metadata().unwrap().modified().unwrap();
    let before = modified();
    let mut told = Vec::new();
    let mut swept = |really: bool| {
        let mut how = Sweep {
            really,
            stays: &mut |path: &[u8], error| told.push((path.to_vec(), error.to_string())),
            stopped: &|| false,
        };
        remover(top.path()).sweep(b"a", &mut how).unwrap()
    };
    let counted = swept(false);
    assert_eq!(
        (counted.files, counted.directories, counted.bytes),
        (4, 3, 5 + 7 + 11)
    );
    assert!(top.path().join("a/b/c/three").exists());
    assert_eq!(swept(true), counted);
    assert_eq!(swept(true), Sum::default(), "nothing is left");
    assert!(told.is_empty(), "{told:?}");
    assert!(!top.path().join("a").exists() && top.path().join("outside/file").exists());
    assert_eq!(modified(), before);
    let mut remover = remover(top.path());
    assert_eq!(
        remover.names(b"outside").unwrap().unwrap(),
        [b"file".to_vec()]
    );
    assert!(remover.names(b"nowhere").unwrap().is_none());
    assert!(matches!(remover.names(b"../x"), Err(Error::Path(_))));
}
