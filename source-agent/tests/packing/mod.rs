//! Packs a tree into segments held in memory, and unpacks them.
#![allow(dead_code)]

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use taf_format::page::Dictionaries;
use taf_format::record::{self, Body};
use taf_format::segment::{self, Identity, Opened, Sealed, Sealer};
use taf_format::tar::decode::{Content, Decoder, Member};
use taf_source_agent::backup::ahead;
use taf_source_agent::backup::links::Links;
use taf_source_agent::backup::pack::{self, Mode, Outlets, Totals};
use taf_source_agent::ordered;
use taf_source_agent::progress::Counters;
use taf_tree::unpack::MemberData;
use taf_tree::walk::Options;
use taf_tree::{Collision, Issue, Target, Unpacker, Walk, compare};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub struct Packed {
    pub sealed: Vec<Sealed>,
    pub opened: Vec<Opened>,
    pub issues: Vec<Issue>,
    pub totals: Totals,
    /// Segments cut and not yet taken, at most.
    pub most_in_flight: usize,
}

pub fn open(directory: &Path) -> OwnedFd {
    std::fs::File::open(directory).unwrap().into()
}

pub fn identity() -> Identity {
    Identity {
        line_uuid: Uuid::from_u128(1),
        version: 1,
        archive_ordinal: 1,
        archive_uuid: Uuid::from_u128(2),
        attempt: 1,
    }
}

pub fn pack(top: &Path, threads: usize) -> Packed {
    pack_with(top, threads, |_| {})
}

pub fn pack_with(top: &Path, threads: usize, change: impl FnOnce(&mut Options)) -> Packed {
    let mut options = Options::new(vec![b"/".to_vec()]);
    change(&mut options);
    let walk = Walk::beneath(open(top), options).unwrap();
    let stop = CancellationToken::new();
    let steps = ahead::start(walk, threads, stop.clone()).unwrap();
    let (feed, mut drain) = ordered::pool(
        "compress",
        threads,
        threads,
        || Sealer::new(1).unwrap(),
        |sealer, raw| sealer.seal(raw).unwrap(),
    )
    .unwrap();
    let (cut, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let packing = std::thread::spawn({
        let (cut, taken) = (Arc::clone(&cut), Arc::clone(&taken));
        move || {
            let (mut issues, mut most) = (Vec::new(), 0);
            let counters = Counters::default();
            let totals = pack::pack(
                steps,
                identity(),
                Mode::FULL,
                &Links::default(),
                Dictionaries::new(),
                Outlets {
                    begins: &mut || {},
                    segments: &mut |segment| {
                        let now = cut.fetch_add(1, Ordering::SeqCst) + 1;
                        most = most.max(now - taken.load(Ordering::SeqCst));
                        feed.put_blocking(segment)
                    },
                    issues: &mut |issue| issues.push(issue),
                    counters: &counters,
                    stop: &stop,
                },
            )
            .unwrap();
            assert_eq!(Counters::get(&counters.files), totals.files);
            (issues, totals, most)
        }
    });
    let mut sealed: Vec<Sealed> = Vec::new();
    while let Some(segment) = drain.next_blocking() {
        taken.fetch_add(1, Ordering::SeqCst);
        sealed.push(segment);
    }
    let (issues, totals, most_in_flight) = packing.join().unwrap();
    let opened: Vec<_> = sealed
        .iter()
        .map(|sealed| segment::open(&sealed.bytes).unwrap())
        .collect();
    for (index, segment) in opened.iter().enumerate() {
        assert_eq!(segment.header.sequence, index as u64);
        assert_eq!(segment.header.last, index + 1 == opened.len());
    }
    assert_eq!(totals.last_sequence + 1, opened.len() as u64);
    Packed {
        sealed,
        opened,
        issues,
        totals,
        most_in_flight,
    }
}

impl Packed {
    pub fn tar(&self) -> impl Read {
        let segments = self.opened.iter().map(|segment| segment.tar.clone());
        std::io::Cursor::new(segments.collect::<Vec<_>>().concat())
    }

    pub fn members(&self) -> Vec<Member> {
        let mut decoder = Decoder::new(self.tar());
        let mut members = Vec::new();
        while let Some(member) = decoder.next().unwrap() {
            members.push(member);
        }
        assert!(decoder.ended());
        members
    }

    fn hashes(&self) -> HashMap<Vec<u8>, Vec<u8>> {
        let records = self.opened.iter().flat_map(|s| record::iter(&s.records));
        records
            .filter_map(|record| match record.unwrap().record {
                Some(Body::Entry(entry)) => Some((entry.path.to_vec(), entry.blake3.to_vec())),
                _ => None,
            })
            .collect()
    }
}

/// Unpacks everything below `to`; returns what could not be.
pub fn unpack(packed: &Packed, to: &Path) -> Vec<(Vec<u8>, String)> {
    let hashes = packed.hashes();
    let mut failed = Vec::new();
    let mut unpacker = Unpacker::new(Target::open(to, Collision::Never).unwrap());
    let mut decoder = Decoder::new(packed.tar());
    while let Some(member) = decoder.next().unwrap() {
        let expected = &hashes[&member.path];
        let expected = (!expected.is_empty()).then_some(&expected[..]);
        let result = unpacker.member(
            &member.path.clone(),
            &member,
            &mut MemberData(&mut decoder),
            expected,
        );
        match result {
            Ok(outcome) => {
                if !matches!(member.content, Content::HardLink { .. }) {
                    assert_eq!(outcome.digest.as_ref().map(|digest| &digest[..]), expected);
                }
            }
            Err(error) => failed.push((member.path, error.to_string())),
        }
    }
    unpacker.finish(|_| {}).unwrap();
    failed
}

pub fn unpack_all(packed: &Packed, to: &Path) {
    let failed = unpack(packed, to);
    assert!(failed.is_empty(), "{failed:?}");
}

pub fn differences(a: &Path, b: &Path) -> Vec<String> {
    let options = compare::Options {
        owners: rustix::process::geteuid().is_root(),
        // The top itself is in no archive.
        top: false,
        ..compare::Options::default()
    };
    compare::compare(open(a), open(b), options)
        .unwrap()
        .map(|difference| difference.to_string())
        .collect()
}

/// Runs the named test of this file again as an ordinary user, when we are root; true if it did.
pub fn again_as_user(test: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() {
        return false;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("again");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = std::process::Command::new(&program)
        .args(["--exact", test, "--nocapture"])
        .current_dir("/")
        .env("TMPDIR", "/tmp")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    true
}
