//! What went wrong with single files, on its way to the controller: numbered, in batches, sent until it has them.
//!
//! The channel is bounded: with the controller away and thousands of issues waiting, the job waits too, for an issue
//! that is lost is a file that is missing in silence.

use std::sync::Arc;
use std::time::Duration;

use taf_peer::backoff::Backoff;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{AssignmentKey, ReportIssuesRequest};
use taf_proto::{path, v1};
use taf_tree::{IssueKind, WarningKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use crate::fault;
use crate::progress::{Counters, absolute};

/// Issues that may wait.
const WAITING: usize = 8192;
/// Issues of one call.
const BATCH: usize = 1000;
/// Bytes of one call.
const BATCH_BYTES: usize = 1 << 20;
/// An issue waits at most this long for others to go with it.
const LINGER: Duration = Duration::from_secs(1);

/// Where the threads of a job put issues; cheap to clone.
#[derive(Debug, Clone)]
pub struct Issues {
    sender: mpsc::Sender<v1::Issue>,
    counters: Arc<Counters>,
    above: Arc<[u8]>,
}

/// The other end: the issues of a job in their order.
pub type Queue = mpsc::Receiver<v1::Issue>;

/// The two ends. Paths are made absolute below `above`.
pub fn queue(counters: Arc<Counters>, above: &[u8]) -> (Issues, Queue) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let issues = Issues {
        sender,
        counters,
        above: above.into(),
    };
    (issues, receiver)
}

impl Issues {
    fn issue(&self, path: &[u8], reason: &str, message: String) -> v1::Issue {
        Counters::add(&self.counters.issues, 1);
        self.counters.reason(reason, 1);
        v1::Issue {
            path: Some(path::from_raw(absolute(&self.above, path))),
            reason: reason.to_owned(),
            message,
        }
    }

    /// Adds an issue with a raw relative path; waits while too many do.
    pub async fn put(&self, path: &[u8], reason: &str, message: impl Into<String>) {
        // Without a receiver the job is ending anyway.
        drop(
            self.sender
                .send(self.issue(path, reason, message.into()))
                .await,
        );
    }

    /// As [`Issues::put`], for threads outside the runtime.
    pub fn put_blocking(&self, path: &[u8], reason: &str, message: impl Into<String>) {
        drop(
            self.sender
                .blocking_send(self.issue(path, reason, message.into())),
        );
    }
}

/// The stable name of what went wrong while reading.
pub fn reason(kind: IssueKind) -> &'static str {
    match kind {
        IssueKind::Unreadable => "UNREADABLE",
        IssueKind::Vanished => "VANISHED",
        IssueKind::Changed => "CHANGED",
        IssueKind::Shrunk => "SHRUNK",
        IssueKind::Grown => "GROWN",
        IssueKind::ReadError => "READ_ERROR",
        IssueKind::Unsupported => "UNSUPPORTED",
        IssueKind::UnreadableDirectory => "UNREADABLE_DIRECTORY",
        IssueKind::XattrUnreadable => "XATTR_UNREADABLE",
    }
}

/// The stable name of what a target could not hold.
pub fn warning_reason(kind: WarningKind) -> &'static str {
    match kind {
        WarningKind::OwnerNotPermitted => "OWNER_NOT_PERMITTED",
        WarningKind::ModeNotPermitted => "MODE_NOT_PERMITTED",
        WarningKind::XattrUnsupported => "XATTR_UNSUPPORTED",
        WarningKind::XattrNotPermitted => "XATTR_NOT_PERMITTED",
        WarningKind::DeviceNotPermitted => "DEVICE_NOT_PERMITTED",
        WarningKind::TimeRange => "TIME_RANGE",
        WarningKind::TimeNotSet => "TIME_NOT_SET",
    }
}

/// Sends issues until all [`Issues`] are dropped and everything has arrived, or `stop`.
pub async fn report(
    mut queue: Queue,
    key: AssignmentKey,
    controller: Channel,
    stop: CancellationToken,
) {
    let mut client = CatalogServiceClient::new(controller);
    let mut next_number = 1;
    while let Some(first) = queue.recv().await {
        let mut bytes = size(&first);
        let mut issues = vec![first];
        let full = tokio::time::sleep(LINGER);
        tokio::pin!(full);
        while issues.len() < BATCH && bytes < BATCH_BYTES {
            tokio::select! {
                issue = queue.recv() => match issue {
                    Some(issue) => {
                        bytes += size(&issue);
                        issues.push(issue);
                    }
                    None => break,
                },
                () = &mut full => break,
            }
        }
        let count = issues.len() as u64;
        let request = ReportIssuesRequest {
            key: Some(key),
            first_number: next_number,
            issues,
        };
        if stop
            .run_until_cancelled(send(&mut client, request))
            .await
            .is_none()
        {
            return;
        }
        next_number += count;
    }
}

fn size(issue: &v1::Issue) -> usize {
    let path = issue.path.as_ref();
    path.map_or(0, |path| path.raw.len() + path.display.len()) + issue.message.len() + 64
}

/// Tries until the controller has them, or says that it doesn't want them.
async fn send(client: &mut CatalogServiceClient<Channel>, request: ReportIssuesRequest) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let Err(status) = client.report_issues(request.clone()).await else {
            return;
        };
        let refused = matches!(
            status.code(),
            Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::Unimplemented
                | Code::NotFound
                | Code::Aborted
        );
        let reason = fault::words(&status);
        if refused {
            tracing::error!(count = request.issues.len(), %reason, "the controller refuses issues");
            return;
        }
        tracing::warn!(%reason, "issues are not reported yet");
        tokio::time::sleep(backoff.next()).await;
    }
}
