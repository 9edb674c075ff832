//! What the steps came to.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Finding, Problem, Step};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Passed,
    /// It works, but somebody should know.
    Warned,
    /// It does not work.
    Failed,
    /// The device can't do it.
    NotSupported,
    /// It was not asked for, or is not in this version.
    Skipped,
    /// An earlier failure made it senseless.
    NotRun,
}

impl Outcome {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warned => "warning",
            Self::Failed => "FAILED",
            Self::NotSupported => "not supported",
            Self::Skipped => "skipped",
            Self::NotRun => "not run",
        }
    }

    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warned => "warned",
            Self::Failed => "failed",
            Self::NotSupported => "not_supported",
            Self::Skipped => "skipped",
            Self::NotRun => "not_run",
        }
    }
}

/// A step that was reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    /// Its name.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// What was found.
    pub message: String,
    /// Numbers.
    pub measured: Vec<(&'static str, Value)>,
}

impl Stepped {
    pub(super) fn found(step: &Step, took: Duration, finding: Finding) -> Self {
        Self {
            name: step.name,
            outcome: finding.outcome,
            took,
            message: finding.message,
            measured: finding.measured,
        }
    }

    pub(super) fn failed(step: &Step, took: Duration, problem: &Problem) -> Self {
        Self {
            name: step.name,
            outcome: Outcome::Failed,
            took,
            message: problem.to_string(),
            measured: Vec::new(),
        }
    }

    pub(super) fn not_run(step: &Step, why: &str) -> Self {
        Self::without(step, Outcome::NotRun, why)
    }

    pub(super) fn without(step: &Step, outcome: Outcome, why: &str) -> Self {
        Self {
            name: step.name,
            outcome,
            took: Duration::ZERO,
            message: why.to_owned(),
            measured: Vec::new(),
        }
    }

    /// As JSON.
    pub fn document(&self) -> Value {
        let measured: Map<String, Value> = self
            .measured
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        json!({
            "step": self.name, "outcome": self.outcome.name(), "seconds": self.took.as_secs_f64(),
            "message": self.message, "measured": measured,
        })
    }
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// In order.
    pub steps: Vec<Stepped>,
}

impl Report {
    /// How many ended so.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.steps
            .iter()
            .filter(|step| step.outcome == outcome)
            .count()
    }
}
