//! The commands: one file a noun. Each decodes what was asked, calls, and shows; what they share is beside this folder.

mod account;
mod agent;
mod catalog;
mod chosen;
mod compare;
pub mod compression;
mod diff;
mod drive;
mod du;
mod dump;
mod find;
mod health;
mod history;
mod job;
mod keep;
mod library;
mod login;
mod ls;
mod order;
mod plan;
mod pool;
mod recall;
mod restore;
mod retention;
mod run;
mod sample;
mod source;
mod stat;
mod status;
mod tape;
mod tree;
mod version;
pub mod version_type;
mod versions;
mod volume;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::{Exit, Failure};
use crate::output::Output;

const AFTER: &str = "\
Exit status: 0 done, 1 failed, 2 asked wrongly, 3 done with issues.

Examples:
  taf login --server backup.example.org:8710 --authority authority.pem --user admin
  taf status
  taf run daily
  taf ls daily /srv/files
  taf find report.odt
  taf restore daily /srv/files/report.odt --to /srv/restored
  taf dump daily /srv/files | tar x -C /srv/restored
  taf tape extract TAF001L8.tape --to /srv/restored      (no server needed)";

/// Backs up file servers to tape, and brings them back
#[derive(Debug, Parser)]
#[command(name = "taf", version, after_help = AFTER, arg_required_else_help = true)]
#[command(subcommand_required = true, infer_long_args = false)]
pub struct Cli {
    /// Write data as JSON (docs/cli-json.md), and errors as JSON to standard error
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Login(login::Login),
    Logout(login::Logout),
    Whoami(login::Whoami),
    #[command(subcommand, alias = "accounts")]
    Account(account::Command),
    Status(status::Status),
    #[command(subcommand, alias = "agents")]
    Agent(agent::Command),
    #[command(subcommand, alias = "sources")]
    Source(source::Command),
    #[command(subcommand, alias = "plans")]
    Plan(plan::Command),
    Run(run::Run),
    #[command(subcommand, alias = "jobs")]
    Job(job::Command),
    Versions(versions::Versions),
    #[command(subcommand)]
    Version(version::Command),
    #[command(subcommand)]
    Retention(retention::Command),
    Ls(ls::Ls),
    Tree(tree::Tree),
    Stat(stat::Stat),
    Find(find::Find),
    Diff(diff::Diff),
    History(history::History),
    Du(du::Du),
    Restore(restore::Restore),
    Dump(dump::Dump),
    #[command(subcommand)]
    Catalog(catalog::Command),
    #[command(subcommand, alias = "pools")]
    Pool(pool::Command),
    #[command(subcommand, alias = "volumes")]
    Volume(volume::Command),
    #[command(alias = "drives")]
    Drive(drive::Drive),
    #[command(alias = "libraries")]
    Library(library::Library),
    #[command(subcommand, alias = "tapes")]
    Tape(tape::Command),
    Compare(compare::Compare),
}

/// The program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Output::new(cli.json);
    let ended = crate::iscsi::from_environment().and_then(|()| execute(cli.command, &mut out));
    // What was written before a failure is data all the same.
    let flushed = out.flush();
    match ended.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(failure) => failure.tell(cli.json).into(),
    }
}

fn execute(command: Command, out: &mut Output) -> Result<Exit, Failure> {
    let command = match command {
        // No server, no runtime: blocking work in this thread.
        Command::Tape(command) => return command.run(out),
        Command::Compare(command) => return command.run(out),
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            Failure::new(
                "INTERNAL",
                format!("the program can't start its runtime: {error}"),
                "see the limits on open files (ulimit -n)",
            )
        })?;
    runtime.block_on(async {
        match command {
            Command::Login(command) => command.run(out).await,
            Command::Logout(command) => command.run(out).await,
            Command::Whoami(command) => command.run(out).await,
            Command::Account(command) => command.run(out).await,
            Command::Status(command) => command.run(out).await,
            Command::Agent(command) => command.run(out).await,
            Command::Source(command) => command.run(out).await,
            Command::Plan(command) => command.run(out).await,
            Command::Run(command) => command.run(out).await,
            Command::Job(command) => command.run(out).await,
            Command::Versions(command) => command.run(out).await,
            Command::Version(command) => command.run(out).await,
            Command::Retention(command) => command.run(out).await,
            Command::Ls(command) => command.run(out).await,
            Command::Tree(command) => command.run(out).await,
            Command::Stat(command) => command.run(out).await,
            Command::Find(command) => command.run(out).await,
            Command::Diff(command) => command.run(out).await,
            Command::History(command) => command.run(out).await,
            Command::Du(command) => command.run(out).await,
            Command::Restore(command) => command.run(out).await,
            Command::Dump(command) => command.run(out).await,
            Command::Catalog(command) => command.run(out).await,
            Command::Pool(command) => command.run(out).await,
            Command::Volume(command) => command.run(out).await,
            Command::Drive(command) => command.run(out).await,
            Command::Library(command) => command.run(out).await,
            Command::Tape(_) | Command::Compare(_) => Ok(Exit::Done),
        }
    })
}

/// What an answer must hold and does not.
fn missing(what: &str) -> Failure {
    Failure::new(
        "INVALID_ANSWER",
        format!("the controller's answer has no {what}"),
        "use a controller of the same version as this program",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_every_command_has_an_example() {
        let mut open = vec![(String::new(), Cli::command())];
        let mut leaves = 0;
        while let Some((above, command)) = open.pop() {
            let path = format!("{above}{} ", command.get_name());
            assert!(
                command.get_about().is_some(),
                "{path} does not say what it does"
            );
            let verbs: Vec<_> = command.get_subcommands().cloned().collect();
            if verbs.is_empty() {
                leaves += 1;
                let after = command.get_after_help().map(ToString::to_string);
                let after = after.unwrap_or_else(|| panic!("{path} has no example"));
                assert!(after.contains(path.trim()), "{path}: {after}");
            }
            open.extend(verbs.into_iter().map(|verb| (path.clone(), verb)));
        }
        assert!(leaves > 35, "{leaves}");
    }

    #[test]
    fn plural_nouns_mean_the_same() {
        for words in [
            "taf jobs list",
            "taf volumes list",
            "taf drives",
            "taf tapes files x",
        ] {
            Cli::try_parse_from(words.split(' ')).unwrap();
        }
    }
}
