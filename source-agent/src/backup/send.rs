//! Sending: segments in order to the drive's worker, and its answers back.

use taf_format::segment::Sealed;
use taf_proto::agent::{
    SegmentChunk, WriteFinish, WriteRequest, WriteResponse, write_request, write_response,
};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tonic::Streaming;

use super::pack::{self, Totals};
use crate::dial::{Opened, Write};
use crate::fault::{self, Error};
use crate::ordered::Drain;
use crate::progress::Counters;

/// Most bytes of a chunk.
const CHUNK: usize = 1 << 20;

/// A segment, or why there is none.
type Outcome = Result<Sealed, String>;

/// Sends all segments and waits until they are committed.
///
/// # Errors
/// The worker's fault as it is; `PEER_LOST`; what ended the packing.
pub(super) async fn send(
    opened: Opened<Write>,
    sealed: Drain<Outcome>,
    packing: impl Future<Output = Result<Totals, Error>>,
    counters: &Counters,
) -> Result<Totals, Error> {
    let Opened {
        requests,
        mut responses,
    } = opened;
    let mut listening = Box::pin(listen(&mut responses));
    let totals = tokio::select! {
        biased;
        ended = &mut listening => {
            return Err(match ended {
                Err(error) => error,
                Ok(()) => fault::protocol("the tape agent committed an archive that was not finished"),
            });
        }
        totals = feed(&requests, sealed, packing, counters) => totals,
    };
    let totals = match totals {
        Ok(totals) => totals,
        // The connection broke: the other direction knows why.
        Err(None) => {
            drop(requests);
            return Err(listening
                .await
                .err()
                .unwrap_or_else(|| fault::peer_lost("the tape agent closed the transfer")));
        }
        Err(Some(error)) => return Err(error),
    };
    counters.phase("committing");
    listening.await?;
    Ok(totals)
}

/// What came of packing.
pub(super) fn totals(
    packed: Result<Result<Totals, pack::Error>, JoinError>,
) -> Result<Totals, Error> {
    match packed {
        Ok(Ok(totals)) => Ok(totals),
        Ok(Err(pack::Error::Stopped)) => Err(Error::Stopped),
        Ok(Err(pack::Error::Base(error))) => Err(error),
        Ok(Err(pack::Error::Damaged(count))) => Err(fault::fault(
            "DAMAGED",
            format!(
                "{count} files of the version that is copied can't be read back from tape, and a full version without them must not be: nothing is published"
            ),
            "the job's issues name them; try again, in another drive if that may be the cause, or make a full version from the source",
        )),
        Ok(Err(error)) => Err(fault::internal(error.to_string())),
        Err(error) => Err(fault::internal(format!("packing failed: {error}"))),
    }
}

/// Gives everything to the connection. `Err(None)` if it takes no more.
async fn feed(
    requests: &mpsc::Sender<WriteRequest>,
    mut sealed: Drain<Outcome>,
    packing: impl Future<Output = Result<Totals, Error>>,
    counters: &Counters,
) -> Result<Totals, Option<Error>> {
    let put = async |message| {
        let request = WriteRequest {
            message: Some(message),
        };
        requests.send(request).await.map_err(|_| None)
    };
    let mut last = None;
    while let Some(segment) = sealed.next().await {
        let Sealed { header, mut bytes } = segment.map_err(|error| Some(fault::internal(error)))?;
        let length = bytes.len() as u64;
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(CHUNK));
            let end = bytes.is_empty();
            put(write_request::Message::Chunk(SegmentChunk { data, end })).await?;
        }
        Counters::add(&counters.stored, length);
        last = header.last.then_some(header.sequence);
    }
    drop(sealed);
    let totals = packing.await.map_err(Some)?;
    // A compressor thread that died would otherwise end the archive early.
    if last != Some(totals.last_sequence) {
        return Err(Some(fault::internal(
            "the archive's last segment was not compressed",
        )));
    }
    let finish = WriteFinish {
        last_sequence: totals.last_sequence,
    };
    put(write_request::Message::Finish(finish)).await?;
    Ok(totals)
}

/// Hears the worker until it has committed everything.
async fn listen(responses: &mut Streaming<WriteResponse>) -> Result<(), Error> {
    loop {
        match responses.message().await {
            Ok(Some(response)) => match response.message {
                Some(write_response::Message::Committed(_)) => return Ok(()),
                Some(write_response::Message::Fault(fault)) => return Err(Error::Fault(fault)),
                Some(write_response::Message::Durable(durable)) => {
                    tracing::debug!(sequence = durable.sequence, "on tape");
                }
                Some(write_response::Message::Ready(_)) | None => {}
            },
            Ok(None) => {
                return Err(fault::peer_lost(
                    "the tape agent ended the transfer before everything was on tape",
                ));
            }
            Err(status) => {
                let what = "the connection to the tape agent broke";
                return Err(match taf_peer::faults::reason_of(&status) {
                    Some(_) => fault::from_status(&status, "PEER_LOST", what),
                    None => fault::peer_lost(format!("{what}: {}", fault::words(&status))),
                });
            }
        }
    }
}
