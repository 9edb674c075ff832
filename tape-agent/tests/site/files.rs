//! An archive of files with their hashes, as a source agent makes it.

use bytes::Bytes;
use taf_format::entry::{Kind, Metadata, Time};
use taf_format::record::{self, Entry};
use taf_format::segment::{Cutter, Identity, Sealed};
use taf_format::tar::{END_OF_ARCHIVE, encode, padding};
use taf_proto::agent::{Archive, Recording, VerifyPart};
use uuid::Uuid;

use crate::site::{Committed, Site, follow, index_part};

pub const FILES: u64 = 40;
const SEGMENT: usize = 64 << 10;

/// Files of 20,000 bytes that do not shrink; the hash of `wrong` is not that of its content.
fn sealed(archive: &Archive, wrong: Option<u64>) -> Vec<Sealed> {
    let identity = Identity {
        line_uuid: Uuid::from_slice(&archive.line_uuid).unwrap(),
        version: archive.version,
        archive_ordinal: archive.ordinal,
        archive_uuid: Uuid::from_slice(&archive.archive_uuid).unwrap(),
        attempt: archive.attempt,
    };
    let mut cutter = Cutter::with_segment_size(identity, SEGMENT);
    for number in 0..FILES {
        let mut content = vec![0; 20_000];
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&number.to_le_bytes())
            .finalize_xof()
            .fill(&mut content);
        let path = format!("files/{number:03}").into_bytes();
        let meta = Metadata {
            kind: Kind::File,
            size: content.len() as u64,
            mode: 0o644,
            uid: 1,
            gid: 1,
            user: Vec::new(),
            group: Vec::new(),
            mtime: Time {
                seconds: 1,
                nanos: 0,
            },
            ctime: Time {
                seconds: 1,
                nanos: 0,
            },
            inode: 0,
            links: 1,
            rdev_major: 0,
            rdev_minor: 0,
            link_target: Vec::new(),
            xattrs: Vec::new(),
        };
        let header = encode::header(&path, &meta, encode::Content::Data).unwrap();
        let rest = vec![0; padding(meta.size)];
        let length = (header.len() + content.len() + rest.len()) as u64;
        let tar_offset = cutter.tar_offset();
        cutter.entry_starts(length).unwrap();
        for piece in [&header, &content, &rest] {
            cutter.push_tar(piece);
        }
        let mut hash = *blake3::hash(&content).as_bytes();
        hash[0] ^= u8::from(wrong == Some(number));
        let entry = Entry {
            path: path.into(),
            size: meta.size,
            blake3: Bytes::copy_from_slice(&hash),
            tar_offset,
            tar_length: length,
            ..Entry::default()
        };
        cutter.push_record(&record::entry(entry)).unwrap();
    }
    cutter.push_tar(&END_OF_ARCHIVE);
    cutter
        .finish()
        .into_iter()
        .map(|raw| raw.seal(1).unwrap())
        .collect()
}

/// Writes such an archive to a volume, in parts of about three segments.
pub async fn written(
    site: &mut Site,
    recording: &mut Recording,
    wrong: Option<u64>,
) -> Vec<Committed> {
    let (key, archive) = site.assign_write(recording, 200 << 10);
    let mut writing = site.writing(key).await;
    let sealed = sealed(&archive, wrong);
    for segment in &sealed {
        writing.segment(segment).await;
    }
    writing.finish(sealed.last().unwrap().header.sequence).await;
    writing.committed().await.unwrap();
    site.result(key).await;
    let parts = site.controller.parts();
    assert!(parts.len() > 2);
    follow(recording, &parts);
    parts
}

/// What a verification is told of a part.
pub fn wanted(part: &Committed) -> VerifyPart {
    let told = index_part(part);
    VerifyPart {
        archive_uuid: told.archive_uuid,
        archive_ordinal: 1,
        part_number: told.part_number,
        tape_file: told.tape_file,
        first_block: told.first_block,
        byte_count: told.byte_count,
        first_sequence: told.first_sequence,
        last_sequence: told.last_sequence,
        first_tar_offset: told.first_tar_offset,
        end_tar_offset: told.end_tar_offset,
        digest: told.digest,
        ..VerifyPart::default()
    }
}
