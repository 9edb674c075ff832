//! Writing, reading and finding: what a recording must be like.

use super::bench::{Bench, END, content};
use super::{Check, Fault, Outcome, ensure, lacking};
use crate::{Error, Read, Spaced, Sync};

/// No larger block is tried, however large the drive's are: what TAF writes is smaller.
const LARGEST: usize = 8 << 20;

pub(super) const STEPS: [(&str, Check); 16] = [
    (
        "its limits carry the block size, and others are refused",
        sizes,
    ),
    ("what is written is read back, block by block", read_back),
    ("blocks of many lengths keep their length", lengths),
    (
        "a block shorter than what was asked for comes whole",
        shorter,
    ),
    (
        "the largest block that drive and path carry comes back",
        largest,
    ),
    ("a flush leaves nothing in the buffer", flush),
    (
        "a block longer than the buffer is told, and passed",
        too_long,
    ),
    ("filemarks in a row are as many as were written", marks),
    ("locate finds every object", locate),
    ("tape files are found forward and backward", files),
    ("spacing stops at either end", spacing),
    ("appending goes on behind the end of data", append),
    ("a write ends the recording behind it", overwrite),
    ("a write at the beginning ends it all", from_the_beginning),
    ("what was flushed is there for the next who opens", reopen),
    (
        "a new path finds the tape where the old one left it",
        left_alone,
    ),
];

fn sizes(bench: &mut Bench) -> Outcome {
    let limits = bench.drive().block_limits()?;
    ensure(limits.min <= 33 && bench.block() <= limits.max, || {
        format!("{limits:?} don't carry {} bytes", bench.block())
    })?;
    bench.drive().rewind()?;
    for length in [0, limits.max + 1] {
        let refused = bench.drive().write_block(&vec![0; length]);
        ensure(matches!(refused, Err(Error::TransferSize { .. })), || {
            format!("{length} bytes: {refused:?}")
        })?;
    }
    bench.expect_position(0, 0)
}

fn read_back(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.expect_position(END, 3)?;
    bench.drive().rewind()?;
    for object in 0..=END {
        bench.expect_object(object)?;
    }
    bench.expect(Read::EndOfData)?;
    bench.expect_position(END, 3)
}

fn flush(bench: &mut Bench) -> Outcome {
    bench.drive().rewind()?;
    bench.write(0, bench.block())?;
    bench.write(1, bench.block())?;
    bench.drive().flush()?;
    match bench.position()?.and_then(|position| position.on_medium()) {
        Some(on_medium) => ensure(on_medium == 2, || {
            format!("object {on_medium} is still in the buffer after a flush")
        }),
        None => lacking("the drive doesn't say what is in its buffer"),
    }
}

fn too_long(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().rewind()?;
    let outcome = bench.drive().read_block(&mut [0; 40]);
    ensure(
        matches!(outcome, Err(Error::BlockTooLarge { length, buffer: 40 }) if length == bench.block() as u64),
        || format!("{outcome:?}"),
    )?;
    bench.expect_object(1)
}

fn locate(bench: &mut Bench) -> Outcome {
    bench.record()?;
    for object in [5, 0, 12, 1, 11, 3, 4, 8] {
        bench.drive().locate(object)?;
        bench.expect_position(object, object / 4)?;
        // At the beginning of a tape that isn't blank, end of data is never what comes.
        bench.expect_object(object)?;
    }
    let beyond = bench.drive().locate(500);
    ensure(beyond.is_err(), || "located beyond end of data".into())
}

fn files(bench: &mut Bench) -> Outcome {
    bench.record()?;
    for file in [2, 0, 1, 1, 2, 0] {
        bench.drive().locate_file(file)?;
        bench.expect_position(file * 4, file)?;
        bench.expect_object(file * 4)?;
    }
    let beyond = bench.drive().locate_file(4);
    ensure(matches!(beyond, Err(Error::BlankCheck(_))), || {
        format!("a file that isn't there: {beyond:?}")
    })
}

fn spacing(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().rewind()?;
    let steps = [
        (1, Spaced::All),
        (5, Spaced::EndOfData),
        (-2, Spaced::All),
        (-9, Spaced::Beginning),
        (0, Spaced::All),
    ];
    for (count, wanted) in steps {
        let spaced = bench.drive().space_filemarks(count)?;
        ensure(spaced == wanted, || {
            format!("over {count} filemarks: {spaced:?}, not {wanted:?}")
        })?;
    }
    bench.expect_object(0)
}

fn append(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().rewind()?;
    bench.drive().locate_end_of_data()?;
    bench.expect_position(END, 3)?;
    bench.write(12, bench.block())?;
    bench.drive().write_filemarks(1, Sync::Synchronous)?;
    bench.drive().locate_file(3)?;
    bench.expect_block(12, bench.block())?;
    bench.expect(Read::Filemark)?;
    bench.expect(Read::EndOfData)
}

fn overwrite(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().locate(4)?;
    bench.write(100, bench.block())?;
    bench.drive().flush()?;
    bench.drive().locate(3)?;
    bench.expect(Read::Filemark)?;
    bench.expect_block(100, bench.block())?;
    bench.expect(Read::EndOfData)
}

fn reopen(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.close();
    bench.fresh()?;
    bench.drive().rewind()?;
    for object in 0..=END {
        bench.expect_object(object)?;
    }
    Ok(())
}

/// Blocks of many lengths, one behind the other, from block 0 on.
fn record_lengths(bench: &mut Bench) -> Result<Vec<usize>, Fault> {
    let limits = bench.drive().block_limits()?;
    let block = bench.block();
    let mut lengths = vec![limits.min, 33, 511, 512, 513, 4095, 4097, block - 1, block];
    lengths.retain(|&length| (limits.min..=limits.max).contains(&length));
    bench.drive().rewind()?;
    for (number, &length) in lengths.iter().enumerate() {
        bench.write(number as u64, length)?;
    }
    bench.mark()?;
    bench.drive().flush()?;
    bench.drive().rewind()?;
    Ok(lengths)
}

fn lengths(bench: &mut Bench) -> Outcome {
    for (number, length) in record_lengths(bench)?.into_iter().enumerate() {
        bench.expect_block_in(number as u64, length, length)?;
    }
    bench.expect(Read::Filemark)
}

fn shorter(bench: &mut Bench) -> Outcome {
    let most = bench.block();
    for (number, length) in record_lengths(bench)?.into_iter().enumerate() {
        bench.expect_block_in(number as u64, length, most.max(length))?;
    }
    bench.expect(Read::Filemark)
}

fn largest(bench: &mut Bench) -> Outcome {
    let limits = bench.drive().block_limits()?;
    let length = limits.max.min(LARGEST);
    bench.drive().rewind()?;
    for number in [20, 21] {
        if let Err(error) = bench.drive().write_block(&content(number, length)) {
            return Err(Fault::Failed(format!(
                "{length} bytes, which drive and path are said to carry: {error}"
            )));
        }
    }
    bench.drive().flush()?;
    bench.drive().rewind()?;
    bench.expect_block(20, length)?;
    bench.expect_block(21, length)
}

fn marks(bench: &mut Bench) -> Outcome {
    bench.drive().rewind()?;
    bench.write(0, bench.block())?;
    bench.drive().write_filemarks(3, Sync::Synchronous)?;
    bench.write(4, bench.block())?;
    bench.drive().flush()?;
    bench.expect_position(5, 3)?;
    bench.drive().rewind()?;
    bench.expect_block(0, bench.block())?;
    for _ in 0..3 {
        bench.expect(Read::Filemark)?;
    }
    bench.expect_block(4, bench.block())?;
    bench.expect(Read::EndOfData)?;
    // An empty tape file is a tape file.
    bench.drive().locate_file(2)?;
    bench.expect(Read::Filemark)?;
    bench.expect_block(4, bench.block())
}

fn from_the_beginning(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().rewind()?;
    bench.write(50, bench.block())?;
    bench.drive().write_filemarks(1, Sync::Synchronous)?;
    bench.drive().rewind()?;
    bench.expect_block(50, bench.block())?;
    bench.expect(Read::Filemark)?;
    bench.expect(Read::EndOfData)
}

fn left_alone(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().locate(4)?;
    bench.expect_object(4)?;
    bench.close();
    bench.fresh()?;
    bench.expect_position(5, 1)?;
    bench.expect_object(5)
}
