//! The program: enrols this host, or runs its agent.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use taf_peer::token::EnrolmentToken;
use taf_peer::{enrol, secret_file, telemetry};
use taf_source_agent::agent;
use taf_source_agent::config::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Bytes of the longest token file.
const TOKEN_LIMIT: u64 = 4096;

/// TAF's source agent: backs up and restores the files of this host.
#[derive(Debug, Parser)]
#[command(name = "taf-source-agent", version)]
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
    /// Read the configuration and say what it means; start nothing.
    Check {
        /// Configuration file (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    match act(Command::parse().action) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The messages of our errors say their causes themselves.
            eprintln!("taf-source-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(action: Action) -> anyhow::Result<()> {
    match action {
        Action::Enrol {
            controller,
            token_file,
            state,
        } => {
            let text = secret_file::read(&token_file, TOKEN_LIMIT)?;
            let token: EnrolmentToken = std::str::from_utf8(&text)
                .context("the token file holds no text")?
                .parse()?;
            let own = runtime()?.block_on(enrol::enrol(&controller, &token, &state))?;
            eprintln!("enrolled as {} in {}", own.identity(), state.display());
            Ok(())
        }
        Action::Run { config } => {
            let config = Config::load(&config)?;
            telemetry::init("source-agent", config.log_json);
            raise_descriptor_limit();
            runtime()?.block_on(run(config))
        }
        Action::Check { config } => {
            check(&Config::load(&config)?);
            Ok(())
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

async fn run(config: Config) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
    });
    Ok(agent::run(config, stop).await?)
}

fn check(config: &Config) {
    let list = |paths: &[PathBuf]| {
        if paths.is_empty() {
            return "nothing".to_owned();
        }
        let names: Vec<_> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        names.join(", ")
    };
    eprintln!("controller        {}", config.controller);
    eprintln!("state             {}", config.state.display());
    eprintln!("backup allowed    {}", list(&config.backup_allowed));
    eprintln!("restore allowed   {}", list(&config.restore_allowed));
    eprintln!("remove allowed    {}", list(&config.remove_allowed));
    let left_out = [
        config.exclude.as_slice(),
        std::slice::from_ref(&config.state),
    ]
    .concat();
    eprintln!("always left out   {}", list(&left_out));
    eprintln!("readers           {}", config.readers);
    eprintln!("the configuration is good");
}

/// Files are held open a batch ahead for each reader; the usual soft limit is for programs that use select.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}
