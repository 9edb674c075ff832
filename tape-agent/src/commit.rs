//! Telling the controller: parts, orphans, volumes. Goes on until the controller has it or refuses it for good.

use std::time::Duration;

use bytes::Bytes;
use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_proto::agent::{
    AssignmentKey, CommitPartRequest, PartTrailer, ReportOrphanRequest, ReportVolumeRequest,
    commit_part_request::Message, report_volume_request::Verdict,
};
use taf_proto::v1::Fault;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::controller::Link;
use crate::fault::fault;
use crate::journal::Entry;

/// Bytes of records in a message.
const PIECE: usize = 1 << 20;
/// Between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Delivers a part. Returns when the controller has it, or says why it never will.
pub async fn deliver(link: &Link, entry: &Entry) -> Result<(), Fault> {
    let number = entry.header.part_number;
    let what = format!("committing part {number}");
    let outcome = persist(&what, || send(link, entry)).await;
    let kept = match &outcome {
        Ok(()) => entry.delivered(),
        Err(_) => entry.refused(),
    };
    if let Err(error) = kept {
        tracing::error!(part = number, %error, "the journal could not be brought up to date; the part is delivered again at the next start");
    }
    outcome
}

async fn send(link: &Link, entry: &Entry) -> Result<(), Status> {
    let (sender, receiver) = mpsc::channel(4);
    let entry = entry.clone();
    let feeding = tokio::spawn(async move {
        if let Err(error) = feed(&entry, &sender).await {
            tracing::error!(file = %entry.records.display(), %error, "the records of a part can't be read");
        }
    });
    let answer = link
        .catalog()
        .commit_part(ReceiverStream::new(receiver))
        .await;
    feeding.abort();
    answer.map(|_| ())
}

async fn feed(entry: &Entry, sender: &mpsc::Sender<CommitPartRequest>) -> std::io::Result<()> {
    let request = |message| CommitPartRequest {
        message: Some(message),
    };
    // Errors of sending mean that the call has ended, which its answer says.
    let _ = sender
        .send(request(Message::Header(entry.header.clone())))
        .await;
    let mut file = tokio::fs::File::open(&entry.records).await?;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let length = (&mut file)
            .take(PIECE as u64)
            .read_to_end(&mut piece)
            .await?;
        if length == 0 {
            break;
        }
        if sender
            .send(request(Message::Records(piece.into())))
            .await
            .is_err()
        {
            return Ok(());
        }
    }
    let digest = Bytes::copy_from_slice(&entry.digest);
    let _ = sender
        .send(request(Message::Trailer(PartTrailer { digest })))
        .await;
    Ok(())
}

/// Reports orphans, in order.
pub async fn orphans(
    link: &Link,
    key: AssignmentKey,
    orphans: Vec<ReportOrphanRequest>,
) -> Result<(), Fault> {
    for orphan in orphans {
        let request = ReportOrphanRequest {
            key: Some(key),
            ..orphan
        };
        tracing::warn!(
            tape_file = request.tape_file,
            reason = request.reason,
            "orphan on tape"
        );
        persist("reporting an orphan", || async {
            link.catalog()
                .report_orphan(request.clone())
                .await
                .map(|_| ())
        })
        .await?;
    }
    Ok(())
}

/// Takes a volume out of use.
pub async fn volume(
    link: &Link,
    key: AssignmentKey,
    recording_uuid: &Bytes,
    verdict: Verdict,
    reason: &str,
) -> Result<(), Fault> {
    let request = ReportVolumeRequest {
        key: Some(key),
        recording_uuid: recording_uuid.clone(),
        verdict: verdict.into(),
        reason: reason.to_owned(),
    };
    persist("reporting a volume", || async {
        link.catalog()
            .report_volume(request.clone())
            .await
            .map(|_| ())
    })
    .await
}

/// Tries until it is done, or refused for good.
pub(crate) async fn persist<F, Answer>(what: &str, call: F) -> Result<(), Fault>
where
    F: Fn() -> Answer,
    Answer: Future<Output = Result<(), Status>>,
{
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut said = false;
    loop {
        let status = match call().await {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        let reason = faults::reason_of(&status).map(|(reason, _)| reason);
        let contended = status.code() == Code::Aborted && reason.as_deref() == Some("CONTENDED");
        if !contended && !faults::is_passing(&status) {
            let reason = reason.unwrap_or_else(|| "COMMIT_REFUSED".to_owned());
            return Err(fault(
                &reason,
                format!("{what}: {}", status.message()),
                "the controller's log says more",
            ));
        }
        if !said {
            tracing::warn!(
                reason = status.message(),
                "{what} has to wait for the controller"
            );
            said = true;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
