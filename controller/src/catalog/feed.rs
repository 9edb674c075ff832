//! The pages of a version for who copies it: all of them, as they are stored, in the order of the walk.

use taf_proto::agent::{BasePage, FetchPagesResponse};
use tokio::sync::mpsc;
use tonic::Status;

use super::walk::Walk;
use super::{Error, View};

/// Bytes of pages at which a message is full.
const MESSAGE: usize = 1 << 20;

/// Sends the pages. Waits while the receiver is slow; ends early when it is gone.
pub async fn stream(
    view: &View,
    sender: &mpsc::Sender<Result<FetchPagesResponse, Status>>,
) -> Result<(), Error> {
    let mut walk = Walk::below(view, b"");
    let (mut pages, mut bytes) = (Vec::new(), 0);
    while let Some((row, _)) = walk.next_row().await? {
        let length = row.chunk.len() + row.body.len() + row.hashes.len();
        if !pages.is_empty() && bytes + length > MESSAGE {
            let full = std::mem::take(&mut pages);
            if sender
                .send(Ok(FetchPagesResponse { pages: full }))
                .await
                .is_err()
            {
                return Ok(());
            }
            bytes = 0;
        }
        bytes += length;
        pages.push(BasePage {
            chunk: row.chunk.into(),
            body: row.body.into(),
            hashes: row.hashes.into(),
        });
    }
    // Who has gone needs no more.
    let _ = sender.send(Ok(FetchPagesResponse { pages })).await;
    Ok(())
}
