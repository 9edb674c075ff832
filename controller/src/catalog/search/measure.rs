//! How much is in directories, with all below them.

use std::collections::HashSet;

use futures::{Stream, StreamExt as _, stream};
use taf_format::entry::Kind;
use taf_format::key;
use taf_format::page::Decoder;

use super::scan::{Group, Scan, Versions, damaged, is_below};
use super::spread;
use crate::catalog::Error;
use crate::store::Store;

/// Groups of hard links that are remembered so as to count their bytes once.
const LINKS: usize = 1_000_000;

/// How much is in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measure {
    /// Its path, without slash at either end.
    pub directory: Vec<u8>,
    /// What is no directory.
    pub files: u64,
    /// Directories, itself not.
    pub directories: u64,
    /// Apparent bytes, each file once.
    pub bytes: u64,
}

impl Measure {
    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.bytes += other.bytes;
    }
}

/// What is in one page itself.
struct Sum {
    own: Measure,
    /// Group and bytes of files with several names; not among the bytes.
    links: Vec<(u64, u64)>,
    /// Its key was shortened, so it does not come in the order of the walk.
    shortened: bool,
}

/// Measures directories down to `depth` below one, each after those in it. Of a path of nearly 1,000 bytes and more the nearest
/// directory above it is told.
pub fn measure(
    store: &Store,
    versions: Versions,
    directory: &[u8],
    depth: usize,
) -> impl Stream<Item = Result<Vec<Measure>, Error>> + use<> {
    let scan = Scan::below(store, versions.clone(), directory);
    let top = directory.to_vec();
    let sums = spread(scan, {
        let top = top.clone();
        move |groups| sum(versions.decoder(), &groups, &top)
    });
    let stack = Stack {
        deepest: components(&top) + depth,
        // Of a version that is not whole it may have no page.
        open: vec![Measure {
            directory: top.clone(),
            ..Measure::default()
        }],
        links: HashSet::new(),
    };
    let ended = stream::once(async { None });
    sums.map(Some).chain(ended).scan(stack, |stack, sums| {
        let mut done = Vec::new();
        let result = match sums {
            Some(Ok(sums)) => {
                for sum in sums {
                    stack.take(sum, &mut done);
                }
                Ok(done)
            }
            Some(Err(error)) => Err(error),
            None => {
                while stack.leave(&mut done) {}
                Ok(done)
            }
        };
        std::future::ready(Some(result))
    })
}

fn sum(mut decoder: Decoder, groups: &[Group], top: &[u8]) -> Result<Vec<Sum>, Error> {
    let mut sums = Vec::with_capacity(groups.len());
    for group in groups {
        let chunk = group.chunk();
        for page in &group.pages {
            let page = decoder
                .decode(chunk, page.body(), None)
                .map_err(|cause| damaged(chunk, cause))?;
            if !is_below(&page.directory, top) {
                continue;
            }
            let mut own = Measure {
                directory: page.directory,
                ..Measure::default()
            };
            let mut links = Vec::new();
            for entry in &page.entries {
                match (entry.kind, entry.link_group) {
                    (Kind::Directory, _) => own.directories += 1,
                    (_, 0) => {
                        own.files += 1;
                        own.bytes += entry.size;
                    }
                    (_, group) => {
                        own.files += 1;
                        links.push((group, entry.size));
                    }
                }
            }
            sums.push(Sum {
                own,
                links,
                shortened: key::is_shortened(chunk),
            });
        }
    }
    Ok(sums)
}

/// Components of a path.
fn components(path: &[u8]) -> usize {
    match path {
        [] => 0,
        path => path.split(|&byte| byte == b'/').count(),
    }
}

/// The directories that are being measured, each below the one before.
struct Stack {
    /// Most components of a path that is told.
    deepest: usize,
    open: Vec<Measure>,
    links: HashSet<u64>,
}

impl Stack {
    fn take(&mut self, sum: Sum, done: &mut Vec<Measure>) {
        let Sum {
            mut own,
            links,
            shortened,
        } = sum;
        for (group, bytes) in links {
            let known = self.links.contains(&group);
            if !known && self.links.len() < LINKS {
                self.links.insert(group);
            }
            own.bytes += if known { 0 } else { bytes };
        }
        while let Some(open) = self.open.last()
            && !is_below(&own.directory, &open.directory)
        {
            self.leave(done);
        }
        match self.open.last_mut() {
            Some(open) if shortened || open.directory == own.directory => open.add(&own),
            _ => self.open.push(own),
        }
    }

    /// Leaves the innermost directory; false if there is none.
    fn leave(&mut self, done: &mut Vec<Measure>) -> bool {
        let Some(measure) = self.open.pop() else {
            return false;
        };
        if let Some(above) = self.open.last_mut() {
            above.add(&measure);
        }
        if components(&measure.directory) <= self.deepest {
            done.push(measure);
        }
        true
    }
}
