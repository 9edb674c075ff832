//! A file system that changes at random: files, directories, hard links, renames, and a clock that is too coarse.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rand::Rng;
use rand::rngs::StdRng;
use taf_format::page::Chunker;

/// Names, some of which begin a chunk.
static NAMES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let plain = (b'a'..=b'j').map(|letter| vec![letter]);
    let cutting = (0_u32..).map(|n| format!("k{n}").into_bytes());
    let cutting = cutting.filter(|name| Chunker::begins_at(name)).take(4);
    plain.chain(cutting).collect()
});

/// What all names of a file share. Times are in ticks of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inode {
    pub number: u64,
    /// Which bytes it has; its size follows from that, and is often the same.
    pub content: u64,
    pub mtime: i64,
    pub ctime: i64,
    pub mode: u32,
    pub links: u32,
}

impl Inode {
    /// Eight bytes tell the content.
    pub fn size(&self) -> u64 {
        8 + self.content % 3
    }
}

enum Node {
    File(usize),
    Directory(Directory),
}

struct Directory {
    inode: u64,
    mode: u32,
    children: BTreeMap<Vec<u8>, Node>,
}

/// What is seen of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Directory,
    File(Inode),
}

/// What is seen in a directory.
pub type Children = BTreeMap<Vec<u8>, Seen>;

/// What is seen of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub inode: u64,
    pub mode: u32,
    pub entries: Children,
}

/// All directories by their full keys, so in the order of the walk.
pub type Snapshot = BTreeMap<Vec<u8>, Listing>;

/// A path, name by name.
type Components = Vec<Vec<u8>>;

pub struct Files {
    pub now: i64,
    root: Directory,
    inodes: Vec<Inode>,
    next: u64,
    /// The file that was made last.
    last: Option<(Components, Vec<u8>)>,
}

impl Files {
    pub fn new() -> Self {
        Self {
            now: 10,
            root: Directory {
                inode: 1,
                mode: 0o7,
                children: BTreeMap::new(),
            },
            inodes: Vec::new(),
            next: 1,
            last: None,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn file(&mut self) -> Node {
        let (number, content) = (self.number(), self.number());
        self.inodes.push(Inode {
            number,
            content,
            mtime: self.now,
            ctime: self.now,
            mode: 0o6,
            links: 1,
        });
        Node::File(self.inodes.len() - 1)
    }

    fn directory(&mut self, with: Option<&[u8]>) -> Node {
        let inode = self.number();
        let mut children = BTreeMap::new();
        if let Some(name) = with {
            children.insert(name.to_vec(), self.file());
        }
        Node::Directory(Directory {
            inode,
            mode: 0o7,
            children,
        })
    }

    fn at(&mut self, path: &[Vec<u8>]) -> &mut Directory {
        let mut at = &mut self.root;
        for name in path {
            at = match at.children.get_mut(name) {
                Some(Node::Directory(directory)) => directory,
                _ => unreachable!("the path was found in the tree"),
            };
        }
        at
    }

    /// Paths of all directories, and of all entries of a kind with the directory that they are in.
    fn paths(&self, wants_directories: bool) -> (Vec<Components>, Vec<(Components, Vec<u8>)>) {
        let (mut directories, mut entries) = (Vec::new(), Vec::new());
        let mut open = vec![(Vec::new(), &self.root)];
        while let Some((path, directory)) = open.pop() {
            for (name, node) in &directory.children {
                let is_directory = matches!(node, Node::Directory(_));
                if is_directory == wants_directories {
                    entries.push((path.clone(), name.clone()));
                }
                if let Node::Directory(child) = node {
                    let mut below = path.clone();
                    below.push(name.clone());
                    open.push((below, child));
                }
            }
            directories.push(path);
        }
        (directories, entries)
    }

    fn pick(&self, directories: bool, random: &mut StdRng) -> Option<(Components, Vec<u8>)> {
        let mut found = self.paths(directories).1;
        (!found.is_empty()).then(|| found.swap_remove(random.random_range(0..found.len())))
    }

    /// The inode of a file that is picked at random.
    fn picked(&mut self, random: &mut StdRng) -> Option<usize> {
        let (path, name) = self.pick(false, random)?;
        match self.at(&path).children.get(&name) {
            Some(Node::File(inode)) => Some(*inode),
            _ => None,
        }
    }

    fn remove(&mut self, path: &[Vec<u8>], name: &[u8]) -> Option<Node> {
        let node = self.at(path).children.remove(name);
        let now = self.now;
        let mut gone = Vec::new();
        if let Some(node) = &node {
            inodes(node, &mut gone);
        }
        for inode in gone {
            self.inodes[inode].links -= 1;
            self.inodes[inode].ctime = now;
        }
        node
    }

    /// Something changes.
    pub fn change(&mut self, random: &mut StdRng) {
        if random.random_bool(0.5) {
            self.now += 1;
        }
        let directories = self.paths(true).0;
        let shallow: Vec<_> = directories
            .into_iter()
            .filter(|path| path.len() < 4)
            .collect();
        let path = shallow[random.random_range(0..shallow.len())].clone();
        let name = NAMES[random.random_range(0..NAMES.len())].clone();
        let vacant = !self.at(&path).children.contains_key(&name);
        match random.random_range(0..38) {
            0..9 if vacant => {
                let file = self.file();
                self.at(&path).children.insert(name.clone(), file);
                self.last = Some((path, name));
            }
            9..14 if vacant => {
                let directory = self.directory(None);
                self.at(&path).children.insert(name, directory);
            }
            kind @ 14..21 => self.touch(kind, random),
            21..23 => self.at(&path).mode ^= 1,
            23 => {
                if let Some((path, name)) = self.pick(false, random) {
                    self.remove(&path, &name);
                }
            }
            24..26 => {
                if let Some((path, name)) = self.pick(true, random) {
                    self.remove(&path, &name);
                }
            }
            26 => self.replace(true, |files| files.directory(Some(b"a")), random),
            27 if vacant => {
                if let Some((from, old)) = self.pick(false, random)
                    && let Some(node) = self.at(&from).children.remove(&old)
                {
                    if let Node::File(inode) = node {
                        self.inodes[inode].ctime = self.now;
                    }
                    self.at(&path).children.insert(name, node);
                }
            }
            28..30 if vacant => self.rename_directory(&path, name, random),
            30 => self.swap_directories(random),
            31 => self.replace(false, |files| files.directory(Some(b"b")), random),
            32 => self.replace(true, Self::file, random),
            33..36 if vacant => {
                if let Some(inode) = self.picked(random) {
                    self.inodes[inode].links += 1;
                    self.inodes[inode].ctime = self.now;
                    self.at(&path).children.insert(name, Node::File(inode));
                }
            }
            36..38 => self.unmake(),
            _ => {}
        }
    }

    /// The file that was made last goes, if it still is where it was: its directory is as it was before.
    fn unmake(&mut self) {
        let Some((path, name)) = self.last.take() else {
            return;
        };
        let mut at = &self.root;
        for name in &path {
            match at.children.get(name) {
                Some(Node::Directory(directory)) => at = directory,
                _ => return,
            }
        }
        if matches!(at.children.get(&name), Some(Node::File(_))) {
            self.remove(&path, &name);
        }
    }

    /// A file gets another content, perhaps with its old modification time, or another mode.
    fn touch(&mut self, kind: i32, random: &mut StdRng) {
        let Some(inode) = self.picked(random) else {
            return;
        };
        let (content, now) = (self.number(), self.now);
        let inode = &mut self.inodes[inode];
        inode.ctime = now;
        match kind {
            14..18 => (inode.content, inode.mtime) = (content, now),
            18 => inode.content = content,
            _ => inode.mode ^= 1,
        }
    }

    /// A file that has just changed changes again before the clock goes on; its size stays.
    pub fn rewrite(&mut self, random: &mut StdRng) {
        let now = self.now;
        let fresh = |i: &&mut Inode| i.links > 0 && i.ctime == now && i.mtime == now;
        let mut found: Vec<&mut Inode> = self.inodes.iter_mut().filter(fresh).collect();
        if found.is_empty() {
            return;
        }
        let at = random.random_range(0..found.len());
        self.next += 3;
        let rest = found[at].content % 3;
        found[at].content = self.next - self.next % 3 + rest;
    }

    /// Something else comes under a name.
    fn replace(&mut self, directory: bool, make: impl Fn(&mut Self) -> Node, random: &mut StdRng) {
        if let Some((path, name)) = self.pick(directory, random) {
            self.remove(&path, &name);
            let node = make(self);
            self.at(&path).children.insert(name, node);
        }
    }

    /// A directory moves, with all times below it as they were.
    fn rename_directory(&mut self, to: &[Vec<u8>], name: Vec<u8>, random: &mut StdRng) {
        let Some((from, old)) = self.pick(true, random) else {
            return;
        };
        let mut moved = from.clone();
        moved.push(old.clone());
        if to.starts_with(&moved) {
            return;
        }
        if let Some(node) = self.at(&from).children.remove(&old) {
            self.at(to).children.insert(name, node);
        }
    }

    fn swap_directories(&mut self, random: &mut StdRng) {
        let (Some((path, one)), Some((also, other))) =
            (self.pick(true, random), self.pick(true, random))
        else {
            return;
        };
        if path != also || one == other {
            return;
        }
        let children = &mut self.at(&path).children;
        if let (Some(first), Some(second)) = (children.remove(&one), children.remove(&other)) {
            children.insert(one, second);
            children.insert(other, first);
        }
    }

    /// What is seen of all that is selected, by full keys.
    pub fn snapshot(&self, selects: fn(&[u8]) -> bool) -> Snapshot {
        let mut snapshot = Snapshot::new();
        let mut open = vec![(Vec::new(), &self.root)];
        while let Some((key, directory)) = open.pop() {
            let mut entries = BTreeMap::new();
            for (name, node) in &directory.children {
                let below = if key.is_empty() {
                    name.clone()
                } else {
                    [&key[..], &[0], name].concat()
                };
                if !selects(&below) {
                    continue;
                }
                let seen = match node {
                    Node::File(inode) => Seen::File(self.inodes[*inode]),
                    Node::Directory(child) => {
                        open.push((below, child));
                        Seen::Directory
                    }
                };
                entries.insert(name.clone(), seen);
            }
            let listing = Listing {
                inode: directory.inode,
                mode: directory.mode,
                entries,
            };
            snapshot.insert(key, listing);
        }
        snapshot
    }
}

fn inodes(node: &Node, found: &mut Vec<usize>) {
    match node {
        Node::File(inode) => found.push(*inode),
        Node::Directory(directory) => {
            for child in directory.children.values() {
                inodes(child, found);
            }
        }
    }
}
