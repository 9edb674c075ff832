//! The passes over the tape that a turn takes, each forward. Mostly it is one: a second brings what the first met too late.
//!
//! What is still to be restored is known at every moment that the tape may fail: another stream goes on from there.

use std::collections::HashSet;
use std::sync::Arc;

use taf_proto::agent::RecallItem;
use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use super::pass;
use super::plan::{Left, Needs};
use super::recall::Items;
use super::tape::Tape;
use super::write::Writer;
use crate::fault::{self, Error};
use crate::progress::Counters;

/// What is still to be restored.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Items that nobody has planned yet.
    pub items: Items,
    /// Items that have to wait for another pass.
    late: Vec<RecallItem>,
    /// Places of files with several names that were met.
    linked: HashSet<(u32, u64)>,
    /// Whether there are no more items.
    exhausted: bool,
}

impl Rest {
    /// All of these.
    pub fn of(items: Items) -> Self {
        Self {
            items,
            late: Vec::new(),
            linked: HashSet::new(),
            exhausted: false,
        }
    }
}

/// Why a turn was not done.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Nobody could go on with it.
    Here(Error),
    /// It was the tape: somebody else may do the rest.
    Tape(Error),
}

impl Broken {
    /// What happened.
    pub fn error(self) -> Error {
        match self {
            Self::Here(error) | Self::Tape(error) => error,
        }
    }
}

/// What passes go over.
pub(crate) struct Passes<'a, 'b> {
    /// The drive.
    pub tape: &'a mut Tape<'b>,
    /// What is where.
    pub parts: &'a Parts,
    /// Shows how far it is.
    pub counters: Arc<Counters>,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Passes<'_, '_> {
    /// Passes over the tape until nothing is left. Gives the writer back unless it died.
    pub async fn all(
        mut self,
        writer: Writer,
        rest: &mut Rest,
    ) -> (Option<Writer>, Result<(), Broken>) {
        let mut writer = Some(writer);
        while let Some(idle) = writer.take() {
            let mut given;
            let from_stream = rest.late.is_empty();
            let items = if from_stream {
                if rest.exhausted {
                    return (Some(idle), Ok(()));
                }
                &mut rest.items
            } else {
                rest.late.sort_by(|a, b| place(a).cmp(&place(b)));
                given = Items::given(std::mem::take(&mut rest.late));
                &mut given
            };
            let (back, left, outcome) = self.one(idle, items, &mut rest.linked).await;
            writer = back;
            if from_stream {
                rest.exhausted = left.exhausted;
            } else {
                let unplanned = items.take_waiting();
                rest.late.extend(unplanned);
            }
            rest.late.extend(left.late);
            if let Some(writer) = &mut writer {
                // These carry their bytes themselves now.
                for item in writer.take_late() {
                    rest.linked.remove(&carried(&item));
                    rest.late.push(item);
                }
                for order in writer.take_undone() {
                    if let Needs::Segments { .. } = order.needs {
                        rest.linked.remove(&carried(&order.item));
                    }
                    rest.late.push(order.item);
                }
            }
            if let Err(broken) = outcome {
                return (writer, Err(broken));
            }
        }
        let died = fault::internal("the writer died; see the log");
        (None, Err(Broken::Here(died)))
    }

    /// One pass over the tape, forward.
    async fn one(
        &mut self,
        mut writer: Writer,
        items: &mut Items,
        linked: &mut HashSet<(u32, u64)>,
    ) -> (Option<Writer>, Left, Result<(), Broken>) {
        self.counters.phase("mounting");
        let (inlets, taken, window) = match pass::open() {
            Ok(opened) => opened,
            Err(error) => return (Some(writer), Left::default(), Err(Broken::Here(error))),
        };
        let writing = tokio::task::spawn_blocking({
            let stop = self.stop.clone();
            move || {
                let result = writer.pass(taken, window, &stop);
                (writer, result)
            }
        });
        let from = pass::From {
            tape: &mut *self.tape,
            parts: self.parts,
            counters: &self.counters,
            stop: &self.stop,
        };
        let ((planned, received), written) =
            tokio::join!(pass::read(inlets, from, items, linked), writing);
        self.tape.close();
        let (writer, written) = match written {
            Ok(both) => both,
            Err(error) => {
                let died = fault::internal(error.to_string());
                return (None, Left::default(), Err(Broken::Here(died)));
            }
        };
        // What the writer met is the cause, unless it only saw that nothing came any more.
        let (left, outcome) = match (written, received, planned) {
            (Err(error @ Error::Fault(_)), _, _) | (_, _, Err(error)) => {
                (Left::default(), Err(Broken::Here(error)))
            }
            (_, Err(error @ Error::Fault(_)), Ok(left)) => (left, Err(Broken::Tape(error))),
            (_, Err(error), Ok(left)) => (left, Err(Broken::Here(error))),
            (written, Ok(()), Ok(left)) => (left, written.map_err(Broken::Here)),
        };
        (Some(writer), left, outcome)
    }
}

fn carried(item: &RecallItem) -> (u32, u64) {
    (item.archive_ordinal, item.tar_offset)
}

/// The order of the tape; among equal places that of paths.
fn place(item: &RecallItem) -> (u32, u64, &[u8]) {
    (item.archive_ordinal, item.tar_offset, &item.path)
}
