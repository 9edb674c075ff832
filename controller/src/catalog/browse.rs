//! Listings for people: one directory of a version, by name.

use taf_format::page::{Entry, FLAG_LISTING_UNKNOWN, Page};

use super::{Error, View};

/// Some entries of a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// By name.
    pub entries: Vec<Entry>,
    /// The directory could not be read when it was backed up. Only known where its first entry is asked for.
    pub unknown: bool,
    /// Between these entries, or before or behind them, there may be more: the version is not whole, and that part of the listing is not
    /// known. If there are none, there may not even have been such a directory.
    pub gap: bool,
}

/// The entries of a directory (path without slash at either end) behind a name, at most `limit`. None if the version has no
/// such directory.
pub async fn list(
    view: &View,
    directory: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Option<Listing>, Error> {
    let client = view.client().await?;
    let first = match after {
        None => view.first_chunk(&client, directory).await?,
        Some(name) => view.chunk_of(&client, directory, name).await?,
    };
    let mut listing = Listing::default();
    let mut page = match first {
        Some(page) => page,
        None if view.gap().is_none() => return Ok(None),
        None => {
            listing.gap = true;
            match view.chunk_behind(&client, directory, after).await? {
                Some(page) => page,
                None if view.is_gone(&client, directory).await?
                    || view.is_absent(&client, directory).await? =>
                {
                    return Ok(None);
                }
                None => return Ok(Some(listing)),
            }
        }
    };
    listing.unknown = is_unknown(&page);
    loop {
        let room = limit - listing.entries.len();
        let some = behind(std::mem::take(&mut page.entries), after);
        listing.entries.extend(some.take(room));
        if listing.entries.len() == limit {
            break;
        }
        page = match (view.next_chunk(&client, &page).await?, &page.upper) {
            (Some(next), _) => next,
            (None, None) => break,
            // The next one is not known; a later one may be.
            (None, Some(upper)) => {
                listing.gap = true;
                match view.chunk_behind(&client, directory, Some(upper)).await? {
                    Some(later) => later,
                    None => break,
                }
            }
        };
    }
    Ok(Some(listing))
}

fn is_unknown(page: &Page) -> bool {
    page.header
        .as_ref()
        .is_some_and(|header| header.flags & FLAG_LISTING_UNKNOWN != 0)
}

fn behind(entries: Vec<Entry>, after: Option<&[u8]>) -> impl Iterator<Item = Entry> {
    entries
        .into_iter()
        .filter(move |entry| after.is_none_or(|after| entry.name.as_slice() > after))
}
