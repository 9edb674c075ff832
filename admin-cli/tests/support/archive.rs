//! A small real archive on a real (virtual) cartridge, written through the ordinary driver: label, parts, tar, records,
//! pages.

use std::path::Path;

use bytes::Bytes;
use taf_drive::{Drive, ScsiDrive, Sync};
use taf_emulator::cartridge::{Cartridge, Meta};
use taf_emulator::{Shared, single};
use taf_format::block0::Block0;
use taf_format::entry::{Kind, Metadata, Time};
use taf_format::label::{self, Label};
use taf_format::page::{self, DirectoryStat, Page, Place};
use taf_format::part::Blocker;
use taf_format::record::{self, Entry};
use taf_format::segment::{Cutter, Identity, Method, Sealed, Sealer};
use taf_format::tar::encode::{self, Content};
use taf_format::tar::{END_OF_ARCHIVE, padding};
use taf_scsi::transport::in_process::InProcess;
use uuid::Uuid;

pub const BLOCK: u32 = 16 << 10;
const SEGMENT: usize = 64 << 10;
const ORDINAL: u32 = 5;

/// A file of an archive: its path below `srv`, its content or the path of the name that has it.
#[derive(Clone)]
pub struct File {
    pub path: &'static str,
    pub content: Vec<u8>,
    pub link_to: Option<&'static str>,
}

pub fn file(path: &'static str, content: Vec<u8>) -> File {
    File {
        path,
        content,
        link_to: None,
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut reader = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

fn metadata(kind: Kind, size: u64) -> Metadata {
    let own = |id: u32| id;
    Metadata {
        kind,
        size,
        mode: if kind == Kind::Directory {
            0o755
        } else {
            0o644
        },
        uid: own(nix::unistd::geteuid().as_raw()),
        gid: own(nix::unistd::getegid().as_raw()),
        user: Vec::new(),
        group: Vec::new(),
        mtime: Time {
            seconds: 1_700_000_000,
            nanos: 5,
        },
        ctime: Time::default(),
        inode: 1,
        links: 1,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs: Vec::new(),
    }
}

/// The sealed segments of an archive whose only directory is `srv`, with these files in it, in this order.
pub fn segments(archive: Uuid, files: &[File]) -> Vec<Sealed> {
    let identity = Identity {
        line_uuid: Uuid::from_u128(1),
        version: 7,
        archive_ordinal: ORDINAL,
        archive_uuid: archive,
        attempt: 1,
    };
    let mut cutter = Cutter::with_segment_size(identity, SEGMENT);
    let mut entries = Vec::new();
    let directory = metadata(Kind::Directory, 0);
    let head = encode::header(b"srv", &directory, Content::Data).unwrap();
    cutter.entry_starts(head.len() as u64).unwrap();
    cutter.push_tar(&head);
    let mut stat = DirectoryStat::new(&directory);
    stat.place = Some(place(0));
    stat.tar_length = head.len() as u64;
    for file in files {
        entries.push(push(&mut cutter, file, &entries));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let page = Page {
        directory: b"srv".to_vec(),
        header: Some(stat),
        entries,
        ..Page::default()
    };
    let encoded = page::encode(&page, None).unwrap();
    let chunk = taf_format::key::chunk(&taf_format::key::of_path(b"srv"), None);
    cutter
        .push_record(&record::page(record::Page {
            chunk: chunk.into(),
            body: encoded.body.into(),
            hashes: encoded.hashes.into(),
        }))
        .unwrap();
    cutter.push_tar(&END_OF_ARCHIVE);
    let mut sealer = Sealer::new(1).unwrap();
    cutter
        .finish()
        .into_iter()
        .map(|raw| sealer.seal(raw).unwrap())
        .collect()
}

fn place(tar_offset: u64) -> Place {
    Place {
        archive_ordinal: ORDINAL,
        tar_offset,
    }
}

/// Puts a file into the stream and gives its entry of the page.
fn push(cutter: &mut Cutter, file: &File, before: &[page::Entry]) -> page::Entry {
    let path = format!("srv/{}", file.path);
    let mut meta = metadata(Kind::File, file.content.len() as u64);
    let target = file.link_to.map(|name| format!("srv/{name}"));
    let what = match &target {
        Some(target) => Content::HardLink(target.as_bytes()),
        None => Content::Data,
    };
    let head = encode::header(path.as_bytes(), &meta, what).unwrap();
    let data: &[u8] = if target.is_some() { &[] } else { &file.content };
    let length = (head.len() + data.len() + padding(data.len() as u64)) as u64;
    let offset = cutter.tar_offset();
    cutter.entry_starts(length).unwrap();
    cutter.push_tar(&head);
    cutter.push_tar(data);
    cutter.push_tar(&vec![0; padding(data.len() as u64)]);
    let carrier = file
        .link_to
        .and_then(|name| before.iter().find(|entry| entry.name == name.as_bytes()));
    let (offset, length) = carrier.map_or((offset, length), |c| {
        (c.place.unwrap().tar_offset, c.tar_length)
    });
    cutter
        .push_record(&record::entry(Entry {
            path: path.into_bytes().into(),
            kind: record::Kind::File.into(),
            size: file.content.len() as u64,
            blake3: blake3::hash(&file.content).as_bytes().to_vec().into(),
            tar_offset: offset,
            tar_length: length,
            hard_link_to: target.unwrap_or_default().into_bytes().into(),
            ..Entry::default()
        }))
        .unwrap();
    meta.links = 1;
    let mut entry = page::Entry::new(file.path.as_bytes().to_vec(), &meta);
    entry.place = Some(place(offset));
    entry.tar_length = length;
    entry.hash = blake3::hash(&file.content).as_bytes()[..16].try_into().ok();
    entry
}

/// Block 0 of an archive's part.
pub fn block0(archive: Uuid, tape_file: u32, part: u32, first: &Sealed) -> Block0 {
    Block0 {
        installation_uuid: Uuid::from_u128(11),
        recording_uuid: Uuid::from_u128(12),
        volume: "TEST01L8".to_owned(),
        archive_uuid: archive,
        archive_ordinal: ORDINAL,
        source: "files".to_owned(),
        plan: "daily".to_owned(),
        line: "daily on files".to_owned(),
        version: 7,
        part,
        tape_file,
        block_size: BLOCK,
        first_sequence: first.header.sequence,
        first_tar_offset: first.header.tar_offset,
        skip: first.header.skip(),
        method: Method::Zstd,
        suite: 0,
        copy: 0,
        predecessor: (part > 1).then(|| taf_format::block0::Predecessor {
            volume: "TEST01L8".to_owned(),
            tape_file: tape_file - 1,
            bytes: None,
        }),
        created_at_unix_nanos: 1_767_225_600_000_000_000,
    }
}

/// The blocks of a part, block 0 first.
pub fn part(block0: &Block0, segments: &[Sealed]) -> Vec<Bytes> {
    let mut blocker = Blocker::new(BLOCK);
    let mut blocks = vec![Bytes::from(block0.encode().unwrap())];
    for segment in segments {
        blocks.extend(blocker.push(segment.bytes.clone()));
    }
    blocks.extend(blocker.finish());
    blocks
}

/// Makes a cartridge with a label and these tape files.
pub fn write(path: &Path, files: &[Vec<Bytes>]) {
    record(&mut blank(path), files);
}

/// Writes a label and these tape files.
pub fn record(drive: &mut ScsiDrive, files: &[Vec<Bytes>]) {
    let label = Label {
        installation_uuid: Uuid::from_u128(11),
        volume_uuid: Uuid::from_u128(13),
        recording_uuid: Uuid::from_u128(12),
        barcode: "TEST01L8".to_owned(),
        pool: "default".to_owned(),
        block_size: BLOCK,
        labelled_at_unix_nanos: 1_767_225_600_000_000_000,
        writer: "test".to_owned(),
    };
    for block in label::encode(&label).unwrap() {
        drive.write_block(&block).unwrap();
    }
    drive.write_filemarks(1, Sync::Synchronous).unwrap();
    for file in files {
        for block in file {
            drive.write_block(block).unwrap();
        }
        drive.write_filemarks(1, Sync::Synchronous).unwrap();
    }
}

/// A drive with a new blank cartridge.
pub fn blank(path: &Path) -> ScsiDrive {
    let meta = Meta {
        capacity: 1 << 30,
        loads: 0,
        density: 0x5e,
        write_protected: false,
        serial: "S".to_owned(),
        ..Meta::default()
    };
    Cartridge::create(path, &meta).unwrap();
    let emulated = Shared::new(single::drive(path, false).unwrap());
    let mut drive = ScsiDrive::new(Box::new(InProcess::new("test", emulated.target()))).unwrap();
    drive.attentions().unwrap();
    drive.prepare().unwrap();
    drive.rewind().unwrap();
    drive
}

/// Flips a bit of the cartridge's file in the middle of where these bytes are.
pub fn flip(path: &Path, bytes: &[u8]) {
    let mut content = std::fs::read(path).unwrap();
    let at = content
        .windows(bytes.len())
        .position(|window| window == bytes)
        .unwrap();
    content[at + bytes.len() / 2] ^= 1;
    std::fs::write(path, content).unwrap();
}
