//! Takes what is on a volume to the controller in the order of the tape, whoever wrote it.
//!
//! The catalog moves a volume's end behind each tape file, part or orphan, and takes none that does not begin there. So one task
//! delivers for all who write on the volume. A part that is refused concerns its archive alone, and for that one's sake the
//! catalog may not have moved; before anything of another archive comes it is told as an orphan, which is no more than what it is.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use taf_proto::agent::{
    AssignmentKey, PartHeader, ReportOrphanRequest, WriteDurable, write_response,
};
use taf_proto::v1::Fault;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::commit;
use crate::controller::Link;
use crate::gauge::Gauge;
use crate::journal::Entry;
use crate::transfer::{Answers, say};

/// What waits behind the one that is being delivered. With the one that the drive's thread then holds in its hand, three parts at
/// most are on tape and not with the controller.
const WAITING: usize = 1;

/// Where one assignment's parts are booked.
pub struct Book {
    key: AssignmentKey,
    answers: Answers,
    gauge: Gauge,
    refused: CancellationToken,
    fault: Mutex<Option<Fault>>,
}

impl Book {
    /// Nothing is in it yet.
    pub fn new(key: AssignmentKey, answers: Answers, gauge: Gauge) -> Arc<Book> {
        Arc::new(Book {
            key,
            answers,
            gauge,
            refused: CancellationToken::new(),
            fault: Mutex::default(),
        })
    }

    /// Cancelled when the controller has refused something: nothing more of this archive is worth its tape.
    pub fn refused(&self) -> &CancellationToken {
        &self.refused
    }

    /// The first refusal.
    pub fn fault(&self) -> Option<Fault> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone()
    }

    fn refuse(&self, fault: Fault) {
        let mut first = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(fault);
        drop(first);
        self.refused.cancel();
    }
}

enum Item {
    Part(Box<Entry>, Arc<Book>),
    Orphan(ReportOrphanRequest, Arc<Book>),
    Settled(oneshot::Sender<()>),
}

/// The ledger of a volume. It delivers what it has when it is dropped.
pub struct Ledger(mpsc::Sender<Item>);

impl Ledger {
    /// Begins to deliver.
    pub fn open(link: Link) -> Ledger {
        let (items, incoming) = mpsc::channel(WAITING);
        tokio::spawn(keep(link, incoming));
        Ledger(items)
    }

    /// A part that is on tape. Waits while too many are on their way. Call it where the tape is written, in its order, on a thread
    /// that may block.
    pub fn part_blocking(&self, entry: Entry, book: &Arc<Book>) {
        // The task lives as long as this.
        let _ = self
            .0
            .blocking_send(Item::Part(Box::new(entry), Arc::clone(book)));
    }

    /// The same of a tape file that nobody owns.
    pub fn orphan_blocking(&self, orphan: ReportOrphanRequest, book: &Arc<Book>) {
        let _ = self.0.blocking_send(Item::Orphan(orphan, Arc::clone(book)));
    }

    /// Waits until the controller has all that was put in so far, or has refused it.
    pub async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        if self.0.send(Item::Settled(done)).await.is_ok() {
            let _ = settled.await;
        }
    }
}

/// A part that the controller did not take.
struct Doubtful {
    archive: Bytes,
    orphan: ReportOrphanRequest,
    book: Arc<Book>,
}

impl Doubtful {
    fn of(header: &PartHeader, fault: &Fault, book: &Arc<Book>) -> Doubtful {
        Doubtful {
            archive: header.archive_uuid.clone(),
            orphan: ReportOrphanRequest {
                key: None,
                recording_uuid: header.recording_uuid.clone(),
                tape_file: header.tape_file,
                first_block: header.first_block,
                next_tape_file: header.next_tape_file,
                next_block: header.next_block,
                reason: format!("part {} was refused: {}", header.part_number, fault.reason),
            },
            book: Arc::clone(book),
        }
    }

    async fn tell(self, link: &Link) {
        let told = commit::orphans(link, self.book.key, vec![self.orphan]).await;
        if let Err(fault) = told {
            tracing::warn!(
                reason = fault.reason,
                message = fault.message,
                "the controller does not take a report"
            );
        }
    }
}

async fn keep(link: Link, mut incoming: mpsc::Receiver<Item>) {
    let mut doubtful: Vec<Doubtful> = Vec::new();
    while let Some(item) = incoming.recv().await {
        let of = match &item {
            Item::Part(entry, _) => Some(&entry.header.archive_uuid),
            Item::Orphan(..) | Item::Settled(_) => None,
        };
        let of_other = of.is_some_and(|of| doubtful.iter().any(|d| d.archive != of));
        if of_other {
            for doubtful in doubtful.drain(..) {
                doubtful.tell(&link).await;
            }
        }
        match item {
            Item::Part(entry, book) => match commit::deliver(&link, &entry).await {
                Ok(()) => {
                    book.gauge.committed(entry.header.byte_count);
                    let durable = write_response::Message::Durable(WriteDurable {
                        sequence: entry.header.last_sequence,
                    });
                    // The next one says more; the last word is not sent this way.
                    let _ = book.answers.try_send(Ok(say(durable)));
                }
                Err(fault) => {
                    doubtful.push(Doubtful::of(&entry.header, &fault, &book));
                    book.refuse(fault);
                }
            },
            Item::Orphan(orphan, book) => {
                if let Err(fault) = commit::orphans(&link, book.key, vec![orphan]).await {
                    book.refuse(fault);
                }
            }
            Item::Settled(done) => {
                let _ = done.send(());
            }
        }
    }
}
