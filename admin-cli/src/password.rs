//! Passwords: from a file, from standard input, or typed without echo. Never from an argument, where other users of the
//! host would see them.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::failure::Failure;

/// Bytes of the longest password that is read.
const LIMIT: u64 = 4096;

/// Where a password comes from.
#[derive(Debug, clap::Args)]
pub struct From {
    /// File whose first line is the password; "-" is standard input. Without it the password is asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl From {
    /// Reads it. One that is typed anew is typed twice.
    pub fn read(&self, user: &str, new: bool) -> Result<Zeroizing<String>, Failure> {
        match &self.password_file {
            Some(path) if path == Path::new("-") => first_line(std::io::stdin(), "standard input"),
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|error| {
                    Failure::new(
                        "PASSWORD_FILE",
                        format!(
                            "the password file {} can't be read: {error}",
                            path.display()
                        ),
                        "name a file that you can read",
                    )
                })?;
                first_line(file, &path.display().to_string())
            }
            None if std::io::stdin().is_terminal() => typed(user, new),
            None => first_line(std::io::stdin(), "standard input"),
        }
    }
}

fn first_line(source: impl std::io::Read, name: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(LIMIT as usize + 1));
    source
        .take(LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::new(
                "PASSWORD_FILE",
                format!("the password can't be read from {name}: {error}"),
                "give it as one line of text",
            )
        })?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || text.len() as u64 > LIMIT {
        return Err(Failure::new(
            "PASSWORD_FILE",
            format!("there is no password in {name}"),
            "put it into the first line, or leave --password-file out and type it",
        ));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn typed(user: &str, new: bool) -> Result<Zeroizing<String>, Failure> {
    let ask = |what: &str| {
        let terminal = console::Term::stderr();
        terminal
            .write_str(&format!("{what} of {user}: "))
            .and_then(|()| terminal.read_secure_line())
            .map(Zeroizing::new)
            .map_err(|error| {
                Failure::new(
                    "PASSWORD_FILE",
                    format!("the password can't be read from the terminal: {error}"),
                    "use --password-file",
                )
            })
    };
    let password = ask("password")?;
    if new && *ask("the same again: password")? != *password {
        return Err(Failure::new(
            "PASSWORD_FILE",
            "the two passwords differ",
            "try again",
        ));
    }
    Ok(password)
}
