//! Dumps: a tree as a tar archive that other people's programs unpack, and one file as its bytes. The whole agent, against a
//! controller and a tape agent that keep everything in memory.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;
#[path = "../../tests/src/nasty.rs"]
#[allow(dead_code)]
mod nasty;
mod packing;

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fake::noise::noise;
use fake::{Site, items};
use packing::differences;
use taf_proto::agent::{RecallItem, result::Done};
use taf_proto::v1::DumpFormat;

/// A folder with `from` in it, by its real path.
struct Folder {
    _keep: tempfile::TempDir,
    top: PathBuf,
    from: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let keep = tempfile::tempdir().unwrap();
        let top = keep.path().canonicalize().unwrap();
        let from = top.join("from");
        fs::create_dir(&from).unwrap();
        Self {
            _keep: keep,
            top,
            from,
        }
    }

    async fn site(&self) -> Site {
        Site::start(&[&self.from], &[&self.top]).await
    }

    /// Unpacks with another program. Gives where the source comes out, and what it complained of.
    fn unpacked(&self, bytes: &[u8], name: &str, program: &[&str]) -> (PathBuf, String) {
        let to = self.top.join(name);
        fs::create_dir(&to).unwrap();
        let archive = self.top.join(format!("{name}.tar"));
        fs::write(&archive, bytes).unwrap();
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).current_dir(&to);
        let piped = command.stdin(fs::File::open(&archive).unwrap());
        let output = piped.stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program:?}: {said}");
        (to.join(self.from.strip_prefix("/").unwrap()), said)
    }

    fn by_gnu_tar(&self, bytes: &[u8], name: &str) -> (PathBuf, String) {
        let gnu = [
            "tar",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "-xpf",
            "-",
        ];
        self.unpacked(bytes, name, &gnu)
    }
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn done(result: &taf_proto::agent::Result) -> taf_proto::agent::RestoreDone {
    match &result.done {
        Some(Done::Restore(done)) => done.clone(),
        _ => panic!("{result:?}"),
    }
}

fn item_of<'a>(items: &'a [RecallItem], path: &Path) -> &'a RecallItem {
    let raw = &path.as_os_str().as_bytes()[1..];
    items.iter().find(|item| item.path == raw).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nasty_tree_is_unpacked_by_other_programs() {
    let folder = Folder::new();
    nasty::build(&folder.from, 3, root()).unwrap();
    let mut site = folder.site().await;
    let stored = site.backup(&[&folder.from]).await;
    let Some(Done::Backup(stored)) = stored.done else {
        panic!("{stored:?}");
    };
    site.write_tape();
    let (result, bytes) = site.dump(DumpFormat::Tar).await;
    let told = done(&result);
    assert_eq!(
        (told.file_count, told.directory_count, told.byte_count),
        (stored.file_count, stored.directory_count, stored.byte_count)
    );
    assert_eq!((site.issues(2), bytes.len() % 10_240), (Vec::new(), 0));
    assert_eq!(*site.told.reader.last_word.lock().unwrap(), Some(Ok(told)));
    let left = |back: &Path| {
        let all = differences(&folder.from, back).into_iter();
        all.filter(|line| !line.contains("socket"))
            .collect::<Vec<_>>()
    };
    let (back, said) = folder.by_gnu_tar(&bytes, "gnu");
    // It wonders at some dates, and sets them.
    let said: Vec<_> = said.lines().filter(|l| !l.contains("time stamp")).collect();
    assert_eq!((left(&back), said), (Vec::new(), Vec::new()));
    if Command::new("bsdtar").arg("--version").output().is_ok() {
        let bsd = ["bsdtar", "--numeric-owner", "-xpf", "-"];
        let (back, _) = folder.unpacked(&bytes, "bsd", &bsd);
        // It takes fractions of a second before 1970 the wrong way, and does not undo `%3D` in names of attributes: see FORMAT.md.
        let known = |line: &&String| line.starts_with("dates") || line.contains("%3D");
        let left = left(&back);
        let unknown: Vec<&String> = left.iter().filter(|line| !known(line)).collect();
        assert_eq!(unknown, Vec::<&String>::new());
    }
}

/// Further names whose bytes come under the first, in a directory whose turn was over; and items that only another pass brings.
#[tokio::test(flavor = "multi_thread")]
async fn directories_have_their_times_although_something_comes_late() {
    let folder = Folder::new();
    for directory in ["a/inner", "b", "c"] {
        fs::create_dir_all(folder.from.join(directory)).unwrap();
        for n in 0..3 {
            let content = noise(1 << 20, n + 1);
            fs::write(folder.from.join(directory).join(n.to_string()), content).unwrap();
        }
    }
    fs::hard_link(folder.from.join("c/0"), folder.from.join("a/inner/z")).unwrap();
    let times = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1));
    for directory in ["a/inner", "a", "b", "c"] {
        let opened = fs::File::open(folder.from.join(directory)).unwrap();
        opened.set_times(times).unwrap();
    }
    let mut site = folder.site().await;
    site.backup(&[&folder.from]).await;
    let (pages, table) = site.write_tape();
    let mut items = items(&pages);
    // As of files that an older archive has: behind everything else, and needing another pass.
    let late = items.iter().position(|item| item.path.ends_with(b"b/1"));
    let late = items.remove(late.unwrap());
    items.push(late);
    site.set_recall(&table, &items);
    let (result, bytes) = site.dump(DumpFormat::Tar).await;
    assert_eq!(done(&result).issue_count, 0);
    let (back, _) = folder.by_gnu_tar(&bytes, "gnu");
    assert_eq!(differences(&folder.from, &back), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_comes_as_its_bytes_with_zeros_for_holes() {
    let folder = Folder::new();
    let sparse = folder.from.join("sparse");
    let file = fs::File::create(&sparse).unwrap();
    for at in [1_u64 << 20, 9 << 20] {
        use std::os::unix::fs::FileExt as _;
        file.write_all_at(&noise(3 << 20, at), at).unwrap();
    }
    file.set_len(20 << 20).unwrap();
    let small = folder.from.join("small");
    fs::write(&small, "a few words").unwrap();
    let mut site = folder.site().await;
    site.backup(&[&folder.from]).await;
    let (pages, table) = site.write_tape();
    let items = items(&pages);
    for path in [&sparse, &small] {
        site.set_recall(&table, &[item_of(&items, path).clone()]);
        let (result, bytes) = site.dump(DumpFormat::File).await;
        assert_eq!(done(&result).file_count, 1);
        assert!(bytes == fs::read(path).unwrap(), "{}", path.display());
    }
    // What is no file has no bytes.
    site.set_recall(&table, &[item_of(&items, &folder.from).clone()]);
    let (result, bytes) = site.dump(DumpFormat::File).await;
    assert_eq!(result.fault.unwrap().reason, "FILE_DAMAGED");
    assert!(bytes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_never_looks_whole() {
    let folder = Folder::new();
    let (large, small) = (folder.from.join("b-large"), folder.from.join("c-small"));
    fs::write(folder.from.join("a-whole"), noise(2 << 20, 5)).unwrap();
    fs::write(&large, noise(14 << 20, 6)).unwrap();
    fs::hard_link(&large, folder.from.join("bb-second-name")).unwrap();
    fs::write(&small, noise(1 << 20, 7)).unwrap();
    fs::write(folder.from.join("d-whole"), noise(2 << 20, 8)).unwrap();
    let mut site = folder.site().await;
    site.backup(&[&folder.from]).await;
    let (pages, table) = site.write_tape();
    let items = items(&pages);
    // The large file breaks off in its midst; that the small one is not what it was only its hash says.
    let in_large = item_of(&items, &large).tar_offset + (9 << 20);
    let bad = table.covering(in_large..in_large + 1)[0];
    site.told.tape.lock().unwrap()[bad.byte_offset as usize + 5_000] ^= 1;
    let mut wrong = items.clone();
    let raw = small.as_os_str().as_bytes();
    let of_small = wrong.iter_mut().find(|item| item.path == raw[1..]);
    of_small.unwrap().hash = vec![7; 16].into();
    site.set_recall(&table, &wrong);
    let (result, bytes) = site.dump(DumpFormat::Tar).await;
    let told = done(&result);
    assert_eq!((told.file_count, told.issue_count), (2, 3));
    let mut issues = site.issues(2);
    issues.sort();
    let damaged = |path: &Path| ("DAMAGED".to_owned(), path.to_owned());
    let second = folder.from.join("bb-second-name");
    assert_eq!(issues, [damaged(&large), damaged(&second), damaged(&small)]);
    let (back, said) = folder.by_gnu_tar(&bytes, "gnu");
    assert_eq!(said, "");
    for whole in ["a-whole", "d-whole"] {
        assert!(fs::read(back.join(whole)).unwrap() == fs::read(folder.from.join(whole)).unwrap());
    }
    let link = fs::read_link(back.join("b-large")).unwrap();
    assert_eq!(link, Path::new("DAMAGED-ON-TAPE"));
    for absent in ["bb-second-name", "c-small"] {
        assert!(fs::symlink_metadata(back.join(absent)).is_err(), "{absent}");
    }
    // By itself it is an error, and of the small one nothing was sent.
    for (path, sent) in [(&large, true), (&small, false)] {
        site.set_recall(&table, &[item_of(&wrong, path).clone()]);
        let (result, bytes) = site.dump(DumpFormat::File).await;
        assert_eq!(result.fault.as_ref().unwrap().reason, "FILE_DAMAGED");
        let last_word = site.told.reader.last_word.lock().unwrap().clone();
        assert_eq!(last_word.unwrap().unwrap_err().reason, "FILE_DAMAGED");
        assert!(bytes.len() < 14 << 20 && bytes.is_empty() != sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_slows_it_and_one_that_leaves_ends_it() {
    let folder = Folder::new();
    fs::write(folder.from.join("large"), noise(24 << 20, 9)).unwrap();
    let mut site = folder.site().await;
    site.backup(&[&folder.from]).await;
    site.write_tape();
    let reader = std::sync::Arc::clone(&site.told.reader);

    // Only what may be under way comes, and then nothing.
    *reader.stops_after.lock().unwrap() = Some(5);
    site.assign_dump(DumpFormat::Tar);
    let mut frames = reader.frames.subscribe();
    let came = frames.wait_for(|count| *count == 5 + 4);
    let came = tokio::time::timeout(Duration::from_mins(1), came).await;
    drop(came.unwrap().unwrap());
    let more = tokio::time::timeout(Duration::from_millis(300), frames.changed()).await;
    assert!(more.is_err());
    // The assignment goes, as when a person cancels it.
    site.unassign_all();
    let result = site.result().await;
    assert_eq!(result.fault.unwrap().reason, "STOPPED");
    assert_eq!(*reader.last_word.lock().unwrap(), None);

    *reader.stops_after.lock().unwrap() = None;
    *reader.leaves_after.lock().unwrap() = Some(7);
    let (result, _) = site.dump(DumpFormat::Tar).await;
    assert_eq!(result.fault.unwrap().reason, "DUMP_LOST");
    assert_eq!(*reader.last_word.lock().unwrap(), None);
}
