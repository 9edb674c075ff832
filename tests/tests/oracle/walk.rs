//! A walk over a snapshot, as the agent's own would go: its steps, its questions, and what may get in its way. The agent's own
//! merger is told of it, and says what is to be packed.

use std::sync::Arc;

use taf_format::entry::{Kind, Metadata, Time};
use taf_source_agent::backup::merge::{Against, Base, Merger, Rules};
use taf_source_agent::backup::step::{Content, Step};
use taf_tree::walk::{Directory, Item, Names};
use taf_tree::{Issue, IssueKind};

use rand::Rng;
use rand::rngs::StdRng;

use super::files::{Children, Inode, Listing, Seen, Snapshot};
use super::run::{Off, Truth};

/// Seconds of a tick of the clock: more than lie between two times that prove something.
const TICK: i64 = 3;
/// All that is walked is on one file system.
const DEVICE: u64 = 1;

/// What gets in the way of a walk. Directories are given by their full keys.
#[derive(Debug, Clone)]
pub enum Obstacle {
    /// Its listing fails; only the names whose bits are set came before that.
    Unlisted { directory: Vec<u8>, names: u64 },
    /// It can't even be entered.
    Unentered { directory: Vec<u8> },
    /// It is moved away when so many of its names were visited.
    Moved { directory: Vec<u8>, visited: usize },
    /// Something in it can't be opened.
    Unopened { directory: Vec<u8>, name: Vec<u8> },
    /// Something in it is removed between its listing and its turn.
    Vanished { directory: Vec<u8>, name: Vec<u8> },
}

impl Obstacle {
    /// One that is possible here, if one is found.
    pub fn any(snapshot: &Snapshot, random: &mut StdRng) -> Option<Self> {
        (0..4).find_map(|_| Self::at_random(snapshot, random))
    }

    fn at_random(snapshot: &Snapshot, random: &mut StdRng) -> Option<Self> {
        let at = random.random_range(0..snapshot.len());
        let (directory, listing) = snapshot.iter().nth(at)?;
        let directory = directory.clone();
        let below = random.random_range(0..listing.entries.len().max(1));
        let named = listing.entries.iter().nth(below);
        match random.random_range(0..5) {
            0 => Some(Self::Unlisted {
                directory,
                // Mostly none at all.
                names: random.random::<u64>() & random.random::<u64>() & random.random::<u64>(),
            }),
            1 if directory.is_empty() => None,
            1 => Some(Self::Unentered { directory }),
            2 => named.map(|_| Self::Moved {
                directory,
                visited: below,
            }),
            3 => match named? {
                (_, Seen::Directory) => None,
                (name, Seen::File(_)) => Some(Self::Unopened {
                    directory,
                    name: name.clone(),
                }),
            },
            _ => Some(Self::Vanished {
                directory,
                name: named?.0.clone(),
            }),
        }
    }

    /// Its number among its kinds, for counting.
    pub fn number(&self) -> usize {
        match self {
            Self::Unlisted { .. } => 0,
            Self::Unentered { .. } => 1,
            Self::Moved { .. } => 2,
            Self::Unopened { .. } => 3,
            Self::Vanished { .. } => 4,
        }
    }

    /// What the version then has to show, by what was there when the head was made: what could not be looked at is as it was, and
    /// what never was looked at is not there.
    pub fn expected(&self, mut snapshot: Snapshot, head: &Truth) -> Truth {
        match self {
            Self::Unlisted { directory, .. } if head.contains_key(directory) => {
                as_before(&mut snapshot, directory, head);
            }
            Self::Unlisted { directory, .. } => {
                let listed = self.listed(directory, &snapshot[directory]);
                let unseen = subdirectories(&snapshot[directory])
                    .filter(|name| !listed.contains_key(*name))
                    .map(|name| join(directory, name))
                    .collect::<Vec<_>>();
                for below in unseen {
                    snapshot.retain(|key, _| !is_below(key, &below));
                }
                if let Some(listing) = snapshot.get_mut(directory) {
                    listing.entries = listed;
                }
            }
            Self::Unentered { directory } => as_before(&mut snapshot, directory, head),
            Self::Moved { directory, visited } => {
                let order: Vec<Vec<u8>> = in_order(&snapshot[directory]).cloned().collect();
                for name in &order[*visited..] {
                    match snapshot[directory].entries[name] {
                        Seen::Directory => as_before(&mut snapshot, &join(directory, name), head),
                        Seen::File(_) => file_as_before(&mut snapshot, directory, name, head),
                    }
                }
            }
            Self::Unopened { directory, name } => {
                file_as_before(&mut snapshot, directory, name, head);
            }
            Self::Vanished { directory, name } => match snapshot[directory].entries[name] {
                // Its parent's page names it; that it is gone is for the next version.
                Seen::Directory => {
                    let gone = join(directory, name);
                    snapshot.retain(|key, _| !is_below(key, &gone));
                }
                Seen::File(_) => {
                    if let Some(listing) = snapshot.get_mut(directory) {
                        listing.entries.remove(name);
                    }
                }
            },
        }
        snapshot
    }

    /// The names that are listed.
    fn listed(&self, directory: &[u8], listing: &Listing) -> Children {
        let mut entries = listing.entries.clone();
        if let Self::Unlisted {
            directory: at,
            names,
        } = self
            && at == directory
        {
            let mut bits = *names;
            entries.retain(|_, _| {
                let listed = bits & 1 == 1;
                bits >>= 1;
                listed
            });
        }
        entries
    }
}

/// All below a directory, and itself, is as it was; what was not there is not shown.
fn as_before(truth: &mut Truth, directory: &[u8], head: &Truth) {
    truth.retain(|key, _| !is_below(key, directory));
    let before = head.iter().filter(|(key, _)| is_below(key, directory));
    truth.extend(before.map(|(key, listing)| (key.clone(), listing.clone())));
}

fn file_as_before(truth: &mut Truth, directory: &[u8], name: &[u8], head: &Truth) {
    let before = head.get(directory).and_then(|old| old.entries.get(name));
    let Some(listing) = truth.get_mut(directory) else {
        return;
    };
    match before {
        Some(Seen::File(inode)) => {
            listing.entries.insert(name.to_vec(), Seen::File(*inode));
        }
        Some(Seen::Directory) | None => drop(listing.entries.remove(name)),
    }
}

fn subdirectories(listing: &Listing) -> impl Iterator<Item = &Vec<u8>> {
    let entries = listing.entries.iter();
    entries.filter_map(|(name, seen)| matches!(seen, Seen::Directory).then_some(name))
}

/// Names in the order of the walk.
fn in_order(listing: &Listing) -> impl Iterator<Item = &Vec<u8>> {
    let entries = listing.entries.iter();
    let files = entries.filter_map(|(name, seen)| matches!(seen, Seen::File(_)).then_some(name));
    files.chain(subdirectories(listing))
}

pub fn join(key: &[u8], name: &[u8]) -> Vec<u8> {
    match key {
        [] => name.to_vec(),
        key => [key, &[0], name].concat(),
    }
}

fn is_below(key: &[u8], top: &[u8]) -> bool {
    if top.is_empty() {
        return true;
    }
    key.strip_prefix(top)
        .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

/// The directory's path of a full key.
fn path(key: &[u8]) -> Vec<u8> {
    let slash = |&byte: &u8| if byte == 0 { b'/' } else { byte };
    key.iter().map(slash).collect()
}

/// A tick as a time.
pub fn time(tick: i64) -> Time {
    Time {
        seconds: tick.saturating_mul(TICK),
        nanos: 0,
    }
}

/// A file's bytes: they tell its content.
fn bytes(inode: &Inode) -> Vec<u8> {
    let mut bytes = inode.content.to_le_bytes().to_vec();
    bytes.resize(inode.size() as usize, 0);
    bytes
}

fn metadata(kind: Kind, mode: u32, inode: u64) -> Metadata {
    Metadata {
        kind,
        size: 0,
        mode,
        uid: 0,
        gid: 0,
        user: Vec::new(),
        group: Vec::new(),
        mtime: Time::default(),
        ctime: Time::default(),
        inode,
        links: 1,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs: Vec::new(),
    }
}

/// Walks at the tick `now`, and gives what the agent's merger makes of it.
pub fn walk(
    snapshot: &Snapshot,
    obstacle: Option<&Obstacle>,
    base: (impl Base, Against),
    off: Off,
    now: i64,
) -> Vec<Step> {
    let mut walk = Walk {
        snapshot,
        obstacle,
        off,
        seen: time(if off == Off::Racy { i64::MAX } else { now }),
        merger: Merger::new(base.0, base.1, Rules::default()),
        steps: Vec::new(),
    };
    walk.directory(&[]);
    walk.merger.end().unwrap();
    walk.take(None);
    walk.steps
}

struct Walk<'a, B> {
    snapshot: &'a Snapshot,
    obstacle: Option<&'a Obstacle>,
    off: Off,
    seen: Time,
    merger: Merger<B>,
    steps: Vec<Step>,
}

impl<B: Base> Walk<'_, B> {
    fn directory(&mut self, key: &[u8]) {
        let listing = &self.snapshot[key];
        let unlisted =
            matches!(self.obstacle, Some(Obstacle::Unlisted { directory, .. }) if directory == key);
        let entries = match self.obstacle {
            Some(obstacle) => obstacle.listed(key, listing),
            None => listing.entries.clone(),
        };
        let listing = &Listing {
            entries,
            ..listing.clone()
        };
        let kind = |seen: &Seen| match seen {
            Seen::Directory => Kind::Directory,
            Seen::File(_) => Kind::File,
        };
        let names = listing.entries.iter();
        let names = names.map(|(name, seen)| (name.as_slice(), kind(seen)));
        let names = Arc::new(names.collect::<Names>());
        let told = unlisted && self.off != Off::Carry;
        let entered = self.merger.enter(Directory {
            path: path(key),
            meta: metadata(Kind::Directory, listing.mode, listing.inode),
            device: DEVICE,
            stable_inodes: true,
            listing: if told {
                taf_tree::walk::Listing::Incomplete
            } else {
                taf_tree::walk::Listing::Complete
            },
            names: Arc::clone(&names),
            unseen: Vec::new(),
        });
        entered.unwrap();
        if told {
            self.issue(path(key), IssueKind::UnreadableDirectory);
        }
        let mut complete = !told;
        for (visited, name) in in_order(listing).enumerate() {
            match self.obstacle {
                Some(Obstacle::Moved {
                    directory,
                    visited: last,
                }) if directory == key && *last == visited => {
                    self.issue(path(key), IssueKind::UnreadableDirectory);
                    complete = false;
                    break;
                }
                Some(Obstacle::Unentered { directory }) if *directory == join(key, name) => {
                    self.issue(path(directory), IssueKind::Unreadable);
                    continue;
                }
                Some(Obstacle::Unopened {
                    directory,
                    name: at,
                }) if directory == key && at == name => {
                    self.issue(path(&join(key, name)), IssueKind::Unreadable);
                    continue;
                }
                Some(Obstacle::Vanished {
                    directory,
                    name: at,
                }) if directory == key && at == name => {
                    self.issue(path(&join(key, name)), IssueKind::Vanished);
                    continue;
                }
                _ => {}
            }
            match &listing.entries[name] {
                Seen::Directory => self.directory(&join(key, name)),
                Seen::File(inode) => self.file(&join(key, name), name, inode),
            }
        }
        self.merger.leave(complete, &names).unwrap();
        self.take(None);
    }

    fn file(&mut self, key: &[u8], name: &[u8], inode: &Inode) {
        let meta = Metadata {
            size: inode.size(),
            mtime: time(inode.mtime),
            ctime: time(inode.ctime),
            links: inode.links,
            ..metadata(Kind::File, inode.mode, inode.number)
        };
        self.merger.known(name, &meta, self.seen).unwrap();
        let item = Item {
            path: path(key),
            meta,
            device: DEVICE,
            file: None,
        };
        self.merger.entry(item, self.seen).unwrap();
        self.take(Some(inode));
    }

    fn issue(&mut self, path: Vec<u8>, kind: IssueKind) {
        let issue = Issue {
            path,
            kind,
            reason: "is told so by the oracle".into(),
        };
        self.merger.issue(issue).unwrap();
        self.take(None);
    }

    /// Takes the steps that are ready. What is to be stored or compared is read, as the agent does it.
    fn take(&mut self, inode: Option<&Inode>) {
        for mut step in self.merger.steps() {
            if let (Step::Entry(found), Some(inode)) = (&mut step, inode) {
                let bytes = bytes(inode);
                found.content = Some(Content {
                    hash: Some(blake3::hash(&bytes).into()),
                    bytes,
                    extents: None,
                    fault: None,
                });
            }
            self.steps.push(step);
        }
    }
}
