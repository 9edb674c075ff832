//! Where PostgreSQL's programs are on this system, and which of several versions to take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, install};

/// A folder with `postgres`, `initdb` and `pg_ctl` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    /// The folder.
    pub folder: PathBuf,
    /// Major version.
    pub major: u32,
}

impl Binaries {
    /// The newest on this system, or the version that made `data` if that exists.
    pub(super) fn find(data: &Path) -> Result<Self, Error> {
        choose(installed(), data)
    }

    /// A program of this version.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn choose(found: BTreeMap<u32, PathBuf>, data: &Path) -> Result<Binaries, Error> {
    let file = data.join("PG_VERSION");
    let wanted = match std::fs::read_to_string(&file) {
        Ok(text) => Some(text.trim().parse::<u32>().map_err(|_| Error::Io {
            path: file,
            cause: std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "it holds no version number",
            ),
        })?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            return Err(Error::Io {
                path: file,
                cause: error,
            });
        }
    };
    let Some(wanted) = wanted else {
        let newest = found
            .into_iter()
            .next_back()
            .map(|(major, folder)| Binaries { folder, major });
        return newest.ok_or_else(|| Error::Absent {
            install: install::line(None),
        });
    };
    if let Some(folder) = found.get(&wanted) {
        return Ok(Binaries {
            folder: folder.clone(),
            major: wanted,
        });
    }
    let versions: Vec<String> = found.keys().map(u32::to_string).collect();
    Err(Error::Version {
        folder: data.to_path_buf(),
        wanted,
        found: if versions.is_empty() {
            "none".into()
        } else {
            versions.join(", ")
        },
        install: install::line(Some(wanted)),
    })
}

/// The oldest major version that the catalog runs on.
const OLDEST: u32 = 12;

/// Folders by major version; those on PATH win.
fn installed() -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&on_path).chain(usual());
    for folder in folders {
        // Links in /usr/bin lead to the real folder, which has its siblings.
        let Ok(program) = folder.join("postgres").canonicalize() else {
            continue;
        };
        let Some(folder) = program.parent() else {
            continue;
        };
        let complete = ["postgres", "initdb", "pg_ctl"]
            .iter()
            .all(|name| folder.join(name).is_file());
        if let Some(major) = complete.then(|| major_of(&program)).flatten()
            && major >= OLDEST
        {
            found.entry(major).or_insert_with(|| folder.to_path_buf());
        }
    }
    found
}

/// The folders of Debian's packages, of the PostgreSQL project's packages, and of what is built by hand.
fn usual() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
    {
        folders.push(entry.path().join("bin"));
    }
    for entry in std::fs::read_dir("/usr").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("pgsql-") {
            folders.push(entry.path().join("bin"));
        }
    }
    folders.sort();
    folders.extend(["/usr/libexec/postgresql", "/usr/local/pgsql/bin"].map(PathBuf::from));
    folders
}

fn major_of(postgres: &Path) -> Option<u32> {
    let output = Command::new(postgres).arg("--version").output().ok()?;
    // "postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)", "postgres (PostgreSQL) 18beta1"
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = text.split("(PostgreSQL)").nth(1)?.trim_start();
    let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_taken_unless_the_data_say_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let both = BTreeMap::from([(13, PathBuf::from("/a")), (15, PathBuf::from("/b"))]);
        assert_eq!(choose(both.clone(), folder.path()).unwrap().major, 15);
        std::fs::write(folder.path().join("PG_VERSION"), "13\n").unwrap();
        assert_eq!(
            choose(both.clone(), folder.path()).unwrap().folder,
            Path::new("/a")
        );
        std::fs::write(folder.path().join("PG_VERSION"), "14\n").unwrap();
        let error = choose(both, folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("PostgreSQL 14") && error.contains("13, 15"),
            "{error}"
        );
    }

    #[test]
    fn nothing_installed_names_the_line_that_installs_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = choose(BTreeMap::new(), folder.path()).unwrap_err();
        assert!(matches!(error, Error::Absent { .. }), "{error}");
    }
}
