//! The archive that every release has to write alike.

use super::*;

/// The members of `golden/tar/members.tar`, one of each shape.
fn golden() -> Vec<u8> {
    let mut archive = Vec::new();
    file(&mut archive, b"", &meta(Kind::Directory));
    file(
        &mut archive,
        b"empty",
        &Metadata {
            mtime: Time {
                seconds: 1,
                nanos: 0,
            },
            ctime: Time::default(),
            ..meta(Kind::File)
        },
    );
    let full = Metadata {
        size: 3,
        uid: 4_000_000,
        xattrs: vec![Xattr {
            name: b"user.k=".to_vec(),
            value: b"\0v".to_vec(),
        }],
        ..meta(Kind::File)
    };
    file(&mut archive, b"full\n\xff", &full);
    file(
        &mut archive,
        &[&[b'd'; 90][..], &[b'f'; 90]].join(&b'/'),
        &full,
    );
    file(
        &mut archive,
        &[[b'p'; 130]; 2].join(&b'/'),
        &Metadata {
            mtime: Time {
                seconds: -2,
                nanos: 500_000_000,
            },
            ..meta(Kind::File)
        },
    );
    file(
        &mut archive,
        b"link",
        &Metadata {
            link_target: vec![b't'; 120],
            ..meta(Kind::Symlink)
        },
    );
    file(
        &mut archive,
        b"null",
        &Metadata {
            rdev_major: 1,
            rdev_minor: 3,
            ..meta(Kind::CharDevice)
        },
    );
    put(
        &mut archive,
        b"name",
        &full,
        encode::Content::HardLink(b"full\n\xff"),
    );
    let extents = [
        Extent {
            offset: 4096,
            length: 512,
        },
        Extent {
            offset: 65_536,
            length: 1,
        },
    ];
    put(
        &mut archive,
        b"d/sparse",
        &Metadata {
            size: 1 << 34,
            ..full
        },
        encode::Content::Sparse(&extents),
    );
    archive.extend_from_slice(&END_OF_ARCHIVE);
    archive
}

#[test]
fn the_golden_archive_has_not_changed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tar/members.tar");
    if std::env::var_os("TAF_WRITE_GOLDEN").is_some() {
        fs::write(&path, golden()).unwrap();
    }
    let mut kept = Vec::new();
    fs::File::open(path)
        .unwrap()
        .read_to_end(&mut kept)
        .unwrap();
    assert!(
        kept == golden(),
        "the bytes of headers changed: tapes written before would differ"
    );
    assert_eq!(read_all(&kept).unwrap().len(), 9);
}
