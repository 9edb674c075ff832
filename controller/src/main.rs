//! The controller's program: reads the configuration, starts, says that it is ready, ends at a signal.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use taf_controller::config::{Config, Database};
use taf_controller::server::{SOCKET, Server};
use taf_controller::store::statements;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// TAF's controller: serves the API, keeps the catalog, decides what runs where.
#[derive(Debug, Parser)]
#[command(name = "taf-controller", version)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run until SIGTERM or SIGINT.
    Run(Place),
    /// Read the configuration and say what it means; start nothing.
    Check(Place),
    /// Print every SQL statement, one a line: those that make the schema in their order, then all that the program sends.
    Sql,
}

#[derive(Debug, Args)]
struct Place {
    /// Configuration file (TOML); without one everything is as usual.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for keys, socket and the private database [default: TAF_HOME/controller, /var/lib/taf/controller as root,
    /// ~/.local/share/taf/controller].
    #[arg(long, value_name = "DIR")]
    #[allow(clippy::doc_markdown)] // read in a terminal
    home: Option<PathBuf>,
}

impl Place {
    fn load(self) -> Result<Config, taf_controller::config::Error> {
        Config::load(self.config.as_deref(), self.home)
    }
}

fn main() -> ExitCode {
    let outcome = match Command::parse().action {
        Action::Check(place) => check(place),
        Action::Run(place) => run(place),
        Action::Sql => sql(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("taf-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(place: Place) -> anyhow::Result<()> {
    let config = place.load()?;
    eprintln!("home              {}", config.home.display());
    eprintln!("listen            {}", config.listen);
    match &config.database {
        Database::Embedded => eprintln!("database          embedded"),
        Database::Url { url, .. } => eprintln!("database          {url}"),
        Database::UrlFile(file) => eprintln!("database          as {} says", file.display()),
    }
    eprintln!("cluster key       {}", config.cluster_key_file.display());
    eprintln!("lease             {} s", config.lease.as_secs());
    eprintln!("volume wait       {} s", config.volume_wait.as_secs());
    eprintln!("the configuration is good");
    Ok(())
}

fn sql() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for statement in statements::schema().into_iter().chain(statements::sent()) {
        match writeln!(out, "{statement};") {
            // Whoever reads has enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(())
}

fn run(place: Place) -> anyhow::Result<()> {
    let config = place.load()?;
    taf_peer::telemetry::init("controller", config.log_json);
    let socket = config.home.join(SOCKET);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(async move {
            let shutdown = CancellationToken::new();
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let asked = shutdown.clone();
            tokio::spawn(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                asked.cancel();
            });
            // A signal meanwhile is heeded afterwards: a database half started would be left behind.
            let server = Server::start(config).await?;
            eprintln!(
                "ready: the API is served on {} and on {}",
                server.address(),
                socket.display()
            );
            server.run(shutdown).await?;
            Ok(())
        })
}
