//! Where the bytes of a dump go: standard output, or a file of this host. On a thread of its own, for a reader may be slow, and the
//! controller must hear from us meanwhile.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::NamedTempFile;
use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;

/// Pieces that wait to be written.
const WAITING: usize = 4;

/// See the module.
#[derive(Debug)]
pub struct Sink {
    /// None once writing has failed.
    pieces: Option<mpsc::Sender<Bytes>>,
    ended: Option<oneshot::Receiver<Result<Taken, Failure>>>,
}

/// What was written whole. A file has its name only when it is kept.
#[derive(Debug)]
pub struct Taken(Option<Pending>);

#[derive(Debug)]
struct Pending {
    file: NamedTempFile,
    path: PathBuf,
    replace: bool,
}

enum Place {
    Output(File, Option<Text>),
    File(Pending),
}

impl Sink {
    /// Standard output; with `text_only` nothing goes there that is no text.
    pub fn standard_output(text_only: bool) -> Result<Self, Failure> {
        let own = io::stdout().as_fd().try_clone_to_owned();
        let own = own.map_err(|error| Failure::output(&error))?;
        let place = Place::Output(File::from(own), text_only.then(Text::default));
        Self::begin(|work| {
            // No thread of the runtime, which would wait for a reader that reads no more.
            let thread = std::thread::Builder::new().name("write".to_owned());
            thread.spawn(move || work(place)).map(drop)
        })
    }

    /// A file, which must not be there, or is replaced.
    pub fn file(path: &Path, replace: bool) -> Result<Self, Failure> {
        let failed = |error: &io::Error| {
            Failure::usage(
                format!("{} can't be written: {error}", path.display()),
                "name a file in a directory where this user may make one",
            )
        };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&error)),
            Ok(there) if !there.is_file() => {
                return Err(Failure::usage(
                    format!("{} is no regular file", path.display()),
                    "name another, or send standard output there",
                ));
            }
            Ok(_) if !replace => {
                return Err(Failure::usage(
                    format!("{} exists", path.display()),
                    "name another, or replace it with --force",
                ));
            }
            Ok(_) => {}
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = NamedTempFile::with_prefix_in(".taf-dump-", folder);
        let place = Place::File(Pending {
            file: file.map_err(|error| failed(&error))?,
            path: path.to_owned(),
            replace,
        });
        Self::begin(|work| {
            // The runtime waits for it, so that no file is left behind.
            tokio::task::spawn_blocking(move || work(place));
            Ok(())
        })
    }

    /// Begins on a thread that is given what it is to do with its place.
    fn begin(
        start: impl FnOnce(Box<dyn FnOnce(Place) + Send>) -> io::Result<()>,
    ) -> Result<Self, Failure> {
        let (pieces, given) = mpsc::channel(WAITING);
        let (end, ended) = oneshot::channel();
        let work = move |place| {
            // Nobody to tell if nobody waits; a file that is not kept goes with this.
            let _ = end.send(write(place, given));
        };
        start(Box::new(work)).map_err(|error| died(&error))?;
        Ok(Self {
            pieces: Some(pieces),
            ended: Some(ended),
        })
    }

    /// Writes a piece; waits while the reader is slow.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), Failure> {
        if let Some(pieces) = &self.pieces
            && pieces.send(piece).await.is_ok()
        {
            return Ok(());
        }
        // Why it failed its end says.
        self.end().await.map(drop)
    }

    /// Waits until everything is written.
    pub async fn finish(mut self) -> Result<Taken, Failure> {
        self.end().await
    }

    async fn end(&mut self) -> Result<Taken, Failure> {
        self.pieces = None;
        match self.ended.take() {
            Some(ended) => ended.await.unwrap_or_else(|error| Err(died(&error))),
            None => Err(died(&"it had ended")),
        }
    }
}

impl Taken {
    /// Gives a file its name. None of standard output.
    pub fn keep(self) -> Result<Option<PathBuf>, Failure> {
        let Some(Pending {
            file,
            path,
            replace,
        }) = self.0
        else {
            return Ok(None);
        };
        let kept = if replace {
            file.persist(&path)
        } else {
            file.persist_noclobber(&path)
        };
        match kept {
            Ok(_) => Ok(Some(path)),
            Err(error) => Err(cannot(&path, &error.error)),
        }
    }
}

fn write(place: Place, mut given: mpsc::Receiver<Bytes>) -> Result<Taken, Failure> {
    match place {
        Place::Output(mut file, mut text) => {
            while let Some(piece) = given.blocking_recv() {
                if text.as_mut().is_some_and(|text| !text.goes_on(&piece)) {
                    return Err(Failure::usage(
                        "standard output is a terminal, and the file is no text",
                        "send it into a pipe or a file, or write it all the same with --force",
                    ));
                }
                file.write_all(&piece).map_err(|error| refused(&error))?;
            }
            Ok(Taken(None))
        }
        Place::File(mut pending) => {
            let wrong = |error: io::Error, path: &Path| cannot(path, &error);
            while let Some(piece) = given.blocking_recv() {
                let wrote = pending.file.write_all(&piece);
                wrote.map_err(|error| wrong(error, &pending.path))?;
            }
            let synced = pending.file.as_file().sync_all();
            synced.map_err(|error| wrong(error, &pending.path))?;
            Ok(Taken(Some(pending)))
        }
    }
}

/// The reader of standard output is gone, or it has no room. Of a dump neither is a good end.
fn refused(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(
            "DUMP_NOT_TAKEN",
            "whoever read standard output is gone, so the dump was stopped and its job is cancelled",
            "",
        );
    }
    Failure::output(error)
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        "OUTPUT_FAILED",
        format!("{} can't be written: {error}", path.display()),
        "see that its disk has room and that it can be made there, then dump it again",
    )
}

fn died(error: &impl std::fmt::Display) -> Failure {
    Failure::new(
        "INTERNAL",
        format!("what writes the dump died: {error}"),
        "report this",
    )
}

/// Whether bytes are text that can't do anything to a terminal.
#[derive(Debug, Default)]
struct Text {
    /// The beginning of a character that goes on in the next piece.
    begun: Vec<u8>,
}

impl Text {
    fn goes_on(&mut self, piece: &[u8]) -> bool {
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend_from_slice(piece);
        let (text, rest) = match std::str::from_utf8(&bytes) {
            Ok(text) => (text, &[][..]),
            Err(error) if error.error_len().is_none() => {
                let (good, rest) = bytes.split_at(error.valid_up_to());
                (std::str::from_utf8(good).unwrap_or_default(), rest)
            }
            Err(_) => return false,
        };
        let harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
        self.begun = rest.to_vec();
        text.chars().all(harmless)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_text_and_no_control_characters() {
        let mut text = Text::default();
        let word = "grüße\r\n\tend".as_bytes();
        for cut in 0..word.len() {
            assert!(text.goes_on(&word[..cut]) && text.goes_on(&word[cut..]));
        }
        for wrong in [
            &b"\x1b[31m"[..],
            b"a\0",
            b"\xff\xfe",
            "\u{9b}31m".as_bytes(),
        ] {
            assert!(!Text::default().goes_on(wrong), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_file_gets_its_name_when_it_is_kept_and_never_takes_anothers_silently() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.tar");
        let names = || fs::read_dir(folder.path()).unwrap().count();
        let mut sink = Sink::file(&path, false).unwrap();
        sink.write(Bytes::from_static(b"some")).await.unwrap();
        drop(sink.finish().await.unwrap());
        assert_eq!(names(), 0);

        let mut sink = Sink::file(&path, false).unwrap();
        sink.write(Bytes::from_static(b"all")).await.unwrap();
        let taken = sink.finish().await.unwrap();
        assert!(!path.exists());
        assert_eq!(taken.keep().unwrap(), Some(path.clone()));
        assert_eq!((fs::read(&path).unwrap(), names()), (b"all".to_vec(), 1));

        assert!(Sink::file(&path, false).unwrap_err().usage);
        assert!(Sink::file(folder.path(), true).unwrap_err().usage);
        let sink = Sink::file(&path, true).unwrap();
        sink.finish().await.unwrap().keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        // It came while the dump did.
        fs::remove_file(&path).unwrap();
        let taken = Sink::file(&path, false).unwrap().finish().await.unwrap();
        fs::write(&path, "other").unwrap();
        assert_eq!(taken.keep().unwrap_err().reason, "OUTPUT_FAILED");
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }
}
