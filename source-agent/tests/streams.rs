//! One backup over two drives: one walk, split at directories. And restores: one whose second drive fails before it gives anything,
//! and one that gives its drive back and needs one again.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use fake::noise::noise;
use fake::{Site, Told, Turn, items, recall};
use taf_format::entry::Kind;
use taf_format::page::{self, Dictionaries, Page};
use taf_format::record::{self, Body};
use taf_format::segment;
use taf_proto::agent::{Ancestor, BackupDone, RecallItem, RestoreDone, Result, result::Done};
use taf_proto::v1::{Collision, DumpFormat, Fault};
use tokio::sync::watch;

const DIRECTORIES: usize = 40;

/// A source with more in it than is held between the walk and a drive. Names of one file lie in many directories.
fn source() -> (tempfile::TempDir, PathBuf) {
    let keep = tempfile::tempdir().unwrap();
    let top = keep.path().canonicalize().unwrap().join("from");
    fs::create_dir(&top).unwrap();
    fs::write(top.join("first"), noise(50_000, 1)).unwrap();
    for n in 0..DIRECTORIES {
        let folder = top.join(format!("d{n:02}"));
        fs::create_dir_all(folder.join("below")).unwrap();
        for file in 0..8 {
            let bytes = noise(300_000, (n * 8 + file + 2) as u64);
            fs::write(folder.join(format!("file{file}")), bytes).unwrap();
        }
        fs::write(folder.join("below/small"), format!("{n}")).unwrap();
        fs::hard_link(top.join("first"), folder.join("again")).unwrap();
    }
    (keep, top)
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

fn segments(told: &Told) -> usize {
    told.segments.lock().unwrap().len()
}

/// The results of so many assignments, by attempt.
async fn results(site: &mut Site, count: usize) -> HashMap<u64, Result> {
    let mut results = HashMap::new();
    for _ in 0..count {
        let result = site.result().await;
        results.insert(result.key.unwrap().attempt, result);
    }
    results
}

fn done(result: &Result) -> BackupDone {
    match &result.done {
        Some(Done::Backup(done)) => *done,
        _ => panic!("{result:?}"),
    }
}

fn reason(result: &Result) -> &str {
    result.fault.as_ref().map_or("", |fault| &fault.reason)
}

/// The tar stream of an archive and its pages.
fn archive(told: &Told) -> (Vec<u8>, Vec<Page>) {
    let (mut tar, mut pages) = (Vec::new(), Vec::new());
    let dictionaries = Dictionaries::default();
    let segments = told.segments.lock().unwrap();
    for (index, bytes) in segments.iter().enumerate() {
        let opened = segment::open(bytes).unwrap();
        assert_eq!(opened.header.last, index + 1 == segments.len());
        for record in record::iter(&opened.records) {
            if let Some(Body::Page(page)) = record.unwrap().record {
                let decoded =
                    page::decode(&page.chunk, &page.body, Some(&page.hashes), &dictionaries);
                pages.push(decoded.unwrap());
            }
        }
        tar.extend(opened.tar);
    }
    (tar, pages)
}

/// Unpacks with the standard tool, which must find nothing wrong.
fn untar(tar: &[u8], to: &Path) {
    let mut child = Command::new("tar")
        .args(["-xpf", "-", "-C"])
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(tar).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Starts a backup whose first drive takes nothing yet; gives its attempt and what lets the drive go on.
fn begin(site: &mut Site, top: &Path) -> (u64, watch::Sender<bool>) {
    site.streams = 2;
    let (release, hold) = watch::channel(true);
    *site.told.hold.lock().unwrap() = Some(hold);
    (site.assign_backup(&[top]), release)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_over_two_drives_is_split_at_directories() {
    let (_keep, top) = source();
    let mut site = Site::start(&[&top], &[]).await;
    let (first, release) = begin(&mut site, &top);
    // The second drive comes late, and has work at once, while the first one takes nothing.
    until("the walk has begun", || {
        let progress = site.told.progress.lock().unwrap();
        progress.iter().any(|progress| progress.byte_count > 0)
    })
    .await;
    let second = site.assign_stream(first);
    until("the second drive gets something", || {
        segments(&site.second) > 3
    })
    .await;
    release.send_replace(false);
    let results = results(&mut site, 2).await;
    let (one, two) = (done(&results[&first]), done(&results[&second]));
    assert!(!two.dropped && two.last_sequence > 3, "{two:?}");
    // The path to the source is directories too.
    let above = top.strip_prefix("/").unwrap().components().count() as u64;
    assert_eq!(
        one.file_count + two.file_count,
        (DIRECTORIES * 10 + 1) as u64
    );
    assert_eq!(
        one.directory_count + two.directory_count,
        (DIRECTORIES * 2) as u64 + above
    );
    // The bytes of the file with many names count once, wherever else they are stored again.
    let small: usize = (0..DIRECTORIES).map(|n| n.to_string().len()).sum();
    let bytes = 50_000 + DIRECTORIES * 8 * 300_000 + small;
    assert_eq!(one.byte_count + two.byte_count, bytes as u64);

    let archives = [archive(&site.told), archive(&site.second)];
    let mut listed: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    let mut linked = Vec::new();
    for (ordinal, (_, pages)) in (1..).zip(&archives) {
        for page in pages {
            let header = page.header.as_ref().unwrap();
            if let Some(place) = header.place {
                assert_eq!(place.archive_ordinal, ordinal);
            }
            let twice = listed.insert(page.directory.clone(), ordinal);
            assert_eq!(twice, None, "{:?}", page.directory);
            for entry in page.entries.iter().filter(|e| e.kind == Kind::File) {
                let place = entry.place.unwrap();
                if entry.link_group == 0 {
                    assert_eq!(place.archive_ordinal, ordinal);
                } else {
                    linked.push((place, entry.hash));
                }
            }
        }
    }
    assert_eq!(listed.len(), DIRECTORIES * 2 + above as usize + 1);
    assert_eq!(linked.len(), DIRECTORIES + 1);
    assert!(linked.windows(2).all(|pair| pair[0] == pair[1]));
    // Each tape by itself gives all that its pages list, links across the two included.
    for (ordinal, (tar, _)) in (1..).zip(&archives) {
        let to = tempfile::tempdir().unwrap();
        untar(tar, to.path());
        let from = Path::new("/");
        for (directory, _) in listed.iter().filter(|(_, of)| **of == ordinal) {
            let directory = Path::new(std::str::from_utf8(directory).unwrap());
            for entry in fs::read_dir(from.join(directory)).unwrap() {
                let entry = entry.unwrap();
                let path = directory.join(entry.file_name());
                if !entry.file_type().unwrap().is_file() || !from.join(&path).starts_with(&top) {
                    continue;
                }
                let read = |below: &Path| fs::read(below.join(&path)).unwrap();
                assert!(read(from) == read(to.path()), "{}", path.display());
            }
        }
        let again = |n: usize| {
            to.path()
                .join(top.strip_prefix("/").unwrap())
                .join(format!("d{n:02}/again"))
        };
        let inodes: Vec<u64> = (0..DIRECTORIES)
            .filter_map(|n| fs::metadata(again(n)).ok())
            .map(|meta| meta.ino())
            .collect();
        assert!(inodes.len() > 1 && inodes.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_comes_too_late_is_dropped() {
    let (_keep, top) = source();
    let mut site = Site::start(&[&top], &[]).await;
    // Its drive is never ready in time.
    *site.second.not_ready.lock().unwrap() = u32::MAX;
    let (first, release) = begin(&mut site, &top);
    let second = site.assign_stream(first);
    release.send_replace(false);
    let both = results(&mut site, 2).await;
    assert!(!done(&both[&first]).dropped);
    assert!(done(&both[&second]).dropped);
    // Another one comes when all is done.
    let third = site.assign_stream(first);
    let late = results(&mut site, 1).await;
    assert!(done(&late[&third]).dropped);
    assert_eq!(segments(&site.second), 0);
    let (tar, pages) = archive(&site.told);
    assert!(!tar.is_empty() && pages.len() > DIRECTORIES * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_can_not_begin_does_no_harm() {
    let (_keep, top) = source();
    let mut site = Site::start(&[&top], &[]).await;
    *site.second.open_fault.lock().unwrap() = Some(Fault {
        reason: "WRONG_VOLUME".into(),
        ..Fault::default()
    });
    let (first, release) = begin(&mut site, &top);
    let second = site.assign_stream(first);
    let early = results(&mut site, 1).await;
    assert!(done(&early[&second]).dropped);
    release.send_replace(false);
    let late = results(&mut site, 1).await;
    assert!(!done(&late[&first]).dropped);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_stream_fails_all_end_and_say_which() {
    let (_keep, top) = source();
    let mut site = Site::start(&[&top], &[]).await;
    let fault = Fault {
        reason: "WRITE_ERROR".into(),
        message: "the drive failed".into(),
        next_step: "clean it".into(),
    };
    *site.second.write_fault.lock().unwrap() = Some((5, fault.clone()));
    let (first, release) = begin(&mut site, &top);
    let second = site.assign_stream(first);
    let both = results(&mut site, 2).await;
    assert_eq!(both[&second].fault, Some(fault));
    assert_eq!(reason(&both[&first]), "OTHER_STREAM");
    let message = &both[&first].fault.as_ref().unwrap().message;
    assert!(message.contains("the drive failed"), "{message}");
    drop(release);

    // The other way round: the first drive's connection breaks.
    *site.second.write_fault.lock().unwrap() = None;
    site.second.segments.lock().unwrap().clear();
    *site.told.write_break.lock().unwrap() = Some(2);
    let (first, release) = begin(&mut site, &top);
    let second = site.assign_stream(first);
    until("the second drive gets something", || {
        segments(&site.second) > 0
    })
    .await;
    release.send_replace(false);
    let both = results(&mut site, 2).await;
    assert_eq!(reason(&both[&first]), "PEER_LOST");
    assert_eq!(reason(&both[&second]), "OTHER_STREAM");

    // Nothing of it stays: the next backup is whole.
    *site.told.write_break.lock().unwrap() = None;
    *site.told.hold.lock().unwrap() = None;
    site.unassign_all();
    site.streams = 0;
    let result = site.backup(&[&top]).await;
    assert_eq!(done(&result).file_count, (DIRECTORIES * 10 + 1) as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assignment_that_vanishes_ends_all_streams() {
    let (_keep, top) = source();
    let mut site = Site::start(&[&top], &[]).await;
    let (first, release) = begin(&mut site, &top);
    let second = site.assign_stream(first);
    until("the second drive gets something", || {
        segments(&site.second) > 0
    })
    .await;
    site.unassign_all();
    let both = results(&mut site, 2).await;
    for attempt in [first, second] {
        let reason = reason(&both[&attempt]);
        assert!(["STOPPED", "OTHER_STREAM"].contains(&reason), "{reason}");
    }
    drop(release);
}

/// A source with five files, and where they are restored to.
struct Five {
    _keep: tempfile::TempDir,
    from: PathBuf,
    to: PathBuf,
}

impl Five {
    fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let folder = keep.path().canonicalize().unwrap();
        let (from, to) = (folder.join("from"), folder.join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        for n in 0..5 {
            fs::write(from.join(n.to_string()), noise(200_000, n + 1)).unwrap();
        }
        Self {
            _keep: keep,
            from,
            to,
        }
    }

    fn are_restored(&self, result: &Result) {
        let done = restored(result);
        assert_eq!((done.file_count, done.issue_count), (5, 0));
        let below = self.to.join(self.from.strip_prefix("/").unwrap());
        for n in 0..5 {
            let name = n.to_string();
            let read = |top: &Path| fs::read(top.join(&name)).unwrap();
            assert!(read(&self.from) == read(&below));
        }
    }
}

fn restored(result: &Result) -> RestoreDone {
    match &result.done {
        Some(Done::Restore(done)) => done.clone(),
        _ => panic!("{result:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_drive_never_gives_anything_leaves_its_volumes_to_others() {
    let five = Five::new();
    let mut site = Site::start(&[&five.from], &[&five.to]).await;
    site.backup(&[&five.from]).await;
    site.write_tape();
    // A worker that failed to mount the volume, or was started anew, only says that it is not ready: the controller knows.
    *site.second.not_ready.lock().unwrap() = u32::MAX;
    *site.told.lost.lock().unwrap() = Some("LOAD_FAILED");
    *site.told.waits.lock().unwrap() = Some(2);
    let first = site.assign_restore(&five.to, Collision::Never);
    assert_eq!(first, 2);
    until("the first stream can be joined", || {
        *site.told.waited.lock().unwrap() > 0
    })
    .await;
    let second = site.assign_reader(&five.to, first);
    let early = results(&mut site, 1).await;
    assert!(restored(&early[&second]).dropped);
    assert!(!site.told.asked.lock().unwrap().is_empty());
    *site.told.waits.lock().unwrap() = None;
    let late = results(&mut site, 1).await;
    five.are_restored(&late[&first]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_needs_a_drive_again_asks_for_the_volume_that_is_read_next() {
    let five = Five::new();
    let mut site = Site::start(&[&five.from], &[&five.to]).await;
    site.backup(&[&five.from]).await;
    let (pages, table) = site.write_tape();
    let items = items(&pages);
    let (early, late) = items.split_at(items.len() / 2);
    let [one, read, next] = [[0; 16], [1; 16], [2; 16]].map(|uuid| Bytes::copy_from_slice(&uuid));
    // Of the second turn another stream has read all that is on its first volume.
    let mut rest = recall(&table, &[], &read);
    rest.extend(recall(&table, late, &next));
    *site.told.turns.lock().unwrap() = vec![
        Turn {
            recordings: vec![one.clone()],
            recall: recall(&table, early, &one),
        },
        Turn {
            recordings: vec![read.clone(), next.clone()],
            recall: rest,
        },
    ];
    site.is_in_second_drive([2; 16]);
    // For longer than it calls without asking the controller what became of the drive.
    *site.second.not_ready.lock().unwrap() = 6;
    let result = site.restore(&five.to).await;
    five.are_restored(&result);
    assert!(*site.told.rested.lock().unwrap());
    let asked = site.told.asked.lock().unwrap().clone();
    assert!(asked.contains(&next) && !asked.contains(&read), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_that_lists_less_than_was_counted_is_no_good_end() {
    let five = Five::new();
    let mut site = Site::start(&[&five.from], &[&five.to]).await;
    site.backup(&[&five.from]).await;
    let (pages, table) = site.write_tape();
    let mut items = items(&pages);
    site.entry_count = items.len() as u64;
    // What lies above what was asked for was not counted, and makes up for nothing.
    let above = Ancestor {
        mode: 0o755,
        above: true,
        ..Ancestor::default()
    };
    let above = RecallItem {
        path: Bytes::from_static(b"above"),
        ancestor: Some(above),
        ..RecallItem::default()
    };
    items.insert(0, above);
    site.set_recall(&table, &items);
    five.are_restored(&site.restore(&five.to).await);
    let (whole, _) = site.dump(DumpFormat::Tar).await;
    assert_eq!(restored(&whole).file_count, 5);

    site.entry_count += 1;
    let less = site.restore(&five.to).await;
    assert_eq!(reason(&less), "RECALL_INCOMPLETE");
    let (less, bytes) = site.dump(DumpFormat::Tar).await;
    assert_eq!(reason(&less), "RECALL_INCOMPLETE");
    // Nor has the archive an end.
    assert!(!bytes.ends_with(&[0; 1024]));
    let last_word = site.told.reader.last_word.lock().unwrap().clone();
    assert!(last_word.is_some_and(|word| word.is_err()));
}
