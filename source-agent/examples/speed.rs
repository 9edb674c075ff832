//! Packs a directory into a file of segments, without any network, and says how fast: to hold against
//! `tar -cf - DIR | zstd -T2 -3 > FILE`. Arguments: the directory, the file, threads, level.
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use taf_format::page::Dictionaries;
use taf_format::segment::{Identity, Sealer};
use taf_source_agent::backup::ahead;
use taf_source_agent::backup::links::Links;
use taf_source_agent::backup::pack::{self, Mode, Outlets};
use taf_source_agent::ordered;
use taf_source_agent::progress::Counters;
use taf_tree::Walk;
use taf_tree::walk::Options;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, file, threads, level] = arguments.as_slice() else {
        bail!("give a directory, a file to write, threads and level");
    };
    let (threads, level): (usize, i32) = (threads.parse()?, level.parse()?);
    let top = std::fs::File::open(Path::new(directory)).context(directory.clone())?;
    let walk = Walk::beneath(top.into(), Options::new(vec![b"/".to_vec()]))?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let begin = Instant::now();
    let stop = CancellationToken::new();
    let steps = ahead::start(walk, 4, stop.clone())?;
    let (feed, mut drain) = ordered::pool(
        "compress",
        threads,
        threads,
        move || Sealer::new(level),
        |sealer, raw| match sealer {
            Ok(sealer) => sealer.seal(raw).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        },
    )?;
    let packing = std::thread::spawn(move || {
        let counters = Counters::default();
        let mut issues = 0_u64;
        let identity = Identity {
            line_uuid: Uuid::nil(),
            version: 1,
            archive_ordinal: 1,
            archive_uuid: Uuid::nil(),
            attempt: 1,
        };
        let outlets = Outlets {
            begins: &mut || {},
            segments: &mut |segment| feed.put_blocking(segment),
            issues: &mut |_| issues += 1,
            counters: &counters,
            stop: &stop,
        };
        pack::pack(
            steps,
            identity,
            Mode::FULL,
            &Links::default(),
            Dictionaries::new(),
            outlets,
        )
        .map(|totals| (totals, issues))
    });
    let mut stored = 0;
    while let Some(segment) = drain.next_blocking() {
        let segment = segment.map_err(anyhow::Error::msg)?;
        stored += segment.bytes.len();
        out.write_all(&segment.bytes)?;
    }
    out.flush()?;
    let (totals, issues) = packing
        .join()
        .map_err(|_| anyhow::Error::msg("the packer died"))??;
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{} files, {} bytes, {stored} stored, {issues} issues in {seconds:.2} s: {:.0} MB/s, {:.0} files/s",
        totals.files,
        totals.bytes,
        totals.bytes as f64 / seconds / 1e6,
        totals.files as f64 / seconds,
    );
    Ok(())
}
