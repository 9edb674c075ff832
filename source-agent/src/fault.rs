//! Why a job ends without its result: a fault that the controller shows to people, or a stop that it asked for.

use taf_peer::{channel, faults};
use taf_proto::v1::Fault;
use tonic::Status;

/// Why a job ends.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Something is wrong; people are told.
    #[error("{}: {}", .0.reason, .0.message)]
    Fault(Fault),
    /// The assignment is gone, or this process ends.
    #[error("the job was stopped")]
    Stopped,
}

impl Error {
    /// As the result of an assignment carries it.
    pub fn into_fault(self) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Stopped => Fault {
                reason: "STOPPED".into(),
                message: "the job was stopped before it was done".into(),
                next_step: String::new(),
            },
        }
    }
}

/// A fault. `reason` never changes its meaning; `next_step` may be empty.
pub fn fault(reason: &str, message: impl Into<String>, next_step: impl Into<String>) -> Error {
    Error::Fault(Fault {
        reason: reason.into(),
        message: message.into(),
        next_step: next_step.into(),
    })
}

/// The controller or a worker said something that makes no sense.
pub fn protocol(message: impl Into<String>) -> Error {
    fault(
        "PROTOCOL",
        message,
        "see that controller and agents have the same version",
    )
}

/// Something that cannot happen did, or this host has run out of something.
pub fn internal(message: impl Into<String>) -> Error {
    fault(
        "INTERNAL",
        message,
        "see the log of the source agent on this host",
    )
}

/// The connection to the drive's host broke.
pub fn peer_lost(message: impl Into<String>) -> Error {
    fault(
        "PEER_LOST",
        message,
        "see that the tape agent runs and can be reached from this host; what is committed stays",
    )
}

/// A status for people: its message, and what lies behind it if that is the connection.
pub fn words(status: &Status) -> String {
    channel::cause(status).map_or_else(
        || {
            if status.message().is_empty() {
                format!("{}", status.code())
            } else {
                status.message().to_owned()
            }
        },
        |cause| cause.to_string(),
    )
}

/// The fault that a peer's status means: its own reason where it has one, else `otherwise`.
pub fn from_status(status: &Status, otherwise: &str, what: &str) -> Error {
    let reason = faults::reason_of(status).map(|(reason, _)| reason);
    fault(
        reason.as_deref().unwrap_or(otherwise),
        format!("{what}: {}", words(status)),
        "",
    )
}
