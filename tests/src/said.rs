//! A program that was run: its exit status and what it said. Runs have deadlines: a program that hangs is an error.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::patience;

/// A program under way.
#[derive(Debug)]
pub struct Running {
    words: String,
    child: Child,
    stdout: File,
    stderr: File,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Said {
    /// The command, for people.
    pub words: String,
    /// Exit status; `None` if a signal ended it.
    pub status: Option<i32>,
    /// Its data.
    pub stdout: Vec<u8>,
    /// Its talk.
    pub stderr: String,
}

impl Running {
    /// Starts it, with nothing to read.
    pub fn start(mut command: Command) -> Result<Self> {
        let words = words(&command);
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()
            .with_context(|| format!("can't start {words}"))?;
        Ok(Self {
            words,
            child,
            stdout,
            stderr,
        })
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for its end. A program that is over the deadline is killed, and an error.
    pub fn wait(mut self, deadline: Duration) -> Result<Said> {
        let child = &mut self.child;
        let ended = patience::until("its end", deadline, || Ok(child.try_wait()?));
        let status = match ended {
            Ok(status) => status.code(),
            Err(error) => {
                self.child.kill()?;
                self.child.wait()?;
                let said = self.said(None)?;
                return Err(error.context(format!("it hangs: {said}")));
            }
        };
        self.said(status)
    }

    fn said(&mut self, status: Option<i32>) -> Result<Said> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.stdout.rewind()?;
        self.stdout.read_to_end(&mut stdout)?;
        self.stderr.rewind()?;
        self.stderr.read_to_end(&mut stderr)?;
        Ok(Said {
            words: self.words.clone(),
            status,
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn words(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| OsString::from(word).to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

impl Said {
    /// Itself, if the exit status is this one.
    pub fn expect(self, status: i32) -> Result<Self> {
        if self.status != Some(status) {
            bail!("expected exit status {status} of {self}");
        }
        Ok(self)
    }

    /// Its data as JSON: one document, or an array of the lines' documents.
    pub fn json(&self) -> Result<Value> {
        let parse = || -> Result<Value, serde_json::Error> {
            serde_json::Deserializer::from_slice(&self.stdout)
                .into_iter()
                .collect::<Result<Vec<Value>, _>>()
                .map(|mut documents| match documents.len() {
                    1 => documents.remove(0),
                    _ => Value::Array(documents),
                })
        };
        parse().with_context(|| format!("this is no JSON: {self}"))
    }

    /// Its data as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self
            .status
            .map_or("a signal".to_owned(), |status| status.to_string());
        let shown = self.stdout.get(..4000).unwrap_or(&self.stdout);
        write!(
            f,
            "`{}`, which ended with {status}\nstdout: {}\nstderr: {}",
            self.words,
            String::from_utf8_lossy(shown),
            self.stderr
        )
    }
}

/// Every value of this key, anywhere in a document.
pub fn values<'a>(document: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    let mut open = vec![document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                found.extend(map.get(key));
                open.extend(map.values().rev());
            }
            Value::Array(list) => open.extend(list.iter().rev()),
            _ => {}
        }
    }
    found
}

/// Every object with this key, anywhere in a document.
pub fn objects<'a>(document: &'a Value, key: &str) -> Vec<&'a Value> {
    let mut found = Vec::new();
    let mut open = vec![document];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => {
                if map.contains_key(key) {
                    found.push(value);
                }
                open.extend(map.values().rev());
            }
            Value::Array(list) => open.extend(list.iter().rev()),
            _ => {}
        }
    }
    found
}

/// A number, which JSON of protobuf writes as text where it may pass 53 bits; 0 if there is none.
pub fn number(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    }
}
