//! The way to the reader: frames, and how many of them are under way. On a connection of its own, so that a slow reader slows
//! nothing else that this agent has to say.

use bytes::{Bytes, BytesMut};
use taf_peer::channel;
use taf_peer::material::Material;
use taf_peer::tls::{Expect, Trust, client_config};
use taf_proto::agent::dump_service_client::DumpServiceClient;
use taf_proto::agent::{
    AssignmentKey, SendDumpRequest, SendDumpResponse, send_dump_request::Message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::config::Config;
use crate::fault::{self, Error, fault};

/// Bytes of a frame.
const FRAME: usize = 256 << 10;
/// Frames that may be under way; the reader's host holds as many again.
const UNDER_WAY: u64 = 4;
/// Frames that wait for their turn.
const WAITING: usize = 2;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What frames are put into, by threads outside the runtime.
#[derive(Debug, Clone)]
pub struct Frames {
    sender: mpsc::Sender<Message>,
    frame: BytesMut,
    count: u64,
}

impl Frames {
    /// Adds bytes; waits while the reader does not take them.
    ///
    /// # Errors
    /// [`Error::Stopped`] when nobody takes them any more.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.count += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = FRAME - self.frame.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.frame.extend_from_slice(now);
            bytes = later;
            if self.frame.len() == FRAME {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Adds so many zeros.
    ///
    /// # Errors
    /// As [`Frames::write`].
    pub fn zeros(&mut self, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            let run = count.min(ZEROS.len() as u64);
            self.write(&ZEROS[..run as usize])?;
            count -= run;
        }
        Ok(())
    }

    /// Bytes so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sends what has gathered.
    ///
    /// # Errors
    /// As [`Frames::write`].
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let frame: Bytes = self.frame.split().freeze();
        self.frame.reserve(FRAME);
        let sent = self.sender.blocking_send(Message::Data(frame));
        sent.map_err(|_| Error::Stopped)
    }

    /// Says the last word, behind all frames.
    ///
    /// # Errors
    /// [`Error::Stopped`] when nobody hears it.
    pub async fn say(&self, word: Message) -> Result<(), Error> {
        self.sender.send(word).await.map_err(|_| Error::Stopped)
    }
}

/// The call, once somebody waits at its other end.
#[derive(Debug)]
pub struct Link {
    frames: mpsc::Receiver<Message>,
    requests: mpsc::Sender<SendDumpRequest>,
    answers: Streaming<SendDumpResponse>,
}

impl Link {
    /// Calls the controller.
    ///
    /// # Errors
    /// `DUMP_NOT_AWAITED`, and what else keeps it from coming about.
    pub async fn open(
        config: &Config,
        own: &Material,
        key: AssignmentKey,
    ) -> Result<(Self, Frames), Error> {
        let trust = Trust::Authority(own.authority().clone());
        let expect = Expect::controller(Some(own.identity().installation));
        let tls = client_config(trust, Some(own), expect)
            .map_err(|error| fault::internal(error.to_string()))?;
        let channel = channel::connect(&config.controller, tls)
            .await
            .map_err(|error| lost(&error.to_string()))?;
        // Room for the key, what may be under way, and the last word: sending never waits.
        let (requests, outgoing) = mpsc::channel(UNDER_WAY as usize + 2);
        let first = requests.try_send(SendDumpRequest {
            message: Some(Message::Key(key)),
        });
        first.map_err(|_| fault::internal("the outbox is full"))?;
        let answers = DumpServiceClient::new(channel)
            .send_dump(ReceiverStream::new(outgoing))
            .await
            .map_err(|status| broken(&status))?
            .into_inner();
        let (sender, frames) = mpsc::channel(WAITING);
        let link = Self {
            frames,
            requests,
            answers,
        };
        let frames = Frames {
            sender,
            frame: BytesMut::with_capacity(FRAME),
            count: 0,
        };
        Ok((link, frames))
    }

    /// Sends frames as they are taken, until the last word was.
    ///
    /// # Errors
    /// Why nobody takes them any more.
    pub async fn run(mut self) -> Result<(), Error> {
        let (mut sent, mut taken) = (0_u64, 0_u64);
        let mut requests = Some(self.requests);
        let mut last_word = false;
        loop {
            let may_send = requests.is_some() && sent.saturating_sub(taken) < UNDER_WAY;
            tokio::select! {
                answer = self.answers.message() => match answer {
                    Ok(Some(answer)) => taken = answer.taken_count,
                    Ok(None) if last_word => return Ok(()),
                    Ok(None) => return Err(lost("it ended the call")),
                    Err(status) => return Err(broken(&status)),
                },
                frame = self.frames.recv(), if may_send => {
                    let Some(message) = frame else {
                        // Half-closed: the controller sees that no more comes.
                        requests = None;
                        continue;
                    };
                    match &message {
                        Message::Data(_) => sent += 1,
                        _ => last_word = true,
                    }
                    if let Some(requests) = &requests {
                        let message = Some(message);
                        // A call that has ended says so by its answers.
                        let _ = requests.send(SendDumpRequest { message }).await;
                    }
                }
            }
        }
    }
}

fn broken(status: &Status) -> Error {
    if taf_peer::faults::reason_of(status).is_none() {
        return lost(&fault::words(status));
    }
    fault::from_status(
        status,
        "DUMP_LOST",
        "the controller takes no more of the dump",
    )
}

fn lost(why: &str) -> Error {
    fault(
        "DUMP_LOST",
        format!("the connection to the controller that passes the dump on broke: {why}"),
        "dump it again; what was sent can't be gone on with",
    )
}
