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
    let Some(mut page) = first else {
        return Ok(None);
    };
    let unknown = is_unknown(&page);
    let mut entries = Vec::new();
    loop {
        let room = limit - entries.len();
        entries.extend(behind(std::mem::take(&mut page.entries), after).take(room));
        if entries.len() == limit {
            break;
        }
        match view.next_chunk(&client, &page).await? {
            Some(next) => page = next,
            None => break,
        }
    }
    Ok(Some(Listing { entries, unknown }))
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
