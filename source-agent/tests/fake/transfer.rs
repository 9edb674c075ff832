//! The fake worker of a drive.

use super::*;

pub struct FakeTransfer(pub Arc<Told>);

impl FakeTransfer {
    fn not_ready(&self) -> Result<(), Status> {
        let mut left = self.0.not_ready.lock().unwrap();
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        let none: [(&str, String); 0] = [];
        Err(faults::status(
            Code::Unavailable,
            "NOT_READY",
            "not yet",
            none,
        ))
    }
}

#[tonic::async_trait]
impl TransferService for FakeTransfer {
    type WriteStream = Answers<WriteResponse>;
    type ReadStream = Answers<ReadResponse>;

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        self.not_ready()?;
        let mut incoming = request.into_inner();
        let told = Arc::clone(&self.0);
        let (sender, receiver) = mpsc::channel::<Result<WriteResponse, Status>>(4);
        tokio::spawn(async move {
            let say = async |message| {
                let message = Some(message);
                drop(sender.send(Ok(WriteResponse { message })).await);
            };
            let mut segment = Vec::new();
            let mut chunks = 0;
            while let Ok(Some(request)) = incoming.message().await {
                match request.message.unwrap() {
                    write_request::Message::Open(_) => {
                        let fault = told.open_fault.lock().unwrap().clone();
                        if let Some(fault) = fault {
                            say(write_response::Message::Fault(fault)).await;
                            return;
                        }
                        say(write_response::Message::Ready(WriteReady {})).await;
                    }
                    write_request::Message::Chunk(chunk) => {
                        let hold = told.hold.lock().unwrap().clone();
                        if let Some(mut hold) = hold {
                            drop(hold.wait_for(|held| !held).await);
                        }
                        chunks += 1;
                        let fault = told.write_fault.lock().unwrap().clone();
                        if let Some((after, fault)) = fault
                            && chunks > after
                        {
                            say(write_response::Message::Fault(fault)).await;
                            return;
                        }
                        if told
                            .write_break
                            .lock()
                            .unwrap()
                            .is_some_and(|after| chunks > after)
                        {
                            return;
                        }
                        assert!(chunk.data.len() <= 1 << 20);
                        segment.extend_from_slice(&chunk.data);
                        if chunk.end {
                            let done = std::mem::take(&mut segment);
                            segment::verify(&done).unwrap();
                            told.segments.lock().unwrap().push(done.into());
                        }
                    }
                    write_request::Message::Finish(finish) => {
                        let count = told.segments.lock().unwrap().len() as u64;
                        assert_eq!(finish.last_sequence + 1, count);
                        let durable = WriteDurable {
                            sequence: finish.last_sequence,
                        };
                        say(write_response::Message::Durable(durable)).await;
                        let committed = WriteCommitted { part_count: 1 };
                        say(write_response::Message::Committed(committed)).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn read(
        &self,
        request: Request<Streaming<ReadRequest>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        self.not_ready()?;
        *self.0.reads.lock().unwrap() += 1;
        let mut incoming = request.into_inner();
        let told = Arc::clone(&self.0);
        let (sender, receiver) = mpsc::channel::<Result<ReadResponse, Status>>(4);
        tokio::spawn(async move {
            let say = async |message| {
                let message = Some(message);
                drop(sender.send(Ok(ReadResponse { message })).await);
            };
            let mut behind = 0;
            while let Ok(Some(request)) = incoming.message().await {
                let range = match request.message.unwrap() {
                    read_request::Message::Open(_) => {
                        let recording = *told.recording.lock().unwrap();
                        let recording_uuid = Bytes::copy_from_slice(&recording);
                        say(read_response::Message::Ready(ReadReady { recording_uuid })).await;
                        continue;
                    }
                    read_request::Message::Range(range) => range,
                    read_request::Message::NextVolume(next) if next.recording_uuid.is_empty() => {
                        *told.rested.lock().unwrap() = true;
                        return;
                    }
                    read_request::Message::NextVolume(next) => {
                        panic!("everything is on one volume: {next:?}")
                    }
                };
                assert!(range.byte_offset >= behind, "ranges go forward");
                behind = range.byte_offset + range.length;
                let mut at = range.byte_offset;
                while at < behind {
                    // In pieces that fit nothing.
                    let piece = at..behind.min(at + 300_007);
                    let bad = told.bad.lock().unwrap().clone();
                    let hit = bad
                        .iter()
                        .any(|bad| bad.start < piece.end && piece.start < bad.end);
                    let end = piece.end == behind;
                    let length = piece.end - piece.start;
                    let message = if hit {
                        read_response::Message::Damaged(ReadDamaged {
                            id: range.id,
                            length,
                            reason: "medium error".into(),
                            end,
                        })
                    } else {
                        let tape = told.tape.lock().unwrap();
                        let data =
                            Bytes::copy_from_slice(&tape[piece.start as usize..piece.end as usize]);
                        read_response::Message::Chunk(ReadChunk {
                            id: range.id,
                            data,
                            end,
                        })
                    };
                    say(message).await;
                    at = piece.end;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
