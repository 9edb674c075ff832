//! Takes in what was found on a cartridge: its label, its parts with their records, orphans, closing records. Nothing is believed but
//! what bears this installation's name.
//!
//! Each part is a transaction of its own; what the catalog has already stays as it is, so that the same cartridge may come again,
//! and cartridges in any order. Rows of a part lie aside until a closing record names it. When all of a cartridge has come, the
//! versions that are whole now become readable ([`super::rebuild`]).

mod part;
mod rows;

use std::collections::{BTreeSet, HashMap};

use futures::Stream;
use taf_format::index::{Body, IndexOrphan};
use taf_proto::agent::report_scan_request::Message;
use taf_proto::agent::{ReportScanRequest, ScanHeader, ScanTrailer};
use taf_proto::tape::Label;
use tonic::Status;
use uuid::Uuid;

use super::Error;
use super::report::{self, Side, uuid};
use super::{rebuild, relocation, trust};
use crate::store::issues::{self, Issue};
use crate::store::orphans::{self, Extent};
use crate::store::rebuilds::{self, Labelled};
use crate::store::reclaims;
use crate::store::trust::trust_is_lost;
use crate::store::{Client, Store, Transaction, bigint, indexes};

/// Who says that the catalog lacks something.
const CREATOR: &str = "controller";

/// Takes in what tape agent `agent` found on a cartridge.
pub async fn take<S>(store: &Store, agent: &str, mut messages: S) -> Result<(), Error>
where
    S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin + Send,
{
    let Message::Header(header) = next(&mut messages).await? else {
        return Err(Error::Invalid("the first message is not the header".into()));
    };
    let mut client = store.client().await?;
    let assignment = report::assignment(&client, header.key.as_ref(), agent, Side::Tape).await?;
    let barcode = header
        .label
        .as_ref()
        .map_or("", |label| label.barcode.as_str());
    if !rebuilds::cartridge_is_given(&client, assignment.attempt_id, barcode).await? {
        return Err(Error::Invalid(format!(
            "cartridge {barcode} is none that attempt {} is to take in",
            assignment.attempt_id
        )));
    }
    let installation = store.installation_get().await?.map(|i| i.uuid);
    let volume = volume(&mut client, &header, installation).await?;
    let mut intake = Intake {
        volume,
        attempt: assignment.attempt_id,
        job: assignment.job_id,
        lines: BTreeSet::new(),
        closings: BTreeSet::new(),
        parts: 0,
        put_off: Vec::new(),
        left: HashMap::new(),
    };
    let taken = intake.all(&mut client, &mut messages).await;
    drop(client);
    // What came before the stream broke off is there: it is counted, too, so that nothing is taken for certain that is not any more.
    let settled = settle(store, &intake.lines).await;
    taken.and(settled)?;
    tracing::info!(
        barcode = intake.volume.barcode,
        parts = intake.parts,
        lines = intake.lines.len(),
        "took in what is on a cartridge"
    );
    Ok(())
}

/// Says of the versions of all these lines what they lack, as far as that can be done.
async fn settle(store: &Store, lines: &BTreeSet<i64>) -> Result<(), Error> {
    let mut settled = Ok(());
    for line in lines {
        if let Err(error) = rebuild::settle(store, *line).await {
            tracing::warn!(line, %error, "what versions lack could not be counted; it is when the next cartridge comes, or the controller starts");
            settled = settled.and(Err(error));
        }
    }
    settled
}

async fn next<S>(messages: &mut S) -> Result<Message, Error>
where
    S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin,
{
    let message = report::next(messages).await?.message;
    message.ok_or_else(|| Error::Invalid("an empty message".into()))
}

/// The volume that the cartridge is.
struct Volume {
    id: i64,
    barcode: String,
    recording: Uuid,
}

/// The volume of a label, which is made if the catalog has none.
async fn volume(
    client: &mut Client,
    header: &ScanHeader,
    installation: Option<Uuid>,
) -> Result<Volume, Error> {
    let label: &Label = header
        .label
        .as_ref()
        .ok_or_else(|| Error::Invalid("it has no label".into()))?;
    let owner = uuid(&label.installation_uuid, "the installation")?;
    if Some(owner) != installation {
        return Err(Error::Position(format!(
            "cartridge {} belongs to installation {owner}, and this is another one; to take its cartridges over, start the \
             controller on an empty database with installation = \"{owner}\"",
            label.barcode
        )));
    }
    let recording = uuid(&label.recording_uuid, "the recording")?;
    let labelled = Labelled {
        barcode: &label.barcode,
        volume: uuid(&label.volume_uuid, "the volume")?,
        recording,
        pool: &label.pool,
        block_size: i32::try_from(label.block_size)
            .map_err(|_| Error::Invalid("its blocks are too large".into()))?,
        labelled_at: rebuild::time(label.labelled_at_unix_nanos)?,
        medium_serial: Some(header.medium_serial.as_str()).filter(|serial| !serial.is_empty()),
    };
    let tx = client.transaction().await?;
    if rebuilds::volume_rebuild_on(&tx, &labelled).await? && !trust_is_lost(&tx).await? {
        // Further cartridges may bear the numbers that a run would be given now.
        let why = format!("volume {} was not in it", label.barcode);
        trust::lose_on(&tx, CREATOR, (0, 0), &why).await?;
    }
    tx.commit().await?;
    let known = orphans::recording_get(client, recording).await?;
    let known = known.ok_or_else(|| {
        Error::Position(format!(
            "the catalog knows volume {} with another recording than the cartridge has ({recording}); it is not touched",
            label.barcode
        ))
    })?;
    Ok(Volume {
        id: known.volume_id,
        barcode: known.barcode,
        recording,
    })
}

/// A cartridge under way.
struct Intake {
    volume: Volume,
    attempt: i64,
    job: i64,
    /// Lines of which something came.
    lines: BTreeSet<i64>,
    /// Versions whose closing records are here, by line and number.
    closings: BTreeSet<(Uuid, i64)>,
    parts: u64,
    /// Tape files that can't be taken in before somebody has read to the end.
    put_off: Vec<u64>,
    /// Parts that the catalog has on other recordings, and that are here too.
    left: HashMap<Uuid, Left>,
}

/// See [`Intake::left`].
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    parts: u64,
    /// Of these, such as nobody has read back there.
    unread: u64,
}

impl Intake {
    /// Takes all that comes, up to the trailer.
    async fn all<S>(&mut self, client: &mut Client, messages: &mut S) -> Result<(), Error>
    where
        S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin + Send,
    {
        loop {
            match next(messages).await? {
                Message::Record(record) => self.record(client, record.record, messages).await?,
                Message::Trailer(trailer) => return self.end(client, &trailer).await,
                Message::Header(_) => return Err(Error::Invalid("a second header".into())),
            }
        }
    }

    async fn record<S>(
        &mut self,
        client: &mut Client,
        record: Option<Body>,
        messages: &mut S,
    ) -> Result<(), Error>
    where
        S: Stream<Item = Result<ReportScanRequest, Status>> + Unpin + Send,
    {
        match record {
            Some(Body::Part(part)) => self.part(client, &part, messages).await,
            Some(Body::Orphan(orphan)) => self.orphan(client, &orphan).await,
            Some(Body::Closing(record)) => {
                let line = rebuild::closing(client, &record, self.job).await?;
                self.lines.insert(line);
                let told = rebuild::decode(&record)?;
                let version = bigint(told.version)?;
                if rebuilds::version_is_closed_by(client, line, version, &record).await? {
                    let line = uuid(&told.line_uuid, "the line")?;
                    self.closings.insert((line, version));
                }
                Ok(())
            }
            Some(
                Body::Table(_)
                | Body::Page(_)
                | Body::Tombstone(_)
                | Body::Dictionary(_)
                | Body::PartEnd(_),
            ) => Err(Error::Invalid("a record of no part".into())),
            Some(
                Body::Volume(_)
                | Body::Uncovered(_)
                | Body::Earlier(_)
                | Body::Text(_)
                | Body::End(_),
            )
            | None => Ok(()),
        }
    }

    async fn orphan(&self, client: &mut Client, orphan: &IndexOrphan) -> Result<(), Error> {
        let tape_file = bigint(orphan.tape_file)?;
        let extent = Extent {
            recording: self.volume.recording,
            tape_file,
            first_block: bigint(orphan.first_block)?,
            next_tape_file: tape_file + 1,
            next_block: bigint(orphan.next_block)?,
            byte_count: 0,
        };
        let tx = client.transaction().await?;
        if !rebuilds::tape_file_is_known_on(&tx, extent.recording, tape_file).await? {
            orphans::orphan_add_on(&tx, self.volume.id, &extent, &orphan.reason).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// All has come: the recording ends where it ends on tape.
    async fn end(&self, client: &mut Client, trailer: &ScanTrailer) -> Result<(), Error> {
        let recording = self.volume.recording;
        let tx = client.transaction().await?;
        for index in &trailer.indexes {
            let tape_file = bigint(index.tape_file)?;
            let extent = Extent {
                recording,
                tape_file,
                first_block: bigint(index.first_block)?,
                next_tape_file: tape_file + 1,
                next_block: 0,
                byte_count: bigint(index.byte_count)?,
            };
            if !rebuilds::tape_file_is_known_on(&tx, recording, tape_file).await? {
                let (id, blocks) = (
                    uuid(&index.index_uuid, "the index")?,
                    bigint(index.block_count)?,
                );
                indexes::index_add_on(&tx, id, self.volume.id, &extent, blocks).await?;
            }
        }
        // Only its indexes have such, and they all are known now.
        if let Some(index) = indexes::index_newest_on(&tx, recording).await? {
            for (line, version) in &self.closings {
                indexes::index_closing_mark_on(&tx, index, recording, *line, *version).await?;
            }
        }
        let (file, block) = (bigint(trailer.next_tape_file)?, bigint(trailer.next_block)?);
        rebuilds::recording_reach_on(&tx, recording, file, block).await?;
        orphans::recording_weigh_on(&tx, recording).await?;
        if trailer.open {
            let why = "nothing closes its last tape file";
            orphans::recording_verdict_on(&tx, recording, "read-only", why).await?;
        }
        if !trailer.problems.is_empty() {
            // Nothing may take for free what could not be read this time.
            orphans::recording_unread_on(&tx, recording).await?;
        } else if !trailer.open && self.put_off.is_empty() {
            orphans::recording_read_on(&tx, recording, file).await?;
        }
        let unreadable = trailer.problems.iter();
        let unreadable = unreadable.map(|problem| (problem.tape_file, problem.reason.as_str()));
        let put_off = self.put_off.iter().map(|file| (*file, relocation::READ));
        let unreadable = unreadable.map(|said| ("TAPE_FILE_UNREADABLE", said));
        let put_off = put_off.map(|said| ("PART_IS_READ", said));
        let barcode = &self.volume.barcode;
        let mut told: Vec<(&str, String)> = unreadable
            .chain(put_off)
            .map(|(reason, (file, why))| {
                let said = format!("tape file {file} of {barcode} was not taken in: {why}");
                (reason, said)
            })
            .collect();
        for said in self.left_on(&tx).await? {
            told.push(("PART_ELSEWHERE", said));
        }
        let told: Vec<Issue> = (1..)
            .zip(told)
            .map(|(number, (reason, message))| Issue {
                attempt_id: self.attempt,
                number,
                path: Vec::new(),
                reason: reason.into(),
                message,
            })
            .collect();
        issues::issue_add_on(&tx, self.attempt, &told).await?;
        reclaims::version_found_again_on(&tx, recording, file).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Intake {
    /// What was left here since the catalog has it elsewhere, for people: unless it was read back there, and is at hand.
    async fn left_on(&self, tx: &Transaction<'_>) -> Result<Vec<String>, Error> {
        let recordings: Vec<Uuid> = self.left.keys().copied().collect();
        let mut said = Vec::new();
        for (recording, other, inside) in reclaims::recording_places(tx, &recordings).await? {
            let left = self.left.get(&recording).copied().unwrap_or_default();
            let why = match (inside, left.unread) {
                (true, 0) => continue,
                (true, _) => format!("nobody has read them back: `taf volume verify {other}`"),
                (false, _) => "no library shows it".to_owned(),
            };
            let what = match left.parts {
                1 => format!("1 part of {} was", self.volume.barcode),
                count => format!("{count} parts of {} were", self.volume.barcode),
            };
            said.push(format!(
                "{what} left, since the catalog has copies on volume {other}, and {why}; if {other} is lost or can't be read, say so with `taf volume erase {other} --force`, and run this again"
            ));
        }
        Ok(said)
    }
}
