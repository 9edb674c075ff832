//! `taf restore`: a version, or paths of it, back onto a host.

use std::ffi::OsString;
use std::path::PathBuf;

use taf_proto::v1::{Collision, OwnerKind, OwnerRule, RestoreVersionRequest};

use super::chosen::{self, Chosen};
use super::job::list_issues;
use super::recall;
use crate::client::{Client, request_id};
use crate::failure::{Exit, Failure};
use crate::follow::{conclude_quietly, detached, follow, until_ended};
use crate::output::Output;
use crate::resource::{absolute, optional_name, version};

/// What to do where something already exists.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CollisionWord {
    /// Leave what exists, and list it as an issue
    Never,
    /// Replace what is older than what the version has
    IfNewer,
    /// Replace what is newer than what the version has
    IfOlder,
    /// Replace what differs in kind, size or time of modification
    IfDifferent,
    /// Replace whatever exists
    Always,
}

impl From<CollisionWord> for Collision {
    fn from(word: CollisionWord) -> Self {
        match word {
            CollisionWord::Never => Self::Never,
            CollisionWord::IfNewer => Self::IfNewer,
            CollisionWord::IfOlder => Self::IfOlder,
            CollisionWord::IfDifferent => Self::IfDifferent,
            CollisionWord::Always => Self::Always,
        }
    }
}

/// Restore a version, or what of it is named, and follow it to its end
///
/// A PATH with *, ?, [ or { is a pattern, as in the rules of a source: * matches within a name, ** across directories, and a pattern
/// without a leading / matches anywhere; re: begins a regular expression. Put it into quotes, or the shell resolves it. Every entry
/// keeps its full path below DIR, unless it is stripped; DIR "/" means the places where it came from. Directories are shared with
/// what is there and never give way to a file, nor the other way round; links are never followed. Ctrl-C only ends the following; taf
/// job cancel stops the job, and the same command with --collision if-different goes on with what is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf restore daily --to /srv/restored
  taf restore daily@3 /srv/files/report.odt /srv/files/plans --to /srv/restored
  taf restore daily '/srv/files/**/*.odt' 're:/2025-[0-9]+/' --to /srv/restored
  taf restore daily --at \"3 days ago\" --files-from list --to /srv/restored
  taf restore daily /srv/files --to / --collision if-newer
  taf restore daily /srv/files --strip-prefix /srv/files --to /srv/copy --prefix /old
  taf restore daily /home/alice --to /srv --map-owner alice=bob --map-group 1000=users
  taf restore daily --to /srv/restored --dry-run
  taf restore daily --to /srv/restored --drives 1
  taf restore daily /srv/files --verify-only
  taf restore replica --to /srv/replica --collision always --delete --dry-run
  taf restore replica --to /srv/replica --collision always --delete")]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
pub struct Restore {
    #[command(flatten)]
    chosen: Chosen,
    /// Absolute directory on the agent's host to write below
    #[arg(long, value_name = "DIR", required_unless_present = "verify_only")]
    to: Option<OsString>,
    /// Agent to write on; where it came from if not given
    #[arg(long)]
    agent: Option<String>,
    /// What to do where something already exists
    #[arg(long, value_enum, default_value = "never")]
    collision: CollisionWord,
    /// Leave out so many leading components of every path; all that is restored must have them in common
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        conflicts_with = "strip_prefix"
    )]
    strip: u32,
    /// Leave out this leading directory of every path; all that is restored must be below it
    #[arg(long, value_name = "DIR")]
    strip_prefix: Option<OsString>,
    /// Put every path, when it is stripped, below this directory of DIR
    #[arg(long, value_name = "DIR")]
    prefix: Option<OsString>,
    /// Give the files of one user to another, by name (as the host that writes knows it) or number
    #[arg(long, value_name = "FROM=TO")]
    map_owner: Vec<String>,
    /// Give the files of one group to another
    #[arg(long, value_name = "FROM=TO")]
    map_group: Vec<String>,
    /// Read such mappings from a file: lines \"user alice=bob\" and \"group 100=users\"; # begins a comment
    #[arg(long, value_name = "FILE")]
    owner_map: Option<PathBuf>,
    /// Give everything that no mapping is about to this user, group, or both
    #[arg(long, value_name = "USER[:GROUP]")]
    owner: Option<String>,
    /// Make the target equal: once all is restored, remove what is below the restored directories and not in the version. See it first
    /// with --dry-run
    #[arg(long)]
    delete: bool,
    /// Of a version that is not whole after a rebuild of the catalog: restore what is known and can be read, and list the rest as issues
    #[arg(long)]
    partial: bool,
    /// Write nothing: read it all from tape and hold it against the catalog
    #[arg(long, conflicts_with_all = ["to", "delete", "collision", "prefix", "owner", "owner_map", "map_owner", "map_group"])]
    verify_only: bool,
    /// Read with at most so many drives at a time; with as many as are free if not given. It begins with one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    drives: Option<u32>,
    /// Only say what would be done: the volumes in the order in which they are read, where each of them is, how much is read of it and
    /// about how long that takes
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

impl Restore {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let request = self.request()?;
        let text = self.chosen.version()?;
        let client = Client::signed_in().await?;
        let request = RestoreVersionRequest {
            version: version(&client, &text).await?,
            ..request
        };
        let answer = client
            .versions()
            .restore_version(request)
            .await?
            .into_inner();
        if !self.dry_run {
            if self.detach {
                return detached(&answer.job, out);
            }
            return follow(&client, &answer.job, out).await;
        }
        if out.json() {
            out.message("RestoreVersionResponse", &answer)?;
        } else {
            let verb = if self.verify_only { "read" } else { "restore" };
            recall::show(&answer, verb, out)?;
        }
        if answer.job.is_empty() {
            return Ok(Exit::Done);
        }
        // What would be removed only the host knows.
        let job = until_ended(&client, &answer.job).await?;
        list_issues(&client, &answer.job, out).await?;
        conclude_quietly(&job)
    }

    /// What is asked for, but for the version.
    fn request(&self) -> Result<RestoreVersionRequest, Failure> {
        let (paths, patterns) = self.chosen.paths()?;
        let optional = |given: &Option<OsString>| given.as_deref().map(absolute).transpose();
        Ok(RestoreVersionRequest {
            version: String::new(),
            paths,
            patterns,
            agent: optional_name("agents", self.agent.as_deref()),
            target: optional(&self.to)?,
            collision: Collision::from(self.collision).into(),
            dry_run: self.dry_run,
            request_id: request_id(),
            delete_extra: self.delete,
            strip_components: self.strip,
            strip_prefix: optional(&self.strip_prefix)?,
            prefix: optional(&self.prefix)?,
            owner_rules: self.owner_rules()?,
            verify_only: self.verify_only,
            partial: self.partial,
            drives: self.drives.unwrap_or(0),
        })
    }

    fn owner_rules(&self) -> Result<Vec<OwnerRule>, Failure> {
        let mut rules = Vec::new();
        for (kind, given) in [
            (OwnerKind::User, &self.map_owner),
            (OwnerKind::Group, &self.map_group),
        ] {
            for text in given {
                rules.push(owner_rule(kind, text)?);
            }
        }
        if let Some(file) = &self.owner_map {
            let text = String::from_utf8_lossy(&chosen::read(file)?).into_owned();
            rules.extend(owner_lines(&text)?);
        }
        if let Some(owner) = &self.owner {
            let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
            for (kind, to) in [(OwnerKind::User, user), (OwnerKind::Group, group)] {
                if !to.is_empty() {
                    rules.push(OwnerRule {
                        kind: kind.into(),
                        from: "*".into(),
                        to: to.into(),
                    });
                }
            }
        }
        Ok(rules)
    }
}

fn owner_rule(kind: OwnerKind, text: &str) -> Result<OwnerRule, Failure> {
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok(OwnerRule {
            kind: kind.into(),
            from: from.to_owned(),
            to: to.to_owned(),
        }),
        _ => Err(Failure::usage(
            format!("{text} does not say whose things become whose"),
            "write it as alice=bob, or 1000=2000",
        )),
    }
}

fn owner_lines(text: &str) -> Result<Vec<OwnerRule>, Failure> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| match line.split_once(char::is_whitespace) {
            Some(("user", rule)) => owner_rule(OwnerKind::User, rule.trim()),
            Some(("group", rule)) => owner_rule(OwnerKind::Group, rule.trim()),
            _ => Err(Failure::usage(
                format!("the line \"{line}\" is about neither a user nor a group"),
                "write lines as user alice=bob and group 100=users",
            )),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_mapped_one_by_one_from_a_file_and_all() {
        let rules = owner_lines("# us\nuser alice=bob\n group  100=users \n").unwrap();
        let told: Vec<_> = rules
            .iter()
            .map(|rule| (rule.kind(), rule.from.as_str(), rule.to.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (OwnerKind::User, "alice", "bob"),
                (OwnerKind::Group, "100", "users")
            ]
        );
        for wrong in ["alice=bob", "user alice", "user =bob", "other a=b"] {
            assert!(owner_lines(wrong).unwrap_err().usage, "{wrong}");
        }
    }
}
