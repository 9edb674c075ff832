//! Tapes without a server: every file comes back from the cartridge alone, and damage costs what it touches and no more.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use support::archive::{self, File, block0, file, noise, part, segments};
use support::run;
use taf_drive::Drive as _;
use taf_format::block0::Block0;
use tempfile::TempDir;
use uuid::Uuid;

const ARCHIVE: Uuid = Uuid::from_u128(0xa1);

/// Two small files, one across several segments, a hard link to it, and some more small ones.
fn files() -> Vec<File> {
    vec![
        file("a", b"first".to_vec()),
        file("big", noise(1, 300_000)),
        File {
            link_to: Some("big"),
            ..file("c-link", noise(1, 300_000))
        },
        file("d", noise(2, 40_000)),
        file("e", noise(3, 40_000)),
        file("f", noise(4, 40_000)),
        file("g\n", noise(5, 100_000)),
        file("z", Vec::new()),
    ]
}

struct Scene {
    dir: TempDir,
    cartridge: String,
}

impl Scene {
    fn new(parts: &[Vec<Bytes>]) -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("TEST01L8.tape");
        archive::write(&path, parts);
        Self {
            cartridge: path.display().to_string(),
            dir,
        }
    }

    /// One archive in one part.
    fn simple(files: &[File]) -> Self {
        let sealed = segments(ARCHIVE, files);
        Self::new(&[part(&block0(ARCHIVE, 1, 1, &sealed[0]), &sealed)])
    }

    fn extract(&self, further: &[&str]) -> (support::Said, PathBuf) {
        let to = self.dir.path().join("restored");
        let words = [
            "tape",
            "extract",
            &self.cartridge,
            "--to",
            to.to_str().unwrap(),
        ];
        let said = run(self.dir.path(), &[&words, further].concat());
        (said, to.join("srv"))
    }
}

/// What is below a folder, by name.
fn below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn expected(files: &[File], without: &[&str]) -> BTreeMap<String, Vec<u8>> {
    files
        .iter()
        .filter(|file| !without.contains(&file.path))
        .map(|file| (file.path.to_owned(), file.content.clone()))
        .collect()
}

#[test]
fn every_file_comes_back_from_the_cartridge_alone() {
    let files = files();
    let scene = Scene::simple(&files);
    let (said, srv) = scene.extract(&[]);
    said.expect(0)
        .says(&["8 files", "1 directory", "plan daily"]);
    assert_eq!(below(&srv), expected(&files, &[]));
    let inode = |name: &str| fs::metadata(srv.join(name)).unwrap().ino();
    assert_eq!(inode("big"), inode("c-link"));
    assert_eq!(fs::metadata(srv.join("a")).unwrap().mtime_nsec(), 5);
    assert_eq!(fs::metadata(&srv).unwrap().mtime(), 1_700_000_000);
    // What is there stays.
    fs::write(srv.join("a"), "other").unwrap();
    let (said, _) = scene.extract(&[]);
    said.expect(3).says(&["not written: /srv/a"]);
    assert_eq!(fs::read(srv.join("a")).unwrap(), b"other");
    let (said, _) = scene.extract(&["--collision", "always"]);
    said.expect(0);
    assert_eq!(fs::read(srv.join("a")).unwrap(), b"first");
}

#[test]
fn a_flipped_bit_on_the_medium_costs_the_file_it_is_in() {
    let files = files();
    let scene = Scene::simple(&files);
    // Of the middle of the big file, so that no other file is in the same segment.
    archive::flip(
        Path::new(&scene.cartridge),
        &files[1].content[150_000..150_064],
    );
    let (said, srv) = scene.extract(&["--json"]);
    let said = said
        .expect(3)
        .says(&["damaged: /srv/big", "damaged: /srv/c-link", "lost"]);
    assert_eq!(below(&srv), expected(&files, &["big", "c-link"]));
    let report = said.json();
    assert_eq!(report["damaged"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(report["unnamed_byte_count"], 0);
    assert_eq!(report["file_count"], 6);
}

#[test]
fn files_that_are_lost_with_their_records_are_named_by_their_directory() {
    let files: Vec<File> = ["a", "b", "c", "d", "e", "f", "g", "h"]
        .iter()
        .zip(1..)
        .map(|(name, seed)| file(name, noise(seed, 15_000)))
        .collect();
    let mut sealed = segments(ARCHIVE, &files);
    assert!(sealed.len() >= 2);
    // Not the medium but what was given to it is wrong: the segment's own checksum finds it.
    let mut bytes = sealed[0].bytes.to_vec();
    bytes[30_000] ^= 0x40;
    let whole = sealed[1].header.first_entry().unwrap();
    assert!(whole > 0, "a file crosses the border");
    sealed[0].bytes = bytes.into();
    let scene = Scene::new(&[part(&block0(ARCHIVE, 1, 1, &sealed[0]), &sealed)]);
    let (said, srv) = scene.extract(&[]);
    let said = said
        .expect(3)
        .says(&["checksum", "damaged: /srv/a", "damaged: /srv/b"]);
    let back = below(&srv);
    for file in &files {
        let named = said
            .stderr
            .contains(&format!("damaged: /srv/{}:", file.path));
        assert_ne!(named, back.contains_key(file.path), "{} {said}", file.path);
    }
    assert!(back.len() >= 3, "{said}");
    for (name, content) in &back {
        assert_eq!(*content, expected(&files, &[])[name]);
    }
}

#[test]
fn a_damaged_first_block_costs_nothing() {
    let files = files();
    let scene = Scene::simple(&files);
    archive::flip(Path::new(&scene.cartridge), b"HOW TO READ");
    archive::flip(Path::new(&scene.cartridge), b"TAF PART, FORMAT 1");
    let (said, srv) = scene.extract(&[]);
    said.expect(0).says(&["the label can't be read"]);
    assert_eq!(below(&srv), expected(&files, &[]));
}

#[test]
fn chosen_paths_alone_come_back_even_the_second_name_of_a_hard_link() {
    let files = files();
    let scene = Scene::simple(&files);
    let (said, srv) = scene.extract(&["/srv/c-link", "/srv/d"]);
    said.expect(0);
    assert_eq!(
        below(&srv),
        expected(&files, &["a", "big", "e", "f", "g\n", "z"])
    );
    let (said, _) = scene.extract(&["/srv/never"]);
    said.expect(1)
        .says(&["PATH_NOT_FOUND", "/srv/never", "next: "]);
}

#[test]
fn an_archive_in_parts_is_put_together_and_the_newest_complete_one_is_taken() {
    let files = files();
    let sealed = segments(ARCHIVE, &files);
    let newer = Uuid::from_u128(0xa2);
    let torn = segments(newer, &files);
    let half = sealed.len() / 2;
    let scene = Scene::new(&[
        part(&block0(ARCHIVE, 1, 1, &sealed[0]), &sealed[..half]),
        part(&block0(ARCHIVE, 2, 2, &sealed[half]), &sealed[half..]),
        vec![Bytes::from_static(
            b"something of another make, in the future",
        )],
        part(&block0(newer, 4, 1, &torn[0]), &torn[..3]),
    ]);
    let (said, srv) = scene.extract(&[]);
    said.expect(0)
        .says(&["not complete", &ARCHIVE.to_string(), "2 parts"]);
    assert_eq!(below(&srv), expected(&files, &[]));

    let listed = run(
        scene.dir.path(),
        &["tape", "files", &scene.cartridge, "--json"],
    )
    .expect(0)
    .json();
    let kinds: Vec<_> = listed["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["kind"].clone())
        .collect();
    assert_eq!(kinds, ["label", "part", "part", "unknown data", "part"]);
    assert_eq!(listed["files"][4]["archive_uuid"], newer.to_string());
    let table = run(scene.dir.path(), &["tape", "files", &scene.cartridge]).expect(0);
    assert!(String::from_utf8_lossy(&table.stdout).contains("daily@7"));

    // By name the torn one gives what it has, and says what it has not.
    let to = scene.dir.path().join("torn");
    let said = run(
        scene.dir.path(),
        &[
            "tape",
            "extract",
            &scene.cartridge,
            "--archive",
            &newer.to_string(),
            "--to",
            to.to_str().unwrap(),
        ],
    );
    said.expect(3)
        .says(&["no end on this tape", "damaged: /srv/big"]);
    assert_eq!(fs::read(to.join("srv/a")).unwrap(), b"first");
}

#[test]
fn of_a_part_and_its_copies_one_that_is_whole_is_taken() {
    let files = files();
    let sealed = segments(ARCHIVE, &files);
    let copy = |tape_file: u32, copy: u32| Block0 {
        copy,
        created_at_unix_nanos: 1_767_225_600_000_000_000 + i64::from(copy),
        ..block0(ARCHIVE, tape_file, 1, &sealed[0])
    };
    // The second copy was not finished, although it is the newest.
    let scene = Scene::new(&[
        part(&copy(1, 0), &sealed),
        part(&copy(2, 2), &sealed[..3]),
        part(&copy(3, 1), &sealed),
    ]);
    let (said, srv) = scene.extract(&[]);
    said.expect(0);
    assert_eq!(below(&srv), expected(&files, &[]));
}

#[test]
fn what_is_damaged_of_a_copy_is_read_from_another_one() {
    let files = files();
    let sealed = segments(ARCHIVE, &files);
    let copy =
        |tape_file: u32, number: u32, of: &[taf_format::segment::Sealed], copy: u32| Block0 {
            copy,
            created_at_unix_nanos: 1_767_225_600_000_000_000 + i64::from(copy),
            ..block0(ARCHIVE, tape_file, number, &of[0])
        };
    let (one, two) = sealed.split_at(4);
    let whole = part(&copy(1, 1, one, 0), one);
    // From a block on so many are overwritten.
    let hurt = |blocks: &[Bytes], from: usize, count: usize| -> Vec<Bytes> {
        let mut hurt = blocks.to_vec();
        for block in &mut hurt[from..from + count] {
            *block = vec![0x5a; block.len()].into();
        }
        hurt
    };
    let newer = part(&copy(2, 1, one, 1), one);
    let second = part(&copy(3, 2, two, 0), two);
    let last = newer.len() - 1;
    for damaged in [
        // Its beginning, with and without its first block; its middle, and its end.
        hurt(&newer, 0, 3),
        hurt(&newer, 1, 3),
        hurt(&newer, 6, 2),
        hurt(&newer, last, 1),
    ] {
        let scene = Scene::new(&[whole.clone(), damaged, second.clone()]);
        let (said, srv) = scene.extract(&[]);
        said.expect(0);
        assert_eq!(below(&srv), expected(&files, &[]));
    }
    // Each has what the other one lacks.
    let scene = Scene::new(&[hurt(&whole, 2, 2), hurt(&newer, 8, 2), second]);
    let (said, srv) = scene.extract(&[]);
    said.expect(0);
    assert_eq!(below(&srv), expected(&files, &[]));
}

#[test]
fn listing_writes_nothing_and_names_can_not_act_on_the_terminal() {
    let scene = Scene::simple(&files());
    let said = run(
        scene.dir.path(),
        &["tape", "extract", &scene.cartridge, "--list"],
    )
    .expect(0);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("/srv/g\\x0a\n"), "{text}");
    assert!(text.contains("/srv/c-link = /srv/big"), "{text}");
    let listed = run(
        scene.dir.path(),
        &["tape", "extract", &scene.cartridge, "--list", "--json"],
    )
    .expect(0);
    assert_eq!(listed.json()["entries"].as_array().unwrap().len(), 9);
}

#[test]
fn cat_gives_the_blocks_of_a_tape_file_while_a_drive_has_it() {
    let sealed = segments(ARCHIVE, &files());
    let blocks = part(&block0(ARCHIVE, 1, 1, &sealed[0]), &sealed);
    let scene = Scene::new(std::slice::from_ref(&blocks));
    let _in_a_drive = taf_emulator::single::drive(Path::new(&scene.cartridge), false).unwrap();
    let said = run(scene.dir.path(), &["tape", "cat", &scene.cartridge, "1"]).expect(0);
    assert_eq!(said.stdout, blocks.concat());
    let said = run(scene.dir.path(), &["tape", "cat", &scene.cartridge, "9"]).expect(1);
    said.says(&["TAPE_FILE_NOT_FOUND", "next: "]);
    let said = run(
        scene.dir.path(),
        &["tape", "cat", "/no/such.tape", "1", "--json"],
    )
    .expect(1);
    let error: serde_json::Value = serde_json::from_str(&said.stderr).unwrap();
    assert_eq!(error["error"]["reason"], "CARTRIDGE_UNREADABLE");
    assert!(
        error["error"]["next_step"]
            .as_str()
            .unwrap()
            .contains(".tape")
    );
}

#[test]
fn labels_are_shown_and_other_tapes_refused() {
    let scene = Scene::simple(&files());
    let said = run(
        scene.dir.path(),
        &["tape", "label-show", &scene.cartridge, "--json"],
    )
    .expect(0);
    assert_eq!(said.json()["barcode"], "TEST01L8");

    let blank = scene.dir.path().join("BLANK1L8.tape");
    let mut drive = archive::blank(&blank);
    let words = ["tape", "files", blank.to_str().unwrap()];
    run(scene.dir.path(), &words)
        .expect(1)
        .says(&["TAPE_BLANK", "BLANK1L8", "next: "]);
    let mut tar = vec![0; 10_240];
    tar[257..262].copy_from_slice(b"ustar");
    drive.write_block(&tar).unwrap();
    drive
        .write_filemarks(1, taf_drive::Sync::Synchronous)
        .unwrap();
    run(scene.dir.path(), &words)
        .expect(1)
        .says(&["TAPE_FOREIGN", "a tar archive"]);
}
