//! Where the tape stands, and what is behind it.

use taf_drive::{Error as DriveError, Read, Spaced};

use super::{Bench, Doing as _, Finding, Problem, wrong};

pub(super) fn tell(bench: &mut Bench) -> Result<Finding, Problem> {
    bench.three_files()?;
    bench.expect_at(9, 3)?;
    bench.drive()?.rewind().doing("rewinding")?;
    let position = bench.drive()?.position().doing("asking its position")?;
    if !position.beginning {
        return wrong("the drive does not say that it stands at the beginning after rewinding");
    }
    bench.expect_at(0, 0)?;
    for (object, file) in [(1, 0), (2, 1), (4, 1), (5, 2), (8, 2)] {
        bench.drive()?.locate(object).doing("going to an object")?;
        bench.expect_at(object, file)?;
    }
    bench
        .drive()?
        .locate_end_of_data()
        .doing("going to the end of data")?;
    bench.expect_at(9, 3)?;
    match bench.drive()?.locate(9_999) {
        Err(DriveError::BlankCheck(_)) => {}
        Err(error) => return Err(error).doing("going beyond the end of data"),
        Ok(()) => return wrong("the drive claims to have gone beyond the end of data"),
    }
    let files = bench.drive()?.position().doing("asking its position")?.file;
    Ok(match files {
        Some(_) => Finding::passed("blocks and files, at the beginning, in the middle, at the end"),
        None => Finding::warned("blocks are right; the drive does not count filemarks"),
    })
}

pub(super) fn flush(bench: &mut Bench) -> Result<Finding, Problem> {
    let size = bench.plan.block_size;
    bench.start_over()?;
    bench.write_blocks(0, 0..16, size)?;
    let before = bench.drive()?.position().doing("asking its position")?;
    bench.drive()?.flush().doing("flushing")?;
    let after = bench.drive()?.position().doing("asking its position")?;
    if after.block != 16 {
        return wrong(format!(
            "the flush moved the tape from block 16 to {}",
            after.block
        ));
    }
    match (before.buffered_blocks, after.buffered_blocks) {
        (_, Some(0)) => Ok(Finding::passed(format!(
            "{} of 16 blocks were in the buffer before, none after",
            before.buffered_blocks.unwrap_or_default()
        ))),
        (_, Some(left)) => wrong(format!(
            "{left} blocks are still in the buffer after a flush"
        )),
        (_, None) => Ok(Finding::not_supported(
            "the drive does not say what is in its buffer: TAF flushes at every half ring",
        )),
    }
}

pub(super) fn append(bench: &mut Bench) -> Result<Finding, Problem> {
    let size = bench.plan.block_size;
    bench.three_files()?;
    bench.reopen()?;
    bench
        .drive()?
        .locate_end_of_data()
        .doing("going to the end of data")?;
    bench.expect_at(9, 3)?;
    bench.write_blocks(3, 0..4, size)?;
    bench.mark(1)?;
    bench.reopen()?;
    bench.drive()?.rewind().doing("rewinding")?;
    for file in 0..4 {
        for number in 0..=file {
            bench.expect_block(file, number, size)?;
        }
        bench.expect(Read::Filemark)?;
    }
    bench.expect(Read::EndOfData)?;
    bench.expect_at(14, 4)?;
    Ok(Finding::passed(
        "the end of data is where it was left; 4 files read back whole",
    ))
}

pub(super) fn backspace(bench: &mut Bench) -> Result<Finding, Problem> {
    let size = bench.plan.block_size;
    bench.three_files()?;
    let spaced = bench
        .drive()?
        .space_filemarks(-1)
        .doing("going back over a filemark")?;
    if spaced != Spaced::All {
        return wrong("the drive did not go back over the filemark that it had written");
    }
    bench.expect_at(8, 2)?;
    bench.drive()?.locate(7).doing("going back over a block")?;
    bench.expect_block(2, 2, size)?;
    bench.expect(Read::Filemark)?;
    bench.expect(Read::EndOfData)?;
    Ok(Finding::passed("the last block was read again"))
}

pub(super) fn spacing(bench: &mut Bench) -> Result<Finding, Problem> {
    let size = bench.plan.block_size;
    bench.start_over()?;
    for file in 0..5 {
        bench.write_blocks(file, 0..2, size)?;
        bench.mark(1)?;
    }
    bench.drive()?.rewind().doing("rewinding")?;
    // Forward 1, 2 more, 1 more; back to before the mark of file 1, and over it again.
    for (count, object, file) in [(1, 3, 1), (2, 9, 3), (1, 12, 4), (-3, 5, 1), (1, 6, 2)] {
        let spaced = bench
            .drive()?
            .space_filemarks(count)
            .doing("going over filemarks")?;
        if spaced != Spaced::All {
            return wrong(format!("{count} filemarks: the drive stopped before"));
        }
        bench.expect_at(object, file)?;
    }
    bench.expect_block(2, 0, size)?;
    if bench
        .drive()?
        .space_filemarks(9)
        .doing("going beyond the last filemark")?
        != Spaced::EndOfData
    {
        return wrong("the drive claims to have gone over filemarks that are not there");
    }
    bench.expect_at(15, 5)?;
    if bench
        .drive()?
        .space_filemarks(-9)
        .doing("going back beyond the beginning")?
        != Spaced::Beginning
    {
        return wrong("the drive claims to have gone back over filemarks that are not there");
    }
    bench.expect_at(0, 0)?;
    bench.expect_block(0, 0, size)?;
    Ok(Finding::passed("both ways, and both ends are told"))
}

pub(super) fn overwrite(bench: &mut Bench) -> Result<Finding, Problem> {
    let size = bench.plan.block_size;
    bench.three_files()?;
    bench.drive()?.locate(2).doing("going to a block")?;
    bench
        .drive()?
        .allow_overwrite(2)
        .doing("allowing to overwrite")?;
    bench.write_blocks(9, 0..1, size)?;
    bench.mark(1)?;
    bench.expect_at(4, 2)?;
    bench.expect(Read::EndOfData)?;
    bench.drive()?.rewind().doing("rewinding")?;
    bench.expect_block(0, 0, size)?;
    bench.expect(Read::Filemark)?;
    bench.expect_block(9, 0, size)?;
    bench.expect(Read::Filemark)?;
    bench.expect(Read::EndOfData)?;
    Ok(Finding::passed("nothing old is left behind new data"))
}
