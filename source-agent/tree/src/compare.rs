//! In what two trees differ: what a restore must leave equal.
//!
//! Walks both in catalog order side by side and compares names, kinds, metadata, content, link structure and how
//! sparse files are. Memory grows only with the number of hard-linked files.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::os::fd::OwnedFd;

use taf_format::entry::{Extent, Kind, Metadata, Time};

use crate::content::OpenFile;
use crate::issue::Issue;
use crate::path;
use crate::walk::{self, Event, Exclude, Item, Walk};

/// What to compare.
pub struct Options {
    /// Owner and group numbers.
    pub owners: bool,
    /// Extended attributes whose name begins with one of these; an empty prefix means all.
    pub xattrs: Vec<Vec<u8>>,
    /// The two top directories' own metadata.
    pub top: bool,
    /// Bytes by which a sparse file may take more room in the second tree.
    pub slack: u64,
    /// What to leave out of the first tree.
    pub exclude_a: Option<Box<dyn Exclude>>,
    /// What to leave out of the second tree.
    pub exclude_b: Option<Box<dyn Exclude>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            owners: true,
            xattrs: vec![Vec::new()],
            top: true,
            slack: 1 << 20,
            exclude_a: None,
            exclude_b: None,
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Raw path below both tops.
    pub path: Vec<u8>,
    /// What differs.
    pub what: What,
}

/// What differs at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Only the first tree has it. A name that is a directory in one tree alone is missing and extra.
    Missing,
    /// Only the second tree has it.
    Extra,
    /// Another kind.
    Kind(Kind, Kind),
    /// Other permission bits.
    Mode(u32, u32),
    /// Another owner, as (user, group).
    Owner((u32, u32), (u32, u32)),
    /// Another modification time.
    Mtime(Time, Time),
    /// Another size.
    Size(u64, u64),
    /// The same size, but other content in some run that begins at this byte.
    Content(u64),
    /// Another target of a symbolic link.
    Target,
    /// Another device number.
    Device,
    /// Linked to other names than in the first tree.
    Links,
    /// The attributes of these names differ.
    Xattrs(Vec<Vec<u8>>),
    /// A sparse file takes more room: bytes in the first, bytes in the second.
    Denser(u64, u64),
    /// Could not be compared: in the first tree (true) or the second, and why.
    Unreadable(bool, String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() {
            ".".into()
        } else {
            path::display(&self.path)
        };
        write!(f, "{path}: ")?;
        match &self.what {
            What::Missing => write!(f, "missing in the second tree"),
            What::Extra => write!(f, "only in the second tree"),
            What::Kind(a, b) => write!(f, "kind {a:?}, then {b:?}"),
            What::Mode(a, b) => write!(f, "mode {a:04o}, then {b:04o}"),
            What::Owner(a, b) => write!(f, "owner {}:{}, then {}:{}", a.0, a.1, b.0, b.1),
            What::Mtime(a, b) => {
                write!(
                    f,
                    "modified {}.{:09}, then {}.{:09}",
                    a.seconds, a.nanos, b.seconds, b.nanos
                )
            }
            What::Size(a, b) => write!(f, "size {a}, then {b}"),
            What::Content(at) => write!(f, "content differs at or after byte {at}"),
            What::Target => write!(f, "link target differs"),
            What::Device => write!(f, "device number differs"),
            What::Links => write!(f, "linked to other names"),
            What::Xattrs(names) => {
                let names: Vec<_> = names.iter().map(|name| path::display(name)).collect();
                write!(f, "extended attributes differ: {}", names.join(", "))
            }
            What::Denser(a, b) => write!(f, "takes {a} bytes, then {b}"),
            What::Unreadable(first, reason) => {
                write!(
                    f,
                    "not compared, in the {} tree: {reason}",
                    if *first { "first" } else { "second" }
                )
            }
        }
    }
}

/// An entry of either kind.
struct Entry {
    path: Vec<u8>,
    meta: Metadata,
    device: u64,
    file: Option<OpenFile>,
}

/// A comparison under way: an iterator of the differences.
pub struct Compare {
    a: Walk,
    b: Walk,
    next_a: Option<Entry>,
    next_b: Option<Entry>,
    started: bool,
    owners: bool,
    xattrs: Vec<Vec<u8>>,
    top: bool,
    slack: u64,
    links_a: HashMap<(u64, u64), (u64, u64)>,
    links_b: HashMap<(u64, u64), (u64, u64)>,
    found: VecDeque<Difference>,
}

/// Compares the tree below the directory `a` with the one below `b`.
pub fn compare(a: OwnedFd, b: OwnedFd, options: Options) -> Result<Compare, walk::Error> {
    let walk = |top, exclude| {
        let options = walk::Options {
            exclude,
            ..walk::Options::new(vec![b"/".to_vec()])
        };
        Walk::beneath(top, options)
    };
    Ok(Compare {
        a: walk(a, options.exclude_a)?,
        b: walk(b, options.exclude_b)?,
        next_a: None,
        next_b: None,
        started: false,
        owners: options.owners,
        xattrs: options.xattrs,
        top: options.top,
        slack: options.slack,
        links_a: HashMap::new(),
        links_b: HashMap::new(),
        found: VecDeque::new(),
    })
}

/// The next entry of a walk; its issues become differences.
fn pull(walk: &mut Walk, first: bool, found: &mut VecDeque<Difference>) -> Option<Entry> {
    loop {
        match walk.next()? {
            Event::Enter(walk::Directory {
                path, meta, device, ..
            }) => {
                return Some(Entry {
                    path,
                    meta,
                    device,
                    file: None,
                });
            }
            Event::Entry(Item {
                path,
                meta,
                device,
                file,
            }) => {
                return Some(Entry {
                    path,
                    meta,
                    device,
                    file,
                });
            }
            Event::Leave { .. } => {}
            Event::Issue(Issue { path, reason, .. }) => {
                found.push_back(Difference {
                    path,
                    what: What::Unreadable(first, reason),
                });
            }
        }
    }
}

/// Catalog order of two entries.
fn order(a: &Entry, b: &Entry) -> std::cmp::Ordering {
    fn key(entry: &Entry) -> impl Iterator<Item = (bool, &[u8])> {
        let directory = entry.meta.kind == Kind::Directory;
        let depth = entry.path.split(|byte| *byte == b'/').count();
        let components = entry.path.split(|byte| *byte == b'/').enumerate();
        components
            .map(move |(index, name)| (directory || index + 1 < depth, name))
            .skip_while(|(_, name)| name.is_empty())
    }
    key(a).cmp(key(b))
}

impl Iterator for Compare {
    type Item = Difference;

    fn next(&mut self) -> Option<Difference> {
        if !self.started {
            self.started = true;
            self.advance(true, true);
        }
        loop {
            if let Some(difference) = self.found.pop_front() {
                return Some(difference);
            }
            let order = match (&self.next_a, &self.next_b) {
                (None, None) => return None,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(a), Some(b)) => order(a, b),
            };
            match order {
                std::cmp::Ordering::Less => self.lone(true),
                std::cmp::Ordering::Greater => self.lone(false),
                std::cmp::Ordering::Equal => self.pair(),
            }
        }
    }
}

impl Compare {
    fn advance(&mut self, a: bool, b: bool) {
        if a {
            self.next_a = pull(&mut self.a, true, &mut self.found);
        }
        if b {
            self.next_b = pull(&mut self.b, false, &mut self.found);
        }
    }

    fn lone(&mut self, first: bool) {
        let entry = if first {
            self.next_a.take()
        } else {
            self.next_b.take()
        };
        if let Some(entry) = entry {
            let what = if first { What::Missing } else { What::Extra };
            self.found.push_back(Difference {
                path: entry.path,
                what,
            });
        }
        self.advance(first, !first);
    }

    fn pair(&mut self) {
        if let (Some(a), Some(b)) = (self.next_a.take(), self.next_b.take())
            && (self.top || !a.path.is_empty())
        {
            let mut found = Vec::new();
            self.metadata(&a.meta, &b.meta, &mut found);
            self.links(&a, &b, &mut found);
            if let (Some(file_a), Some(file_b)) = (&a.file, &b.file)
                && let Err(error) = content(file_a, file_b, self.slack, &mut found)
            {
                found.push(What::Unreadable(true, error.to_string()));
            }
            self.found.extend(found.into_iter().map(|what| Difference {
                path: a.path.clone(),
                what,
            }));
        }
        self.advance(true, true);
    }

    fn metadata(&self, a: &Metadata, b: &Metadata, found: &mut Vec<What>) {
        if a.kind != b.kind {
            found.push(What::Kind(a.kind, b.kind));
            return;
        }
        // A symbolic link's mode means nothing and cannot be set.
        if a.mode != b.mode && a.kind != Kind::Symlink {
            found.push(What::Mode(a.mode, b.mode));
        }
        if self.owners && (a.uid, a.gid) != (b.uid, b.gid) {
            found.push(What::Owner((a.uid, a.gid), (b.uid, b.gid)));
        }
        if a.mtime != b.mtime {
            found.push(What::Mtime(a.mtime, b.mtime));
        }
        if a.link_target != b.link_target {
            found.push(What::Target);
        }
        if (a.rdev_major, a.rdev_minor) != (b.rdev_major, b.rdev_minor) {
            found.push(What::Device);
        }
        let of_interest = |name: &[u8]| self.xattrs.iter().any(|prefix| name.starts_with(prefix));
        let mut names: Vec<Vec<u8>> = Vec::new();
        for (here, there) in [(a, b), (b, a)] {
            let missing = here
                .xattrs
                .iter()
                .filter(|xattr| of_interest(&xattr.name) && !there.xattrs.contains(xattr));
            names.extend(missing.map(|xattr| xattr.name.clone()));
        }
        if !names.is_empty() {
            names.sort();
            names.dedup();
            found.push(What::Xattrs(names));
        }
    }

    /// Names that share an inode in one tree must share one in the other.
    fn links(&mut self, a: &Entry, b: &Entry, found: &mut Vec<What>) {
        if a.meta.kind == Kind::Directory || (a.meta.links < 2 && b.meta.links < 2) {
            return;
        }
        let (in_a, in_b) = ((a.device, a.meta.inode), (b.device, b.meta.inode));
        let expected_b = *self.links_a.entry(in_a).or_insert(in_b);
        let expected_a = *self.links_b.entry(in_b).or_insert(in_a);
        if expected_b != in_b || expected_a != in_a {
            found.push(What::Links);
        }
    }
}

fn content(a: &OpenFile, b: &OpenFile, slack: u64, found: &mut Vec<What>) -> std::io::Result<()> {
    if a.size() != b.size() {
        found.push(What::Size(a.size(), b.size()));
        return Ok(());
    }
    let (runs_a, runs_b) = (a.extents(usize::MAX)?, b.extents(usize::MAX)?);
    if runs_a.is_some() && b.allocated() > a.allocated().saturating_add(slack) {
        found.push(What::Denser(a.allocated(), b.allocated()));
    }
    let whole = || {
        vec![Extent {
            offset: 0,
            length: a.size(),
        }]
    };
    let mut runs = runs_a.unwrap_or_else(whole);
    runs.extend(runs_b.unwrap_or_else(whole));
    runs.sort_by_key(|run| run.offset);
    let mut buffers = (vec![0; 256 * 1024], vec![0; 256 * 1024]);
    let mut done = 0;
    for run in runs {
        let end = run.offset + run.length;
        let mut at = done.max(run.offset);
        while at < end {
            let want = (end - at).min(buffers.0.len() as u64) as usize;
            let got = a.read_at(&mut buffers.0[..want], at)?;
            let mut other = 0;
            while other < got {
                match b.read_at(&mut buffers.1[other..got], at + other as u64)? {
                    0 => break,
                    more => other += more,
                }
            }
            if got == 0 || buffers.0[..got] != buffers.1[..other] {
                found.push(What::Content(at));
                return Ok(());
            }
            at += got as u64;
        }
        done = done.max(end);
    }
    Ok(())
}
