//! The store against a real PostgreSQL: schema steps and what is said when the database is not there.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use taf_controller::store::{Error, Options, Store};

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_is_brought_up_to_date_once_however_many_try() {
    let url = support::empty_database().await;
    let opening = (0..4).map(|_| {
        let options = Options::new(&url);
        tokio::spawn(async move { Store::open(&options).await })
    });
    for task in opening.collect::<Vec<_>>() {
        task.await.unwrap().unwrap();
    }
    let store = Store::open(&Options::new(&url)).await.unwrap();
    let client = store.client().await.unwrap();
    let steps = client
        .query_one(
            "SELECT count(*), count(DISTINCT migration), max(migration)::bigint FROM schema_migrations",
            &[],
        )
        .await
        .unwrap();
    let (all, different, highest): (i64, i64, i64) = (steps.get(0), steps.get(1), steps.get(2));
    assert_eq!((all, different), (highest, highest));
}

#[tokio::test]
async fn a_step_applied_from_another_text_or_by_a_newer_version_is_refused() {
    let (store, url) = support::store().await;
    let client = store.client().await.unwrap();
    client
        .execute(
            "UPDATE schema_migrations SET checksum = '\\x00'::bytea",
            &[],
        )
        .await
        .unwrap();
    let error = Store::open(&Options::new(&url)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(said) if said.contains("another text")),
        "{error}"
    );
    client
        .execute(
            "UPDATE schema_migrations SET migration = migration + 1000",
            &[],
        )
        .await
        .unwrap();
    let error = Store::open(&Options::new(&url)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Migration(said) if said.contains("newer version")),
        "{error}"
    );
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_with_what_to_do() {
    let error = Store::open(&Options::new("postgresql://taf:secret@127.0.0.1:1/catalog"))
        .await
        .unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::Unreachable { .. }), "{said}");
    assert!(
        said.contains("127.0.0.1:1") && said.contains("configuration") && !said.contains("secret"),
        "{said}"
    );
    let (_store, url) = support::store().await;
    let gone = format!(
        "{}gone?{}",
        url.split('?').next().unwrap(),
        url.split('?').nth(1).unwrap()
    );
    let error = Store::open(&Options::new(gone)).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let error = Store::open(&Options::new("mysql://x")).await.unwrap_err();
    assert!(matches!(error, Error::Settings(_)), "{error}");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let (store, url) = support::store().await;
    let client = store.client().await.unwrap();
    let name = format!("l{}", uuid::Uuid::new_v4().simple());
    client
        .batch_execute(&format!(
            "CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0"
        ))
        .await
        .unwrap();
    let (before, after) = url.split_once('?').unwrap();
    let other = format!("{}/{name}?{after}", before.rsplit_once('/').unwrap().0);
    let error = Store::open(&Options::new(other)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unsupported(said) if said.contains("LATIN1")),
        "{error}"
    );
}
