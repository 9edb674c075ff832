//! Trees as they are on disk and as a version has them, to hold against each other.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use taf_format::entry::{Kind, Xattr};
use taf_format::page::{Page, Place};
use taf_format::tar::decode::Decoder;
use taf_tree::unpack::MemberData;
use taf_tree::walk::Options;
use taf_tree::{Event, Walk};

use crate::catalog::Catalog;

/// All that a restore brings back of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    pub kind: Kind,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, u32),
    pub size: u64,
    pub content: Vec<u8>,
    pub target: Vec<u8>,
    pub xattrs: Vec<Xattr>,
    /// The first path of the same file.
    pub same_as: Vec<u8>,
}

pub type Tree = BTreeMap<Vec<u8>, Thing>;

/// What is below `top`.
pub fn on_disk(top: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first: HashMap<u64, Vec<u8>> = HashMap::new();
    let options = Options::new(vec![b"/".to_vec()]);
    let walk = Walk::beneath(std::fs::File::open(top).unwrap().into(), options).unwrap();
    for event in walk {
        let (path, meta, file) = match event {
            Event::Enter(directory) => (directory.path, directory.meta, None),
            Event::Entry(item) => (item.path, item.meta, item.file),
            Event::Leave { .. } => continue,
            Event::Issue(issue) => panic!("{issue:?}"),
        };
        let mut content = Vec::new();
        if let Some(file) = file {
            file.into_reader(None).read_to_end(&mut content).unwrap();
        }
        let directory = meta.kind == Kind::Directory;
        let same_as = if directory {
            path.clone()
        } else {
            first
                .entry(meta.inode)
                .or_insert_with(|| path.clone())
                .clone()
        };
        let thing = Thing {
            kind: meta.kind,
            mode: meta.mode,
            owner: (meta.uid, meta.gid),
            mtime: (meta.mtime.seconds, meta.mtime.nanos),
            size: meta.size,
            content,
            target: meta.link_target,
            xattrs: meta.xattrs,
            same_as,
        };
        tree.insert(path, thing);
    }
    tree
}

impl Catalog {
    /// What a version has, read page by page from the root, each entry with the bytes at its place.
    pub fn tree(&self, version: u64) -> Tree {
        let mut directories: BTreeMap<Vec<u8>, Vec<Page>> = BTreeMap::new();
        for page in self.resolve(version).values().map(crate::catalog::decode) {
            directories
                .entry(page.directory.clone())
                .or_default()
                .push(page);
        }
        let mut tree = Tree::new();
        let mut first = HashMap::new();
        let mut coming = vec![Vec::new()];
        while let Some(path) = coming.pop() {
            let shown = String::from_utf8_lossy(&path).into_owned();
            let mut pages = directories
                .remove(&path)
                .unwrap_or_else(|| panic!("no page of {shown}"));
            pages.sort_by(|a, b| a.lower.cmp(&b.lower));
            assert!(pages[0].lower.is_none(), "{shown}");
            for pair in pages.windows(2) {
                assert_eq!(pair[0].upper, pair[1].lower, "{shown}");
            }
            assert!(pages.last().unwrap().upper.is_none(), "{shown}");
            let header = pages[0].header.clone().unwrap();
            if let Some(place) = header.place {
                let (meta, _) = self.member(place);
                assert_eq!(meta.mode, header.mode, "{shown}");
            } else {
                assert!(path.is_empty(), "{shown} has no place");
            }
            tree.insert(
                path.clone(),
                Thing {
                    kind: Kind::Directory,
                    mode: header.mode,
                    owner: (header.uid, header.gid),
                    mtime: (header.mtime.seconds, header.mtime.nanos),
                    size: 0,
                    content: Vec::new(),
                    target: Vec::new(),
                    xattrs: header.xattrs,
                    same_as: path.clone(),
                },
            );
            let mut below = Vec::new();
            for entry in pages.iter().flat_map(|page| &page.entries) {
                let at = taf_tree::path::join(&path, &entry.name);
                if entry.kind == Kind::Directory {
                    below.push(at);
                    continue;
                }
                let place = entry.place.unwrap();
                let (meta, content) = self.member(place);
                assert_eq!((meta.kind, meta.size), (entry.kind, entry.size));
                if let Some(hash) = entry.hash {
                    assert_eq!(blake3::hash(&content).as_bytes()[..16], hash);
                }
                let same_as = first.entry(place).or_insert_with(|| at.clone()).clone();
                if same_as != at {
                    assert_ne!(entry.link_group, 0, "{}", String::from_utf8_lossy(&at));
                }
                let thing = Thing {
                    kind: entry.kind,
                    mode: entry.mode,
                    owner: (entry.uid, entry.gid),
                    mtime: (entry.mtime.seconds, entry.mtime.nanos),
                    size: entry.size,
                    content,
                    target: entry.link_target.clone(),
                    xattrs: meta.xattrs,
                    same_as,
                };
                tree.insert(at, thing);
            }
            // The first one on top, so that names come in catalog order.
            coming.extend(below.into_iter().rev());
        }
        let ghosts: Vec<_> = directories
            .keys()
            .map(|path| path.escape_ascii().to_string())
            .collect();
        assert!(ghosts.is_empty(), "pages that nothing leads to: {ghosts:?}");
        tree
    }

    fn member(&self, place: Place) -> (taf_format::entry::Metadata, Vec<u8>) {
        let tar = &self.archives[&place.archive_ordinal][place.tar_offset as usize..];
        let mut decoder = Decoder::starting_at(tar, place.tar_offset);
        let member = decoder.next().unwrap().unwrap();
        let mut content = Vec::new();
        if member.meta.kind == Kind::File {
            MemberData(&mut decoder).read_to_end(&mut content).unwrap();
        }
        (member.meta, content)
    }
}

/// Fails where the two differ, saying how.
pub fn assert_same(disk: &Tree, version: &Tree, what: &str) {
    let mut wrong = Vec::new();
    for path in disk.keys().chain(version.keys()) {
        let (a, b) = (disk.get(path), version.get(path));
        let shown = path.escape_ascii().to_string();
        match (a, b) {
            (Some(_), None) => wrong.push(format!("{shown} is missing")),
            (None, Some(_)) => wrong.push(format!("{shown} should not be there")),
            (Some(a), Some(b)) if a != b => wrong.push(format!("{shown}: {a:?} became {b:?}")),
            _ => {}
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}

/// A file's inode number.
pub fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

/// A path as raw bytes.
pub fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}
