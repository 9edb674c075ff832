//! Paths of a version that patterns match.
//!
//! One scan of the pages for all patterns, names first; what a matched directory holds is not looked at for it, since it is chosen with
//! all below it.

use std::pin::pin;

use futures::TryStreamExt as _;
use taf_format::entry::Kind;
use taf_proto::selection::{self, Rules};
use taf_proto::v1::SelectionRule;
use taf_proto::v1::selection_rule::Pattern;

use super::search::{self, Versions, Wanted};
use super::select::covers;
use super::view::join;
use super::{Error, View};

/// Most paths that patterns may come to.
const PATHS: usize = 1_000_000;

/// Patterns that can be used.
#[derive(Debug)]
pub struct Patterns {
    texts: Vec<String>,
    rules: Vec<SelectionRule>,
}

impl Patterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// The index of one that can't be used, and why.
    pub fn read(texts: &[String]) -> Result<Self, (usize, String)> {
        let rules: Vec<SelectionRule> = texts.iter().map(|text| selection::parse(text)).collect();
        if let Some(at) = rules.iter().position(|rule| rule.take) {
            return Err((
                at,
                "must not begin with '!': write \\! for a name that does".into(),
            ));
        }
        Rules::new(&rules).map_err(|error| (error.rule.min(texts.len()), error.why))?;
        Ok(Self {
            texts: texts.to_vec(),
            rules,
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// What they match, in the order of keys; what is below a matched directory may be left out. [`Error::NoMatch`] with the first
    /// pattern that matches nothing.
    pub async fn resolve(&self, view: &View) -> Result<Vec<Vec<u8>>, Error> {
        let mut found: Vec<Vec<u8>> = Vec::new();
        let mut open = Vec::new();
        for (text, rule) in self.texts.iter().zip(&self.rules) {
            let path = literal(text);
            let exists = match path {
                Some(path) => view.stat(path).await?.is_some(),
                None => false,
            };
            found.extend(path.filter(|_| exists).map(<[u8]>::to_vec));
            // A name that is a pattern, too, means both: what has such a name is not all that was meant by it.
            if !exists || text.contains(['*', '?', '[']) {
                open.push((text, rule.clone(), !exists));
            }
        }
        if open.is_empty() {
            return Ok(found);
        }
        let wanted = Wanted {
            directory: common(open.iter().map(|(_, rule, _)| rule)),
            rules: open.iter().map(|(_, rule, _)| rule.clone()).collect(),
            ..Wanted::default()
        };
        let versions = Versions::of(view).await?;
        let usable = |error: selection::Error| Error::Invalid(error.to_string());
        let mut hits = pin!(search::find(&view.store, versions, wanted).map_err(usable)?);
        let mut above: Option<Vec<u8>> = None;
        while let Some(batch) = hits.try_next().await? {
            for hit in batch.hits {
                let path = join(&hit.directory, &hit.entry.name);
                let directory = hit.entry.kind == Kind::Directory;
                let mut untold = Vec::with_capacity(open.len());
                for (text, rule, needed) in open {
                    let one = Rules::new(std::slice::from_ref(&rule)).map_err(usable)?;
                    if one.word(&path, directory).is_none() {
                        untold.push((text, rule, needed));
                    }
                }
                open = untold;
                if above.as_deref().is_some_and(|above| covers(above, &path)) {
                    continue;
                }
                if found.len() >= PATHS {
                    return Err(Error::Invalid(format!(
                        "the patterns match more than {PATHS} paths: choose the directories that they are in"
                    )));
                }
                if directory {
                    above = Some(path.clone());
                }
                found.push(path);
            }
        }
        match open.iter().find(|(_, _, needed)| *needed) {
            Some((text, _, _)) => Err(Error::NoMatch((*text).clone())),
            None => Ok(found),
        }
    }
}

/// The path that a pattern is if it is one.
fn literal(text: &str) -> Option<&[u8]> {
    let path = text.strip_prefix('/')?;
    Some(path.strip_suffix('/').unwrap_or(path).as_bytes())
}

/// The directory that all that they match is below, as far as their beginnings say.
fn common<'a>(rules: impl Iterator<Item = &'a SelectionRule>) -> Vec<u8> {
    let mut common: Option<Vec<&[u8]>> = None;
    for rule in rules {
        let Some(Pattern::Glob(glob)) = &rule.pattern else {
            return Vec::new();
        };
        let Some(rooted) = glob.strip_prefix('/') else {
            return Vec::new();
        };
        let mut names: Vec<&[u8]> = rooted.split('/').map(str::as_bytes).collect();
        // The last one is not a directory that something is below of.
        names.pop();
        let special = |byte: &u8| b"*?[]{}\\".contains(byte);
        let plain = names.iter().take_while(|name| !name.iter().any(special));
        let plain: Vec<&[u8]> = plain.copied().collect();
        common = Some(match common {
            None => plain,
            Some(before) => {
                let both = before.iter().zip(&plain).take_while(|(a, b)| a == b);
                both.map(|(a, _)| *a).collect()
            }
        });
    }
    common.unwrap_or_default().join(&b'/')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Result<Patterns, (usize, String)> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Patterns::read(&texts)
    }

    #[test]
    fn only_what_the_patterns_can_be_in_is_scanned() {
        let below = |texts: &[&str]| {
            let patterns = patterns(texts).unwrap();
            String::from_utf8(common(patterns.rules.iter())).unwrap()
        };
        assert_eq!(below(&["/srv/files/*.pdf"]), "srv/files");
        assert_eq!(below(&["/srv/files/**/*.pdf", "/srv/filed/x*"]), "srv");
        assert_eq!(below(&["/srv/a/b/*/c", "/srv/a/*"]), "srv/a");
        assert_eq!(below(&["/srv/f[1]/*"]), "srv");
        for anywhere in ["*.pdf", "/*", "re:^/srv/.*", "srv/*"] {
            assert_eq!(below(&[anywhere, "/srv/x/*"]), "", "{anywhere}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_pointed_at() {
        assert_eq!(patterns(&["*.a", "!*.b"]).unwrap_err().0, 1);
        assert_eq!(patterns(&["re:(", "*.a"]).unwrap_err().0, 0);
        assert!(patterns(&["\\!x", "a*"]).is_ok());
    }
}
