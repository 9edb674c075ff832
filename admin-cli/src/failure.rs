//! Why a command did not do what it should: a stable reason for programs, what happened for people, and what to do
//! next. Every error of the libraries becomes one of these at the edge, and is told once, on standard error.

use std::collections::HashMap;
use std::io;
use std::process::ExitCode;

use serde_json::json;
use taf_peer::channel;
use taf_peer::tls::Refusal;
use tonic::{Code, Status};

use crate::human::clean;
use crate::next_step;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Not done.
    Failed,
    /// Asked wrongly; nothing was tried.
    Usage,
    /// Done, but some files are left out or doubtful.
    Issues,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Issues => 3,
        })
    }
}

/// The reader of our standard output is gone, as `head` is when it has enough: nothing to tell anybody.
const READER_GONE: &str = "READER_GONE";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({reason})")]
pub struct Failure {
    /// Stable name in `UPPER_SNAKE_CASE`.
    pub reason: String,
    /// What happened, to what.
    pub message: String,
    /// What to do next.
    pub next_step: String,
    /// Failed or asked wrongly.
    pub usage: bool,
}

impl Failure {
    /// Something failed.
    pub fn new(
        reason: impl Into<String>,
        message: impl Into<String>,
        next_step: impl Into<String>,
    ) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
            next_step: next_step.into(),
            usage: false,
        }
    }

    /// Something was asked that can't be asked so.
    pub fn usage(message: impl Into<String>, next_step: impl Into<String>) -> Self {
        Self {
            usage: true,
            ..Self::new("USAGE", message, next_step)
        }
    }

    /// Writing to standard output failed.
    pub fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(READER_GONE, "", "");
        }
        Self::new(
            "OUTPUT_FAILED",
            format!("standard output can't be written: {error}"),
            "see where it leads to, as a full disk",
        )
    }

    /// Tells it on standard error and says how the program ends.
    pub fn tell(&self, json: bool) -> Exit {
        if self.reason == READER_GONE {
            return Exit::Done;
        }
        let (message, next_step) = (clean(&self.message), clean(&self.next_step));
        if json {
            let error = json!({"error": {
                "reason": self.reason, "message": message, "next_step": next_step,
            }});
            eprintln!("{error}");
        } else {
            eprintln!("error: {message} ({})", self.reason);
            if !next_step.is_empty() {
                eprintln!("next: {next_step}");
            }
        }
        if self.usage {
            Exit::Usage
        } else {
            Exit::Failed
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(cause) = channel::cause(&status) {
            return cause.into();
        }
        let (reason, metadata) = taf_peer::faults::reason_of(&status)
            .unwrap_or_else(|| (code_name(status.code()).to_owned(), HashMap::new()));
        let next_step = match metadata.get("next_step") {
            Some(next_step) => next_step.clone(),
            None => next_step::of(&reason, status.code(), metadata.get("resource")),
        };
        let message = match status.message() {
            "" => format!("the controller answers {}", status.code()),
            message => message.to_owned(),
        };
        Self::new(reason, message, next_step)
    }
}

impl From<channel::Error> for Failure {
    fn from(error: channel::Error) -> Self {
        use channel::Error as E;
        let message = error.to_string();
        match error {
            E::Address { address } => Self::usage(
                format!("\"{address}\" is not an address"),
                "give HOST:PORT or [IPv6]:PORT, as in backup.example.org:8710",
            ),
            E::NobodyThere { address } => Self::new(
                "CONTROLLER_UNREACHABLE",
                format!("nothing listens at {address}"),
                "start the controller there (taf-controller run), or name another: taf login --server HOST:PORT --user NAME",
            ),
            E::Unreachable { address, source } => Self::new(
                "CONTROLLER_UNREACHABLE",
                format!("{address} can't be reached: {source}"),
                "check name, network and firewall; taf login --server HOST:PORT names another controller",
            ),
            E::Timeout { .. } => Self::new(
                "CONTROLLER_UNREACHABLE",
                message,
                "check name, network and firewall; taf login --server HOST:PORT names another controller",
            ),
            E::Refused { address, refusal } => refused(&address, &refusal),
            E::Unix { path, source } => Self::new(
                "CONTROLLER_UNREACHABLE",
                format!("nothing answers at the socket {}: {source}", path.display()),
                "start the controller on this host, or give its socket: --socket HOME/controller.sock",
            ),
            E::RefusedByPeer { .. } | E::Handshake { .. } | E::Http { .. } => Self::new(
                "CONNECTION_FAILED",
                message,
                "check that this is the port of a TAF controller",
            ),
        }
    }
}

/// Who answers is not whom the sign-in trusts.
fn refused(address: &str, refusal: &Refusal) -> Failure {
    match refusal {
        Refusal::Authority | Refusal::Fingerprint => Failure::new(
            "WRONG_AUTHORITY",
            format!(
                "the controller at {address} is not of the installation that this sign-in trusts: its certificate is from another authority; nothing was sent to it"
            ),
            "check the address; if the installation is new, copy authority.pem from its controller and run taf login --server HOST:PORT --authority FILE --user NAME",
        ),
        Refusal::Expired => Failure::new(
            "CERTIFICATE_EXPIRED",
            format!("the certificate of {address} is expired or not valid yet"),
            "check the clocks of both hosts, then start the controller again",
        ),
        other => Failure::new(
            "WRONG_PEER",
            format!("who answers at {address} is refused: {other}"),
            "check that this is the address of the controller",
        ),
    }
}

/// A code's name as gRPC writes it, for statuses that bear no reason of ours.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
