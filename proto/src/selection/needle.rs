//! What a name must have in it so that a rule can match.

use regex::bytes::Regex;

use crate::v1::SelectionRule;
use crate::v1::selection_rule::Pattern;

/// Most rules that are looked for at once.
const MOST: usize = 16;

/// Finds texts of which every name that one of the rules matches has one; none if a rule has no such text.
pub(super) fn of_rules(rules: &[SelectionRule]) -> Option<Regex> {
    if rules.is_empty() || rules.len() > MOST {
        return None;
    }
    let needles: Option<Vec<String>> = rules
        .iter()
        .map(|rule| match &rule.pattern {
            Some(Pattern::Glob(glob)) => of_glob(glob).map(|needle| regex::escape(&needle)),
            _ => None,
        })
        .collect();
    Regex::new(&needles?.join("|")).ok()
}

/// The longest text without wildcards in the last name of a glob, all of which the name must have.
fn of_glob(glob: &str) -> Option<String> {
    // Sets and alternatives may have a slash in them: what is in which name takes more than a look.
    if glob.contains(['[', ']', '{', '}']) {
        return None;
    }
    let glob = glob.strip_suffix('/').unwrap_or(glob);
    let last = glob.rsplit('/').next()?;
    // An escaped slash is a slash; two stars may go over slashes.
    if glob.contains("\\/") || last.contains("**") {
        return None;
    }
    let (mut longest, mut current) = (String::new(), String::new());
    let mut chars = last.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' => current.clear(),
            '\\' => current.extend(chars.next()),
            c => current.push(c),
        }
        if current.len() > longest.len() {
            longest.clone_from(&current);
        }
    }
    (!longest.is_empty()).then_some(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_tells_what_the_last_name_has() {
        for (glob, needle) in [
            ("*.pdf", Some(".pdf")),
            ("/srv/**/a*report?.x", Some("report")),
            ("cache/", Some("cache")),
            (r"a\*b*", Some("a*b")),
            ("*", None),
            ("??", None),
            ("a/**", None),
            ("a/**b", None),
            ("{a,b/c}.pdf", None),
            ("x[/].pdf", None),
            (r"a\/b", None),
        ] {
            assert_eq!(of_glob(glob).as_deref(), needle, "{glob}");
        }
    }
}
