//! What of a version is meant: paths, made disjoint and put into the order of the tape.

use std::collections::{BTreeSet, VecDeque};
use std::iter::Peekable;
use std::sync::Arc;

use taf_format::entry::Kind;
use taf_format::key;
use taf_format::page::{Entry, Page, Place};

use super::gap::Gap;
use super::recall::is_item;
use super::walk::Walk;
use super::{Error, View, browse, view};

/// Paths looked up at once.
const PATHS: usize = 4_000;

/// Chosen parts of a version's tree, disjoint, in catalog order.
#[derive(Debug, Clone)]
pub struct Selection {
    roots: Vec<Root>,
}

#[derive(Debug, Clone)]
struct Root {
    path: Vec<u8>,
    directory: bool,
    /// What was found of something that is no directory.
    item: Option<Item>,
}

/// What a plan asks of something that is no directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) place: Option<Place>,
    pub(super) tar_length: u64,
    pub(super) size: u64,
    pub(super) link_group: u64,
}

impl Item {
    pub(super) fn of(entry: &Entry) -> Option<Self> {
        is_item(entry).then_some(Self {
            place: entry.place,
            tar_length: entry.tar_length,
            size: entry.size,
            link_group: entry.link_group,
        })
    }
}

impl Selection {
    /// The selection of these paths (components joined by '/', a leading slash does not matter), each with all below it.
    /// No paths mean everything. [`Error::NotFound`] with the first that the version does not have.
    pub async fn resolve(view: &View, paths: &[Vec<u8>]) -> Result<Self, Error> {
        let paths: Vec<&[u8]> = paths
            .iter()
            .map(|path| path.strip_prefix(b"/").unwrap_or(path))
            .collect();
        let mut roots = Vec::new();
        for some in paths.chunks(PATHS) {
            for (path, found) in some.iter().zip(view.stat_all(some).await?) {
                let found = found.ok_or_else(|| Error::NotFound([b"/", *path].concat()))?;
                // What is known below what is not known is chosen with it.
                let (directory, item) = match &found {
                    view::Found::Entry(entry) => (false, Item::of(entry)),
                    _ => (true, None),
                };
                roots.push(Root {
                    path: path.to_vec(),
                    directory,
                    item,
                });
            }
        }
        if roots.is_empty() {
            roots.push(Root {
                path: Vec::new(),
                directory: true,
                item: None,
            });
        }
        // As keys, a directory stands right before what is in it.
        roots.sort_by_cached_key(|root| key::of_path(&root.path));
        roots.dedup_by(|later, earlier| covers(&earlier.path, &later.path));
        roots.sort_by(|a, b| key::compare((&a.path, a.directory), (&b.path, b.directory)));
        Ok(Self { roots })
    }

    /// Whether all that is chosen is this directory or below it.
    pub fn is_within(&self, directory: &[u8]) -> bool {
        let within = |root: &Root| {
            covers(directory, &root.path) && (root.directory || root.path != directory)
        };
        self.roots.iter().all(within)
    }

    /// The first so many components of the paths of all that is chosen, if they are the same for all of it. [`Error::Unknown`] if that
    /// can't be told, since the version is not whole.
    pub async fn leading(&self, view: &View, components: usize) -> Result<Option<Vec<u8>>, Error> {
        let Some(first) = self.roots.first() else {
            return Ok(None);
        };
        let mut names = first.path.split(|&byte| byte == b'/');
        let mut leading: Vec<u8> = Vec::new();
        let mut depth = 0;
        for name in names.by_ref().take(components).filter(|n| !n.is_empty()) {
            leading = view::join(&leading, name);
            depth += 1;
        }
        if depth < components && !(first.directory && self.roots.len() == 1) {
            return Ok(None);
        }
        if depth == components {
            return Ok(self.is_within(&leading).then_some(leading));
        }
        // What only leads to the paths of a source has nothing else in it.
        while depth < components {
            let found = browse::list(view, &leading, None, 2).await?;
            let found = found.unwrap_or_default();
            match found.entries.as_slice() {
                [] | [_] if found.gap => {
                    let gap = view.gap().and_then(|gap| gap.unknown());
                    return Err(Error::Unknown {
                        directory: [b"/", leading.as_slice()].concat(),
                        why: gap.unwrap_or_default(),
                    });
                }
                [only] if only.kind == Kind::Directory => {
                    leading = view::join(&leading, &only.name);
                    depth += 1;
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(leading))
    }

    /// The directories above what is chosen, each before those below it; the root is not among them.
    pub fn ancestors(&self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let mut above = BTreeSet::new();
        for root in &self.roots {
            let mut path = root.path.as_slice();
            loop {
                path = view::split(path).0;
                // Whoever has this one has those above it.
                if path.is_empty() || !above.insert(key::of_path(path)) {
                    break;
                }
            }
        }
        let slashes = |full: Vec<u8>| {
            full.iter()
                .map(|&byte| if byte == 0 { b'/' } else { byte })
                .collect()
        };
        above.into_iter().map(slashes)
    }

    /// The directories that are chosen with all below them.
    pub fn directories(&self) -> impl Iterator<Item = Vec<u8>> + use<> {
        let directories = self.roots.iter().filter(|root| root.directory);
        let paths: Vec<Vec<u8>> = directories.map(|root| root.path.clone()).collect();
        paths.into_iter()
    }

    /// What of all that is chosen is no directory, as it was found; the same selection without it.
    pub(super) fn apart(&self) -> (impl Iterator<Item = Item>, Self) {
        let directories = self.roots.iter().filter(|root| root.directory);
        let directories = directories.cloned().collect();
        let items = self.roots.iter().filter_map(|root| root.item);
        (items, Self { roots: directories })
    }

    /// The pages with what is chosen, in the order of the tape. What of a version that is not whole can't be read has no place in them.
    pub(super) fn pages(&self, view: &View) -> Selected {
        Selected {
            gap: view.gap(),
            ..self.pages_as_they_are(view)
        }
    }

    /// The pages with what is chosen, in the order of the tape.
    pub(super) fn pages_as_they_are(&self, view: &View) -> Selected {
        Selected {
            view: view.clone(),
            gap: None,
            roots: self.roots.clone().into_iter().peekable(),
            walk: None,
            cut: VecDeque::new(),
        }
    }
}

pub(super) fn covers(above: &[u8], path: &[u8]) -> bool {
    above.is_empty()
        || path
            .strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// See [`Selection::pages`].
pub(super) struct Selected {
    view: View,
    /// What is to be stripped.
    gap: Option<Arc<Gap>>,
    roots: Peekable<std::vec::IntoIter<Root>>,
    walk: Option<Walk>,
    /// Pages cut to chosen files.
    cut: VecDeque<Page>,
}

impl Selected {
    /// The next page; one that was cut to chosen files has no header and no other entries.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, Error> {
        let mut page = self.whole().await?;
        if let (Some(gap), Some(page)) = (&self.gap, &mut page) {
            gap.strip(page);
        }
        Ok(page)
    }

    async fn whole(&mut self) -> Result<Option<Page>, Error> {
        loop {
            if let Some(page) = self.cut.pop_front() {
                return Ok(Some(page));
            }
            if let Some(walk) = &mut self.walk {
                if let Some(page) = walk.next().await? {
                    return Ok(Some(page));
                }
                self.walk = None;
            }
            match self.roots.peek() {
                None => return Ok(None),
                Some(root) if root.directory => {
                    self.walk = Some(Walk::below(&self.view, &root.path));
                    self.roots.next();
                }
                Some(_) => self.cut = self.files().await?,
            }
        }
    }

    /// The pages of the files that come next.
    async fn files(&mut self) -> Result<VecDeque<Page>, Error> {
        let mut files = Vec::new();
        while files.len() < PATHS
            && let Some(file) = self.roots.next_if(|root| !root.directory)
        {
            files.push(file.path);
        }
        let paths: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
        let mut pages: VecDeque<Page> = VecDeque::new();
        for (path, found) in paths.iter().zip(self.view.stat_all(&paths).await?) {
            let Some(view::Found::Entry(entry)) = found else {
                continue;
            };
            let directory = view::split(path).0;
            match pages.back_mut() {
                Some(page) if page.directory == directory => page.entries.push(*entry),
                _ => pages.push_back(Page {
                    directory: directory.to_vec(),
                    entries: vec![*entry],
                    ..Page::default()
                }),
            }
        }
        Ok(pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(paths: &[&str]) -> Selection {
        let root = |path: &&str| Root {
            path: path.as_bytes().to_vec(),
            directory: true,
            item: None,
        };
        Selection {
            roots: paths.iter().map(root).collect(),
        }
    }

    #[test]
    fn ancestors_come_once_and_from_above() {
        let above: Vec<Vec<u8>> = selection(&["a/b/c/d", "a/b/x", "q", "z/y"])
            .ancestors()
            .collect();
        assert_eq!(above, [&b"a"[..], b"a/b", b"a/b/c", b"z"]);
        assert_eq!(selection(&[""]).ancestors().count(), 0);
    }

    #[test]
    fn a_directory_covers_what_is_below_it_and_no_namesake() {
        assert!(covers(b"a", b"a/b") && covers(b"a", b"a") && covers(b"", b"x"));
        assert!(!covers(b"a", b"ab") && !covers(b"a/b", b"a"));
    }
}
