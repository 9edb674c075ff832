//! Promise 2: a tape needs nothing but itself. The commands of block 0 are run as they are printed, with real
//! `zstd` and GNU tar, on two parts of one archive; only `mt` and `dd` are replaced by a file.
#![allow(clippy::unwrap_used, missing_docs)]

mod synthetic;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use taf_format::block0::{Block0, Predecessor};
use taf_format::record;
use taf_format::segment::{Cutter, Method, Sealed};

/// Larger than one cover of any method holds.
const BLOCK_SIZE: u32 = 256 << 10;

/// A ustar header and content, padded.
fn ustar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"14000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|&b| u32::from(b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = head.to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn part(block0: &Block0, segments: &[Sealed]) -> Vec<u8> {
    let mut out = block0.encode().unwrap();
    assert_eq!(out.len(), block0.block_size as usize);
    for block in synthetic::blocks(segments, block0.block_size) {
        out.extend_from_slice(&block);
    }
    out
}

fn run(folder: &Path, command: &str) -> Output {
    Command::new("sh")
        .arg("-c")
        .arg(command)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn unpack(command: &str) -> (BTreeSet<String>, tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), command);
    let names = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    (names, folder, output)
}

#[test]
fn the_printed_commands_unpack_an_archive_of_two_parts() {
    for method in Method::ALL {
        if method == Method::SevenZip && !has("7z") {
            println!("skipped: 7z is not installed (Debian: p7zip-full)");
            continue;
        }
        unpack_two_parts(method);
    }
}

fn has(program: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output();
    found.unwrap().status.success()
}

fn unpack_two_parts(method: Method) {
    let names: Vec<String> = (0..12).map(|i| format!("file-{i:02}")).collect();
    let mut random = synthetic::Random(4);
    let contents: Vec<Vec<u8>> = (0..12).map(|i| random.bytes(i * 3_001)).collect();
    let mut cutter = Cutter::with_segment_size(synthetic::identity(synthetic::ARCHIVE), 20_000);
    let mut starts = Vec::new();
    for (name, content) in names.iter().zip(&contents) {
        let bytes = ustar(name, content);
        starts.push(cutter.tar_offset());
        cutter.entry_starts(bytes.len() as u64).unwrap();
        cutter.push_tar(&bytes);
    }
    cutter.push_tar(&[0; 1024]);
    for number in 0..20_000 {
        // So many that they take several covers.
        let path = format!("more/{number}").into_bytes().into();
        let entry = record::Entry {
            path,
            ..record::Entry::default()
        };
        cutter.push_record(&record::entry(entry)).unwrap();
    }
    let sealed = synthetic::seal_by(method, cutter.finish());
    let (one, two) = sealed.split_at(sealed.len() / 2);
    let second_header = &two[0].header;
    let skip = second_header.skip().unwrap();
    assert!(skip > 0, "the second part must begin within an entry");

    let first = Block0 {
        method,
        ..synthetic::block0(BLOCK_SIZE)
    };
    let first_bytes = part(&first, one);
    // The first part was torn: what follows its last whole segment does not count.
    let torn = [first_bytes.as_slice(), &one[0].bytes[..999]].concat();
    let second = Block0 {
        part: 2,
        volume: "TAF002L9".to_owned(),
        tape_file: 4,
        first_sequence: second_header.sequence,
        first_tar_offset: second_header.tar_offset,
        skip: Some(skip),
        predecessor: Some(Predecessor {
            volume: "TAF001L9".to_owned(),
            tape_file: 1,
            bytes: Some(first_bytes.len() as u64),
        }),
        ..first.clone()
    };
    let second_bytes = part(&second, two);
    let tape = tempfile::tempdir().unwrap();
    let (torn_path, second_path) = (tape.path().join("1"), tape.path().join("2"));
    std::fs::write(&torn_path, torn).unwrap();
    std::fs::write(&second_path, &second_bytes).unwrap();

    // Take the commands from the text, as a person would.
    let text = String::from_utf8_lossy(&second_bytes[..BLOCK_SIZE as usize]).into_owned();
    let line = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start)).unwrap();
        line[start.len()..].to_owned()
    };
    let read = |tape_file: u32| {
        format!(
            "mt -f /dev/nst0 rewind && mt -f /dev/nst0 fsf {tape_file} && dd if=/dev/nst0 bs={BLOCK_SIZE}"
        )
    };
    assert_eq!(line("Read: "), read(4));
    let whole = text
        .lines()
        .find(|line| line.trim_start().starts_with("( echo"))
        .unwrap();
    assert!(whole.ends_with(&format!(" ) | {}", line("Filter: "))));
    let replace = |command: &str| {
        command
            .replace(&read(1), &format!("cat '{}'", torn_path.display()))
            .replace(&read(4), &format!("cat '{}'", second_path.display()))
            .replace("read x < /dev/tty", "true")
    };
    let (unpacked, folder, output) = unpack(&replace(whole));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(unpacked, names.iter().cloned().collect());
    for (name, content) in names.iter().zip(&contents) {
        assert!(std::fs::read(folder.path().join(name)).unwrap() == *content);
    }

    let alone = format!("{} | {}", line("Read: "), line("Filter-alone: "));
    let (unpacked, folder, output) = unpack(&replace(&alone));
    assert!(output.status.success(), "{output:?}");
    let expected: BTreeSet<String> = names
        .iter()
        .zip(&starts)
        .filter(|&(_, &start)| start >= second_header.tar_offset)
        .map(|(name, _)| name.clone())
        .collect();
    assert!(!expected.is_empty() && expected.len() < names.len());
    assert_eq!(unpacked, expected);
    for (name, content) in names.iter().zip(&contents) {
        if expected.contains(name) {
            assert!(std::fs::read(folder.path().join(name)).unwrap() == *content);
        }
    }
    // Listing works on each part's bytes as they are.
    let list = run(
        tape.path(),
        &format!(
            "cat 2 | {} | tail -c +{} | tar -t",
            second.method.unpacker(),
            skip + 1
        ),
    );
    assert_eq!(
        String::from_utf8(list.stdout).unwrap().lines().count(),
        expected.len()
    );
}
