//! Dumps under way: bytes from the agent that reads to the person who takes them.
//!
//! They live in memory, at the controller at which somebody waits, a few pieces at a time: whoever reads slowly slows the agent, and
//! through it the drive. Nothing is kept. Whether a dump's job goes on is not decided here; what is known here is who has gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use taf_proto::v1::dump_version_response::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Status};

use crate::services::status;

/// Dumps that one controller has at a time, those that wait for a volume among them.
pub const MOST: usize = 8;
/// Pieces that may wait for a slow reader; the agent has as many under way, and then waits, too.
const AHEAD: usize = 4;
/// Who went away without a word: so long the job is given to say why.
const WHY: Duration = Duration::from_secs(5);

/// What is passed on, or why it ends.
pub type Piece = Result<Message, Status>;

/// The dumps of this controller. Cheap to clone.
#[derive(Clone)]
pub struct Dumps {
    /// By job: where its agent is to put the pieces, until it has taken that.
    waiting: Arc<Mutex<HashMap<i64, mpsc::Sender<Piece>>>>,
    places: Arc<Semaphore>,
}

/// Room for one more dump.
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A dump that somebody waits for; dropping it ends it.
pub struct Awaited {
    dumps: Dumps,
    job: i64,
    pieces: mpsc::Receiver<Piece>,
    /// Says how the job ended.
    over: oneshot::Receiver<Status>,
    /// Cancelled when the last word was passed on.
    said: CancellationToken,
    _gone: DropGuard,
}

/// What whoever looks after the job knows of the reader.
pub struct Reader {
    /// Takes how the job ended.
    pub over: oneshot::Sender<Status>,
    /// The agent's last word, good or bad, was passed on.
    pub said: CancellationToken,
    /// Nobody reads any more.
    pub gone: CancellationToken,
    /// Held while the job is looked after: a reader that has stopped reading keeps it no longer than that.
    pub place: Place,
}

impl Default for Dumps {
    fn default() -> Self {
        Self {
            waiting: Arc::default(),
            places: Arc::new(Semaphore::new(MOST)),
        }
    }
}

impl Dumps {
    /// Room for one more, if there is some.
    pub fn place(&self) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        permit.ok().map(|permit| Place { _permit: permit })
    }

    /// Waits for the dump of a job, which nobody may know of before.
    pub fn wait(&self, place: Place, job: i64) -> (Awaited, Reader) {
        let (sender, pieces) = mpsc::channel(AHEAD);
        let (over, ended) = oneshot::channel();
        let (said, gone) = (CancellationToken::new(), CancellationToken::new());
        self.lock().insert(job, sender);
        let awaited = Awaited {
            dumps: self.clone(),
            job,
            pieces,
            over: ended,
            said: said.clone(),
            _gone: gone.clone().drop_guard(),
        };
        let reader = Reader {
            over,
            said,
            gone,
            place,
        };
        (awaited, reader)
    }

    /// Where the pieces of a job's dump go; none if nobody waits for them, or that is given already.
    pub fn take(&self, job: i64) -> Option<mpsc::Sender<Piece>> {
        self.lock().remove(&job)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, mpsc::Sender<Piece>>> {
        // A map of plain values; whole after every statement.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// What comes next; none at the end.
    pub async fn next(&mut self) -> Option<Piece> {
        if self.said.is_cancelled() {
            return None;
        }
        let piece = tokio::select! {
            // What has come goes first: the job may end while its last pieces wait here.
            biased;
            piece = self.pieces.recv() => match piece {
                Some(piece) => piece,
                None => Err(self.lost().await),
            },
            Ok(status) = &mut self.over => Err(status),
        };
        if !matches!(piece, Ok(Message::Begun(_) | Message::Data(_))) {
            self.said.cancel();
        }
        Some(piece)
    }

    /// Why the agent went away without a last word.
    async fn lost(&mut self) -> Status {
        match tokio::time::timeout(WHY, &mut self.over).await {
            Ok(Ok(status)) => status,
            _ => status::fault(
                Code::Unavailable,
                "AGENT_LOST",
                "the source agent went away before the dump was complete: what came is not whole; dump it again",
            ),
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.dumps.lock().remove(&self.job);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use taf_proto::v1::DumpSummary;

    use super::*;

    fn data(n: u8) -> Message {
        Message::Data(vec![n].into())
    }

    #[tokio::test]
    async fn a_slow_reader_slows_the_agent_and_a_reader_that_goes_ends_it() {
        let dumps = Dumps::default();
        let (mut awaited, reader) = dumps.wait(dumps.place().unwrap(), 7);
        assert!(dumps.take(8).is_none());
        let sender = dumps.take(7).unwrap();
        assert!(dumps.take(7).is_none());
        for n in 0..AHEAD {
            sender.try_send(Ok(data(n as u8))).unwrap();
        }
        assert!(sender.try_send(Ok(data(9))).is_err());
        assert_eq!(awaited.next().await.unwrap().unwrap(), data(0));
        sender.try_send(Ok(data(9))).unwrap();
        drop(awaited);
        assert!(reader.gone.is_cancelled() && !reader.said.is_cancelled());
        assert!(sender.is_closed());
    }

    #[tokio::test]
    async fn what_has_come_goes_before_the_end_of_the_job() {
        let dumps = Dumps::default();
        let (mut awaited, reader) = dumps.wait(dumps.place().unwrap(), 7);
        let sender = dumps.take(7).unwrap();
        sender.try_send(Ok(data(1))).unwrap();
        let last = Message::Summary(DumpSummary::default());
        sender.try_send(Ok(last.clone())).unwrap();
        reader.over.send(Status::aborted("ended")).unwrap();
        assert_eq!(awaited.next().await.unwrap().unwrap(), data(1));
        assert_eq!(awaited.next().await.unwrap().unwrap(), last);
        assert!(awaited.next().await.is_none() && reader.said.is_cancelled());
    }

    #[tokio::test]
    async fn a_dump_that_never_began_ends_with_its_job_and_one_that_broke_says_so() {
        let dumps = Dumps::default();
        let (mut awaited, reader) = dumps.wait(dumps.place().unwrap(), 7);
        reader.over.send(Status::aborted("cancelled")).unwrap();
        let said = awaited.next().await.unwrap().unwrap_err();
        assert_eq!(said.message(), "cancelled");
        assert!(awaited.next().await.is_none());

        let (mut awaited, reader) = dumps.wait(dumps.place().unwrap(), 8);
        drop(dumps.take(8).unwrap());
        reader.over.send(Status::aborted("the job's word")).unwrap();
        let said = awaited.next().await.unwrap().unwrap_err();
        assert_eq!(said.message(), "the job's word");
    }

    #[tokio::test]
    async fn who_stops_reading_has_no_place_any_more_when_the_job_is_over() {
        let dumps = Dumps::default();
        let (stalled, reader) = dumps.wait(dumps.place().unwrap(), 7);
        let others: Vec<_> = (1..MOST).map(|_| dumps.place().unwrap()).collect();
        assert!(dumps.place().is_none());
        drop(reader);
        assert!(dumps.place().is_some());
        drop((stalled, others));
    }

    #[tokio::test]
    async fn only_so_many_are_under_way() {
        let dumps = Dumps::default();
        let places: Vec<_> = (0..MOST).map(|_| dumps.place().unwrap()).collect();
        assert!(dumps.place().is_none());
        drop(places);
        assert!(dumps.place().is_some());
    }
}
