//! Configuration files: TOML, one struct a process, unknown keys refused. And where state lives.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use crate::quantity::{Size, Span};

/// Largest configuration file, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Over 1 MiB.
    #[error("{} is over 1 MiB: this is not a configuration file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A value is wrong, or a key unknown.
    #[error("{}, line {line}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Counted from 1; 1 also where no place is known.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Reads a file into `T`, which should say `#[serde(deny_unknown_fields)]`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(read)?;
    let mut text = String::new();
    file.take(LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(read)?;
    if text.len() as u64 > LIMIT {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    toml::from_str(&text).map_err(|error| Error::Content {
        path: path.to_owned(),
        line: error.span().map_or(1, |span| {
            let before = text.get(..span.start).unwrap_or(&text);
            1 + before.matches('\n').count()
        }),
        message: error.message().replace('\n', "; "),
    })
}

/// Where state lives: `TAF_HOME`; else /var/lib/taf for root and `taf` below `XDG_DATA_HOME` (`~/.local/share`) for
/// others.
pub fn home() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    home_from(
        set("TAF_HOME").map(PathBuf::from),
        nix::unistd::geteuid().is_root(),
        set("XDG_DATA_HOME").map(PathBuf::from),
        set("HOME").map(PathBuf::from),
    )
}

fn home_from(
    taf: Option<PathBuf>,
    root: bool,
    data: Option<PathBuf>,
    user: Option<PathBuf>,
) -> PathBuf {
    match (taf, root) {
        (Some(taf), _) => taf,
        (None, true) => PathBuf::from("/var/lib/taf"),
        // The XDG specification says that a relative value is ignored.
        (None, false) => data
            .filter(|path| path.is_absolute())
            .or_else(|| user.map(|user| user.join(".local/share")))
            .unwrap_or_else(std::env::temp_dir)
            .join("taf"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        listen: String,
        spool: Size,
        every: Span,
    }

    fn read(text: &str) -> Result<Sample, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sample.toml");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn a_configuration_is_read() {
        let sample = read("listen = \"[::]:7700\"\nspool = \"2GiB\"\nevery = \"1m\"\n").unwrap();
        assert_eq!(sample.listen, "[::]:7700");
        assert_eq!(sample.spool, Size(2 << 30));
        assert_eq!(sample.every, Span(Duration::from_mins(1)));
    }

    #[test]
    fn an_error_names_file_line_and_fault() {
        for (text, line, fault) in [
            ("listen = \"a\"\nspool = 1\nevry = \"1m\"\n", 3, "evry"),
            (
                "listen = \"a\"\nspool = \"2XB\"\nevery = \"1m\"\n",
                2,
                "2XB",
            ),
            ("listen = \"a\"\nspool = -1\nevery = \"1m\"\n", 2, "size"),
            ("listen = \"a\n", 1, ""),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("sample.toml, line {line}: ")),
                "{error}"
            );
            assert!(error.contains(fault), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn home_depends_on_who_asks() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(home_from(path("/x"), true, None, None), PathBuf::from("/x"));
        assert_eq!(
            home_from(None, true, path("/d"), path("/root")),
            PathBuf::from("/var/lib/taf")
        );
        assert_eq!(
            home_from(None, false, path("/d"), path("/h")),
            PathBuf::from("/d/taf")
        );
        assert_eq!(
            home_from(None, false, path("d"), path("/h")),
            PathBuf::from("/h/.local/share/taf")
        );
    }
}
