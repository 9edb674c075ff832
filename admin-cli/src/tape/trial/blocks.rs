//! Much data, read back in order and out of order.

use std::time::Instant;

use taf_drive::Read;

use super::{Bench, Doing as _, Finding, Problem};

pub(super) fn write_read(bench: &mut Bench) -> Result<Finding, Problem> {
    let (blocks, size) = (bench.plan.blocks, bench.plan.block_size);
    bench.start_over()?;
    let begun = Instant::now();
    for file in 0..2 {
        bench.write_blocks(file, 0..blocks, size)?;
        bench.mark(1)?;
    }
    let writing = begun.elapsed();
    bench.drive()?.rewind().doing("rewinding")?;
    let begun = Instant::now();
    for file in 0..2 {
        for number in 0..blocks {
            bench.expect_block(file, number, size)?;
        }
        bench.expect(Read::Filemark)?;
    }
    bench.expect(Read::EndOfData)?;
    let bytes = 2 * blocks * size as u64;
    let rate = |time: std::time::Duration| bytes as f64 / time.as_secs_f64().max(1e-9) / 1e6;
    Ok(Finding::passed(format!(
        "2 files of {blocks} blocks of {size} bytes, every byte as written"
    ))
    .measuring("byte_count", bytes)
    .measuring("write_megabytes_per_second", rate(writing))
    .measuring("read_megabytes_per_second", rate(begun.elapsed())))
}

pub(super) fn reposition(bench: &mut Bench) -> Result<Finding, Problem> {
    let (blocks, size) = (bench.plan.blocks, bench.plan.block_size);
    bench.start_over()?;
    for file in 0..2 {
        bench.write_blocks(file, 0..blocks, size)?;
        bench.mark(1)?;
    }
    // Forward, back, the last, the first, and the same again: out of order on purpose.
    let places = [
        (0, 4),
        (0, blocks / 50),
        (0, blocks - 1),
        (1, 0),
        (1, blocks * 3 / 5),
        (1, blocks - 1),
        (0, 0),
        (1, 0),
        (0, 4),
    ];
    for (file, number) in places.map(|(file, number)| (file, number.min(blocks - 1))) {
        // Each file's mark is an object, too.
        let object = file * (blocks + 1) + number;
        bench.drive()?.locate(object).doing("going to a block")?;
        bench.expect_at(object, file)?;
        bench.expect_block(file, number, size)?;
    }
    for file in [1, 0, 1] {
        bench.drive()?.locate_file(file).doing("going to a file")?;
        bench.expect_block(file, 0, size)?;
    }
    Ok(Finding::passed(format!(
        "{} blocks by LOCATE, 3 files by their filemarks",
        places.len()
    )))
}
