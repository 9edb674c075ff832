//! Work done by several threads whose results come out in the order in which the work went in.
//!
//! Owns the order and the bound: no more than `ahead` pieces are under way or waiting. It never drops a piece: a
//! result that will not come (its thread panicked) ends the drain.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc as channel};

use tokio::sync::{mpsc, oneshot};

/// The other side has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other side has ended")]
pub struct Closed;

/// Where work goes in.
#[derive(Debug)]
pub struct Feed<I, O> {
    jobs: channel::Sender<(I, oneshot::Sender<O>)>,
    order: mpsc::Sender<oneshot::Receiver<O>>,
}

/// Where results come out.
#[derive(Debug)]
pub struct Drain<O> {
    order: mpsc::Receiver<oneshot::Receiver<O>>,
}

/// Starts `threads` threads that each make a state with `start` and do `work`. They end when the feed is dropped.
pub fn pool<I, O, S>(
    name: &str,
    threads: usize,
    ahead: usize,
    start: impl Fn() -> S + Clone + Send + 'static,
    work: impl Fn(&mut S, I) -> O + Clone + Send + 'static,
) -> io::Result<(Feed<I, O>, Drain<O>)>
where
    I: Send + 'static,
    O: Send + 'static,
{
    let (jobs, taken) = channel::channel::<(I, oneshot::Sender<O>)>();
    let (order, ordered) = mpsc::channel(ahead.max(1));
    let taken = Arc::new(Mutex::new(taken));
    for _ in 0..threads.max(1) {
        let (taken, start, work) = (Arc::clone(&taken), start.clone(), work.clone());
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let mut state = start();
                loop {
                    // A receiver is whole whoever panicked beside it.
                    let job = taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((input, result)) = job else { return };
                    // Nobody waits for it any more when everything is being stopped.
                    drop(result.send(work(&mut state, input)));
                }
            })?;
    }
    Ok((Feed { jobs, order }, Drain { order: ordered }))
}

impl<I, O> Feed<I, O> {
    /// Gives a piece of work; waits while `ahead` pieces are under way.
    pub async fn put(&self, input: I) -> Result<(), Closed> {
        let (result, waiting) = oneshot::channel();
        self.order.send(waiting).await.map_err(|_| Closed)?;
        self.jobs.send((input, result)).map_err(|_| Closed)
    }

    /// As [`Feed::put`], for threads outside the runtime.
    pub fn put_blocking(&self, input: I) -> Result<(), Closed> {
        let (result, waiting) = oneshot::channel();
        self.order.blocking_send(waiting).map_err(|_| Closed)?;
        self.jobs.send((input, result)).map_err(|_| Closed)
    }
}

impl<O> Drain<O> {
    /// The next result; `None` when the feed was dropped and all is out, or a piece was lost.
    pub async fn next(&mut self) -> Option<O> {
        self.order.recv().await?.await.ok()
    }

    /// As [`Drain::next`], for threads outside the runtime.
    pub fn next_blocking(&mut self) -> Option<O> {
        self.order.blocking_recv()?.blocking_recv().ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_whoever_is_faster() {
        let (feed, mut drain) = pool(
            "square",
            4,
            3,
            || 0_u64,
            |done, n: u64| {
                *done += 1;
                // The first pieces take longest.
                (0..(100 - n) * 1000)
                    .fold(0_u64, |sum, x| sum.wrapping_add(std::hint::black_box(x)));
                n * n
            },
        )
        .unwrap();
        let feeder = std::thread::spawn(move || {
            for n in 0..100 {
                feed.put_blocking(n).unwrap();
            }
        });
        for n in 0..100 {
            assert_eq!(drain.next_blocking(), Some(n * n));
        }
        feeder.join().unwrap();
        assert_eq!(drain.next_blocking(), None);
    }
}
