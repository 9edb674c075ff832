//! Somebody who waits for dumps at the fake controller.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::Stream;
use taf_proto::agent::dump_service_server::DumpService;
use taf_proto::agent::send_dump_request::Message;
use taf_proto::agent::{RestoreDone, SendDumpRequest, SendDumpResponse};
use taf_proto::v1::Fault;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// What came of the newest dump, and how it is taken.
#[derive(Default)]
pub struct Reader {
    pub bytes: Mutex<Vec<u8>>,
    pub frames: watch::Sender<usize>,
    pub last_word: Mutex<Option<Result<RestoreDone, Fault>>>,
    /// Frames after which nothing is taken any more.
    pub stops_after: Mutex<Option<usize>>,
    /// Frames after which the reader goes away.
    pub leaves_after: Mutex<Option<usize>>,
}

impl Reader {
    pub fn clear(&self) {
        self.bytes.lock().unwrap().clear();
        self.frames.send_replace(0);
        *self.last_word.lock().unwrap() = None;
    }
}

pub struct FakeDumps(pub Arc<Reader>);

#[tonic::async_trait]
impl DumpService for FakeDumps {
    type SendDumpStream = Pin<Box<dyn Stream<Item = Result<SendDumpResponse, Status>> + Send>>;

    async fn send_dump(
        &self,
        request: Request<Streaming<SendDumpRequest>>,
    ) -> Result<Response<Self::SendDumpStream>, Status> {
        let reader = Arc::clone(&self.0);
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.unwrap().message.unwrap();
        assert!(matches!(first, Message::Key(_)));
        let (answers, taken) = mpsc::channel(4);
        tokio::spawn(async move {
            let limit = |limit: &Mutex<Option<usize>>| limit.lock().unwrap().unwrap_or(usize::MAX);
            let mut count = 0;
            while let Ok(Some(request)) = incoming.message().await {
                match request.message.unwrap() {
                    Message::Key(key) => panic!("a second key: {key:?}"),
                    Message::Data(data) => {
                        assert!(data.len() <= 256 << 10);
                        if count == limit(&reader.leaves_after) {
                            let gone = Status::not_found("nobody waits any more");
                            drop(answers.send(Err(gone)).await);
                            return;
                        }
                        reader.bytes.lock().unwrap().extend_from_slice(&data);
                        count += 1;
                        reader.frames.send_replace(count);
                        if count <= limit(&reader.stops_after) {
                            let taken_count = count as u64;
                            drop(answers.send(Ok(SendDumpResponse { taken_count })).await);
                        }
                    }
                    Message::Done(done) => {
                        *reader.last_word.lock().unwrap() = Some(Ok(done));
                        return;
                    }
                    Message::Fault(fault) => {
                        *reader.last_word.lock().unwrap() = Some(Err(fault));
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(taken))))
    }
}
