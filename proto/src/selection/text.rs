//! Rules as people write them: `*.tmp` leaves out, `!keep.tmp` takes all the same, `re:` begins a regular expression.

use crate::v1::SelectionRule;
use crate::v1::selection_rule::Pattern;

/// Begins a rule that takes.
const TAKE: char = '!';
/// Begins a regular expression.
const REGEX: &str = "re:";

/// Reads one rule.
pub fn parse(text: &str) -> SelectionRule {
    let (take, rest) = match text.strip_prefix(TAKE) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let pattern = match rest.strip_prefix(REGEX) {
        Some(regex) => Pattern::Regex(regex.to_owned()),
        None => Pattern::Glob(rest.to_owned()),
    };
    SelectionRule {
        take,
        pattern: Some(pattern),
    }
}

/// Reads a file of rules: one a line; empty lines and those that begin with `#` say nothing.
pub fn parse_file(text: &str) -> Vec<SelectionRule> {
    text.lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(parse)
        .collect()
}

/// The rule as [`parse`] reads it.
pub fn show(rule: &SelectionRule) -> String {
    let take = if rule.take { "!" } else { "" };
    match &rule.pattern {
        Some(Pattern::Glob(glob)) if !rule.take && glob.starts_with(TAKE) => format!("\\{glob}"),
        Some(Pattern::Glob(glob)) if glob.starts_with(REGEX) => format!("{take}\\{glob}"),
        Some(Pattern::Glob(glob)) => format!("{take}{glob}"),
        Some(Pattern::Regex(regex)) => format!("{take}{REGEX}{regex}"),
        None => take.to_owned(),
    }
}
