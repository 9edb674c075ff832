//! How long an incremental takes over a tree in which nothing changed: to hold against
//! `find DIR -printf '%s %T@\n' > /dev/null`. No network: the base's pages come from a file.
//!
//! `make DIR COUNT` makes a tree of so many small files, 20 in a directory; `full DIR FILE` backs it up and keeps the pages;
//! `again DIR FILE` merges it with them, and says how long that took and how much memory.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use taf_format::page::Dictionaries;
use taf_format::record::{self, Body};
use taf_format::segment::{self, Identity, Sealer};
use taf_proto::agent::BasePage;
use taf_source_agent::backup::ahead;
use taf_source_agent::backup::links::Links;
use taf_source_agent::backup::merge::{Against, Base, Joined, Layer, Merger, Row, Rules};
use taf_source_agent::backup::pack::{self, Mode, Outlets, Totals};
use taf_source_agent::backup::step::Step;
use taf_source_agent::fault::{self, Error};
use taf_source_agent::progress::Counters;
use taf_tree::Walk;
use taf_tree::walk::Options;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Rows of a batch.
const BATCH: usize = 200;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["make", directory, count] => make(Path::new(directory), count.parse()?),
        ["full", directory, file] => full(Path::new(directory), Path::new(file)),
        ["again", directory, file] => again(Path::new(directory), Path::new(file)),
        _ => bail!("give make, full or again, a directory, and a count or a file"),
    }
}

fn make(directory: &Path, count: usize) -> Result<()> {
    for n in 0..count {
        let (folder, within) = (n / 20, n % 20);
        let path = directory.join(format!("project-{:03}/part-{folder:06}", folder % 500));
        if within == 0 {
            std::fs::create_dir_all(&path)?;
        }
        let content = format!("content of file {n}\n");
        std::fs::write(path.join(format!("document-{n:07}.txt")), content)?;
    }
    Ok(())
}

fn walk(directory: &Path) -> Result<Walk> {
    let top = std::fs::File::open(directory).context("the directory can't be opened")?;
    Ok(Walk::beneath(
        top.into(),
        Options::new(vec![b"/".to_vec()]),
    )?)
}

fn pack(
    steps: impl Iterator<Item = Step>,
    mode: Mode,
    dictionaries: Dictionaries,
    mut take: impl FnMut(segment::RawSegment),
) -> Result<Totals> {
    let identity = Identity {
        line_uuid: Uuid::nil(),
        version: 1,
        archive_ordinal: 1,
        archive_uuid: Uuid::nil(),
        attempt: 1,
    };
    let (counters, stop) = (Counters::default(), CancellationToken::new());
    let outlets = Outlets {
        begins: &mut || {},
        segments: &mut |segment| {
            take(segment);
            Ok(())
        },
        issues: &mut |issue| eprintln!("{issue:?}"),
        counters: &counters,
        stop: &stop,
    };
    Ok(pack::pack(
        steps,
        identity,
        mode,
        &Links::default(),
        dictionaries,
        outlets,
    )?)
}

fn full(directory: &Path, file: &Path) -> Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(file)?);
    let mut sealer = Sealer::new(1)?;
    let (mut failed, mut learned) = (None, BTreeMap::new());
    let steps = ahead::start(walk(directory)?, 2, CancellationToken::new())?;
    let totals = pack(steps, Mode::FULL, Dictionaries::new(), |segment| {
        let written = sealer
            .seal(segment)
            .map_err(anyhow::Error::from)
            .and_then(|sealed| keep(&sealed.bytes, &mut out, &mut learned));
        if let Err(error) = written {
            failed.get_or_insert(error);
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    out.flush()?;
    let mut out = BufWriter::new(std::fs::File::create(beside(file))?);
    for (id, body) in learned {
        put(&id.to_le_bytes(), &mut out)?;
        put(&body, &mut out)?;
    }
    out.flush()?;
    println!("{totals:?}");
    Ok(())
}

/// Where the dictionaries of the pages in `file` are.
fn beside(file: &Path) -> PathBuf {
    file.with_added_extension("dictionaries")
}

fn put(field: &[u8], out: &mut impl Write) -> std::io::Result<()> {
    out.write_all(&(field.len() as u32).to_le_bytes())?;
    out.write_all(field)
}

fn keep(
    segment: &[u8],
    out: &mut impl Write,
    learned: &mut BTreeMap<u32, bytes::Bytes>,
) -> Result<()> {
    for record in record::iter(&segment::open(segment)?.records) {
        match record?.record {
            Some(Body::Page(page)) => {
                for field in [&page.chunk, &page.body, &page.hashes] {
                    put(field, out)?;
                }
            }
            Some(Body::Dictionary(dictionary)) => {
                learned.insert(dictionary.id, dictionary.body);
            }
            _ => {}
        }
    }
    Ok(())
}

fn dictionaries(file: &Path) -> Result<Dictionaries> {
    let mut stored = Stored(BufReader::new(std::fs::File::open(beside(file))?));
    let mut dictionaries = Dictionaries::new();
    while let Ok(id) = stored.field() {
        let id = id.first_chunk().map_or(0, |id| u32::from_le_bytes(*id));
        dictionaries.insert(id, &stored.field()?)?;
    }
    Ok(dictionaries)
}

/// Pages from the file.
struct Stored(BufReader<std::fs::File>);

impl Stored {
    fn field(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut field = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut field)?;
        Ok(field)
    }
}

impl Iterator for Stored {
    type Item = Result<BasePage, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut page = || {
            Ok::<_, std::io::Error>(BasePage {
                chunk: self.field()?.into(),
                body: self.field()?.into(),
                hashes: self.field()?.into(),
            })
        };
        page().ok().map(Ok)
    }
}

/// Rows from a thread of their own, as the agent has them.
struct Rows {
    batches: mpsc::Receiver<Result<Vec<Row>, Error>>,
    batch: std::vec::IntoIter<Row>,
}

impl Rows {
    fn start(file: std::fs::File, dictionaries: Dictionaries) -> Self {
        let (sender, batches) = mpsc::sync_channel(4);
        std::thread::spawn(move || {
            let mut joined = Joined::new(
                vec![(Layer::Head, Stored(BufReader::new(file)))],
                dictionaries,
            );
            loop {
                let batch: Result<Vec<Row>, Error> =
                    std::iter::from_fn(|| joined.next().transpose())
                        .take(BATCH)
                        .collect();
                let last = batch.as_ref().map_or(true, Vec::is_empty);
                if sender.send(batch).is_err() || last {
                    return;
                }
            }
        });
        Self {
            batches,
            batch: Vec::new().into_iter(),
        }
    }
}

impl Base for Rows {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        if self.batch.len() == 0 {
            // After the last, empty batch nobody sends any more.
            self.batch = self
                .batches
                .recv()
                .unwrap_or_else(|_| Ok(Vec::new()))?
                .into_iter();
        }
        Ok(self.batch.next())
    }

    fn look_up(&mut self, _: Vec<Vec<u8>>) -> Result<Vec<Row>, Error> {
        Err(fault::internal("this tree is not so deep"))
    }
}

fn again(directory: &Path, file: &Path) -> Result<()> {
    let begin = Instant::now();
    let dictionaries = dictionaries(file)?;
    let rows = Rows::start(std::fs::File::open(file)?, dictionaries.clone());
    let merger = Merger::new(rows, Against::Head, Rules::default());
    let stop = CancellationToken::new();
    let steps = ahead::start_with(walk(directory)?, merger, true, 2, stop)?;
    let mode = Mode {
        against: Against::Head,
        always: false,
    };
    let mut segments = 0;
    let totals = pack(steps, mode, dictionaries, |_| segments += 1)?;
    let seconds = begin.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!(
        "{} files in {seconds:.2} s, {segments} segments written, unchanged: {}, {}",
        totals.files,
        totals.unchanged,
        peak.unwrap_or("memory not known"),
    );
    Ok(())
}
