//! A dump: a restore whose files go to whoever waits at the controller, and nowhere on this host.
//!
//! The same passes, the same proof. What is written is a stream ([`stream`]), which goes out in frames ([`send`]). It is never gone
//! on with: whoever goes first, the reader, the controller or the drive, ends it, and without a last word nobody takes it for whole.

mod order;
mod send;
mod stream;

use std::time::Duration;

use taf_proto::agent::send_dump_request::Message;
use taf_proto::agent::{RestoreDone, RestoreWork};
use taf_proto::v1::DumpFormat;

use self::send::Link;
pub use self::stream::{Ended, Stream};
use super::write::Outlet;
use crate::backup::Context;
use crate::fault::Error;

/// An assignment for which nobody waits any more goes within this time.
const WITHDRAWN: Duration = Duration::from_secs(30);

/// Does the work.
///
/// # Errors
/// The fault that ends it, [`Error::Stopped`] if the assignment is gone.
pub async fn run(
    context: Context<'_>,
    work: &RestoreWork,
    format: DumpFormat,
) -> Result<RestoreDone, Error> {
    let assigned = context.stop.clone();
    let opening = Link::open(context.config, context.own, context.key);
    let opened = assigned.run_until_cancelled(opening).await;
    let (link, frames) = opened.unwrap_or(Err(Error::Stopped))?;
    // When nobody takes it any more the reading ends, too.
    let stop = assigned.child_token();
    let context = Context {
        stop: stop.clone(),
        ..context
    };
    let last_word = frames.clone();
    let reading = async {
        let outlet = Outlet::Stream(Box::new(Stream::new(format, frames)));
        let read = super::bring(&context, work, outlet, None).await;
        let word = match &read {
            Ok(done) => Some(Message::Done(done.clone())),
            Err(Error::Fault(fault)) => Some(Message::Fault(fault.clone())),
            Err(Error::Stopped) => None,
        };
        if let Some(word) = word {
            // If it can't be said the link knows why.
            let _ = last_word.say(word).await;
        }
        drop(last_word);
        read
    };
    let sending = async {
        let sent = assigned.run_until_cancelled(link.run()).await;
        let Some(Err(error)) = sent else {
            return sent.unwrap_or(Err(Error::Stopped));
        };
        stop.cancel();
        if is_not_awaited(&error) {
            // The controller cancels the job by itself; if it can't, this is why it fails.
            let withdrawn = tokio::time::timeout(WITHDRAWN, assigned.cancelled()).await;
            return Err(withdrawn.map_or(error, |()| Error::Stopped));
        }
        Err(error)
    };
    let (read, sent) = tokio::join!(reading, sending);
    match (read, sent) {
        // What the reading met is the cause, unless it was only stopped.
        (Err(error @ Error::Fault(_)), _) | (_, Err(error)) => Err(error),
        (read, Ok(())) => read,
    }
}

fn is_not_awaited(error: &Error) -> bool {
    matches!(error, Error::Fault(fault) if fault.reason == "DUMP_NOT_AWAITED")
}
