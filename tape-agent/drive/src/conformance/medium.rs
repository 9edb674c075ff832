//! The medium as a whole: its end, erasing it, holding it, letting it go.

use super::bench::{Bench, content, refused};
use super::{Check, Fault, Outcome, ensure, lacking};
use crate::{Error, Position, Read, Readiness, Sync, Written};

/// The one step that may be left out.
pub(super) const FILLED: &str =
    "the medium's end is announced, and what was taken before it is there";

pub(super) const STEPS: [(&str, Check); 4] = [
    (FILLED, fill),
    ("an erased medium is blank", erase),
    ("a medium that is locked in stays in", prevent),
    // The last: some drives need hands to take a medium in again.
    (
        "a medium that was let go is not ready, and loads again",
        unload,
    ),
];

fn fill(bench: &mut Bench) -> Outcome {
    let block = bench.block();
    bench.drive().rewind()?;
    let most = bench.scope.fill / block as u64;
    let mut count = 0;
    let warned = loop {
        if count == most {
            return lacking(format!(
                "the medium holds more than {} bytes",
                bench.scope.fill
            ));
        }
        match bench.drive().write_block(&content(count, block)) {
            Ok(Written::Ok) => count += 1,
            Ok(Written::EarlyWarning) => {
                count += 1;
                break true;
            }
            Err(Error::VolumeOverflow) => break false,
            Err(error) => return Err(error.into()),
        }
    };
    ensure(warned, || {
        "the medium was full without early warning; what was written last is in doubt".into()
    })?;
    ensure(
        bench
            .position()?
            .is_none_or(|position: Position| position.end_of_medium),
        || "early warning, but the position doesn't say that the end is near".into(),
    )?;
    // A quarter more, to find the end itself.
    let announced = count;
    let beyond = (most / 4).max(1);
    let met = loop {
        if count == announced + beyond {
            break false;
        }
        match bench.drive().write_block(&content(count, block)) {
            Ok(_) => count += 1,
            Err(Error::VolumeOverflow) => break true,
            Err(error) => return Err(error.into()),
        }
    };
    match bench.drive().flush() {
        // A drive may tell here that nothing more fits; what it took before, it has.
        Ok(_) | Err(Error::VolumeOverflow) => {}
        Err(error) => return Err(error.into()),
    }
    bench.drive().rewind()?;
    for number in 0..count {
        bench.expect_block(number, block)?;
    }
    if count == announced {
        lacking("not one block fits behind early warning, so no index does")
    } else if met {
        Ok(())
    } else {
        lacking(format!(
            "the end is announced, but {beyond} blocks behind it were taken without meeting it"
        ))
    }
}

fn erase(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().rewind()?;
    match bench.drive().erase(false) {
        Ok(()) => {}
        Err(error @ (Error::IllegalRequest(_) | Error::Program { .. })) => {
            return lacking(format!("the drive can't erase ({error})"));
        }
        Err(error) => return Err(error.into()),
    }
    bench.drive().rewind()?;
    bench.expect(Read::Blank)?;
    bench.expect(Read::EndOfData)
}

fn prevent(bench: &mut Bench) -> Outcome {
    bench.record()?;
    refused(
        bench.drive().prevent_removal(true),
        "the drive can't lock its medium in",
    )?;
    let outcome = bench.drive().unload();
    let after = bench.drive().ready()?;
    bench.drive().prevent_removal(false)?;
    match (outcome, after) {
        (Err(Error::IllegalRequest(_) | Error::Program { .. }), Readiness::Ready) => {}
        (Ok(()), Readiness::Ready) => {
            return lacking("unloading does nothing, so nothing can be said of the lock");
        }
        (outcome, after) => {
            // Put right what it did before it is told.
            bench.drive().load()?;
            return Err(Fault::Failed(format!(
                "it was told to unload a locked medium: {outcome:?}, and is {after:?}"
            )));
        }
    }
    bench.drive().rewind()?;
    bench.expect_object(0)
}

fn unload(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().unload()?;
    bench.drive().attentions()?;
    match bench.drive().ready()? {
        Readiness::LoadRequired | Readiness::NoMedium => {}
        Readiness::Ready => return lacking("unloading leaves the medium as it was"),
        other => return Err(Fault::Failed(format!("after unloading it is {other:?}"))),
    }
    let read = bench.read();
    ensure(read.is_err(), || {
        format!("a drive without a medium read {read:?}")
    })?;
    let written = bench.drive().write_filemarks(1, Sync::Synchronous);
    ensure(written.is_err(), || {
        format!("a drive without a medium wrote: {written:?}")
    })?;
    if let Err(error) = bench.drive().load() {
        return lacking(format!(
            "it does not load by itself what it has let go ({error})"
        ));
    }
    bench.close();
    bench.fresh()?;
    bench.drive().rewind()?;
    bench.expect_object(0)
}
