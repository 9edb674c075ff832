//! Restoring: that everything comes back, and that differences would be noticed.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod copying;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use copying::{again_as_user, copy, differences, open};

fn build(top: &Path) {
    let file = |name: &str, mode: u32| {
        fs::write(top.join(name), name).unwrap();
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, mode) in [
        ("none", 0o000),
        ("setid", 0o6755),
        ("plain", 0o640),
        ("new\nline", 0o444),
    ] {
        file(name, mode);
    }
    file("attributed", 0o600);
    let attributed = fs::File::open(top.join("attributed")).unwrap();
    for n in 0..20u8 {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::fsetxattr(&attributed, format!("user.number{n}"), &[n; 9], flags).unwrap();
    }
    fs::set_permissions(top.join("attributed"), fs::Permissions::from_mode(0o444)).unwrap();
    let list: Vec<u8> = [2u32.to_le_bytes().to_vec()]
        .into_iter()
        .chain(
            [
                (1u16, 6u16, u32::MAX),
                (2, 7, 1234),
                (4, 4, u32::MAX),
                (0x10, 6, u32::MAX),
                (0x20, 0, u32::MAX),
            ]
            .map(|(tag, permissions, id)| {
                [
                    &tag.to_le_bytes()[..],
                    &permissions.to_le_bytes(),
                    &id.to_le_bytes(),
                ]
                .concat()
            }),
        )
        .collect::<Vec<_>>()
        .concat();
    file("listed", 0o600);
    fs::create_dir(top.join("defaults")).unwrap();
    let set = |path: &Path, name: &str| {
        rustix::fs::setxattr(path, name, &list, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set(&top.join("listed"), "system.posix_acl_access");
    set(&top.join("defaults"), "system.posix_acl_default");
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(100 << 20).unwrap();
    sparse.write_all_at(&vec![5; 100_000], 50 << 20).unwrap();
    fs::File::create(top.join("hole"))
        .unwrap()
        .set_len(5 << 20)
        .unwrap();
    fs::create_dir_all(top.join("readonly/inner")).unwrap();
    fs::write(top.join("readonly/f"), "1").unwrap();
    fs::hard_link(top.join("readonly/f"), top.join("readonly/inner/g")).unwrap();
    fs::hard_link(top.join("readonly/f"), top.join("linked")).unwrap();
    symlink("x".repeat(4000), top.join("long")).unwrap();
    symlink("loop", top.join("loop")).unwrap();
    let top_fd = open(top);
    rustix::fs::mknodat(
        &top_fd,
        "pipe",
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o622),
        0,
    )
    .unwrap();
    for (name, seconds, nanos) in [
        ("linked", -5_000_000, 999_999_999),
        ("plain", 4_500_000_000, 1),
        ("long", 77, 3),
        ("pipe", -1, 5),
        ("readonly/inner", 9, 9),
    ] {
        let times = rustix::fs::Timestamps {
            last_access: rustix::fs::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            last_modification: rustix::fs::Timespec {
                tv_sec: seconds,
                tv_nsec: nanos,
            },
        };
        rustix::fs::utimensat(&top_fd, name, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .unwrap();
    }
    for (name, mode) in [("readonly/inner", 0o3777), ("readonly", 0o555)] {
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn open_up(top: &Path) {
    for name in ["readonly", "readonly/inner"] {
        fs::set_permissions(top.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn everything_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    build(&from);
    if rustix::process::geteuid().is_root() {
        let top = open(&from);
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(
            &top,
            "char",
            rustix::fs::FileType::CharacterDevice,
            mode,
            rustix::fs::makedev(1, 3),
        )
        .unwrap();
        rustix::fs::mknodat(
            &top,
            "block",
            rustix::fs::FileType::BlockDevice,
            mode,
            rustix::fs::makedev(7, 300),
        )
        .unwrap();
        let capability: Vec<u8> = [0x0200_0001u32, 1 << 10, 0, 0, 0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(
            from.join("plain"),
            "security.capability",
            &capability,
            flags,
        )
        .unwrap();
        rustix::fs::lsetxattr(from.join("loop"), "trusted.link", b"1", flags).unwrap();
        rustix::fs::setxattr(from.join("pipe"), "trusted.pipe", b"1", flags).unwrap();
        for name in ["loop", "pipe", "char", "readonly/inner", "linked"] {
            std::os::unix::fs::lchown(from.join(name), Some(12_345), Some(54_321)).unwrap();
        }
        fs::set_permissions(
            from.join("readonly/inner"),
            fs::Permissions::from_mode(0o3777),
        )
        .unwrap();
    }
    let (issues, warnings) = copy(&from, &to);
    if rustix::process::geteuid().is_root() {
        assert_eq!((issues, warnings), (Vec::new(), Vec::new()));
        assert_eq!(differences(&from, &to), Vec::<String>::new());
    } else {
        // Our own file of mode 000 cannot be read.
        assert_eq!(
            issues
                .iter()
                .map(|issue| &issue.path[..])
                .collect::<Vec<_>>(),
            [b"none"]
        );
        assert_eq!(warnings, Vec::new());
        let differences: Vec<_> = differences(&from, &to)
            .into_iter()
            .filter(|line| !line.starts_with("none: "))
            .collect();
        assert_eq!(differences, Vec::<String>::new());
    }
    // Onto itself, too.
    copy(&from, &to);
    assert!(
        differences(&from, &to)
            .into_iter()
            .all(|line| line.starts_with("none: "))
    );
    open_up(&from);
    open_up(&to);
}

#[test]
fn an_ordinary_user_restores_everything_that_is_his() {
    // As an ordinary user already, this is `everything_comes_back` itself.
    again_as_user("everything_comes_back");
}

#[test]
fn inherited_access_lists_are_shed() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    build(&from);
    let mut default = vec![0; 1000];
    let got = rustix::fs::getxattr(
        from.join("defaults"),
        "system.posix_acl_default",
        &mut default[..],
    )
    .unwrap();
    fs::create_dir(&to).unwrap();
    rustix::fs::setxattr(
        &to,
        "system.posix_acl_default",
        &default[..got],
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    copy(&from, &to);
    assert!(
        differences(&from, &to)
            .into_iter()
            .all(|line| line.starts_with("none: "))
    );
    open_up(&from);
    open_up(&to);
}

#[test]
fn three_hundred_levels_with_long_names_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let mut at = open(&from);
    for _ in 0..300 {
        use rustix::fs::{Mode, OFlags, mkdirat, openat};
        let name = "n".repeat(200);
        mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(
            &at,
            &name,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
        openat(
            &at,
            "f",
            OFlags::CREATE | OFlags::WRONLY,
            Mode::from_raw_mode(0o600),
        )
        .unwrap();
    }
    assert_eq!(copy(&from, &to), (Vec::new(), Vec::new()));
    assert_eq!(differences(&from, &to), Vec::<String>::new());
}

#[test]
fn differences_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    for side in [&a, &b] {
        fs::create_dir(side).unwrap();
        for name in ["content", "mode", "size", "time", "attribute", "l1", "only"] {
            fs::write(side.join(name), name).unwrap();
        }
        fs::hard_link(side.join("l1"), side.join("l2")).unwrap();
        let dense = fs::File::create(side.join("sparse")).unwrap();
        dense.set_len(8 << 20).unwrap();
        symlink("same", side.join("target")).unwrap();
    }
    fs::write(b.join("content"), "c0ntent").unwrap();
    fs::set_permissions(b.join("mode"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(b.join("size"), "sizes").unwrap();
    rustix::fs::setxattr(
        b.join("attribute"),
        "user.a",
        b"",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    fs::remove_file(b.join("l2")).unwrap();
    fs::write(b.join("l2"), "l1").unwrap();
    fs::write(b.join("sparse"), vec![0; 8 << 20]).unwrap();
    fs::remove_file(b.join("target")).unwrap();
    symlink("other", b.join("target")).unwrap();
    fs::remove_file(b.join("only")).unwrap();
    fs::create_dir(b.join("only")).unwrap();
    let lines = differences(&a, &b);
    for line in [
        "content: content differs at or after byte 0",
        "mode: mode 0644, then 0777",
        "size: size 4, then 5",
        "attribute: extended attributes differ: user.a",
        "l2: linked to other names",
        "target: link target differs",
        "only: missing in the second tree",
        "only: only in the second tree",
    ] {
        assert!(
            lines.iter().any(|found| found == line),
            "{line}\n{lines:#?}"
        );
    }
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("sparse: takes 0 bytes, then 83")),
        "{lines:#?}"
    );
}
