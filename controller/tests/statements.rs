//! What `taf-controller sql` prints is what the program sends: PostgreSQL takes every statement, against the schema as it is.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeSet;
use std::process::Command;

use taf_controller::store::statements::{schema, sent};

#[tokio::test]
async fn the_server_takes_every_statement_that_is_printed() {
    let printed = Command::new(env!("CARGO_BIN_EXE_taf-controller"))
        .arg("sql")
        .output()
        .unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    let printed: BTreeSet<&str> = printed
        .lines()
        .map(|line| line.strip_suffix(';').unwrap())
        .collect();
    // Those that make the schema are carried out when the store is opened.
    assert!(schema().iter().all(|sql| printed.contains(sql.as_str())));
    let (store, _) = support::store().await;
    let client = store.client().await.unwrap();
    let mut prepared = 0;
    for statement in &sent() {
        assert!(printed.contains(statement.as_str()), "{statement}");
        let verb = statement.split(' ').next().unwrap();
        if ["DELETE", "INSERT", "SELECT", "UPDATE", "WITH"].contains(&verb) {
            let taken = client.prepare(statement).await;
            taken.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
            prepared += 1;
        }
    }
    assert!(prepared > 200, "only {prepared} statements were prepared");
}
