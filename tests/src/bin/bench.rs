//! Measures a whole system: peak memory of each process at many files, and the speed of a backup beside `tar | zstd` in
//! the same run. What it prints is what the README cites.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use nix::unistd::Pid;
use taf_tests::said::Running;
use taf_tests::system::{Options, System, programs};
use taf_tests::trees::{build_mixed, build_random, ensure_equal};

/// How long one run may take.
const PATIENCE: Duration = Duration::from_hours(1);
const CARTRIDGE: &str = "TAF001L8";

/// Peak memory and speed of a whole system on this host.
#[derive(Debug, Parser)]
#[command(name = "taf-bench")]
struct Arguments {
    /// Files of the tree for memory; 0 leaves memory out
    #[arg(long, default_value_t = 300_000)]
    files: usize,
    /// Bytes of each of them
    #[arg(long, default_value_t = 200)]
    file_size: usize,
    /// Bytes of the tree for speed; 0 leaves speed out
    #[arg(long, default_value_t = 3_000_000_000)]
    bytes: u64,
    /// How often speed is measured; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also restores what was backed up, and compares
    #[arg(long)]
    restore: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let words: Vec<String> = std::env::args().skip(1).collect();
    println!("taf-bench {}", words.join(" "));
    println!("programs: {}", programs()?.display());
    println!(
        "host: {} cores, {}\n",
        std::thread::available_parallelism()?,
        processor()
    );
    if arguments.files > 0 {
        memory(&arguments)?;
    }
    if arguments.bytes > 0 {
        speed(&arguments)?;
    }
    Ok(())
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("processor unknown".into(), |(_, name)| name.to_owned())
}

fn system() -> Result<System> {
    let system = System::start(Options {
        drives: 1,
        capacity: "1TB".into(),
        ..Options::default()
    })?;
    system.label(CARTRIDGE, "default")?;
    Ok(system)
}

fn run(system: &System, arguments: &[&str]) -> Result<Duration> {
    let begun = Instant::now();
    system.start_taf(arguments)?.wait(PATIENCE)?.expect(0)?;
    Ok(begun.elapsed())
}

fn memory(arguments: &Arguments) -> Result<()> {
    let system = system()?;
    let tree = system.data().join("many");
    build_random(&tree, 1, arguments.files, arguments.file_size)?;
    system.plan("many", &tree, "default")?;
    let before = peaks(&system);
    let took = run(&system, &["run", "many"])?;
    let after = peaks(&system);
    println!(
        "backup of {} files of {} bytes: {:.1} s",
        arguments.files,
        arguments.file_size,
        took.as_secs_f32()
    );
    unchanged(&system, arguments.rounds)?;
    let restored = if arguments.restore {
        let begun = Instant::now();
        let to = system.restored("many")?;
        run(
            &system,
            &["restore", "many", "--to", &to.display().to_string()],
        )?;
        println!("restore of all: {:.1} s", begun.elapsed().as_secs_f32());
        let below = taf_tests::system::below(&to, &tree);
        ensure_equal(&tree, &below)?;
        Some(peaks(&system))
    } else {
        None
    };
    println!("\n| process | peak when idle | after the backup | after the restore |");
    println!("|---|---|---|---|");
    for (index, (name, idle)) in before.iter().enumerate() {
        let last = restored.as_ref().and_then(|peaks| peaks.get(index));
        println!(
            "| {name} | {} | {} | {} |",
            mib(*idle),
            after.get(index).map_or("?".into(), |(_, peak)| mib(*peak)),
            last.map_or(String::new(), |(_, peak)| mib(*peak)),
        );
    }
    println!();
    Ok(())
}

/// Backs up what has not changed, with `find` beside it, and prints the medians.
fn unchanged(system: &System, rounds: usize) -> Result<()> {
    let again = ["run", "many", "--type", "incremental"];
    // What was written right before the first backup is looked at once more.
    run(system, &again)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        theirs.push(shell(system, "find data/many -printf '%s %T@\\n' > found")?);
        ours.push(run(system, &again)?);
    }
    let (ours, theirs) = (median(ours)?.as_secs_f64(), median(theirs)?.as_secs_f64());
    println!(
        "incremental of the unchanged tree: {ours:.1} s, find -printf: {theirs:.1} s, ratio {:.2} (medians of {rounds})",
        ours / theirs
    );
    Ok(())
}

fn mib(kib: u64) -> String {
    format!("{} MiB", kib.div_ceil(1024))
}

/// Peak resident memory of each process so far, KiB. Of the database, that of its largest process, in which the
/// shared buffers it touched count.
fn peaks(system: &System) -> Vec<(String, u64)> {
    system
        .listing()
        .into_iter()
        .map(|(name, pid)| {
            let peak = if name == "Postgres" {
                children(pid).into_iter().filter_map(peak).max()
            } else {
                peak(pid)
            };
            (name, peak.unwrap_or(0))
        })
        .collect()
}

fn peak(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// A process and its children.
fn children(parent: Pid) -> Vec<Pid> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    let children = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    std::iter::once(parent)
        .chain(children.map(Pid::from_raw))
        .collect()
}

fn speed(arguments: &Arguments) -> Result<()> {
    let system = system()?;
    let tree = system.data().join("mixed");
    build_mixed(&tree, 1, arguments.bytes)?;
    system.plan("mixed", &tree, "default")?;
    // Both read the same warm or cold pages: whatever fits is in memory before either begins.
    shell(&system, "tar -cf - data/mixed | cat >/dev/null")?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=arguments.rounds {
        let taf = run(&system, &["run", "mixed", "--type", "full"])?;
        let tar = shell(
            &system,
            "tar -cf - data/mixed | zstd -q -T2 -3 > mixed.tar.zst",
        )?;
        let size = fs::metadata(system.home().join("mixed.tar.zst"))?.len();
        fs::remove_file(system.home().join("mixed.tar.zst"))?;
        println!(
            "round {round}: taf {:.1} s, tar | zstd {:.1} s ({} MB compressed)",
            taf.as_secs_f64(),
            tar.as_secs_f64(),
            size / 1_000_000
        );
        ours.push(taf);
        theirs.push(tar);
        until_flushed(&tree)?;
    }
    if arguments.restore {
        let to = system.restored("mixed")?;
        let took = run(
            &system,
            &["restore", "mixed", "--to", &to.display().to_string()],
        )?;
        ensure_equal(&tree, &taf_tests::system::below(&to, &tree))?;
        println!("restore of all: {:.1} s", took.as_secs_f64());
    }
    let (ours, theirs) = (median(ours)?, median(theirs)?);
    let rate = |took: Duration| arguments.bytes as f64 / took.as_secs_f64() / 1e6;
    println!(
        "\n| {} MB, median of {} | seconds | MB/s |",
        arguments.bytes / 1_000_000,
        arguments.rounds
    );
    println!("|---|---|---|");
    println!(
        "| `taf run` | {:.1} | {:.0} |",
        ours.as_secs_f64(),
        rate(ours)
    );
    println!(
        "| `tar -cf - \\| zstd -T2 -3 > file` | {:.1} | {:.0} |",
        theirs.as_secs_f64(),
        rate(theirs)
    );
    println!("| ratio | | {:.2} × |", rate(ours) / rate(theirs));
    Ok(())
}

fn shell(system: &System, line: &str) -> Result<Duration> {
    let mut command = system.command("bash");
    command.args(["-o", "pipefail", "-c", line]);
    let begun = Instant::now();
    Running::start(command)?.wait(PATIENCE)?.expect(0)?;
    Ok(begun.elapsed())
}

/// Waits until what one round left to be written is on the disk, so that the next does not pay for it.
fn until_flushed(folder: &Path) -> Result<()> {
    let file = fs::File::open(folder)?;
    rustix::fs::syncfs(&file).context("can't flush the file system")
}

fn median(mut times: Vec<Duration>) -> Result<Duration> {
    times.sort();
    let Some(middle) = times.get(times.len() / 2) else {
        bail!("nothing was measured: give --rounds 1 or more");
    };
    Ok(*middle)
}
