//! What the rules of a selection mean: the one place that reads them, for the controller that checks them, the source agent
//! that obeys them and the command that writes them. A path here is raw bytes below `/`, without a slash at either end.
#![warn(clippy::all, clippy::pedantic, missing_docs, rustdoc::all)]
// As everywhere else in the workspace; the crate's own allowance for generated code is undone above.
#![allow(clippy::must_use_candidate, clippy::missing_errors_doc)]

pub mod fnmatch;
mod needle;
mod text;

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use globset::{Candidate, GlobBuilder, GlobSet, GlobSetBuilder};
use regex::bytes::{Regex, RegexSet, RegexSetBuilder};

use crate::v1::SelectionRule;
use crate::v1::selection_rule::Pattern;

pub use text::{parse, parse_file, show};

/// Most rules of a selection.
pub const MAX_RULES: usize = 1_000;
/// Longest pattern, bytes.
pub const MAX_PATTERN: usize = 4_096;
/// Memory of all compiled regular expressions, bytes. Matching takes time that grows with the path alone.
const REGEX_MEMORY: usize = 16 << 20;

/// Why a rule can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Error {
    /// Its index; of all of them together, the number of rules.
    pub rule: usize,
    /// What is wrong, for people.
    pub why: String,
}

/// Rules, ready to be asked.
#[derive(Debug)]
pub struct Rules {
    globs: GlobSet,
    regexes: RegexSet,
    /// The rule of each glob, and whether it is about directories only.
    of_globs: Vec<(usize, bool)>,
    /// The rule of each regular expression.
    of_regexes: Vec<usize>,
    /// Whether each rule takes.
    takes: Vec<bool>,
    /// Every name that a rule matches has one of these texts in it; none if that is not known.
    needles: Option<Regex>,
    matched: RefCell<Vec<usize>>,
}

/// What the last matching rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Index of the rule.
    pub rule: usize,
    /// Whether it takes.
    pub take: bool,
}

impl Rules {
    /// Reads rules.
    pub fn new(rules: &[SelectionRule]) -> Result<Self, Error> {
        if rules.len() > MAX_RULES {
            return Err(Error {
                rule: rules.len(),
                why: format!("must be at most {MAX_RULES} rules"),
            });
        }
        let (mut globs, mut regexes) = (GlobSetBuilder::new(), Vec::new());
        let (mut of_globs, mut of_regexes) = (Vec::new(), Vec::new());
        for (rule, given) in rules.iter().enumerate() {
            let wrong = |why: String| Error { rule, why };
            match &given.pattern {
                None => return Err(wrong("must have a glob or a regex".into())),
                Some(Pattern::Glob(text) | Pattern::Regex(text))
                    if text.is_empty() || text.len() > MAX_PATTERN =>
                {
                    return Err(wrong(format!("must be of 1 to {MAX_PATTERN} bytes")));
                }
                Some(Pattern::Glob(text)) => {
                    let directories = text.ends_with('/');
                    globs.add(glob(text).map_err(wrong)?);
                    of_globs.push((rule, directories));
                }
                Some(Pattern::Regex(text)) => {
                    // Alone first: a set does not say which one is wrong.
                    regex_set(&[text.as_str()]).map_err(wrong)?;
                    regexes.push(text.as_str());
                    of_regexes.push(rule);
                }
            }
        }
        let together = |why| Error {
            rule: rules.len(),
            why,
        };
        Ok(Self {
            globs: globs.build().map_err(|error| together(error.to_string()))?,
            regexes: regex_set(&regexes).map_err(together)?,
            of_globs,
            of_regexes,
            takes: rules.iter().map(|rule| rule.take).collect(),
            needles: needle::of_rules(rules),
            matched: RefCell::default(),
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.takes.is_empty()
    }

    /// Whether there may be a word on one of these names, which stand one behind the other, wherever they are. A false one is certain, and
    /// costs much less than to ask for each name.
    pub fn may_match(&self, names: &[u8]) -> bool {
        let needles = self.needles.as_ref();
        needles.is_none_or(|needles| needles.is_match(names))
    }

    /// The word on a path; none if no rule matches.
    pub fn word(&self, path: &[u8], is_directory: bool) -> Option<Word> {
        if self.is_empty() {
            return None;
        }
        let mut absolute = Vec::with_capacity(path.len() + 1);
        absolute.push(b'/');
        absolute.extend_from_slice(path);
        let mut matched = self.matched.borrow_mut();
        self.globs
            .matches_candidate_into(&Candidate::new(OsStr::from_bytes(&absolute)), &mut matched);
        let glob = matched
            .iter()
            .map(|index| self.of_globs[*index])
            .filter(|(_, directories)| is_directory || !directories)
            .map(|(rule, _)| rule)
            .max();
        let regex = self.regexes.matches(&absolute).iter().max();
        let regex = regex.map(|index| self.of_regexes[index]);
        let rule = glob.max(regex)?;
        Some(Word {
            rule,
            take: self.takes[rule],
        })
    }
}

fn glob(text: &str) -> Result<globset::Glob, String> {
    let plain = text.strip_suffix('/').unwrap_or(text);
    if plain.is_empty() {
        return Err("would match everything; to leave everything out write *".into());
    }
    let whole = if plain.starts_with('/') {
        plain.to_owned()
    } else {
        format!("**/{plain}")
    };
    GlobBuilder::new(&whole)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| format!("is not a glob: {}", error.kind()))
}

fn regex_set(patterns: &[&str]) -> Result<RegexSet, String> {
    RegexSetBuilder::new(patterns)
        .unicode(true)
        .size_limit(REGEX_MEMORY)
        .dfa_size_limit(REGEX_MEMORY)
        .nest_limit(100)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                "is too large a regular expression; repeat less in it".to_owned()
            }
            error => format!("is not a regular expression: {error}"),
        })
}

#[cfg(test)]
mod tests;
