//! What restored directories hold, so that their host can tell what is extra there.
//!
//! Only directories count that were taken wholly: those at and below the paths of the source as of the version. What only leads to
//! them holds names that were never chosen. Excluded paths count as held, whatever is there. A directory whose listing the version
//! does not know, or carried from an earlier one, can't tell what is extra.

use bytes::Bytes;
use prost::Message as _;
use taf_format::index::ClosingRecord;
use taf_format::page::{FLAG_CARRIED, FLAG_LISTING_UNKNOWN, FLAG_MOUNTED, Page};
use taf_proto::agent::{FetchListingsResponse, Listing};
use tokio::sync::mpsc;
use tonic::Status;

use super::{Error, Selection, View};
use crate::store::{self, removals};

/// Names of a message.
const NAMES: usize = 10_000;
/// Bytes of names at which a message is sent.
const NAME_BYTES: usize = 512 << 10;

/// The paths that a version took wholly, and those that it left out.
#[derive(Debug, Clone)]
pub struct Taken {
    roots: Vec<Vec<u8>>,
    excluded: Vec<Vec<u8>>,
}

impl Taken {
    /// As the closing record has them.
    pub async fn of(view: &View) -> Result<Self, Error> {
        let client = view.client().await?;
        let (line, version) = (view.scope.line_id, view.scope.version);
        let closing = removals::version_closing(&client, line, version).await?;
        let closing = ClosingRecord::decode(closing.unwrap_or_default().as_slice())
            .map_err(|_| store::Error::Corrupt("a closing record"))?;
        let relative = |path: &Bytes| path.strip_prefix(b"/").unwrap_or(path).to_vec();
        Ok(Self {
            roots: closing.paths.iter().map(relative).collect(),
            excluded: closing.excluded_paths.iter().map(relative).collect(),
        })
    }

    fn has(&self, directory: &[u8]) -> bool {
        self.roots.iter().any(|root| is_within(root, directory))
    }

    /// Names right in a directory that are left out, or lead to what is.
    fn excluded_in(&self, directory: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.excluded.iter().filter_map(move |path| {
            let rest = if directory.is_empty() {
                path.as_slice()
            } else {
                path.strip_prefix(directory)?.strip_prefix(b"/")?
            };
            rest.split(|&byte| byte == b'/')
                .next()
                .filter(|name| !name.is_empty())
        })
    }
}

fn is_within(root: &[u8], path: &[u8]) -> bool {
    root.is_empty()
        || path
            .strip_prefix(root)
            .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Whether it is a chunk of a directory that was chosen with all in it, and no single file of it.
fn is_chunk(page: &Page) -> bool {
    page.header.is_some() || page.lower.is_some()
}

/// Whether another file system was there, of which the version may have been asked to hold nothing.
fn is_mount(page: &Page) -> bool {
    let flags = page.header.as_ref().map_or(0, |header| header.flags);
    flags & FLAG_MOUNTED != 0 && page.entries.is_empty()
}

/// A chosen directory, absolute, of which the version does not know what was in it.
pub async fn unknown(
    view: &View,
    selection: &Selection,
    taken: &Taken,
) -> Result<Option<Vec<u8>>, Error> {
    let mut pages = selection.pages(view);
    while let Some(page) = pages.next().await? {
        let flags = page.header.as_ref().map_or(0, |header| header.flags);
        if flags & (FLAG_LISTING_UNKNOWN | FLAG_CARRIED) != 0 && taken.has(&page.directory) {
            return Ok(Some([b"/", page.directory.as_slice()].concat()));
        }
    }
    Ok(None)
}

/// Sends what the chosen directories hold. Waits while the receiver is slow; ends early when it is gone.
pub async fn stream(
    view: &View,
    selection: &Selection,
    sender: &mpsc::Sender<Result<FetchListingsResponse, Status>>,
) -> Result<(), Error> {
    let taken = Taken::of(view).await?;
    let mut pages = selection.pages(view);
    let (mut listings, mut names, mut bytes) = (Vec::new(), 0, 0);
    loop {
        let page = pages.next().await?;
        let last = page.is_none();
        let wanted = |page: &Page| is_chunk(page) && taken.has(&page.directory) && !is_mount(page);
        if let Some(page) = page.filter(wanted) {
            let listing = listing(&page, &taken);
            names += 1 + listing.names.len();
            bytes += listing.path.len();
            bytes += listing.names.iter().map(Bytes::len).sum::<usize>();
            listings.push(listing);
        }
        if names >= NAMES || bytes >= NAME_BYTES || (last && !listings.is_empty()) {
            (names, bytes) = (0, 0);
            let message = FetchListingsResponse {
                listings: std::mem::take(&mut listings),
            };
            if sender.send(Ok(message)).await.is_err() {
                return Ok(());
            }
        }
        if last {
            return Ok(());
        }
    }
}

fn listing(page: &Page, taken: &Taken) -> Listing {
    let entries = page.entries.iter().map(|entry| entry.name.as_slice());
    let mut names: Vec<&[u8]> = entries.chain(taken.excluded_in(&page.directory)).collect();
    names.sort_unstable();
    names.dedup();
    let bound = |name: &Option<Vec<u8>>| Bytes::from(name.clone().unwrap_or_default());
    Listing {
        path: Bytes::copy_from_slice(&page.directory),
        lower: bound(&page.lower),
        upper: bound(&page.upper),
        names: names.into_iter().map(Bytes::copy_from_slice).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_taken_wholly_counts_and_what_was_left_out_is_held() {
        let taken = Taken {
            roots: vec![b"srv/data".to_vec()],
            excluded: vec![b"srv/data/cache/x".to_vec(), b"srv/data/tmp".to_vec()],
        };
        for (directory, whole) in [
            (&b""[..], false),
            (b"srv", false),
            (b"srv/data", true),
            (b"srv/data/a", true),
            (b"srv/data2", false),
        ] {
            assert_eq!(taken.has(directory), whole, "{}", directory.escape_ascii());
        }
        let held: Vec<&[u8]> = taken.excluded_in(b"srv/data").collect();
        assert_eq!(held, [&b"cache"[..], b"tmp"]);
        assert_eq!(taken.excluded_in(b"srv/data/other").count(), 0);
        assert_eq!(taken.excluded_in(b"srv/data/cache").count(), 1);
    }
}
