//! The whole agent, against a controller and a tape agent that keep everything in memory.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;
#[path = "../../tests/src/nasty.rs"]
#[allow(dead_code)]
mod nasty;
mod packing;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fake::noise::noise;
use fake::{Site, items};
use packing::differences;
use taf_proto::agent::{Ancestor, FetchRecallResponse, RecallItem, result::Done};
use taf_proto::v1::{Collision, Fault};
use tokio::sync::watch;

/// Of noise.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// A folder with `from` and `to` in it, by its real path.
struct Folder {
    _keep: tempfile::TempDir,
    top: PathBuf,
    from: PathBuf,
    to: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let top = keep.path().canonicalize().unwrap();
        let (from, to) = (top.join("from"), top.join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        Self {
            _keep: keep,
            top,
            from,
            to,
        }
    }

    /// Where the source comes out below the target.
    fn restored(&self) -> PathBuf {
        self.to.join(self.from.strip_prefix("/").unwrap())
    }
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn reason(result: &taf_proto::agent::Result) -> &str {
    result.fault.as_ref().map_or("", |fault| &fault.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nasty_tree_goes_to_tape_and_comes_back() {
    let folder = Folder::new();
    nasty::build(&folder.from, 3, root()).unwrap();
    let mut site = Site::start(&[&folder.from], &[&folder.top]).await;
    *site.told.not_ready.lock().unwrap() = 3;
    let result = site.backup(&[&folder.from]).await;
    let Some(Done::Backup(done)) = result.done else {
        panic!("{result:?}");
    };
    let segments = site.told.segments.lock().unwrap().len() as u64;
    assert_eq!(done.last_sequence + 1, segments);
    let stored: usize = site
        .told
        .segments
        .lock()
        .unwrap()
        .iter()
        .map(bytes::Bytes::len)
        .sum();
    assert_eq!(done.stored_byte_count, stored as u64);
    assert_eq!(done.issue_count, site.issues(1).len() as u64);
    assert!(
        site.issues(1)
            .iter()
            .all(|(reason, _)| reason == "UNSUPPORTED")
    );

    site.write_tape();
    // It is not there yet, so it is made.
    let target = folder.to.join("deep/er");
    let result = site.restore(&target).await;
    let Some(Done::Restore(restored)) = result.done else {
        panic!("{result:?}");
    };
    assert_eq!(
        (restored.file_count, restored.byte_count),
        (done.file_count, done.byte_count)
    );
    assert_eq!(restored.directory_count, done.directory_count);
    assert_eq!(site.issues(2), []);
    assert_eq!(*site.told.reads.lock().unwrap(), 1);
    let back = target.join(folder.from.strip_prefix("/").unwrap());
    let left: Vec<_> = differences(&folder.from, &back)
        .into_iter()
        .filter(|line| !line.contains("socket"))
        .collect();
    assert!(left.is_empty(), "{left:#?}");
    let progress = site.told.progress.lock().unwrap();
    assert!(progress.iter().any(|progress| !progress.phase.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_refused_and_said_clearly() {
    let folder = Folder::new();
    fs::write(folder.from.join("a"), "a").unwrap();
    let mut site = Site::start(&[&folder.from.join("sub")], &[&folder.to.join("sub")]).await;
    let result = site.backup(&[&folder.from]).await;
    assert_eq!(reason(&result), "PATH_NOT_ALLOWED");
    let message = &result.fault.as_ref().unwrap().message;
    assert!(message.contains(folder.from.to_str().unwrap()), "{message}");
    let result = site.restore(&folder.from).await;
    assert_eq!(reason(&result), "PATH_NOT_ALLOWED");
    // A link opens no door, also for what does not exist yet.
    fs::create_dir(folder.to.join("sub")).unwrap();
    std::os::unix::fs::symlink(&folder.from, folder.to.join("sub/door")).unwrap();
    for target in ["sub/door", "sub/door/new"] {
        let result = site.restore(&folder.to.join(target)).await;
        assert_eq!(reason(&result), "PATH_NOT_ALLOWED", "{result:?}");
    }
    assert!(!folder.from.join("new").exists());
    fs::create_dir(folder.from.join("sub")).unwrap();
    let result = site
        .backup(&[&folder.from.join("sub"), Path::new("/etc")])
        .await;
    assert_eq!(reason(&result), "PATH_NOT_ALLOWED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_to_the_origin_touches_only_what_is_allowed() {
    let folder = Folder::new();
    fs::create_dir(folder.from.join("in")).unwrap();
    fs::write(folder.from.join("in/a"), "a").unwrap();
    let allowed = folder.from.join("in");
    let mut site = Site::start(&[&folder.from], &[&allowed]).await;
    site.backup(&[&folder.from]).await;
    let (pages, table) = site.write_tape();
    fs::remove_file(folder.from.join("in/a")).unwrap();
    let before = fs::metadata(&folder.from).unwrap().modified().unwrap();
    let result = site.restore(Path::new("/")).await;
    assert!(matches!(result.done, Some(Done::Restore(_))), "{result:?}");
    assert_eq!(fs::read(folder.from.join("in/a")).unwrap(), b"a");
    assert_eq!(
        fs::metadata(&folder.from).unwrap().modified().unwrap(),
        before
    );
    // An entry beside it ends the restore.
    let mut items = items(&pages);
    let beside = folder.from.join("beside");
    items.last_mut().unwrap().path = fake::raw(beside.strip_prefix("/").unwrap());
    site.set_recall(&table, &items);
    let result = site.restore(Path::new("/")).await;
    assert_eq!(reason(&result), "PATH_NOT_ALLOWED");
    assert!(!beside.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_fault_is_passed_on_and_a_broken_connection_named() {
    let folder = Folder::new();
    // Does not compress: several megabytes must be sent.
    fs::write(folder.from.join("noise"), noise(30 << 20, SEED)).unwrap();
    let mut site = Site::start(&[&folder.from], &[]).await;
    let fault = Fault {
        reason: "WRITE_ERROR".into(),
        message: "the drive failed".into(),
        next_step: "clean it".into(),
    };
    *site.told.write_fault.lock().unwrap() = Some((5, fault.clone()));
    let result = site.backup(&[&folder.from]).await;
    assert_eq!(result.fault, Some(fault));
    *site.told.write_fault.lock().unwrap() = None;
    *site.told.write_break.lock().unwrap() = Some(5);
    let result = site.backup(&[&folder.from]).await;
    assert_eq!(reason(&result), "PEER_LOST", "{result:?}");
    *site.told.write_break.lock().unwrap() = None;
    let result = site.backup(&[&folder.from]).await;
    assert!(result.done.is_some(), "{result:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_vanishes_stops_its_job_and_memory_is_bounded_meanwhile() {
    let folder = Folder::new();
    fs::write(folder.from.join("noise"), noise(120 << 20, SEED)).unwrap();
    let mut site = Site::start(&[&folder.from], &[]).await;
    let (release, hold) = watch::channel(true);
    *site.told.hold.lock().unwrap() = Some(hold);
    site.assign_backup(&[&folder.from]);
    // The worker takes nothing: the agent reads as far as its buffers go, and no further.
    let read = async || {
        let progress = site.told.progress.lock().unwrap();
        progress.last().map_or(0, |progress| progress.byte_count)
    };
    let mut last = 0;
    let mut still = 0;
    while still < 4 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let now = read().await;
        still = if now == last && now > 0 { still + 1 } else { 0 };
        last = now;
    }
    assert!(last < 100 << 20, "{last} bytes were read ahead");
    site.unassign_all();
    let result = site.result().await;
    assert_eq!(reason(&result), "STOPPED");
    drop(release);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_costs_the_entries_it_touches_and_no_others() {
    let folder = Folder::new();
    for n in 0..40 {
        let mut content = noise(700_000, SEED);
        content[0] = n;
        fs::write(folder.from.join(format!("file{n:02}")), content).unwrap();
    }
    fs::hard_link(folder.from.join("file20"), folder.from.join("second-name")).unwrap();
    let mut site = Site::start(&[&folder.from], &[&folder.to]).await;
    site.backup(&[&folder.from]).await;
    let (_, table) = site.write_tape();
    assert!(table.len() >= 6);
    // One segment can't be read, and another one was written wrong.
    let unread = table.segments()[2];
    site.told
        .bad
        .lock()
        .unwrap()
        .push(unread.byte_offset + 50..unread.byte_offset + 60);
    let wrong = table.segments()[4];
    site.told.tape.lock().unwrap()[wrong.byte_offset as usize + 5000] ^= 1;
    let result = site.restore(&folder.to).await;
    let Some(Done::Restore(done)) = result.done else {
        panic!("{result:?}");
    };
    let mut expected: Vec<_> = Vec::new();
    let recall = site.told.recall.lock().unwrap().clone();
    let recalled = recall
        .iter()
        .filter_map(|message| match message.message.as_ref() {
            Some(taf_proto::agent::fetch_recall_response::Message::Items(items)) => {
                Some(&items.items)
            }
            _ => None,
        });
    for item in recalled.flatten() {
        let (start, end) = (item.tar_offset, item.tar_offset + item.tar_length);
        // The padding at an entry's end is of no worth.
        let touched = [unread, wrong]
            .iter()
            .any(|bad| start < bad.tar_end() && bad.tar_offset < end);
        // The fake's pieces are coarse: what shares a piece with the bad bytes is lost as well.
        let near = table.covering(start..end).iter().any(|segment| {
            segment.byte_offset < unread.byte_offset + 310_000
                && unread.byte_offset < segment.byte_end() + 310_000
        });
        if touched {
            expected.push(folder.to.join(std::str::from_utf8(&item.path).unwrap()));
        } else if !near {
            let path = folder.to.join(std::str::from_utf8(&item.path).unwrap());
            assert!(path.exists(), "{}", path.display());
        }
    }
    let issues = site.issues(2);
    assert!(
        issues.iter().all(|(reason, _)| reason == "DAMAGED"),
        "{issues:?}"
    );
    for path in &expected {
        assert!(
            issues.iter().any(|(_, issue)| issue == path),
            "{}",
            path.display()
        );
        assert!(!path.exists(), "{}", path.display());
    }
    assert!(!expected.is_empty() && done.file_count > 15);
    assert_eq!(done.file_count + issues.len() as u64, 41);
    // Nothing half done remains.
    let restored = folder.restored();
    for entry in fs::read_dir(&restored).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(".taf"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_recall_writes_nothing_outside() {
    let folder = Folder::new();
    fs::write(folder.from.join("a"), "aaaa").unwrap();
    fs::write(folder.from.join("b"), "bbbb").unwrap();
    let mut site = Site::start(&[&folder.from], &[&folder.to]).await;
    site.backup(&[&folder.from]).await;
    let (pages, table) = site.write_tape();
    let good = items(&pages);
    let a = good
        .iter()
        .find(|item| item.path.ends_with(b"/a"))
        .unwrap()
        .clone();
    let evil = |path: &str| RecallItem {
        path: path.as_bytes().to_vec().into(),
        link_group: 9,
        ..a.clone()
    };
    let ancestor = Some(Ancestor {
        mode: 0o4777,
        ..Ancestor::default()
    });
    let hostile = vec![
        evil("../outside"),
        evil("/outside"),
        RecallItem {
            path: "../above".as_bytes().into(),
            ancestor,
            ..RecallItem::default()
        },
        // Another entry than the one that is there.
        RecallItem {
            path: "mine".as_bytes().into(),
            ..a.clone()
        },
        // No such place, within an entry, without end, in another archive.
        RecallItem {
            tar_offset: 1 << 50,
            ..a.clone()
        },
        RecallItem {
            tar_offset: a.tar_offset + 512,
            ..a.clone()
        },
        RecallItem {
            tar_length: u64::MAX,
            ..a.clone()
        },
        RecallItem {
            archive_ordinal: 7,
            ..a.clone()
        },
        // A wrong hash.
        RecallItem {
            hash: vec![1; 16].into(),
            ..a.clone()
        },
        // Again and again the same place.
        a.clone(),
        a.clone(),
    ];
    let count = hostile.len();
    site.set_recall(&table, &hostile);
    let result = site.restore(&folder.to).await;
    assert!(matches!(result.done, Some(Done::Restore(_))), "{result:?}");
    assert_eq!(fs::read(folder.restored().join("a")).unwrap(), b"aaaa");
    let mut names: Vec<_> = fs::read_dir(&folder.top)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["from", "to"]);
    assert!(!folder.to.join("mine").exists());
    let issues = site.issues(2);
    assert_eq!(issues.len(), count - 1, "{issues:#?}");
    for wanted in ["PATH_REFUSED", "DAMAGED", "EXISTS"] {
        assert!(
            issues.iter().any(|(reason, _)| reason == wanted),
            "{wanted}: {issues:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn items_out_of_order_and_links_whose_first_name_is_taken_come_in_another_pass() {
    let folder = Folder::new();
    for n in 0..12 {
        let mut content = noise(2 << 20, SEED);
        content[0] = n;
        fs::write(folder.from.join(format!("file{n:02}")), content).unwrap();
    }
    for name in ["x", "y"] {
        fs::hard_link(folder.from.join("file00"), folder.from.join(name)).unwrap();
    }
    let mut site = Site::start(&[&folder.from], &[&folder.to]).await;
    site.backup(&[&folder.from]).await;
    let (pages, table) = site.write_tape();
    let mut items = items(&pages);
    items.reverse();
    site.set_recall(&table, &items);
    let result = site.restore(&folder.to).await;
    assert!(matches!(result.done, Some(Done::Restore(_))), "{result:?}");
    assert_eq!(site.issues(2), []);
    assert_eq!(*site.told.reads.lock().unwrap(), 2);
    let back = folder.restored();
    assert_eq!(differences(&folder.from, &back), Vec::<String>::new());

    // Everything but two names of the linked file is there already, one of them with the first item's name.
    items.reverse();
    site.set_recall(&table, &items);
    for name in ["x", "y"] {
        fs::remove_file(back.join(name)).unwrap();
    }
    let result = site.restore(&folder.to).await;
    assert!(matches!(result.done, Some(Done::Restore(_))), "{result:?}");
    assert!(site.issues(3).iter().all(|(reason, _)| reason == "EXISTS"));
    assert_eq!(site.issues(3).len(), 12);
    assert_eq!(
        fs::read(back.join("x")).unwrap(),
        fs::read(folder.from.join("x")).unwrap()
    );
    assert_eq!(
        fs::metadata(back.join("x")).unwrap().ino(),
        fs::metadata(back.join("y")).unwrap().ino()
    );
}

/// What a site tells of its version, as one that is not whole, of this revision.
fn of_revision(site: &Site, revision: &'static [u8]) -> Vec<FetchRecallResponse> {
    let mut recall = site.told.recall.lock().unwrap().clone();
    for message in &mut recall {
        message.revision = revision.into();
    }
    recall
}

/// A site with a backup of so many files that a recall of them takes several messages, on tape.
async fn of_many_files(folder: &Folder) -> Site {
    for n in 0..350 {
        fs::write(folder.from.join(format!("file{n:03}")), [n as u8; 9]).unwrap();
    }
    let mut site = Site::start(&[&folder.from], &[&folder.to]).await;
    site.backup(&[&folder.from]).await;
    site.write_tape();
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_changes_while_the_controller_is_away_is_not_gone_on_with() {
    let folder = Folder::new();
    let mut site = of_many_files(&folder).await;
    // A rescan has met more of it, which comes before what was taken already.
    *site.told.recall_then.lock().unwrap() = Some(of_revision(&site, b"two"));
    let before = of_revision(&site, b"one");
    *site.told.recall.lock().unwrap() = before;
    *site.told.recall_breaks.lock().unwrap() = vec![2];
    let result = site.restore(&folder.to).await;
    let fault = result.fault.unwrap();
    assert_eq!(fault.reason, "VERSION_CHANGED", "{fault:?}");
    assert!(fault.next_step.contains("repeat the restore"), "{fault:?}");
    // If it is as it was, the restore goes on.
    let folder = Folder::new();
    let mut site = of_many_files(&folder).await;
    let same = of_revision(&site, b"two");
    *site.told.recall.lock().unwrap() = same;
    *site.told.recall_breaks.lock().unwrap() = vec![0, 2];
    let result = site.restore(&folder.to).await;
    assert!(matches!(result.done, Some(Done::Restore(_))), "{result:?}");
    assert_eq!(site.issues(2), []);
    assert_eq!(
        differences(&folder.from, &folder.restored()),
        Vec::<String>::new()
    );
    assert!(site.told.recall_breaks.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_goes_away_while_it_lists_is_asked_again() {
    let folder = Folder::new();
    let mut site = of_many_files(&folder).await;
    assert!(site.told.recall.lock().unwrap().len() >= 4);
    // Before the first part, between parts and items, within the items, and once without any progress.
    *site.told.recall_breaks.lock().unwrap() = vec![0, 1, 3, 2];
    let result = site.restore(&folder.to).await;
    assert!(matches!(result.done, Some(Done::Restore(_))), "{result:?}");
    assert_eq!(site.issues(2), []);
    assert!(site.told.recall_breaks.lock().unwrap().is_empty());
    assert_eq!(
        differences(&folder.from, &folder.restored()),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_above_are_made_with_their_metadata_or_left_alone() {
    let folder = Folder::new();
    fs::write(folder.from.join("a"), "a").unwrap();
    let mut site = Site::start(&[&folder.from], &[&folder.to]).await;
    site.backup(&[&folder.from]).await;
    let (pages, table) = site.write_tape();
    let mut list: Vec<RecallItem> = Vec::new();
    let mut path = PathBuf::new();
    for component in folder.from.strip_prefix("/").unwrap().parent().unwrap() {
        path.push(component);
        list.push(RecallItem {
            path: fake::raw(&path),
            ancestor: Some(Ancestor {
                above: true,
                mode: 0o751,
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                mtime_seconds: 1_000_000_000,
                mtime_nanos: 5,
            }),
            ..RecallItem::default()
        });
    }
    let ancestors = list.len();
    assert!(ancestors >= 2);
    list.extend(items(&pages).into_iter().skip(ancestors));
    site.set_recall(&table, &list);
    let first = folder.from.components().nth(1).unwrap();
    fs::create_dir(folder.to.join(first)).unwrap();
    fs::set_permissions(folder.to.join(first), fs::Permissions::from_mode(0o700)).unwrap();
    site.assign_restore(&folder.to, Collision::Always);
    let result = site.result().await;
    assert!(matches!(result.done, Some(Done::Restore(_))), "{result:?}");
    assert_eq!(site.issues(2), []);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder.to.join(first)), 0o700);
    let made = folder.restored().parent().unwrap().to_owned();
    assert_eq!(mode(&made), 0o751);
    let modified = fs::metadata(&made).unwrap().modified().unwrap();
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert_eq!((since.as_secs(), since.subsec_nanos()), (1_000_000_000, 5));
}
