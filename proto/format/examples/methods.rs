//! What the compression methods cost and gain: packs a file, a tar of what is to be backed up, in segments by several threads,
//! and unpacks it again. Arguments: the file and the number of threads. Speed is by the processor's time, so that it means
//! something on a machine that has other work: MB a second of one core.
//!
//!     tar -cf - /usr | head -c 60M > /tmp/some.tar && cargo run --release -p taf-format --example methods -- /tmp/some.tar 2
#![forbid(unsafe_code)]

use std::sync::Mutex;

use taf_format::limits::SEGMENT_TAR;
use taf_format::segment::{self, Cutter, Identity, Method, RawSegment, Sealed, Sealer};
use uuid::Uuid;

const MEASURED: [(Method, &[i32]); 4] = [
    (Method::Zstd, &[1, 3, 9, 19]),
    (Method::Gzip, &[1, 6, 9]),
    (Method::Tar, &[0]),
    (Method::SevenZip, &[1, 5, 9]),
];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, threads] = arguments.as_slice() else {
        return Err("give a file and a number of threads".into());
    };
    let (tar, threads) = (std::fs::read(file)?, threads.parse()?);
    let megabytes = tar.len() as f64 / 1e6;
    println!("{megabytes:.0} MB, {threads} threads");
    println!("method  level  pack, MB/s a core  unpack  stored");
    for (method, levels) in MEASURED {
        for &level in levels {
            let begin = processor_seconds()?;
            let sealed = in_order(cut(&tar), threads, || {
                let mut sealer = Sealer::by(method, level).ok();
                move |raw: RawSegment| sealer.as_mut()?.seal(raw).ok()
            })?;
            let packed = processor_seconds()? - begin;
            let stored: usize = sealed.iter().map(|sealed| sealed.bytes.len()).sum();
            let begin = processor_seconds()?;
            let lengths = in_order(sealed, threads, || {
                |sealed: Sealed| {
                    segment::open(&sealed.bytes)
                        .ok()
                        .map(|opened| opened.tar.len())
                }
            })?;
            let unpacked = processor_seconds()? - begin;
            assert_eq!(lengths.iter().sum::<usize>(), tar.len());
            let megabytes = tar.len() as f64 / 1e6;
            println!(
                "{:6}  {level:5}  {:17.0}  {:6.0}  {:.3}",
                method.name(),
                megabytes / packed,
                megabytes / unpacked,
                stored as f64 / tar.len() as f64,
            );
        }
    }
    Ok(())
}

/// What this process has used: user's and system's time, in hundredths of a second (Linux: `proc(5)`, fields 14 and 15).
fn processor_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, behind_name) = stat.rsplit_once(") ").ok_or("/proc/self/stat is odd")?;
    let ticks = behind_name.split(' ').skip(11).take(2);
    Ok(ticks.map(str::parse::<f64>).sum::<Result<f64, _>>()? / 100.0)
}

fn cut(tar: &[u8]) -> Vec<RawSegment> {
    let identity = Identity {
        line_uuid: Uuid::nil(),
        version: 1,
        archive_ordinal: 1,
        archive_uuid: Uuid::nil(),
        attempt: 1,
    };
    let mut cutter = Cutter::new(identity);
    let mut segments = Vec::new();
    for piece in tar.chunks(SEGMENT_TAR) {
        cutter.push_tar(piece);
        segments.extend(std::iter::from_fn(|| cutter.ready()));
    }
    segments.extend(cutter.finish());
    segments
}

/// Does work on all of `input` by threads that each have a state of their own.
fn in_order<I: Send, O: Send, W: FnMut(I) -> Option<O>>(
    input: Vec<I>,
    threads: usize,
    start: impl Fn() -> W + Sync,
) -> Result<Vec<O>, Failure> {
    let output: Mutex<Vec<Option<O>>> = Mutex::new(input.iter().map(|_| None).collect());
    let input = Mutex::new(input.into_iter().enumerate());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut work = start();
                loop {
                    let next = input.lock().ok().and_then(|mut input| input.next());
                    let Some((number, piece)) = next else { return };
                    let done = work(piece);
                    if let Ok(mut output) = output.lock() {
                        output[number] = done;
                    }
                }
            });
        }
    });
    let output = output.into_inner().map_err(|_| "a thread died")?;
    output
        .into_iter()
        .map(|done| done.ok_or_else(|| "a segment could not be done".into()))
        .collect()
}
