//! All SQL is in the migrations and in the store, and it is SQL that PostgreSQL 12 to 18 and openGauss both take. Reads
//! the sources, so nothing has to run; what only a server can tell is for the tests of the store.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "portable_sql/rules.rs"]
mod rules;
#[path = "portable_sql/tokens.rs"]
mod tokens;

use taf_controller::store::statements::{SOURCES, literals, schema, sent};
use tokens::tokens;

/// A text with one of these, in capitals, is taken for SQL.
const KEYWORDS: [&str; 34] = [
    "ALTER",
    "BEGIN",
    "COMMIT",
    "COPY",
    "CREATE",
    "DECLARE",
    "DELETE",
    "DISCARD",
    "DO",
    "DROP",
    "EXECUTE",
    "FETCH",
    "FROM",
    "GRANT",
    "INSERT",
    "JOIN",
    "LIMIT",
    "LISTEN",
    "LOCK",
    "MERGE",
    "NOTIFY",
    "ORDER",
    "RESET",
    "RETURNING",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "TRUNCATE",
    "UPDATE",
    "VALUES",
    "WHERE",
];

/// Beginnings of statements; none may stand in a text outside the store, nor anywhere in small letters.
const STATEMENTS: [&[&str]; 13] = [
    &["SELECT"],
    &["INSERT", "INTO"],
    &["UPDATE", "*", "SET"],
    &["DELETE", "FROM"],
    &["MERGE", "INTO"],
    &["CREATE", "TABLE"],
    &["CREATE", "INDEX"],
    &["CREATE", "SCHEMA"],
    &["CREATE", "DATABASE"],
    &["ALTER", "TABLE"],
    &["DROP", "TABLE"],
    &["TRUNCATE", "TABLE"],
    &["LOCK", "TABLE"],
];

fn is_sql(text: &str) -> bool {
    tokens(text)
        .iter()
        .any(|t| KEYWORDS.contains(&t.text.as_str()))
}

/// Whether a statement begins in `text` with keywords in this case: anywhere for capitals, which prose does not have, at
/// the very beginning for small letters.
fn states(text: &str, capitals: bool) -> bool {
    let tokens = tokens(text);
    let starts = if capitals { tokens.len() } else { 1 };
    (0..starts).any(|at| {
        STATEMENTS.iter().any(|words| {
            let rest = tokens.get(at..).unwrap_or_default();
            // In small letters a single word proves nothing.
            rest.len() >= words.len().max(4)
                && words.iter().zip(rest).all(|(word, token)| {
                    let word = if capitals {
                        (*word).to_owned()
                    } else {
                        word.to_lowercase()
                    };
                    word == "*" || token.text == word
                })
        })
    })
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|e| e == ending) {
            found.push(path);
        }
    }
    found.sort();
    assert!(!found.is_empty(), "there is nothing in {folder}");
    found
}

fn shown(path: &Path) -> String {
    let short = path
        .strip_prefix(env!("CARGO_MANIFEST_DIR"))
        .unwrap_or(path);
    short.display().to_string()
}

fn in_store(path: &Path) -> bool {
    path.starts_with(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"))
}

#[test]
fn the_sql_is_portable() {
    let mut found = Vec::new();
    for path in files("migrations", "sql") {
        for (rule, line, says) in rules::check(&fs::read_to_string(&path).unwrap()) {
            found.push(format!("{}:{line}: {rule}: {says}", shown(&path)));
        }
    }
    let mut statements = 0;
    for path in files("src/store", "rs") {
        for literal in literals(&fs::read_to_string(&path).unwrap()) {
            if !is_sql(&literal.text) {
                continue;
            }
            statements += 1;
            for (rule, _, says) in rules::check(&literal.text) {
                found.push(format!("{}:{}: {rule}: {says}", shown(&path), literal.line));
            }
        }
    }
    assert!(
        statements > 50,
        "only {statements} statements were found in the store"
    );
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn the_program_can_print_all_of_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store");
    let there: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.ends_with("statements.rs"))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let listed = SOURCES.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(
        listed.collect::<BTreeSet<_>>(),
        there,
        "src/store/statements.rs lists them"
    );
    let mut found = Vec::new();
    for statement in schema().into_iter().chain(sent()) {
        assert!(!statement.contains(['\n', '{', '}']), "{statement}");
        found.extend(
            rules::check(&statement)
                .into_iter()
                .map(|f| (f, statement.clone())),
        );
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn sql_is_in_the_store_and_in_capitals() {
    let mut found = Vec::new();
    for path in files("src", "rs") {
        for literal in literals(&fs::read_to_string(&path).unwrap()) {
            let place = format!("{}:{}", shown(&path), literal.line);
            if states(&literal.text, true) && !in_store(&path) {
                found.push(format!(
                    "{place}: SQL belongs into src/store: {}",
                    literal.text
                ));
            }
            if states(&literal.text, false) {
                found.push(format!(
                    "{place}: write SQL keywords in capitals: {}",
                    literal.text
                ));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn statements_are_told_from_prose() {
    assert!(states("SELECT id FROM jobs", true));
    assert!(states("UPDATE jobs SET state = $1", true));
    assert!(states("select id from jobs", false));
    assert!(states("insert into jobs values (1)", false));
    assert!(!states("select a plan first", true));
    assert!(!states("Put your own settings there (ALTER SYSTEM).", true));
    assert!(!states("update the program, then set it up", false));
}

#[test]
fn every_rule_refuses_its_example() {
    let examples = [
        (
            "on conflict",
            "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING",
        ),
        (
            "on duplicate key",
            "INSERT INTO t (a) VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
        ),
        (
            "merge",
            "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE",
        ),
        ("lateral", "SELECT a FROM t, LATERAL (SELECT 1 AS b) x"),
        ("filter", "SELECT count(*) FILTER (WHERE a > 1) FROM t"),
        (
            "with ordinality",
            "SELECT a FROM unnest($1::bigint[]) WITH ORDINALITY",
        ),
        ("rows from", "SELECT a FROM ROWS FROM (f())"),
        (
            "identity",
            "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY)",
        ),
        ("include", "CREATE INDEX i ON t (a) INCLUDE (b)"),
        ("index kind", "CREATE INDEX i ON t USING brin (a)"),
        (
            "nulls not distinct",
            "CREATE TABLE t (a integer UNIQUE NULLS NOT DISTINCT)",
        ),
        (
            "exclude",
            "ALTER TABLE t ADD EXCLUDE USING gist (a WITH &&)",
        ),
        ("listen", "LISTEN jobs"),
        ("discard", "DISCARD ALL"),
        (
            "execute function",
            "CREATE TRIGGER g BEFORE INSERT ON t EXECUTE FUNCTION f()",
        ),
        (
            "or replace trigger",
            "CREATE OR REPLACE TRIGGER g BEFORE INSERT ON t EXECUTE PROCEDURE f()",
        ),
        (
            "procedure",
            "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'",
        ),
        (
            "serializable",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        ),
        ("session lock", "SELECT pg_advisory_lock(1)"),
        ("lock timeout", "SET lock_timeout = '1s'"),
        ("enum", "CREATE TYPE c AS ENUM ('a')"),
        ("domain", "CREATE DOMAIN d AS text"),
        ("extension", "CREATE EXTENSION pg_trgm"),
        (
            "partition",
            "CREATE TABLE t (a integer) PARTITION BY RANGE (a)",
        ),
        ("with ties", "SELECT a FROM t FETCH FIRST 1 ROWS WITH TIES"),
        (
            "groups frame",
            "SELECT sum(a) OVER (GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t",
        ),
        (
            "recursive order",
            "WITH RECURSIVE r AS (SELECT 1 AS a) SEARCH DEPTH FIRST BY a SET o SELECT a FROM r",
        ),
        ("scroll", "DECLARE c SCROLL CURSOR FOR SELECT a FROM t"),
        ("and chain", "COMMIT AND CHAIN"),
        ("copy format", "COPY t FROM STDIN (FORMAT binary)"),
        ("empty select", "SELECT FROM t"),
        ("concurrently", "CREATE INDEX CONCURRENTLY i ON t (a)"),
        ("system column", "SELECT xmin FROM t"),
        ("missing function", "SELECT jsonb_build_object('a', 1)"),
        ("reserved word", "SELECT t.verify FROM t"),
        ("division", "SELECT (a / 2) AS half FROM t"),
        (
            "unnest of several",
            "SELECT a FROM unnest($1::bigint[], $2::text[]) AS u",
        ),
        ("extract", "SELECT extract(epoch FROM a) AS e FROM t"),
        (
            "if not exists",
            "ALTER TABLE t ADD COLUMN IF NOT EXISTS b integer",
        ),
        ("timeout unit", "SET statement_timeout = 30"),
        ("untyped parameter", "SELECT $1 AS a FROM t"),
        (
            "untyped parameter",
            "SELECT a FROM t WHERE $1 IS NULL OR b = $1",
        ),
        ("bare alias", "SELECT count(*) n FROM t"),
        ("bare alias", "SELECT a b FROM t"),
    ];
    for (rule, sql) in examples {
        let found: BTreeSet<&str> = rules::check(sql).into_iter().map(|f| f.0).collect();
        assert!(found.contains(rule), "{rule}: {sql}: {found:?}");
    }
}

#[test]
fn what_both_servers_take_passes() {
    for sql in [
        "INSERT INTO t (a, b) SELECT $1::bigint, unnest($2::bytea[]) WHERE NOT EXISTS (SELECT 1 FROM t WHERE a = $1)",
        "WITH c AS (SELECT id FROM t ORDER BY id LIMIT 5 FOR UPDATE SKIP LOCKED) UPDATE t SET b = 1 FROM c WHERE t.id = c.id",
        "SELECT DISTINCT ON (chunk) chunk, row_number() OVER (PARTITION BY a ORDER BY b) AS n FROM t x WHERE a >= $1",
        "SELECT COALESCE(extract(epoch FROM a)::float8, 0) AS e, div(a, 2)::bigint AS half, a::float8 / b AS r FROM t",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE PROCEDURE f()",
        "CREATE TABLE IF NOT EXISTS t (a timestamptz, s varchar(9) DEFAULT 'a/b LISTEN verify') -- INCLUDE (x)",
        "SET statement_timeout = '30s'; SET session_timeout = 0",
        "COPY t (a) FROM STDIN BINARY",
    ] {
        assert_eq!(rules::check(sql), [], "{sql}");
    }
}
