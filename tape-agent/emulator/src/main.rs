//! The emulator's program: make a virtual library, switch it on, put cartridges in.
#![forbid(unsafe_code)]

mod arguments;
mod orders;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use taf_emulator::cartridge::{Kind, Reader};
use taf_emulator::control::Order;
use taf_emulator::library::{self, Library, NewCartridge};
use taf_emulator::server;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("TAF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taf-emulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => make(&create.dir, &create.layout),
        Command::Serve {
            dir,
            create,
            layout,
        } => {
            if create && !Library::exists(&dir) {
                make(&dir, &layout)?;
            }
            serve(&dir)
        }
        Command::Add(add) => {
            let new = NewCartridge {
                capacity: add.capacity.map(|size| size.0),
                write_protected: add.write_protected,
                foreign: add
                    .foreign
                    .map(|file| (file, add.foreign_block.0.try_into().unwrap_or(u32::MAX))),
                write_once: add.write_once,
                second_partition: add.second_partition.map_or(0, |size| size.0),
                another: add.another,
                unlabelled: add.unlabelled,
                outside: add.outside,
            };
            for barcode in &add.barcodes {
                let path = library::add(&add.dir, barcode, &new)?;
                println!("{}", path.display());
            }
            Ok(())
        }
        Command::List { dir } => list(&dir),
        Command::Stat { dir, json } => orders::stat(&dir, json),
        Command::Fault(command) => orders::fault(command),
        Command::Drive(command) => orders::drive(command),
        Command::Door { dir, action } => {
            let open = action == arguments::DoorAction::Open;
            orders::give(&dir, &Order::Door { open })
        }
        Command::Mail(command) => orders::mail(command),
        Command::Exception { dir, element, code } => {
            let code = code.map(|code| code.0);
            orders::give(&dir, &Order::Exception { element, code })
        }
        Command::Advance { dir, milliseconds } => {
            orders::give(&dir, &Order::Advance { milliseconds })
        }
        Command::Cat { cartridge, file } => {
            let reader = Reader::open(&cartridge)?;
            let mut out = io::stdout().lock();
            for block in reader.blocks(file)? {
                out.write_all(&block?).context("can't write to stdout")?;
            }
            out.flush().context("can't write to stdout")
        }
    }
}

fn make(dir: &Path, layout: &arguments::Layout) -> anyhow::Result<()> {
    let spec = layout.spec();
    anyhow::ensure!(
        layout.cartridges <= spec.slots,
        "{} cartridges don't fit in {} slots; give more --slots",
        layout.cartridges,
        spec.slots
    );
    Library::create(dir, &spec)?;
    for number in 1..=layout.cartridges {
        let barcode = format!("{}{number:03}{}", layout.prefix, spec.generation.suffix());
        library::add(dir, &barcode, &NewCartridge::default())?;
    }
    Ok(())
}

/// Serves until told to stop, then brings what is buffered to the media.
fn serve(dir: &Path) -> anyhow::Result<()> {
    // Blocked before any thread starts, so that all of them inherit it and the signal waits for us.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.add(Signal::SIGINT);
    stop.thread_block().context("can't block signals")?;

    let library = Library::open(dir)?;
    let mut out = io::stdout().lock();
    for served in server::serve(&library)? {
        writeln!(out, "{}\t{}\t{}", served.unit, served.device, served.serial)?;
    }
    out.flush()?;
    drop(out);

    let signal = stop.wait().context("can't wait for a signal")?;
    tracing::info!(%signal, "switching off");
    library.settle()?;
    Ok(())
}

fn list(dir: &Path) -> anyhow::Result<()> {
    for (barcode, reader) in library::shelf(dir)? {
        let meta = reader.meta();
        println!(
            "{barcode}\t{}\t{}\t{} files\t{} loads{}",
            reader.used(),
            meta.capacity,
            reader.files(),
            meta.loads,
            match (meta.write_protected, meta.kind) {
                (true, _) => "\twrite protected",
                (_, Kind::WriteOnce) => "\twrite once",
                (_, Kind::Cleaning) => "\tcleaning",
                (_, Kind::Data) => "",
            }
        );
    }
    Ok(())
}
