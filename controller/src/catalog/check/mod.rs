//! Proves that the catalog holds together: every listing came with a part that is there, can be read, and names places that are in
//! parts; every version is noted to need just the parts that it does; nothing is left of what is gone.
//!
//! All is read in one transaction, of one moment, so that runs under way are no findings; in batches, so that memory does not grow
//! with the catalog. Of each kind of finding the first places are named and all are counted. What is right by other rows can be
//! put right; what is not is only told.

mod line;
mod repair;

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio_postgres::IsolationLevel;

use super::Error;
use crate::store::checks::{self, CHECKS, Line};
use crate::store::{Store, Transaction};

use repair::Repair;

/// Most places that are named of one kind.
const NAMED: usize = 10;
/// Most single repairs of one run: what is left is found by the next.
const REPAIRS: usize = 10_000;

/// What is told while it goes on.
#[derive(Debug, Clone)]
pub enum Told {
    /// How far it is.
    Progress {
        /// What is looked at, for people.
        step: String,
        /// Steps that are done, and all.
        steps: (u64, u64),
        /// Listings that were read.
        rows: u64,
    },
    /// Something that must not be.
    Finding(Finding),
    /// The end.
    Summary(Summary),
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind, stable.
    pub kind: &'static str,
    /// Where.
    pub subject: String,
    /// What, for people.
    pub message: String,
    /// Whether it can be put right.
    pub repairable: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Findings by kind.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Listings that were read.
    pub rows: u64,
    /// Rows that were put right.
    pub repaired: u64,
}

/// What was found so far.
struct Report<'a> {
    told: &'a mpsc::Sender<Told>,
    summary: Summary,
    repairs: Vec<Repair>,
    steps: (u64, u64),
}

impl Report<'_> {
    /// Who has gone does not want to know any more.
    async fn tell(&self, told: Told) -> Result<(), Error> {
        let gone = |_| Error::Stream(tonic::Status::cancelled("nobody listens any more"));
        self.told.send(told).await.map_err(gone)
    }

    async fn step(&mut self, what: &str) -> Result<(), Error> {
        self.progress(what).await?;
        self.steps.0 += 1;
        Ok(())
    }

    async fn progress(&self, what: &str) -> Result<(), Error> {
        let (step, steps, rows) = (what.to_owned(), self.steps, self.summary.rows);
        self.tell(Told::Progress { step, steps, rows }).await
    }

    /// Counts a finding, and names it if it is one of the first of its kind.
    async fn found(&mut self, finding: Finding, repair: Option<Repair>) -> Result<(), Error> {
        let count = self.summary.kinds.entry(finding.kind).or_default();
        *count += 1;
        let named = *count <= NAMED as u64;
        if let Some(repair) = repair.filter(|_| self.repairs.len() < REPAIRS) {
            self.repairs.push(repair);
        }
        if named {
            self.tell(Told::Finding(finding)).await?;
        }
        Ok(())
    }
}

/// Checks everything, and with `repair` puts right what follows from the rest. Tells as it goes; the summary comes last.
pub async fn check(
    store: &Store,
    repair: bool,
    told: &mpsc::Sender<Told>,
) -> Result<Summary, Error> {
    let mut client = store.client().await?;
    let mut report = Report {
        told,
        summary: Summary::default(),
        repairs: Vec::new(),
        steps: (0, 0),
    };
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let lines = checks::line_list_checked(&snapshot).await?;
    report.steps.1 = (CHECKS.len() + lines.len()) as u64;
    tables(&snapshot, &mut report).await?;
    for Line { id, going } in lines {
        report.step(&format!("listings of lines/{id}")).await?;
        line::check(&snapshot, id, going, &mut report).await?;
    }
    snapshot.commit().await?;
    if repair {
        report.progress("repairing").await?;
        report.summary.repaired = repair::all(&mut client, &report.repairs).await?;
    }
    let summary = report.summary;
    let _ = told.send(Told::Summary(summary.clone())).await;
    Ok(summary)
}

/// What must hold between tables.
async fn tables(tx: &Transaction<'_>, report: &mut Report<'_>) -> Result<(), Error> {
    for check in CHECKS {
        report
            .step(&check.kind.to_ascii_lowercase().replace('_', " "))
            .await?;
        let (count, named) = checks::check_run(tx, check).await?;
        if count == 0 {
            continue;
        }
        report.summary.kinds.insert(check.kind, count);
        report.repairs.extend(check.repair.map(Repair::Table));
        for subject in named {
            let finding = Finding {
                kind: check.kind,
                subject,
                message: check.says.to_owned(),
                repairable: check.repair.is_some(),
            };
            report.tell(Told::Finding(finding)).await?;
        }
    }
    Ok(())
}
