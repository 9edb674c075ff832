//! Errors as callers of the API get them: a gRPC status with one `ErrorInfo` (a stable reason in the domain "taf")
//! and what else fits. Everything that becomes a status does so through here.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Domain of every reason.
pub const DOMAIN: &str = "taf";

/// A status with a stable reason. `message` says what happened, to what, and what to do next.
pub fn fault(code: Code, reason: &str, message: impl Into<String>) -> Status {
    fault_with(code, reason, message, &[])
}

/// As [`fault`], with metadata for programs.
pub fn fault_with(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    metadata: &[(&str, &str)],
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, pairs(metadata));
    Status::with_error_details(code, message, details)
}

/// `FAILED_PRECONDITION` because of a fault, with what to do next.
pub fn because(reason: &str, message: impl Into<String>, next_step: &str) -> Status {
    let metadata = [("next_step", next_step)];
    fault_with(Code::FailedPrecondition, reason, message, &metadata)
}

fn pairs(metadata: &[(&str, &str)]) -> HashMap<String, String> {
    metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// `NOT_FOUND`, reason `RESOURCE_NOT_FOUND`, with the resource name.
pub fn not_found(name: &str) -> Status {
    resource(
        Code::NotFound,
        "RESOURCE_NOT_FOUND",
        name,
        format!("there is no {name}"),
    )
}

/// `ALREADY_EXISTS`, reason `RESOURCE_EXISTS`, with the resource name.
pub fn already_exists(name: &str) -> Status {
    resource(
        Code::AlreadyExists,
        "RESOURCE_EXISTS",
        name,
        format!("{name} exists already: choose another id"),
    )
}

fn resource(code: Code, reason: &str, name: &str, message: String) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, pairs(&[("resource", name)]));
    let collection = name.split('/').next().unwrap_or_default();
    details.set_resource_info(format!("taf.v1/{collection}"), name, "", message.clone());
    Status::with_error_details(code, message, details)
}

/// `FAILED_PRECONDITION` with a reason of its own.
pub fn precondition(reason: &str, message: impl Into<String>) -> Status {
    fault(Code::FailedPrecondition, reason, message)
}

/// `ABORTED`, reason `ETAG_MISMATCH`.
pub fn etag_mismatch(name: &str) -> Status {
    fault_with(
        Code::Aborted,
        "ETAG_MISMATCH",
        format!("{name} has changed since it was read: read it again and decide anew"),
        &[("resource", name)],
    )
}

/// `INTERNAL`. The cause goes to the log with a number, the caller gets the number only.
pub fn internal(what: &str, cause: &dyn std::error::Error) -> Status {
    let incident = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(incident, cause = %Chain(cause), "{what}");
    fault_with(
        Code::Internal,
        "INTERNAL",
        format!("{what}: the controller's log has the cause under incident {incident}"),
        &[("incident", &incident)],
    )
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Collects every bad field of a request, so that the caller learns of all at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a bad field. `description` completes the sentence "the field …".
    pub fn add(&mut self, field: impl Into<String>, description: impl std::fmt::Display) {
        self.0
            .push(FieldViolation::new(field, description.to_string()));
    }

    /// Notes the field if its value could not be read, and gives the value if it could.
    pub fn read<T, E: std::fmt::Display>(&mut self, field: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|e| self.add(field, e)).ok()
    }

    /// `INVALID_ARGUMENT`, reason `INVALID_FIELDS`, with all that was noted; nothing if nothing was.
    pub fn check(self) -> Result<(), Status> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.into_status())
        }
    }

    /// As [`Violations::check`] where it is known that something was noted.
    pub fn into_status(self) -> Status {
        let message = self
            .0
            .iter()
            .map(|v| format!("{} {}", v.field, v.description))
            .collect::<Vec<_>>()
            .join("; ");
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_FIELDS", DOMAIN, HashMap::new());
        details.set_bad_request(self.0);
        Status::with_error_details(Code::InvalidArgument, message, details)
    }
}

/// `INVALID_ARGUMENT` for one field.
pub fn invalid(field: &str, description: impl std::fmt::Display) -> Status {
    let mut violations = Violations::new();
    violations.add(field, description);
    violations.into_status()
}

impl From<crate::store::Error> for Status {
    fn from(error: crate::store::Error) -> Self {
        use crate::store::Error;
        match &error {
            Error::Contended | Error::Exists { .. } | Error::Reference { .. } => fault(
                Code::Aborted,
                "CONTENDED",
                "something else changed the same thing meanwhile: try again",
            ),
            Error::Timeout => fault(Code::DeadlineExceeded, "DATABASE_SLOW", error.to_string()),
            _ if error.is_transient() => {
                tracing::warn!("the database does not answer: {error}");
                fault(
                    Code::Unavailable,
                    "DATABASE_UNAVAILABLE",
                    "the controller does not reach its database: try again, and see the controller's log",
                )
            }
            _ => internal("the database failed", &error),
        }
    }
}
