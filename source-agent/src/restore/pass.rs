//! One pass over the tape, forward: what is planned is asked for, received, proved and decompressed, and comes out in order.
//!
//! Who takes it is a thread of the caller's, with the orders in one hand and the window in the other. When that ends, so does the
//! pass.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::parts::Parts;
use super::plan::{self, Left, Order, Outlets, Pending};
use super::recall::Items;
use super::receive::{self, Delivery, Raw};
use super::tape::Tape;
use super::window::Window;
use crate::fault::{self, Error};
use crate::ordered::{self, Feed};
use crate::progress::Counters;

/// Items between planner and taker.
const ORDERS: usize = 4096;
/// Threads that decompress.
const THREADS: usize = 2;

/// Where a pass puts what it reads.
pub(crate) struct Inlets {
    feed: Feed<Raw, Delivery>,
    outlets: Outlets,
    announced: mpsc::UnboundedReceiver<Pending>,
}

/// What a pass reads from.
pub(crate) struct From<'a, 'b> {
    /// The drive.
    pub tape: &'a mut Tape<'b>,
    /// What is where.
    pub parts: &'a Parts,
    /// Shows how far it is.
    pub counters: &'a Arc<Counters>,
    /// Ends it.
    pub stop: &'a CancellationToken,
}

/// The two ends of a pass: what it is read into, and what is taken out.
///
/// # Errors
/// Threads that can't be started.
pub(crate) fn open() -> Result<(Inlets, mpsc::Receiver<Order>, Window), Error> {
    let (feed, drain) = ordered::pool(
        "decompress",
        THREADS,
        THREADS,
        || (),
        |(), raw| receive::open(raw),
    )
    .map_err(|error| fault::internal(format!("threads can't be started: {error}")))?;
    let (orders, taken) = mpsc::channel(ORDERS);
    let (pending, announced) = mpsc::unbounded_channel();
    let inlets = Inlets {
        feed,
        outlets: Outlets { orders, pending },
        announced,
    };
    Ok((inlets, taken, Window::new(drain)))
}

/// Reads until there is nothing left, or nobody takes it. Gives what the planner has left, and how the receiving ended.
pub(crate) async fn read(
    inlets: Inlets,
    from: From<'_, '_>,
    items: &mut Items,
    linked: &mut HashSet<(u32, u64)>,
) -> (Result<Left, Error>, Result<(), Error>) {
    let Inlets {
        feed,
        outlets,
        announced,
    } = inlets;
    let planning = plan::plan(items, from.parts, linked, outlets);
    let receiving = receive::receive(from.tape, announced, feed, from.counters);
    let (planned, received) = tokio::join!(
        from.stop.run_until_cancelled(planning),
        from.stop.run_until_cancelled(receiving),
    );
    (
        planned.unwrap_or(Err(Error::Stopped)),
        received.unwrap_or(Err(Error::Stopped)),
    )
}
