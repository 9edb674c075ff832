//! Commands that have a job carry something out: what all of them take, and how they end.

use prost::Message;
use taf_proto::v1::{self, Preview};

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::follow::{Excuse, detached, detached_all, follow, follow_all_but};
use crate::output::{Output, Rows};
use crate::preview;

/// What all of them take.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Order {
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    pub detach: bool,
}

/// What the controller answers to one.
pub trait Answer: Message {
    /// The message's name.
    const NAME: &str;

    /// The job; empty for a dry run.
    fn job(&self) -> &str;

    /// What a dry run found.
    fn preview(&self) -> Option<&Preview>;
}

macro_rules! answers {
    ($($name:ident),*) => {
        $(
            impl Answer for v1::$name {
                const NAME: &str = stringify!($name);

                fn job(&self) -> &str {
                    &self.job
                }

                fn preview(&self) -> Option<&Preview> {
                    self.preview.as_ref()
                }
            }
        )*
    };
}

answers!(
    CleanDriveResponse,
    EraseVolumeResponse,
    InspectVolumeResponse,
    InventoryLibraryResponse,
    LabelVolumeResponse,
    LoadDriveResponse,
    MoveCartridgeResponse,
    RescanVolumeResponse,
    RewindDriveResponse,
    UnloadDriveResponse
);

impl Order {
    /// Shows what a dry run found, or follows the job, or says that it goes on by itself.
    pub async fn conclude<A: Answer>(
        self,
        client: &Client,
        answer: &A,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        if self.dry_run && out.json() {
            out.message(A::NAME, answer)?;
            return Ok(Exit::Done);
        }
        if self.dry_run {
            preview::show("this", answer.preview(), out)?;
            return Ok(Exit::Done);
        }
        if self.detach {
            return detached(answer.job(), out);
        }
        follow(client, answer.job(), out).await
    }

    /// The same for what was ordered of several things, each with its answer; `what` they are is the table's heading. No job counts
    /// as failed that `excuse` has words for.
    pub async fn conclude_all<A: Answer>(
        self,
        client: &Client,
        what: &'static str,
        asked: Vec<(String, A)>,
        excuse: Excuse<'_>,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let (names, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        if self.dry_run {
            out.list("volumes", A::NAME, &answers, |answers| {
                let mut rows = Rows::new(&[what, "WOULD"]);
                for (name, answer) in names.into_iter().zip(answers) {
                    rows.push([name, preview::short(answer.preview())]);
                }
                rows
            })?;
            return Ok(Exit::Done);
        }
        let jobs: Vec<String> = answers.iter().map(|answer| answer.job().into()).collect();
        if self.detach {
            return detached_all(&jobs, out);
        }
        follow_all_but(client, &jobs, excuse, out).await
    }
}
