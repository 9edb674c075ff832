//! Accounts of people, and how often somebody has failed to sign in as them.

use jiff::Timestamp;
use taf_proto::v1::Role;
use tokio_postgres::{Row, Transaction};

use super::{Error, Store};

/// After so many failures in a row an account is locked.
pub const FAILURES_UNTIL_LOCKED: i32 = 10;
/// For so long, in seconds.
pub const LOCKED_SECONDS: f64 = 900.0;

/// An account, without its password.
#[derive(Debug, Clone)]
pub struct Account {
    /// Key of the row.
    pub id: i64,
    /// User name.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What came of announcing an attempt to sign in.
#[derive(Debug, Clone)]
pub enum Attempt {
    /// There is no such user.
    UnknownUser,
    /// Too many failures: nothing is checked until then.
    LockedUntil(Timestamp),
    /// Counted as a failure until [`Store::account_signed_in_on`] says otherwise.
    Check {
        /// The account.
        account: Account,
        /// Argon2id, PHC string.
        password_hash: String,
    },
}

const COLUMNS: &str = "id, user_name, role, created_at";

fn account(row: &Row) -> Account {
    Account {
        id: row.get(0),
        user: row.get(1),
        role: role_from(row.get(2)),
        created_at: row.get(3),
    }
}

/// The database's word for a role.
fn role_word(role: Role) -> &'static str {
    match role {
        Role::Administrator => "administrator",
        Role::Operator => "operator",
        // The least; requests with no role are refused before they get here.
        Role::Viewer | Role::Unspecified => "viewer",
    }
}

/// A role from the database's word, whose set is closed by a CHECK.
pub(super) fn role_from(word: &str) -> Role {
    match word {
        "administrator" => Role::Administrator,
        "operator" => Role::Operator,
        _ => Role::Viewer,
    }
}

impl Store {
    /// Makes an account; nothing if the user has one.
    pub async fn account_create_on(
        tx: &Transaction<'_>,
        user: &str,
        role: Role,
        password_hash: &str,
    ) -> Result<Option<Account>, Error> {
        let row = tx
            .query_opt(
                &format!(
                    "INSERT INTO accounts (user_name, role, password_hash, created_at)
                     SELECT $1::varchar, $2::varchar, $3::varchar, clock_timestamp()
                     WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE user_name = $1::varchar)
                     RETURNING {COLUMNS}"
                ),
                &[&user, &role_word(role), &password_hash],
            )
            .await?;
        Ok(row.as_ref().map(account))
    }

    /// Whether there is any account. Lock the installation first if a decision hangs on it.
    pub async fn account_any_on(tx: &Transaction<'_>) -> Result<bool, Error> {
        let row = tx
            .query_one("SELECT EXISTS (SELECT 1 FROM accounts)", &[])
            .await?;
        Ok(row.get(0))
    }

    /// Accounts behind a user name, in order.
    pub async fn account_list(&self, after: &str, limit: i64) -> Result<Vec<Account>, Error> {
        let client = self.client().await?;
        let rows = client
            .query(
                &format!(
                    "SELECT {COLUMNS} FROM accounts WHERE user_name > $1 ORDER BY user_name LIMIT $2::bigint"
                ),
                &[&after, &limit],
            )
            .await?;
        Ok(rows.iter().map(account).collect())
    }

    /// One account by user name.
    pub async fn account_get(&self, user: &str) -> Result<Option<Account>, Error> {
        let client = self.client().await?;
        let row = client
            .query_opt(
                &format!("SELECT {COLUMNS} FROM accounts WHERE user_name = $1"),
                &[&user],
            )
            .await?;
        Ok(row.as_ref().map(account))
    }

    /// Counts an attempt to sign in before it is checked, so that no number of simultaneous guesses gets more tries.
    pub async fn account_attempt(&self, user: &str) -> Result<Attempt, Error> {
        let client = self.client().await?;
        let counted = client
            .query_opt(
                &format!(
                    "UPDATE accounts
                     SET failed_logins = CASE WHEN failed_logins + 1 >= $2::integer THEN 0 ELSE failed_logins + 1 END,
                         locked_until = CASE WHEN failed_logins + 1 >= $2::integer
                                             THEN clock_timestamp() + $3::float8 * interval '1 second' END
                     WHERE user_name = $1 AND (locked_until IS NULL OR locked_until <= clock_timestamp())
                     RETURNING {COLUMNS}, password_hash"
                ),
                &[&user, &FAILURES_UNTIL_LOCKED, &LOCKED_SECONDS],
            )
            .await?;
        if let Some(row) = counted {
            return Ok(Attempt::Check {
                account: account(&row),
                password_hash: row.get(4),
            });
        }
        let locked = client
            .query_opt(
                "SELECT locked_until FROM accounts WHERE user_name = $1 AND locked_until IS NOT NULL",
                &[&user],
            )
            .await?;
        Ok(locked.map_or(Attempt::UnknownUser, |row| Attempt::LockedUntil(row.get(0))))
    }

    /// The password was right: the failures are forgotten.
    pub async fn account_signed_in_on(tx: &Transaction<'_>, id: i64) -> Result<(), Error> {
        tx.execute(
            "UPDATE accounts SET failed_logins = 0, locked_until = NULL WHERE id = $1",
            &[&id],
        )
        .await?;
        Ok(())
    }
}
