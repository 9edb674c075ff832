//! What a path was in one version after another.

use futures::{Stream, stream};
use taf_format::page::Entry;

use crate::catalog::view::Found;
use crate::catalog::{Error, View, gap};
use crate::store::Store;
use crate::store::versions::Version;

/// What a path was in versions in a row.
#[derive(Debug, Clone)]
pub struct State {
    /// What it was; none if it was not there.
    pub found: Option<Found>,
    /// The newest of them.
    pub newest: Version,
    /// The oldest of them.
    pub oldest: Version,
    /// How many.
    pub count: u64,
    /// What is not known of it in the newest of them, or why it can't be restored.
    pub lacks: Option<String>,
}

/// The states of a path (without slash at either end) in these versions, in their order.
pub fn states(
    store: &Store,
    versions: Vec<Version>,
    path: Vec<u8>,
) -> impl Stream<Item = Result<State, Error>> + use<> {
    let walk = Past {
        store: store.clone(),
        path,
        versions: versions.into_iter(),
        open: None,
    };
    stream::try_unfold(walk, async |mut walk| {
        Ok(walk.next().await?.map(|state| (state, walk)))
    })
}

struct Past {
    store: Store,
    path: Vec<u8>,
    versions: std::vec::IntoIter<Version>,
    open: Option<State>,
}

impl Past {
    async fn next(&mut self) -> Result<Option<State>, Error> {
        for version in self.versions.by_ref() {
            let view = View::of(&self.store, &version).await?;
            let found = view.stat(&self.path).await?;
            let lacks = match &found {
                Some(found) => gap::lacks(&view, &[(self.path.clone(), found.into())]).await?,
                None => Vec::new(),
            };
            let lacks = lacks.into_iter().next().flatten();
            match &mut self.open {
                // What can be restored from the one is no comfort to who looks at the other.
                Some(open)
                    if is_same(open.found.as_ref(), found.as_ref())
                        && open.lacks.is_some() == lacks.is_some() =>
                {
                    open.oldest = version;
                    open.count += 1;
                }
                open => {
                    let ended = open.replace(State {
                        found,
                        newest: version.clone(),
                        oldest: version,
                        count: 1,
                        lacks,
                    });
                    if ended.is_some() {
                        return Ok(ended);
                    }
                }
            }
        }
        Ok(self.open.take())
    }
}

fn is_same(a: Option<&Found>, b: Option<&Found>) -> bool {
    match (a, b) {
        (None, None) | (Some(Found::Unknown), Some(Found::Unknown)) => true,
        (Some(Found::Directory(a)), Some(Found::Directory(b))) => {
            (a.mode, a.uid, a.gid, a.mtime) == (b.mode, b.uid, b.gid, b.mtime)
        }
        (Some(Found::Entry(a)), Some(Found::Entry(b))) => told(a) == told(b),
        _ => false,
    }
}

/// What people see of an entry.
fn told(entry: &Entry) -> impl PartialEq + use<'_> {
    (
        (entry.kind, entry.size, entry.mtime, entry.hash),
        (entry.mode, entry.uid, entry.gid),
        (entry.rdev_major, entry.rdev_minor),
        &entry.link_target,
    )
}
