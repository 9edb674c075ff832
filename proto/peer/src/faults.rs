//! Errors over the wire: every one carries a stable reason and its parameters, so that programs branch on the
//! reason and clients translate it, whatever the message says.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of our reasons.
pub const DOMAIN: &str = "taf";

/// A status with an `ErrorInfo`. `reason` is upper case with underscores and never changes its meaning.
pub fn status<'a>(
    code: Code,
    reason: &'static str,
    message: impl Into<String>,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
) -> Status {
    let metadata: HashMap<String, String> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

/// Reason and parameters of a status of ours.
pub fn reason_of(status: &Status) -> Option<(String, HashMap<String, String>)> {
    let info = status.get_details_error_info()?;
    (info.domain == DOMAIN).then_some((info.reason, info.metadata))
}

/// Whether the same call may go through later: the other side is away, overloaded, or restarting. A reason of its own makes a
/// status an answer; without one, codes that the transport makes up when a connection breaks say nothing about the call.
pub fn is_passing(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => true,
        Code::Unknown | Code::Cancelled | Code::Internal => reason_of(status).is_none(),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_the_status() {
        let status = status(
            Code::FailedPrecondition,
            "NO_FREE_VOLUME",
            "no free volume in pool daily: label one",
            [("pool", "daily".to_owned())],
        );
        let (reason, metadata) = reason_of(&status).unwrap();
        assert_eq!(reason, "NO_FREE_VOLUME");
        assert_eq!(metadata["pool"], "daily");
        assert!(reason_of(&Status::internal("x")).is_none());
    }

    #[test]
    fn a_broken_connection_passes_and_an_answer_does_not() {
        assert!(is_passing(&Status::unavailable("down")));
        assert!(is_passing(&Status::unknown("transport error")));
        assert!(!is_passing(&status(Code::Internal, "CORRUPT", "x", [])));
        assert!(!is_passing(&Status::not_found("x")));
    }
}
