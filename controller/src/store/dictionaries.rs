//! The dictionaries that pages of a line are compressed with: few, never changed, and on every tape that has such pages.

use taf_format::page::Dictionaries;

use super::{Error, GenericClient, Transaction};

/// The dictionaries of a line.
pub async fn dictionary_list(
    client: &impl GenericClient,
    line: i64,
) -> Result<Vec<(u32, Vec<u8>)>, Error> {
    let sql = client
        .prepare_cached("SELECT number, body FROM dictionaries WHERE line_id = $1 ORDER BY number")
        .await?;
    let rows = client.query(&sql, &[&line]).await?;
    let dictionary = |row: &tokio_postgres::Row| (row.get::<_, i64>(0) as u32, row.get(1));
    Ok(rows.iter().map(dictionary).collect())
}

/// The dictionaries of a line, to decode its pages with.
pub async fn dictionaries(client: &impl GenericClient, line: i64) -> Result<Dictionaries, Error> {
    let mut dictionaries = Dictionaries::new();
    for (number, body) in dictionary_list(client, line).await? {
        if let Err(error) = dictionaries.insert(number, &body) {
            // Pages that need it say so.
            tracing::error!(line, number, %error, "a dictionary in the catalog can't be used");
        }
    }
    Ok(dictionaries)
}

/// Adds a dictionary. Of two at once the first one stays.
pub async fn dictionary_add_on(
    tx: &Transaction<'_>,
    line: i64,
    number: u32,
    body: &[u8],
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO dictionaries (line_id, number, body) VALUES ($1, $2, $3)",
        &[&line, &i64::from(number), &body],
    )
    .await?;
    Ok(())
}
