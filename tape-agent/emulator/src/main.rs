//! The emulator's program: make a virtual library, switch it on, put cartridges in.
#![forbid(unsafe_code)]

mod arguments;
mod orders;

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use taf_emulator::cartridge::{Kind, Reader};
use taf_emulator::control::Order;
use taf_emulator::iscsi::{self, Options, Portal};
use taf_emulator::library::{self, Library, NewCartridge};
use taf_emulator::server;
use taf_scsi::transport::iscsi::Settings;
use taf_scsi::transport::iscsi::chap::Secrets;

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
            iscsi,
            layout,
        } => {
            if create && !Library::exists(&dir) {
                make(&dir, &layout)?;
            }
            serve(&dir, iscsi)
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
fn serve(dir: &Path, at: arguments::Iscsi) -> anyhow::Result<()> {
    // Blocked before any thread starts, so that all of them inherit it and the signal waits for us.
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTERM);
    stop.add(Signal::SIGINT);
    stop.thread_block().context("can't block signals")?;

    let library = Library::open(dir)?;
    let mut out = io::stdout().lock();
    let mut units = server::serve(&library)?;
    let portal = match at.listen {
        Some(address) => Some(target(&library, address, at)?),
        None => None,
    };
    if let Some((portal, name)) = &portal {
        for lun in 0..units.len() {
            let device = format!("iscsi://{}/{name}/{lun}", portal.address());
            units.push(server::Served {
                device,
                ..units[lun].clone()
            });
        }
    }
    for served in units {
        writeln!(out, "{}\t{}\t{}", served.unit, served.device, served.serial)?;
    }
    out.flush()?;
    drop(out);

    let signal = stop.wait().context("can't wait for a signal")?;
    tracing::info!(%signal, "switching off");
    if let Some((portal, _)) = portal {
        portal.close();
    }
    library.settle()?;
    Ok(())
}

/// The iSCSI target in front of the library, and its name.
fn target(
    library: &Library,
    address: SocketAddr,
    wanted: arguments::Iscsi,
) -> anyhow::Result<(Portal, String)> {
    let name = match wanted.name {
        Some(name) => name,
        None => Options::default_name(library),
    };
    Settings::check_name(&name).map_err(anyhow::Error::msg)?;
    let mut options = Options::new(name.as_str());
    options.redirect = wanted.redirect;
    match wanted.secrets {
        Some(file) => options.secrets = secrets(&file)?,
        None if !address.ip().is_loopback() => {
            tracing::warn!(%address, "whoever reaches the iSCSI target may use it; see --iscsi-secrets");
        }
        None => {}
    }
    let listener =
        TcpListener::bind(address).with_context(|| format!("can't listen on {address}"))?;
    Ok((iscsi::serve(listener, library, options)?, name))
}

fn secrets(file: &Path) -> anyhow::Result<Secrets> {
    let read = || format!("can't read the secrets in {}", file.display());
    let mode = std::fs::metadata(file).with_context(read)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        anyhow::bail!(
            "{} may be read or changed by others (mode {mode:03o}): run chmod 600 on it",
            file.display()
        );
    }
    let text = std::fs::read_to_string(file).with_context(read)?;
    let secrets = Secrets::parse(&text).map_err(anyhow::Error::msg);
    let secrets = secrets.with_context(|| file.display().to_string())?;
    anyhow::ensure!(!secrets.is_empty(), "{} has no secrets", file.display());
    Ok(secrets)
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
