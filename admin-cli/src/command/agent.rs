//! `taf agent`: who is enrolled, and the tokens by which others come in.

use std::path::PathBuf;

use prost_types::Duration;
use taf_peer::quantity::Span;
use taf_peer::secret_file;
use taf_proto::v1::{AgentRole, CreateEnrolmentTokenRequest, ListAgentsRequest};

use crate::client::{Client, all, read, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::id;

/// Agents on file servers and tape hosts: list, enrol
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    List(List),
    #[command(visible_aliases = ["enrol", "enroll"])]
    Token(Token),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::List(command) => command.run(out).await,
            Self::Token(command) => command.run(out).await,
        }
    }
}

/// List agents and whether they are connected
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf agent list")]
pub struct List {}

impl List {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let agents = all(async |page_token| {
            let request = ListAgentsRequest {
                page_size: 1000,
                page_token,
            };
            let page = read(|| {
                let (mut enrolment, request) = (client.enrolment(), request.clone());
                async move { enrolment.list_agents(request).await }
            })
            .await?;
            Ok((page.agents, page.next_page_token))
        })
        .await?;
        out.list("agents", "Agent", &agents, |agents| {
            let mut rows = Rows::new(&[
                "AGENT",
                "ROLE",
                "CONNECTED",
                "HOST",
                "LAST HEARD",
                "VERSION",
            ]);
            for agent in agents {
                rows.push([
                    id(&agent.name).to_owned(),
                    word(agent.role()).to_owned(),
                    if agent.connected { "yes" } else { "no" }.to_owned(),
                    agent.host_name.clone(),
                    human::time(agent.last_seen_time.as_ref()),
                    agent.program_version.clone(),
                ]);
            }
            rows
        })?;
        Ok(Exit::Done)
    }
}

fn word(role: AgentRole) -> &'static str {
    match role {
        AgentRole::Unspecified => "unknown",
        AgentRole::Source => "source",
        AgentRole::Tape => "tape",
    }
}

/// A role's word on the command line.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RoleWord {
    /// Reads and writes files
    Source,
    /// Drives tapes
    Tape,
}

/// Make a one-time token by which one host becomes an agent
///
/// The token is a secret and is shown only this once. On the host: taf-source-agent enrol (or taf-tape-agent enrol)
/// --controller HOST:PORT --token-file FILE.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf agent token files1 --role source --output files1.token
  taf agent token files1 --role source | ssh files1 taf-source-agent enrol --controller backup:8710 --token-file /dev/stdin
  taf agent token robot --role tape --lifetime 15m")]
pub struct Token {
    /// Id for the agent: 1 to 64 of a-z, 0-9, '.', '_', '-'
    #[arg(value_name = "ID")]
    agent: String,
    /// What it is to do
    #[arg(long, value_enum)]
    role: RoleWord,
    /// How long the token can be used, at most a week; an hour if not given
    #[arg(long, alias = "valid", value_name = "TIME")]
    lifetime: Option<Span>,
    /// Write it to this file (mode 600), not to standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Token {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let lifetime = self.lifetime.map(|Span(time)| Duration {
            seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            nanos: time.subsec_nanos() as i32,
        });
        let role = match self.role {
            RoleWord::Source => AgentRole::Source,
            RoleWord::Tape => AgentRole::Tape,
        };
        let request = CreateEnrolmentTokenRequest {
            agent_id: id(&self.agent).to_owned(),
            role: role.into(),
            lifetime,
            request_id: request_id(),
        };
        let mut answer = client
            .enrolment()
            .create_enrolment_token(request)
            .await?
            .into_inner();
        let until = human::time(answer.expire_time.as_ref());
        if let Some(file) = &self.output {
            secret_file::write(file, format!("{}\n", answer.token).as_bytes()).map_err(
                |error| {
                    Failure::new(
                        "OUTPUT_FAILED",
                        format!("the token can't be kept: {error}"),
                        "name a file that you can write, and make another token",
                    )
                },
            )?;
            // It is in the file, and is not to be anywhere else.
            answer.token.clear();
            say(format!(
                "the token is in {}; it is good for one enrolment until {until}",
                file.display()
            ));
        }
        if out.json() {
            out.message("CreateEnrolmentTokenResponse", &answer)?;
        } else if self.output.is_none() {
            out.line(&answer.token)?;
            say(format!("good for one enrolment until {until}"));
        }
        Ok(Exit::Done)
    }
}
