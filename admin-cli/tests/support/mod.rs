//! The `taf` binary as a person runs it, in a folder of its own.

// Each test binary uses what it needs of this.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

pub mod archive;

/// A command with nothing of the surroundings: no sign-in, no home.
pub fn taf(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taf"));
    command
        .env_clear()
        .env("TAF_CONFIG", home.join("login.toml"))
        .env("TAF_HOME", home.join("home"))
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

/// What a command came to.
pub struct Said {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Said {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// The talk names all of these.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "no '{word}': {self}");
        }
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let data = String::from_utf8_lossy(&self.stdout);
        write!(f, "status {}\n{data}\n{}", self.status, self.stderr)
    }
}

/// Runs the words.
pub fn run_with(home: &Path, words: &[&str], environment: &[(&str, &str)]) -> Said {
    let environment = environment.iter().copied();
    taf(home)
        .args(words)
        .envs(environment)
        .output()
        .unwrap()
        .into()
}

/// Runs it.
pub fn run(home: &Path, words: &[&str]) -> Said {
    taf(home).args(words).output().unwrap().into()
}
