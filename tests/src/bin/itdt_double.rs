//! A double of IBM's `itdt`, for tests: the orders that TAF gives it, done on a drive by TAF's own SCSI driver.
//!
//! IBM publishes the program's grammar and that success ends with `Exit with code: 0`, and no transcript. What is **assumed** here,
//! and what TAF's driver must therefore not need:
//!
//! 1. Several orders in one call are done one after another with the device open once; the first that fails ends the call.
//! 2. A failed order prints `Result: FAILED`, and the call ends with `Exit with code: N` and that exit status, N from 1.
//! 3. `tur` prints the standard's words for sense data, such as *initializing command required*. The layout around the words of `scan`, `qrypart`, `tapeusage` (headings, dots, columns), and all of what `inq`, `tur`, and
//!    `qrypos` print.
//! 4. `readattr` writes the attribute as the drive sends it, five bytes of head and the value; identifiers are hexadecimal.
//! 5. `writeattr` takes the bare text and pads it; `load` needs no `-amu`; `erase -short` is the short erase; without it, the long.
//! 6. It takes pending unit attentions itself, moves no tape by opening or closing the device, and refuses a device that another
//!    program has open.
//!
//! What it doesn't do: ask for a licence at its first start, write a log, take `-w`, `-L` and their like.
#![forbid(unsafe_code)]

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::OFlag;
use taf_drive::{Drive, Readiness, ScsiDrive, Sync};
use taf_scsi::cdb::{self, PageControl};
use taf_scsi::host::{Host, Kind};
use taf_scsi::page::attribute::{self, Attribute};
use taf_scsi::page::log;
use taf_scsi::page::log::counters::TapeUsage;
use taf_scsi::page::mode::tape::Partitions;
use taf_scsi::page::mode::{self, Mode};
use taf_scsi::transport::sg::Sg;
use taf_scsi::transport::{Data, Transport as _};

/// A drive that is threading or rewinding is given so long.
const READY_WITHIN: Duration = Duration::from_mins(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match work(&arguments) {
        Ok(()) => {
            println!("Exit with code: 0");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error:#}\nResult: FAILED\nExit with code: 1");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &[String]) -> Result<()> {
    let mut words = arguments.iter().map(String::as_str).peekable();
    let mut device = None;
    while let Some(global) = words.next_if(|word| word.starts_with('-')) {
        match global {
            "-force-generic-dd" => {}
            "-version" => println!("a double of IBM Tape Diagnostic Tool Standard Edition"),
            "-f" => device = words.next(),
            other => bail!("unknown option {other}"),
        }
    }
    if words.next_if_eq(&"scan").is_some() {
        return scan();
    }
    let Some(device) = device else { return Ok(()) };
    println!("Opening Device {device} ...");
    let mut drive = open(device).context("open failed")?;
    drive.attentions()?;
    while let Some(order) = words.next() {
        let mut options = Vec::new();
        while let Some(option) =
            words.next_if(|word| word.starts_with('-') || word.chars().all(|c| c.is_ascii_digit()))
        {
            options.push(option);
        }
        if order == "writeattr" {
            // It goes past the driver, which writes none.
            write_attribute(device, &options)?;
        } else if order == "qrypart" {
            partitions(device)?;
        } else {
            obey(&mut drive, order, &options).with_context(|| order.to_owned())?;
        }
        println!("Result: PASSED\nCode: OK");
    }
    Ok(())
}

/// Opens the drive's node, if nobody else has its tape. That is looked at once: what comes later is told by the test that fails.
fn open(device: &str) -> Result<ScsiDrive> {
    let node = Path::new(device);
    let number = std::fs::metadata(node)?.rdev();
    let devices = Host::this().devices()?;
    let own = devices.into_iter().find(|one| one.number == number);
    if let Some(st) = own.and_then(|one| one.st_node) {
        OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(st)?;
    }
    Ok(ScsiDrive::new(Box::new(Sg::open_to_ask(node)?))?)
}

fn scan() -> Result<()> {
    println!("Scanning SCSI Bus ...");
    for (number, device) in Host::this().devices()?.iter().enumerate() {
        let address: Vec<&str> = device.address.split(':').collect();
        let [host, bus, target, unit] = address[..] else {
            continue;
        };
        if device.kind == Kind::Drive {
            println!(
                "#{number} {} - [{}]-[{}] S/N:{} H{host}-B{bus}-T{target}-L{unit} (Generic-Device)",
                device.node.display(),
                device.product,
                device.revision,
                device.serial.as_deref().unwrap_or("none"),
            );
        }
    }
    Ok(())
}

fn obey(drive: &mut dyn Drive, order: &str, options: &[&str]) -> Result<()> {
    let option = |letter: &str| options.iter().find_map(|word| word.strip_prefix(letter));
    match order {
        "tur" => {
            let readiness = drive.ready()?;
            match readiness {
                Readiness::Ready => {}
                Readiness::LoadRequired => bail!("Not Ready: initializing command required"),
                other => bail!("Not Ready: {other:?}"),
            }
        }
        "inq" => {
            let identity = drive.identity();
            println!(
                "Vendor ID ............ {}\nProduct ID ........... {}\nSerial Number ........ {}",
                identity.vendor,
                identity.product,
                identity.serial.as_deref().unwrap_or_default()
            );
        }
        "load" => {
            drive.load()?;
            wait(drive)?;
        }
        "unload" => drive.unload()?,
        "rewind" => drive.rewind()?,
        "erase" => drive.erase(!options.contains(&"-short"))?,
        "weof" => {
            let count = options.first().map_or(Ok(1), |count| count.parse())?;
            drive.write_filemarks(count, Sync::Synchronous)?;
        }
        "qrypos" => println!("Block Number ......... {}", drive.position()?.block),
        "tapeusage" => {
            let page = drive
                .log_page(log::TAPE_USAGE)?
                .context("no such log page")?;
            usage(&TapeUsage::of(&page));
        }
        "readattr" => {
            let id = u16::from_str_radix(option("-a").context("no -a")?, 16)?;
            let all = drive.attributes()?.context("no cartridge memory")?;
            let one = attribute::find(&all, id).context("no such attribute")?;
            // Behind the list's own length.
            let bytes = attribute::build(std::slice::from_ref(one)).split_off(4);
            std::fs::write(option("-d").context("no -d")?, bytes)?;
        }
        other => bail!("unknown command {other}"),
    }
    Ok(())
}

fn partitions(device: &str) -> Result<()> {
    let mut page = [0; 255];
    let cdb = cdb::mode_sense_6(PageControl::Current, mode::MEDIUM_PARTITION, 0, 255);
    let mut path = Sg::open_to_ask(Path::new(device))?;
    let done = path.execute(&cdb, Data::In(&mut page), READY_WITHIN)?;
    let mode = Mode::parse_6(&page[..done.transferred])?;
    let found = mode
        .page(mode::MEDIUM_PARTITION, 0)
        .context("no such mode page")?;
    let found = Partitions::parse(found)?;
    println!(
        "Active Partition ............ 0\nMax. Additional Partitions .. {}\nAdditional Partitions defined  {}\n\
         Partitioning Type is ........ wrap-wise partitioning",
        found.additional_possible, found.additional
    );
    Ok(())
}

fn wait(drive: &mut dyn Drive) -> Result<()> {
    taf_tests::patience::until("the drive is ready", READY_WITHIN, || {
        drive.attentions()?;
        Ok((drive.ready()? == Readiness::Ready).then_some(()))
    })
}

fn usage(usage: &TapeUsage) {
    let lines = [
        ("Thread Count", usage.thread_count),
        ("Data Sets Read", usage.data_sets_read),
        ("Data Sets Written", usage.data_sets_written),
        ("Read Retries", usage.read_retries),
        ("Write Retries", usage.write_retries),
        ("Unrecovered Read Err.", usage.unrecovered_read_errors),
        ("Unrecovered Write Err.", usage.unrecovered_write_errors),
        ("Suspended Reads", usage.suspended_reads),
        ("Suspended Writes", usage.suspended_writes),
        ("Fatal Suspend Reads", usage.fatal_suspended_reads),
        ("Fatal Suspended Writes", usage.fatal_suspended_writes),
    ];
    for (words, count) in lines {
        println!("{words} {}", count.unwrap_or(0));
    }
}

fn write_attribute(device: &str, options: &[&str]) -> Result<()> {
    let option = |letter: &str| options.iter().find_map(|word| word.strip_prefix(letter));
    let id = u16::from_str_radix(option("-a").context("no -a")?, 16)?;
    let text = std::fs::read_to_string(Path::new(option("-s").context("no -s")?))?;
    let list = attribute::build(&[Attribute::host_text(id, &text)]);
    let mut path = Sg::open_to_ask(Path::new(device))?;
    let cdb = cdb::write_attribute(list.len() as u32);
    let done = path.execute(&cdb, Data::Out(&list), READY_WITHIN)?;
    if done.status != taf_scsi::status::GOOD {
        bail!("writeattr: status {:#04x}", done.status);
    }
    Ok(())
}
