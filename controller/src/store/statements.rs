//! Every SQL statement of the program, so that it can be parsed and judged elsewhere: `taf-controller sql` prints them.
//!
//! They are taken from the sources of the store, which are compiled in for that, as they are sent: with the names that a text
//! refers to put in, once for each of its variants.

mod literals;

use std::collections::BTreeSet;

pub use literals::{Literal, literals};

use super::{SCHEMA, migrate};

/// A source with its name.
macro_rules! source {
    ($file:literal) => {
        ($file, include_str!($file))
    };
}

/// The sources of the store.
pub const SOURCES: &[(&str, &str)] = &[
    source!("accounts.rs"),
    source!("agents.rs"),
    source!("api_tokens.rs"),
    source!("archives.rs"),
    source!("assignments.rs"),
    source!("attempt_volumes.rs"),
    source!("attempts.rs"),
    source!("audit.rs"),
    source!("checks.rs"),
    source!("cleaning.rs"),
    source!("closings.rs"),
    source!("conditions.rs"),
    source!("dictionaries.rs"),
    source!("drives.rs"),
    source!("dumps.rs"),
    source!("enrolment.rs"),
    source!("error.rs"),
    source!("expiry.rs"),
    source!("feeds.rs"),
    source!("indexes.rs"),
    source!("installation.rs"),
    source!("issues.rs"),
    source!("jobs.rs"),
    source!("leadership.rs"),
    source!("libraries.rs"),
    source!("lines.rs"),
    source!("migrate.rs"),
    source!("mod.rs"),
    source!("mounts.rs"),
    source!("orphans.rs"),
    source!("pages.rs"),
    source!("partials.rs"),
    source!("parts.rs"),
    source!("plans.rs"),
    source!("pools.rs"),
    source!("rebuilds.rs"),
    source!("reclaims.rs"),
    source!("recalls.rs"),
    source!("removals.rs"),
    source!("requests.rs"),
    source!("retention.rs"),
    source!("reuse.rs"),
    source!("savepoints.rs"),
    source!("server.rs"),
    source!("sources.rs"),
    source!("streams.rs"),
    source!("system.rs"),
    source!("tls.rs"),
    source!("trust.rs"),
    source!("unclaimed.rs"),
    source!("verifications.rs"),
    source!("versions.rs"),
    source!("volumes.rs"),
];

/// What a statement begins with.
const BEGINNINGS: [&str; 14] = [
    "ALTER",
    "COPY",
    "CREATE",
    "DELETE",
    "DROP",
    "INSERT",
    "LOCK",
    "RELEASE",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "UPDATE",
    "WITH",
];

/// All statements that the program sends, each once and on one line, but for those that make the schema.
pub fn sent() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, source) in SOURCES {
        of(source, &mut found);
    }
    found
}

/// The statements that make the schema, in their order.
pub fn schema() -> Vec<String> {
    migrate::texts().flat_map(split).collect()
}

/// The statements of one source.
fn of(source: &str, found: &mut BTreeSet<String>) {
    // Tests have statements of their own.
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let literals = literals(source);
    let used = |literal: &Literal| {
        let name = constant_at(source, literal.line);
        name.is_some_and(|name| source.contains(&format!("{{{name}}}")))
    };
    for literal in &literals {
        let may = literal.text.starts_with('{') || begins(&literal.text);
        if !may || used(literal) {
            continue;
        }
        for variant in expand(source, &literals, literal.line, &literal.text) {
            if begins(&variant) {
                found.extend(split(&variant));
            }
        }
    }
}

/// Whether a statement begins here.
fn begins(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    first.len() < text.trim().len() && BEGINNINGS.contains(&first)
}

/// The constant that a literal on this line is the value of.
fn constant_at(source: &str, line: usize) -> Option<&str> {
    let lines: Vec<&str> = source.lines().collect();
    let at = line.checked_sub(1)?;
    [at, at.saturating_sub(1)]
        .into_iter()
        .filter_map(|at| lines.get(at))
        .find_map(|line| constant(line))
}

fn constant(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = ["pub(super) ", "pub "]
        .into_iter()
        .find_map(|seen| line.strip_prefix(seen))
        .unwrap_or(line);
    let (name, value) = rest.strip_prefix("const ")?.split_once(':')?;
    value.trim_start().starts_with("&str").then_some(name)
}

/// The text with every name that it refers to put in, in each of its variants.
fn expand(source: &str, literals: &[Literal], line: usize, text: &str) -> Vec<String> {
    let Some((before, name, behind)) = reference(text) else {
        return vec![text.to_owned()];
    };
    let values = values(source, literals, line, name);
    let whole = values.iter().map(|value| [before, value, behind].concat());
    whole
        .flat_map(|text| expand(source, literals, line, &text))
        .collect()
}

/// The first `{name}` of a text, with what stands before and behind it.
fn reference(text: &str) -> Option<(&str, &str, &str)> {
    let begin = text.find('{')?;
    let length = text[begin..].find('}')?;
    let name = &text[begin + 1..begin + length];
    Some((&text[..begin], name, &text[begin + length + 1..]))
}

/// What a name may stand for where it is used: a constant's text, or the texts that a variable is chosen from. A number is 1.
fn values(source: &str, literals: &[Literal], line: usize, name: &str) -> Vec<String> {
    if name == "SCHEMA" {
        return vec![SCHEMA.to_owned()];
    }
    let lines: Vec<&str> = source.lines().collect();
    let defines = |text: &str| {
        constant(text) == Some(name) || text.trim_start().starts_with(&format!("let {name} "))
    };
    let Some(begin) = lines.iter().take(line).rposition(|text| defines(text)) else {
        return vec![shared(name).unwrap_or_else(|| "1".to_owned())];
    };
    let ends = |text: &&str| text.trim_end().ends_with(';');
    let length = lines[begin..].iter().position(ends);
    let range = begin + 1..=begin + 1 + length.unwrap_or_default();
    let chosen = literals
        .iter()
        .filter(|literal| range.contains(&literal.line))
        .map(|literal| literal.text.clone());
    let chosen: Vec<String> = chosen.collect();
    if chosen.is_empty() {
        return vec!["1".to_owned()];
    }
    chosen
}

/// The text of a constant that one source has for others.
fn shared(name: &str) -> Option<String> {
    let given = format!("pub(super) const {name}: &str");
    let (_, source) = SOURCES.iter().find(|(_, source)| source.contains(&given))?;
    let mut literals = literals(source).into_iter();
    let found = literals.find(|literal| constant_at(source, literal.line) == Some(name));
    found.map(|literal| literal.text)
}

/// The statements of a text, each on one line, without comments.
fn split(text: &str) -> Vec<String> {
    let mut statements = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = None;
    while let Some(c) = chars.next() {
        let Some(last) = statements.last_mut() else {
            break;
        };
        match (quoted, c) {
            (Some(quote), _) => {
                last.push(c);
                if c == quote {
                    quoted = None;
                }
            }
            (None, '\'' | '"') => {
                last.push(c);
                quoted = Some(c);
            }
            (None, '-') if chars.peek() == Some(&'-') => {
                chars.by_ref().find(|c| *c == '\n');
                space(last);
            }
            (None, ';') => statements.push(String::new()),
            (None, c) if c.is_whitespace() => space(last),
            (None, c) => last.push(c),
        }
    }
    statements
        .into_iter()
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// Whatever parts two words is one blank.
fn space(text: &mut String) {
    if !text.is_empty() && !text.ends_with(' ') {
        text.push(' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_given_in_each_of_its_variants() {
        let source = r#"
const COLUMNS: &str = "a, b";
const SELECT: &str =
    "SELECT a FROM t";
fn f() {
    let order = if newest { "DESC" } else { "ASC" };
    let sql = format!("SELECT {COLUMNS} FROM t WHERE n < {most} ORDER BY a {order}");
    let one = format!("{SELECT} WHERE a = $1");
    let living = put_in("SELECT a.id FROM archives AS a JOIN parts AS x ON x.archive_id = a.id WHERE {LIVING}");
    let two = "UPDATE t SET a = ';' -- why
               WHERE b = 1; DELETE FROM t";
    let talk = "SELECT: choose one";
}
#[cfg(test)]
mod tests { const X: &str = "SELECT 1"; }
"#;
        let mut found = BTreeSet::new();
        of(source, &mut found);
        let expected = [
            "DELETE FROM t",
            "SELECT a FROM t WHERE a = $1",
            "SELECT a, b FROM t WHERE n < 1 ORDER BY a ASC",
            "SELECT a, b FROM t WHERE n < 1 ORDER BY a DESC",
            &format!(
                "SELECT a.id FROM archives AS a JOIN parts AS x ON x.archive_id = a.id WHERE {}",
                crate::store::conditions::LIVING
            ),
            "UPDATE t SET a = ';' WHERE b = 1",
        ];
        let found: Vec<String> = found.into_iter().collect();
        assert_eq!(found, expected);
    }
}
