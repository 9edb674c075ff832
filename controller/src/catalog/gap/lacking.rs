//! What of a selection is not known or can't be restored, since the version is not whole.

use std::collections::VecDeque;
use std::sync::Arc;

use taf_format::entry::Kind;
use taf_format::page::{DirectoryStat, Entry, Page};
use taf_proto::path;

use super::Gap;
use crate::catalog::select::{Selected, Selection};
use crate::catalog::view::{Found, join};
use crate::catalog::{Error, View};

/// Something that is not known, or can't be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// Its path, without slash at either end.
    pub path: Vec<u8>,
    /// Of what kind.
    pub what: What,
    /// Why, and which volume would help.
    pub message: String,
}

/// See [`Lack`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A directory whose listing is not known, or not all of it.
    Unknown,
    /// Its bytes, or those of its header, were not met.
    NotMet,
}

impl What {
    /// As issues name it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::NotMet => "NOT_MET",
        }
    }
}

/// What is shown of a path.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// An entry of a listing, which may be a directory.
    Entry(&'a Entry),
    /// A directory, by its own listing.
    Directory(&'a DirectoryStat),
    /// A path of which it is not known what is there.
    Unknown,
}

impl<'a> From<&'a Found> for Shown<'a> {
    fn from(found: &'a Found) -> Self {
        match found {
            Found::Entry(entry) => Self::Entry(entry),
            Found::Directory(stat) => Self::Directory(stat),
            Found::Unknown => Self::Unknown,
        }
    }
}

/// What is not known of these paths of a version (without slash at either end), or why they can't be restored: of each a sentence, none if
/// all is well.
pub async fn lacks(
    view: &View,
    shown: &[(Vec<u8>, Shown<'_>)],
) -> Result<Vec<Option<String>>, Error> {
    let Some(gap) = view.gap() else {
        return Ok(vec![None; shown.len()]);
    };
    let is_directory =
        |shown: &Shown| matches!(shown, Shown::Entry(entry) if entry.kind == Kind::Directory);
    let below = shown.iter().filter(|(_, shown)| is_directory(shown));
    let below: Vec<Vec<u8>> = below.map(|(path, _)| path.clone()).collect();
    let mut listed = view.are_listed(&below).await?.into_iter();
    let lacks = shown.iter().map(|(_, shown)| match shown {
        Shown::Entry(entry) if entry.kind == Kind::Directory => match listed.next() {
            Some(false) => gap.unknown(),
            Some(true) | None => None,
        },
        Shown::Entry(entry) => gap.unmet(entry.place, entry.tar_length),
        Shown::Directory(stat) => gap.unmet(stat.place, stat.tar_length),
        Shown::Unknown => gap.unknown(),
    });
    Ok(lacks.collect())
}

/// Whether a version is not whole, and not all listings in and below a directory are known.
pub async fn is_unknown_below(view: &View, directory: &[u8]) -> Result<bool, Error> {
    if view.gap().is_none_or(|gap| gap.unknown.is_none()) {
        return Ok(false);
    }
    let selection = match Selection::resolve(view, &[directory.to_vec()]).await {
        Err(Error::NotFound(_)) => return Ok(false),
        other => other?,
    };
    let Some(mut lacking) = Lacking::of(view, &selection) else {
        return Ok(false);
    };
    while let Some(some) = lacking.next().await? {
        if some.iter().any(|lack| lack.what == What::Unknown) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What of a selection is not known or can't be restored, page by page.
pub struct Lacking {
    view: View,
    gap: Arc<Gap>,
    pages: Selected,
    /// Chosen directories that were not looked at yet.
    roots: VecDeque<Vec<u8>>,
}

impl Lacking {
    /// None of a version that is whole.
    pub fn of(view: &View, selection: &Selection) -> Option<Self> {
        Some(Self {
            view: view.clone(),
            gap: view.gap()?,
            pages: selection.pages_as_they_are(view),
            roots: selection.directories().collect(),
        })
    }

    /// Some more; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Lack>>, Error> {
        let roots: Vec<Vec<u8>> = self.roots.drain(..).collect();
        let mut found = self.unlisted(roots).await?;
        while found.is_empty() {
            let Some(page) = self.pages.next().await? else {
                return Ok(None);
            };
            found = self.page(&page).await?;
        }
        Ok(Some(found))
    }

    async fn page(&self, page: &Page) -> Result<Vec<Lack>, Error> {
        let mut found = Vec::new();
        let not_met = |path: Vec<u8>, message: String| Lack {
            path,
            what: What::NotMet,
            message,
        };
        let header = page.header.as_ref();
        let header = header.and_then(|header| self.gap.unmet(header.place, header.tar_length));
        if let Some(why) = header {
            let message =
                format!("only its owner, mode and times are restored, no attributes: {why}");
            found.push(not_met(page.directory.clone(), message));
        }
        let mut below = Vec::new();
        for entry in &page.entries {
            let path = join(&page.directory, &entry.name);
            if entry.kind == Kind::Directory {
                below.push(path);
            } else if let Some(why) = self.gap.unmet(entry.place, entry.tar_length) {
                found.push(not_met(path, why));
            }
        }
        found.extend(self.unlisted(below).await?);
        if let Some(upper) = &page.upper
            && !self.view.has_chunk(&page.directory, Some(upper)).await?
        {
            let from = path::display(upper);
            let why = self.gap.unknown().unwrap_or_default();
            found.push(Lack {
                path: page.directory.clone(),
                what: What::Unknown,
                message: format!("what is in it from {from} on: {why}"),
            });
        }
        Ok(found)
    }

    /// Those of some directories whose listings are not known.
    async fn unlisted(&self, directories: Vec<Vec<u8>>) -> Result<Vec<Lack>, Error> {
        let known = self.view.are_listed(&directories).await?;
        let unknown = directories.into_iter().zip(known);
        let unknown = unknown.filter(|(_, known)| !known).map(|(path, _)| Lack {
            path,
            what: What::Unknown,
            message: format!("what is in it: {}", self.gap.unknown().unwrap_or_default()),
        });
        Ok(unknown.collect())
    }
}
