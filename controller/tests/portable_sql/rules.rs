//! What one SQL text for PostgreSQL 12 to 18 and openGauss 5 and 6 must not say, and what to say instead. The rules were
//! found by feeding both grammars; `docs/facts/postgres-opengauss.md` has them all.

use super::tokens::{Token, call, tokens};

/// What was found: rule, line within the text, sentence.
pub type Finding = (&'static str, usize, String);

/// Words in a row that are refused wherever they stand. A trailing `*` stands for the rest of a word.
const PHRASES: &[(&str, &[&str], &str)] = &[
    (
        "on conflict",
        &["ON", "CONFLICT"],
        "INSERT … SELECT … WHERE NOT EXISTS, and handle SQLSTATE 23505",
    ),
    (
        "on duplicate key",
        &["ON", "DUPLICATE"],
        "UPDATE, else INSERT",
    ),
    ("merge", &["MERGE", "INTO"], "UPDATE, else INSERT"),
    (
        "lateral",
        &["LATERAL"],
        "a window function, a join or two queries",
    ),
    ("filter", &["FILTER", "("], "sum(CASE … END)"),
    (
        "with ordinality",
        &["WITH", "ORDINALITY"],
        "unnest two arrays of equal length side by side",
    ),
    (
        "rows from",
        &["ROWS", "FROM"],
        "unnest two arrays of equal length side by side",
    ),
    ("identity", &["AS", "IDENTITY"], "bigserial"),
    ("include", &["INCLUDE", "("], "append the column to the key"),
    ("index kind", &["USING", "BRIN"], "btree"),
    ("index kind", &["USING", "SPGIST"], "btree"),
    (
        "nulls not distinct",
        &["NULLS", "NOT", "DISTINCT"],
        "a partial unique index",
    ),
    ("exclude", &["EXCLUDE", "USING"], "a unique index"),
    ("listen", &["LISTEN"], "polling"),
    ("listen", &["NOTIFY"], "polling"),
    ("listen", &["UNLISTEN"], "polling"),
    ("discard", &["DISCARD"], "RESET ALL"),
    (
        "execute function",
        &["EXECUTE", "FUNCTION"],
        "EXECUTE PROCEDURE",
    ),
    (
        "or replace trigger",
        &["REPLACE", "TRIGGER"],
        "DROP TRIGGER, then CREATE TRIGGER",
    ),
    ("procedure", &["CREATE", "PROCEDURE"], "CREATE FUNCTION"),
    (
        "serializable",
        &["SERIALIZABLE"],
        "row locks and guarded UPDATEs: openGauss silently gives less",
    ),
    (
        "session lock",
        &["pg_advisory_lock*"],
        "pg_try_advisory_xact_lock",
    ),
    (
        "session lock",
        &["pg_try_advisory_lock*"],
        "pg_try_advisory_xact_lock",
    ),
    (
        "lock timeout",
        &["lock_timeout"],
        "SET LOCAL statement_timeout",
    ),
    ("enum", &["AS", "ENUM"], "varchar with CHECK"),
    ("domain", &["CREATE", "DOMAIN"], "varchar with CHECK"),
    (
        "extension",
        &["CREATE", "EXTENSION"],
        "none may be required",
    ),
    (
        "partition",
        &["PARTITION", "OF"],
        "a plain table and DELETE in batches",
    ),
    (
        "partition",
        &["PARTITION", "BY", "RANGE"],
        "a plain table and DELETE in batches",
    ),
    (
        "partition",
        &["PARTITION", "BY", "LIST"],
        "a plain table and DELETE in batches",
    ),
    (
        "partition",
        &["PARTITION", "BY", "HASH"],
        "a plain table and DELETE in batches",
    ),
    ("with ties", &["WITH", "TIES"], "rank()"),
    ("groups frame", &["GROUPS", "BETWEEN"], "ROWS or RANGE"),
    ("recursive order", &["SEARCH", "DEPTH"], "a path column"),
    ("recursive order", &["SEARCH", "BREADTH"], "a level column"),
    ("scroll", &["SCROLL"], "a forward cursor"),
    ("and chain", &["AND", "CHAIN"], "a new transaction"),
    (
        "copy format",
        &["FORMAT", "BINARY"],
        "COPY t FROM STDIN BINARY",
    ),
    ("empty select", &["SELECT", "FROM"], "SELECT 1 FROM"),
    (
        "concurrently",
        &["CONCURRENTLY"],
        "a step outside the migration's transaction",
    ),
    ("system column", &["xmin"], "a revision column"),
    ("system column", &["xmax"], "a revision column"),
    ("system column", &["ctid"], "the primary key"),
    (
        "missing function",
        &["gen_random_uuid"],
        "make it in the program",
    ),
    (
        "missing function",
        &["make_interval"],
        "$1::float8 * interval '1 second'",
    ),
    ("missing function", &["make_timestamptz"], "a parameter"),
    (
        "missing function",
        &["jsonb_build_*"],
        "make it in the program",
    ),
    ("missing function", &["jsonb_path_*"], "-> and ->>"),
    ("missing function", &["jsonb_agg"], "make it in the program"),
    (
        "missing function",
        &["jsonb_set*"],
        "write the whole document",
    ),
    (
        "missing function",
        &["jsonb_insert"],
        "write the whole document",
    ),
    ("missing function", &["to_jsonb"], "make it in the program"),
    (
        "missing function",
        &["hashtextextended"],
        "hash in the program",
    ),
    ("missing function", &["sha256", "("], "hash in the program"),
    (
        "missing function",
        &["array_position*"],
        "do it in the program",
    ),
    ("missing function", &["cardinality", "("], "array_length"),
    ("missing function", &["to_regclass"], "information_schema"),
    ("missing function", &["starts_with"], "a range of keys"),
    (
        "missing function",
        &["regexp_match", "("],
        "do it in the program",
    ),
    ("missing function", &["gcd", "("], "do it in the program"),
    ("missing function", &["num_nonnulls"], "a CHECK written out"),
    ("missing function", &["num_nulls"], "a CHECK written out"),
    ("missing function", &["pg_blocking_pids"], "pg_locks"),
];

/// Free in PostgreSQL, reserved in openGauss.
const RESERVED: [&str; 18] = [
    "authid",
    "buckets",
    "charset",
    "compact",
    "csn",
    "excluded",
    "less",
    "maxvalue",
    "minus",
    "modify",
    "nocycle",
    "performance",
    "procedure",
    "reject",
    "rownum",
    "shrink",
    "sysdate",
    "verify",
];

/// All that is wrong with a statement or a piece of one.
pub fn check(sql: &str) -> Vec<Finding> {
    let tokens = tokens(sql);
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let rest = &tokens[at..];
        for (rule, words, instead) in PHRASES {
            if begins_with(rest, words) {
                let phrase = words.join(" ");
                found.push((*rule, rest[0].line, format!("{phrase}: use {instead}")));
            }
        }
        let before = at.checked_sub(1).map(|before| &tokens[before]);
        if let Some((rule, says)) = check_at(&tokens, at, before) {
            found.push((rule, rest[0].line, format!("{}: {says}", rest[0].text)));
        }
    }
    check_select_lists(&tokens, &mut found);
    found
}

fn begins_with(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len()
        && words
            .iter()
            .zip(tokens)
            .all(|(word, token)| match word.strip_suffix('*') {
                Some(prefix) => token.text.to_ascii_lowercase().starts_with(prefix),
                None => token.is(word),
            })
}

fn check_at(
    tokens: &[Token],
    at: usize,
    before: Option<&Token>,
) -> Option<(&'static str, &'static str)> {
    let token = &tokens[at];
    let after = |distance: usize, word: &str| tokens.get(at + distance).is_some_and(|t| t.is(word));
    let follows = |word: &str| before.is_some_and(|b| b.is(word));
    if RESERVED.iter().any(|word| token.is(word)) && !(token.is("procedure") && follows("EXECUTE"))
    {
        return Some((
            "reserved word",
            "is reserved in openGauss, take another name",
        ));
    }
    if token.is("/") && !follows("float8") {
        return Some((
            "division",
            "gives float8 in openGauss: use div(a, b)::bigint, or cast the left side to float8",
        ));
    }
    if token.is("unnest") && after(1, "(") && call(tokens, at + 1).1 > 1 {
        return Some((
            "unnest of several",
            "takes one array: SELECT unnest($1), unnest($2)",
        ));
    }
    if token.is("current_setting") && after(1, "(") && call(tokens, at + 1).1 > 1 {
        return Some(("missing function", "takes one argument: read pg_settings"));
    }
    if (token.is("extract") || token.is("date_part")) && after(1, "(") {
        let (behind, _) = call(tokens, at + 1);
        if tokens.get(behind).is_none_or(|t| !t.is("::")) {
            return Some((
                "extract",
                "has another type in each server: cast it to float8",
            ));
        }
    }
    if token.is("EXISTS") && follows("NOT") && at >= 3 && tokens[at - 2].is("IF") {
        let kind = &tokens[at - 3];
        if !["TABLE", "INDEX", "SCHEMA"]
            .iter()
            .any(|word| kind.is(word))
        {
            return Some(("if not exists", "is known for TABLE, INDEX and SCHEMA only"));
        }
    }
    if token.text.to_ascii_lowercase().ends_with("_timeout")
        && (after(1, "=") || after(1, "TO"))
        && tokens
            .get(at + 2)
            .is_some_and(|value| value.text.parse::<u64>().is_ok_and(|n| n > 0))
    {
        return Some((
            "timeout unit",
            "means milliseconds here and seconds there: write '30s'",
        ));
    }
    if token.is_parameter() && after(1, "IS") {
        return Some(("untyped parameter", "has no type here: cast it"));
    }
    None
}

/// Columns need `AS` before their alias, and parameters a cast. Tables may have a bare alias: both grammars take any name
/// there that they take as a column.
fn check_select_lists(tokens: &[Token], found: &mut Vec<Finding>) {
    for start in
        (0..tokens.len()).filter(|at| tokens[*at].is("SELECT") || tokens[*at].is("RETURNING"))
    {
        let mut at = start + 1;
        if begins_with(&tokens[at..], &["DISTINCT", "ON", "("]) {
            at = call(tokens, at + 2).0;
        }
        let first = at;
        while let Some(token) = tokens.get(at) {
            if token.is("FROM") || token.is("WHERE") || token.is(")") || token.is(";") {
                break;
            }
            let before = &tokens[at - 1];
            let typed = before.is("double") || token.is("precision");
            let value = before.is_name()
                || before.is_parameter()
                || before.is(")")
                || before.is("END")
                || before.is("NULL")
                || before.text.starts_with('\'')
                || before.text.starts_with(|c: char| c.is_ascii_digit());
            if at > first && value && token.is_name() && !typed {
                found.push((
                    "bare alias",
                    token.line,
                    format!("{}: write AS before an alias", token.text),
                ));
            }
            let alone = at == first || before.is(",");
            let ends = tokens.get(at + 1).is_none_or(|t| !t.is("::"));
            if token.is_parameter() && alone && ends {
                found.push((
                    "untyped parameter",
                    token.line,
                    format!("{}: cast it", token.text),
                ));
            }
            at = if token.is("(") {
                call(tokens, at).0
            } else {
                at + 1
            };
        }
    }
}
