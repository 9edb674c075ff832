//! The nasty tree: about 2,000 entries with everything that file systems allow and backups forget.
//!
//! Owns what is in it, not what is done with it. The same seed gives the same tree, but for inode numbers and the
//! times that it doesn't set.

use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags};

/// Bytes of a segment of tar.
const SEGMENT: usize = 4 << 20;

/// Entries that the tree has at least, its top not counted.
const ENTRIES: usize = 2000;

/// The three names of one file, in different directories.
pub const HARD_LINKS: [&str; 3] = ["links/a/first", "links/b/second", "links/third"];

/// The sparse file of 1 GB that holds 1 MB.
pub const SPARSE: &str = "sparse/gigabyte";

/// What was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// All entries but the top.
    pub entries: usize,
    /// Names of regular files, each name of a hard link counted.
    pub files: usize,
    /// Directories but the top.
    pub directories: usize,
    /// Apparent bytes of regular files, each inode counted once.
    pub bytes: u64,
    /// What was left out because it needs root.
    pub skipped: Vec<&'static str>,
}

/// Builds the tree in the empty directory `top`. Without `as_root`, what needs root is left out, and so is the file of
/// mode 000, which its own owner can't read.
pub fn build(top: &Path, seed: u64, as_root: bool) -> Result<Summary> {
    let mut builder = Builder {
        top: top.to_owned(),
        random: StdRng::seed_from_u64(seed),
        summary: Summary::default(),
        late: Vec::new(),
    };
    builder.sizes()?;
    builder.sparse()?;
    builder.links()?;
    builder.names()?;
    builder.modes(as_root)?;
    builder.attributes(as_root)?;
    builder.dates()?;
    builder.levels()?;
    builder.nodes(as_root)?;
    builder.filler(as_root)?;
    builder.finish()?;
    Ok(builder.summary)
}

/// Builds directories below each other until the path is longer than `PATH_MAX`, with a file in the last. Apart,
/// because stock tools cannot unpack it. Returns the length of the file's path below `top` in bytes.
pub fn build_beyond_path_max(top: &Path) -> Result<usize> {
    let mut directory: OwnedFd = File::open(top)?.into();
    let name = "beyond".repeat(40);
    let mut length = 0;
    while length <= 4096 + 240 {
        rustix::fs::mkdirat(&directory, &name, Mode::from_raw_mode(0o755))?;
        directory = rustix::fs::openat(
            &directory,
            &name,
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )?;
        length += name.len() + 1;
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let file = rustix::fs::openat(&directory, "file", flags, Mode::from_raw_mode(0o644))?;
    rustix::io::write(&file, b"found beyond PATH_MAX")?;
    Ok(length + "file".len())
}

struct Builder {
    top: PathBuf,
    random: StdRng,
    summary: Summary,
    /// Directories whose mode and time come last.
    late: Vec<(PathBuf, u32, (i64, u32))>,
}

impl Builder {
    fn directory(&mut self, path: &str) -> Result<PathBuf> {
        let mut whole = self.top.clone();
        for name in path.split('/') {
            whole.push(name);
            match fs::create_dir(&whole) {
                Ok(()) => {
                    self.summary.directories += 1;
                    self.summary.entries += 1;
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error).with_context(|| whole.display().to_string()),
            }
        }
        Ok(whole)
    }

    /// A file: half of it random, half of it easily compressed.
    fn file(&mut self, path: &Path, size: usize) -> Result<File> {
        let mut content = vec![0; size];
        let (random, text) = content.split_at_mut(size / 2);
        self.random.fill_bytes(random);
        for (index, byte) in text.iter_mut().enumerate() {
            *byte = b"the quick brown fox "[index % 20];
        }
        fs::write(path, &content).with_context(|| path.display().to_string())?;
        self.count(size as u64);
        Ok(File::open(path)?)
    }

    fn count(&mut self, size: u64) {
        self.summary.files += 1;
        self.summary.entries += 1;
        self.summary.bytes += size;
    }

    fn sizes(&mut self) -> Result<()> {
        let directory = self.directory("sizes")?;
        let around = [
            SEGMENT - 512,
            SEGMENT - 1,
            SEGMENT,
            SEGMENT + 1,
            SEGMENT + 512,
        ];
        let small = [0, 1, 511, 512, 513, 10_240];
        for size in small.into_iter().chain(around).chain([50_000_000]) {
            self.file(&directory.join(format!("{size:08}")), size)?;
        }
        Ok(())
    }

    fn sparse(&mut self) -> Result<()> {
        let directory = self.directory("sparse")?;
        let gigabyte = File::create(self.top.join(SPARSE))?;
        gigabyte.set_len(1_000_000_000)?;
        let mut data = vec![0; 100_000];
        for run in 0..10 {
            self.random.fill_bytes(&mut data);
            gigabyte.write_all_at(&data, run * 97_000_000 + 4096 * run)?;
        }
        File::create(directory.join("all hole"))?.set_len(10_000_000)?;
        let tail = File::create(directory.join("hole at the end"))?;
        tail.write_all_at(&data[..5000], 0)?;
        tail.set_len(3_000_001)?;
        let many = File::create(directory.join("many runs"))?;
        for run in 0..300 {
            many.write_all_at(&data[..4096], run * 16_384)?;
        }
        for size in [1_000_000_000, 10_000_000, 3_000_001, 299 * 16_384 + 4096] {
            self.count(size);
        }
        Ok(())
    }

    fn links(&mut self) -> Result<()> {
        self.directory("links/a")?;
        self.directory("links/b")?;
        let [first, second, third] = HARD_LINKS.map(|name| self.top.join(name));
        self.file(&first, 70_000)?;
        fs::hard_link(&first, &second)?;
        fs::hard_link(&first, &third)?;
        self.count(0);
        self.count(0);
        let directory = self.directory("links")?;
        for (name, target) in [
            ("loop", "loop"),
            ("ping", "pong"),
            ("pong", "ping"),
            ("up", ".."),
            ("broken", "/no/such/file"),
        ] {
            self.symlink(&directory.join(name), target)?;
        }
        self.symlink(
            &directory.join("long"),
            &"target/of/forty/bytes/that/is/repeated//".repeat(100),
        )?;
        // Two names of one symbolic link.
        fs::hard_link(directory.join("broken"), directory.join("a/broken too"))?;
        self.summary.entries += 1;
        Ok(())
    }

    fn symlink(&mut self, path: &Path, target: &str) -> Result<()> {
        symlink(target, path).with_context(|| path.display().to_string())?;
        self.summary.entries += 1;
        Ok(())
    }

    fn names(&mut self) -> Result<()> {
        let directory = self.directory("names")?;
        let names: [&[u8]; 16] = [
            b"new\nline",
            b"tab\tand\rreturn",
            b"invalid \xff\xfe UTF-8",
            b"\x80",
            b" leading and trailing ",
            b"-rf",
            b"--help",
            b"*",
            b"quote\"'`$(touch x)",
            b"back\\slash",
            b"\x1b[31mred\x1b[0m",
            b"...",
            b"~",
            b"%s%n",
            b"caf\xc3\xa9",
            b"cafe\xcc\x81",
        ];
        for name in names {
            self.file(
                &directory.join(std::ffi::OsStr::from_bytes(name)),
                name.len(),
            )?;
        }
        self.file(&directory.join("n".repeat(255)), 3)?;
        // Order by bytes: a directory's name sorts otherwise than its path with a slash.
        for name in ["order", "order-", "order.d", "order0"] {
            let child = self.directory(&format!("names/{name}"))?;
            self.file(&child.join("f"), 5)?;
        }
        let odd = directory.join(std::ffi::OsStr::from_bytes(b"dir\xff\n"));
        fs::create_dir(&odd)?;
        self.summary.directories += 1;
        self.summary.entries += 1;
        self.file(&odd.join("inside"), 5)?;
        Ok(())
    }

    fn modes(&mut self, as_root: bool) -> Result<()> {
        let directory = self.directory("modes")?;
        for mode in [0o000, 0o400, 0o444, 0o755, 0o6755, 0o4711, 0o1644] {
            if mode == 0 && !as_root {
                self.summary.skipped.push("file of mode 000");
                continue;
            }
            let path = directory.join(format!("file {mode:04o}"));
            self.file(&path, 100)?;
            if as_root {
                lchown(&path, Some(1234), Some(4321))?;
            }
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        for mode in [0o3777, 0o2775, 0o1777, 0o555, 0o500] {
            let path = self.directory(&format!("modes/directory {mode:04o}"))?;
            self.file(&path.join("inside"), 10)?;
            self.late.push((path, mode, (1_111_111_111, 111)));
        }
        if as_root {
            for mode in [0o000, 0o111] {
                let path = self.directory(&format!("modes/directory {mode:04o}"))?;
                self.file(&path.join("inside"), 10)?;
                self.late.push((path, mode, (1_111_111_111, 222)));
            }
        } else {
            self.summary.skipped.push("directories of mode 000 and 111");
        }
        Ok(())
    }

    fn attributes(&mut self, as_root: bool) -> Result<()> {
        let directory = self.directory("attributes")?;
        let twenty = self.file(&directory.join("twenty"), 100)?;
        for number in 0..20u8 {
            let name = format!("user.number.{number}");
            set(&twenty, &name, &vec![number; usize::from(number)])?;
        }
        let mut large = vec![0; 3000];
        self.random.fill_bytes(&mut large);
        let file = self.file(&directory.join("large"), 100)?;
        set(&file, "user.large", &large)?;
        let file = self.file(&directory.join("strange"), 100)?;
        set(&file, "user.new\nline = \"\u{e9}\"", b"a\0b=c\nd")?;
        let readonly = self.file(&directory.join("read-only"), 100)?;
        set(&readonly, "user.kept", b"although nobody may write")?;
        fs::set_permissions(directory.join("read-only"), Permissions::from_mode(0o444))?;
        set(&File::open(&directory)?, "user.directory", b"yes")?;

        let listed = self.file(&directory.join("listed"), 100)?;
        set(
            &listed,
            "system.posix_acl_access",
            &access_list(&[
                (1, 6, NOBODY),
                (2, 7, 1234),
                (4, 4, NOBODY),
                (8, 5, 4321),
                (0x10, 6, NOBODY),
                (0x20, 0, NOBODY),
            ]),
        )?;
        let defaults = self.directory("attributes/defaults")?;
        let default = access_list(&[
            (1, 7, NOBODY),
            (2, 5, 1234),
            (4, 5, NOBODY),
            (0x10, 5, NOBODY),
            (0x20, 0, NOBODY),
        ]);
        self.file(&defaults.join("before the default"), 10)?;
        set(
            &File::open(&defaults)?,
            "system.posix_acl_default",
            &default,
        )?;
        self.file(&defaults.join("inherits"), 10)?;
        self.directory("attributes/defaults/inherits too")?;

        if as_root {
            let capable = self.file(&directory.join("capable"), 100)?;
            lchown(directory.join("capable"), Some(1234), Some(4321))?;
            // Revision 2, effective; CAP_NET_BIND_SERVICE permitted (linux/capability.h).
            let capability: Vec<u8> = [0x0200_0001u32, 1 << 10, 0, 0, 0]
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect();
            set(&capable, "security.capability", &capability)?;
            set(&capable, "trusted.by.root", b"1")?;
            self.symlink(&directory.join("attributed link"), "nowhere")?;
            rustix::fs::lsetxattr(
                directory.join("attributed link"),
                "trusted.link",
                b"1",
                XattrFlags::empty(),
            )?;
        } else {
            self.summary
                .skipped
                .push("security.capability and trusted attributes");
        }
        Ok(())
    }

    fn dates(&mut self) -> Result<()> {
        let directory = self.directory("dates")?;
        let dates = [
            ("1901", -2_147_483_648, 0),
            ("1942", -880_000_000, 123_456_789),
            ("just before 1970", -1, 999_999_999),
            ("1970", 0, 0),
            ("a nanosecond", 1_500_000_000, 1),
            ("2039", 2_177_452_800, 5),
            ("2107", 4_323_456_789, 987_654_321),
            ("2200", 7_258_118_400, 999_999_999),
        ];
        for (name, seconds, nanos) in dates {
            self.file(&directory.join(name), 10)?;
            touch(&directory.join(name), seconds, nanos)?;
        }
        self.symlink(&directory.join("old link"), "1942")?;
        touch(&directory.join("old link"), -100, 7)?;
        self.late.push((directory, 0o755, (-1_000_000, 42)));
        Ok(())
    }

    /// 200 levels, still shorter than `PATH_MAX` so that stock tools unpack it.
    fn levels(&mut self) -> Result<()> {
        let names: Vec<_> = (1..=200).map(|level| format!("level-{level:03}")).collect();
        let deepest = self.directory(&format!("deep/{}", names.join("/")))?;
        self.file(&deepest.join("bottom"), 100)?;
        let middle = self.top.join("deep").join(names[..100].join("/"));
        self.file(&middle.join("after the way back"), 100)?;
        let aside = self.directory(&format!("deep/{}/side", names[..100].join("/")))?;
        self.file(&aside.join("f"), 100)?;
        Ok(())
    }

    fn nodes(&mut self, as_root: bool) -> Result<()> {
        let directory = self.directory("nodes")?;
        let mode = Mode::from_raw_mode(0o620);
        rustix::fs::mknodat(CWD, directory.join("pipe"), FileType::Fifo, mode, 0)?;
        touch(&directory.join("pipe"), 77, 7)?;
        self.summary.entries += 1;
        if as_root {
            let null = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(
                CWD,
                directory.join("char"),
                FileType::CharacterDevice,
                mode,
                null,
            )?;
            let large = rustix::fs::makedev(259, 70_000);
            rustix::fs::mknodat(
                CWD,
                directory.join("block"),
                FileType::BlockDevice,
                mode,
                large,
            )?;
            lchown(directory.join("block"), Some(0), Some(6))?;
            self.summary.entries += 2;
        } else {
            self.summary.skipped.push("device nodes");
        }
        Ok(())
    }

    /// Ordinary files, as most of every tree.
    fn filler(&mut self, as_root: bool) -> Result<()> {
        self.directory("empty directory")?;
        let mut folder = self.directory("ordinary")?;
        let mut left = 0;
        let mut number = 0;
        while self.summary.entries < ENTRIES {
            if left == 0 {
                left = self.random.random_range(0..60);
                number += 1;
                folder = self.directory(&format!("ordinary/{}/{number}", number % 7))?;
                continue;
            }
            left -= 1;
            let size = self.random.random_range(0..20_000);
            let path = folder.join(format!("file-{:08x}", self.random.random::<u32>()));
            self.file(&path, size)?;
            if as_root && self.random.random_ratio(1, 3) {
                lchown(
                    &path,
                    Some(self.random.random_range(0..100_000)),
                    Some(self.random.random_range(0..100_000)),
                )?;
            }
            let mode = [0o644, 0o600, 0o755, 0o664][self.random.random_range(0..4)];
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
            let (seconds, nanos) = (
                self.random.random_range(0..1_700_000_000),
                self.random.random_range(0..1_000_000_000),
            );
            touch(&path, seconds, nanos)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for (path, mode, (seconds, nanos)) in self.late.iter().rev() {
            touch(path, *seconds, *nanos)?;
            fs::set_permissions(path, Permissions::from_mode(*mode))?;
        }
        Ok(())
    }
}

/// The id of an entry of an access list that names nobody.
const NOBODY: u32 = u32::MAX;

/// A POSIX access list as Linux stores it: version 2, then (tag, permissions, id), little endian
/// (`linux/posix_acl_xattr.h`).
fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn set(file: &File, name: &str, value: &[u8]) -> Result<()> {
    rustix::fs::fsetxattr(file, name, value, XattrFlags::empty())
        .with_context(|| format!("the attribute {name:?} cannot be set; build the tree on a file system with extended attributes, such as ext4"))
}

fn touch(path: &Path, seconds: i64, nanos: u32) -> Result<()> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| path.display().to_string())
}
