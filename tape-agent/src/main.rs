//! The program: enrols this host, supervises the workers, or is one.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use taf_peer::token::EnrolmentToken;
use taf_peer::{enrol, secret_file, telemetry};
use taf_scsi::transport::iscsi;
use taf_tape_agent::config::Config;
use taf_tape_agent::{supervisor, worker};

/// Bytes of the longest token file.
const TOKEN_LIMIT: u64 = 4096;

/// TAF's tape agent: drives the tape drives and libraries of this host.
#[derive(Debug, Parser)]
#[command(name = "taf-tape-agent", version)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Get an identity from the controller, with a token that an administrator made for this host.
    Enrol {
        /// host:port of the controller.
        #[arg(long, value_name = "HOST:PORT")]
        controller: String,
        /// File that holds the token, readable by its owner alone (chmod 600).
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// Folder to keep the identity in; made if it is missing.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Run until SIGTERM or SIGINT.
    Run {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Be the worker of one device. The supervisor starts it.
    #[command(hide = true)]
    Worker {
        #[command(subcommand)]
        kind: Kind,
    },
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Of a drive.
    Drive(Device),
    /// Of a media changer.
    Library(Device),
}

#[derive(Debug, clap::Args)]
struct Device {
    /// Configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Device name.
    #[arg(long)]
    device: String,
}

fn main() -> ExitCode {
    match act(Command::parse().action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taf-tape-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = match action {
        Action::Enrol {
            controller,
            token_file,
            state,
        } => {
            let text = secret_file::read(&token_file, TOKEN_LIMIT)?;
            let token: EnrolmentToken = std::str::from_utf8(&text)
                .context("the token file holds no text")?
                .trim()
                .parse()?;
            let own = runtime.block_on(enrol::enrol(&controller, &token, &state))?;
            eprintln!("enrolled as {} in {}", own.identity(), state.display());
            Ok(())
        }
        Action::Run { config: file } => {
            let config = Config::load(&file)?;
            // Workers read it each for itself; here its faults are seen.
            config.iscsi()?;
            telemetry::init("tape-agent", config.log_json);
            runtime.block_on(supervisor::run(&config, &file))
        }
        Action::Worker { kind } => {
            let (drive, device) = match kind {
                Kind::Drive(device) => (true, device),
                Kind::Library(device) => (false, device),
            };
            let config = Config::load(&device.config)?;
            let name = if drive {
                "drive-worker"
            } else {
                "library-worker"
            };
            telemetry::init(name, config.log_json);
            iscsi::configure(config.iscsi()?);
            if drive {
                runtime.block_on(worker::drive::run(config, &device.device))
            } else {
                runtime.block_on(worker::library::run(config, &device.device))
            }
        }
    };
    // A thread that hangs in a device or in standard input must not keep the process.
    runtime.shutdown_background();
    outcome
}
