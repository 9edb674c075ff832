//! Why a job failed, for people and for programs.

/// A reason that programs match, what happened, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Stable name in `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// What happened, to what.
    pub message: String,
    /// What to do next.
    pub next_step: String,
}

impl Fault {
    /// A fault from its three parts.
    pub fn new(reason: &str, message: impl Into<String>, next_step: impl Into<String>) -> Fault {
        Fault {
            reason: reason.to_owned(),
            message: message.into(),
            next_step: next_step.into(),
        }
    }
}
