//! `taf account`: who may sign in, and as what.

use std::path::PathBuf;

use taf_peer::config;
use taf_proto::v1::{
    Account, CreateAccountRequest, CreateFirstAdministratorRequest, ListAccountsRequest, Role,
};

use super::login::role;
use super::missing;
use crate::client::{Client, all, read, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::password;
use crate::resource::id;

/// Accounts of people: make, list
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    CreateFirst(CreateFirst),
    Create(Create),
    List(List),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::CreateFirst(command) => command.run(out).await,
            Self::Create(command) => command.run(out).await,
            Self::List(command) => command.run(out).await,
        }
    }
}

/// Make the first administrator, on the controller's own host
///
/// Goes over the controller's unix socket, which takes root and the controller's own user only, and only while there is
/// no account.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf account create-first --user admin
  taf account create-first --socket /var/lib/taf/controller/controller.sock --user admin --password-file F")]
pub struct CreateFirst {
    /// The controller's socket; controller/controller.sock below `TAF_HOME` if not given
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Name of the account
    #[arg(long, value_name = "NAME")]
    user: String,
    #[command(flatten)]
    password: password::From,
}

impl CreateFirst {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let socket = self
            .socket
            .unwrap_or_else(|| config::home().join("controller/controller.sock"));
        let client = Client::local(&socket).await?;
        let password = self.password.read(&self.user, true)?;
        let request = CreateFirstAdministratorRequest {
            user: self.user,
            password: password.to_string(),
        };
        let answer = client
            .identity()
            .create_first_administrator(request)
            .await?;
        made(answer.into_inner().account, out)?;
        say("next: taf login --server HOST:PORT --authority FILE --user NAME");
        Ok(Exit::Done)
    }
}

/// A role's word on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RoleWord {
    /// May look
    Viewer,
    /// May also run backups, handle tapes and restore
    Operator,
    /// May also make accounts and enrol agents
    Administrator,
}

impl From<RoleWord> for Role {
    fn from(word: RoleWord) -> Self {
        match word {
            RoleWord::Viewer => Self::Viewer,
            RoleWord::Operator => Self::Operator,
            RoleWord::Administrator => Self::Administrator,
        }
    }
}

/// Make an account
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf account create anna --role operator
  taf account create monitor --role viewer --password-file /run/secrets/monitor")]
pub struct Create {
    /// Name: 1 to 64 of a-z, 0-9, '.', '_', '-'
    #[arg(value_name = "NAME")]
    user: String,
    /// What it may do
    #[arg(long, value_enum)]
    role: RoleWord,
    #[command(flatten)]
    password: password::From,
}

impl Create {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let password = self.password.read(&self.user, true)?;
        let request = CreateAccountRequest {
            user: self.user,
            password: password.to_string(),
            role: Role::from(self.role).into(),
            request_id: request_id(),
        };
        let answer = client.identity().create_account(request).await?;
        made(answer.into_inner().account, out)?;
        Ok(Exit::Done)
    }
}

fn made(account: Option<Account>, out: &mut Output) -> Result<(), Failure> {
    let account = account.ok_or_else(|| missing("account"))?;
    if out.json() {
        return out.message("Account", &account);
    }
    say(format!(
        "made account {}, {}",
        id(&account.name),
        role(&account)
    ));
    Ok(())
}

/// List accounts
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf account list")]
pub struct List {}

impl List {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let accounts = all(async |page_token| {
            let request = ListAccountsRequest {
                page_size: 1000,
                page_token,
            };
            let page = read(|| {
                let (mut identity, request) = (client.identity(), request.clone());
                async move { identity.list_accounts(request).await }
            })
            .await?;
            Ok((page.accounts, page.next_page_token))
        })
        .await?;
        out.list("accounts", "Account", &accounts, |accounts| {
            let mut rows = Rows::new(&["USER", "ROLE", "MADE"]);
            for account in accounts {
                rows.push([
                    id(&account.name).to_owned(),
                    role(account).to_owned(),
                    human::time(account.create_time.as_ref()),
                ]);
            }
            rows
        })?;
        Ok(Exit::Done)
    }
}
