//! Blocks of every length that drive and path carry, and of those that they don't.

use taf_drive::{Error as DriveError, Read};

use super::{Bench, Doing as _, Finding, Problem, wrong};

/// Lengths that are tried, as far as drive and path go: powers of two, and odd ones between them.
const SIZES: [usize; 16] = [
    1,
    80,
    511,
    512,
    1 << 10,
    10_240,
    32 << 10,
    64_512,
    64 << 10,
    (64 << 10) + 1,
    256 << 10,
    512 << 10,
    1 << 20,
    2 << 20,
    4 << 20,
    8 << 20,
];

fn sizes_of(bench: &mut Bench) -> Result<Vec<usize>, Problem> {
    let limits = bench
        .drive()?
        .block_limits()
        .doing("asking its block limits")?;
    let mut sizes: Vec<usize> = SIZES
        .into_iter()
        .chain([limits.min, limits.max])
        .filter(|size| (limits.min..=limits.max).contains(size))
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

pub(super) fn sizes(bench: &mut Bench) -> Result<Finding, Problem> {
    let sizes = sizes_of(bench)?;
    bench.start_over()?;
    for (&size, number) in sizes.iter().zip(0..) {
        bench
            .write_blocks(0, number..number + 1, size)
            .map_err(|problem| {
                Problem::Wrong(format!(
                    "a block of {size} bytes can't be written: {problem}"
                ))
            })?;
    }
    bench.mark(1)?;
    bench.drive()?.rewind().doing("rewinding")?;
    for (&size, number) in sizes.iter().zip(0..) {
        bench.expect_block(0, number, size)?;
    }
    bench.expect(Read::Filemark)?;
    let longest = sizes.last().copied().unwrap_or_default();
    let mut finding = Finding::passed(format!(
        "{} lengths from {} to {longest} bytes",
        sizes.len(),
        sizes.first().copied().unwrap_or_default(),
    ));
    if longest < 512 << 10 {
        finding = Finding::warned(format!(
            "the path carries {longest} bytes at most; TAF's usual block of 524288 bytes needs another adapter, or pools with \
             smaller blocks"
        ));
    }
    Ok(finding.measuring("largest_block", longest))
}

pub(super) fn beyond(bench: &mut Bench) -> Result<Finding, Problem> {
    let limits = bench
        .drive()?
        .block_limits()
        .doing("asking its block limits")?;
    let size = 10_240.clamp(limits.min, limits.max);
    bench.start_over()?;
    bench.write_blocks(0, 0..2, size)?;
    bench.mark(1)?;
    let too_long = vec![0; limits.max + 1];
    if !matches!(
        bench.drive()?.write_block(&too_long),
        Err(DriveError::TransferSize { .. })
    ) {
        return wrong(format!(
            "a block of {} bytes was not refused",
            too_long.len()
        ));
    }
    bench.drive()?.rewind().doing("rewinding")?;
    if size < 2 {
        return Ok(Finding::passed("a block beyond the limits was refused"));
    }
    let mut short = vec![0; size / 2];
    match bench.drive()?.read_block(&mut short) {
        Err(DriveError::BlockTooLarge { length, .. }) if length == size as u64 => {}
        Err(DriveError::BlockTooLarge { length, .. }) => {
            return wrong(format!("a block of {size} bytes was said to have {length}"));
        }
        Err(error) => return Err(error).doing("reading with a short buffer"),
        Ok(_) => {
            return wrong("a block that is longer than the buffer was cut without a word");
        }
    }
    // The tape is behind the block that did not fit.
    bench.expect_block(0, 1, size)?;
    Ok(Finding::passed(
        "a block beyond the limits was refused; one longer than the buffer was told with its length",
    ))
}
