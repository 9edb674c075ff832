//! What is to be restored: the parts, then the items, as the controller streams them, or those put off from the pass
//! before.

use std::collections::VecDeque;

use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{
    AssignmentKey, FetchRecallRequest, FetchRecallResponse, RecallItem, fetch_recall_response,
};
use tonic::Streaming;
use tonic::transport::Channel;

use super::parts::Parts;
use crate::fault::{self, Error};

/// Largest message: one segment table, and room.
const MESSAGE_LIMIT: usize = taf_format::limits::TABLE + (1 << 20);

/// Items in their order.
#[derive(Debug)]
pub struct Items {
    waiting: VecDeque<RecallItem>,
    stream: Option<Streaming<FetchRecallResponse>>,
}

fn lost(status: &tonic::Status) -> Error {
    fault::from_status(
        status,
        "CONTROLLER_LOST",
        "the controller did not say what to restore",
    )
}

/// Fetches the parts, and the items as far as they are asked for.
pub async fn fetch(controller: Channel, key: AssignmentKey) -> Result<(Parts, Items), Error> {
    let mut client = CatalogServiceClient::new(controller).max_decoding_message_size(MESSAGE_LIMIT);
    let request = FetchRecallRequest { key: Some(key) };
    let answer = client.fetch_recall(request).await;
    let mut stream = answer.map_err(|status| lost(&status))?.into_inner();
    let mut parts = Parts::default();
    let mut items = Items {
        waiting: VecDeque::new(),
        stream: None,
    };
    while let Some(message) = stream.message().await.map_err(|status| lost(&status))? {
        match message.message {
            Some(fetch_recall_response::Message::Part(part)) => parts.add(&part)?,
            Some(fetch_recall_response::Message::Items(some)) => {
                items.waiting.extend(some.items);
                items.stream = Some(stream);
                break;
            }
            None => {}
        }
    }
    Ok((parts, items))
}

impl Items {
    /// These items and no more.
    pub fn given(items: Vec<RecallItem>) -> Self {
        Self {
            waiting: items.into(),
            stream: None,
        }
    }

    /// The next one.
    pub async fn next(&mut self) -> Result<Option<RecallItem>, Error> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Ok(Some(item));
            }
            let Some(stream) = &mut self.stream else {
                return Ok(None);
            };
            match stream.message().await.map_err(|status| lost(&status))? {
                None => self.stream = None,
                Some(message) => match message.message {
                    Some(fetch_recall_response::Message::Items(some)) => {
                        self.waiting.extend(some.items);
                    }
                    Some(fetch_recall_response::Message::Part(_)) => {
                        return Err(fault::protocol("a part came behind the first item"));
                    }
                    None => {}
                },
            }
        }
    }
}
