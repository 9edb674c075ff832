//! Removing what is archived: what a client asks for, and what it would do.

use taf_proto::path;
use taf_proto::v1::{PreviewRemovalResponse, RemovableEntry, RemoveSourcesRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::catalog::removal::{self, COPIES_MOST, Judge};
use crate::store::Store;
use crate::store::versions::Version;

/// Messages that wait for a slow client.
const AHEAD: usize = 4;

/// What would be removed.
pub type Preview = ReceiverStream<Result<PreviewRemovalResponse, Status>>;

/// Refuses a number of copies that nobody can have.
pub fn check_copies(copies: u32) -> Result<(), String> {
    if copies > COPIES_MOST {
        return Err(format!("must be from 1 to {COPIES_MOST}, or 0 for 1"));
    }
    Ok(())
}

/// Streams what a removal would do.
pub async fn preview(store: &Store, version: &Version, copies: u32) -> Result<Preview, Status> {
    let judge = Judge::new(store, version, copies).await?;
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    let (out, preview) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        if let Err(error) = removal::stream(judge, &sender).await {
            // Nobody to tell if the client has gone.
            let _ = sender.send(Err(error.into())).await;
        }
    });
    tokio::spawn(async move {
        while let Some(message) = receiver.recv().await {
            let message = message.map(|message| {
                let directories = message.directories.into_iter();
                let entries = directories.flat_map(|directory| {
                    let above = directory.path;
                    let removals = directory.removals.into_iter();
                    removals.map(move |removal| RemovableEntry {
                        path: Some(path::from_raw(absolute(&above, &removal.name))),
                        size: removal.size,
                        obstacle: removal.obstacle,
                    })
                });
                PreviewRemovalResponse {
                    entries: entries.collect(),
                }
            });
            if out.send(message).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(preview))
}

fn absolute(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = vec![b'/'];
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// A removal that is to follow a run of a plan.
pub fn following(copies: u32, empty_directories: bool) -> RemoveSourcesRequest {
    RemoveSourcesRequest {
        version: String::new(),
        copies,
        empty_directories,
        request_id: String::new(),
    }
}
