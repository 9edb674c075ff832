//! What lies on a volume behind the end that the catalog knows: a worker was killed, and its journal is lost.
//!
//! A part whose archive is still open, and which the archive's attempt could have written there, is *adopted*: read back whole,
//! every segment proved, and committed like a part that was just written. All else is an orphan: reported, never overwritten.
//! The controller says which parts are current; nobody else knows what was begun since.

use taf_drive::Drive;
use taf_format::block0::Block0;
use taf_proto::agent::{AssignmentKey, JudgePartRequest, PartHeader, Recording};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use crate::append::Stray;
use crate::commit;
use crate::fault::{protocol, stopped};
use crate::gauge::Gauge;
use crate::journal::{Entry, Records};
use crate::read;
use crate::readback::{self, Extent};
use crate::reader::Reader;
use crate::worker::drive::Surroundings;

/// Sees to it that the controller knows the tape file: as a part, or as an orphan. Where the tape then stands nobody knows.
pub async fn settle(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    stray: &Stray,
    stop: &CancellationToken,
) -> Result<(), Fault> {
    let mut stray = stray.clone();
    if let Some(block0) = &stray.part {
        match judge(around, key, recording, &stray, block0).await? {
            None => {
                around.gauge.phase("adopting a part");
                match adopt(around, key, recording, &stray, stop).await? {
                    Ok(entry) => {
                        tracing::warn!(
                            volume = recording.barcode,
                            tape_file = entry.header.tape_file,
                            part = entry.header.part_number,
                            "adopts a part that was found on tape"
                        );
                        match commit::deliver(&around.link, &entry).await {
                            Ok(()) => return Ok(()),
                            // Something came between. Where the controller has made it an orphan already, that stands.
                            Err(fault) => {
                                stray.orphan.reason =
                                    format!("{}: {}", stray.orphan.reason, fault.message);
                            }
                        }
                    }
                    Err(why) => stray.orphan.reason = format!("{}: {why}", stray.orphan.reason),
                }
            }
            Some(why) => stray.orphan.reason = format!("{}: {why}", stray.orphan.reason),
        }
    }
    let reported = commit::orphans(&around.link, key, vec![stray.orphan]);
    stop.run_until_cancelled(reported)
        .await
        .ok_or_else(stopped)?
}

/// Asks the controller whether a part is current: `None`, or why it is not.
async fn judge(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    stray: &Stray,
    block0: &Block0,
) -> Result<Option<String>, Fault> {
    let request = JudgePartRequest {
        key: Some(key),
        recording_uuid: recording.recording_uuid.clone(),
        archive_uuid: block0.archive_uuid.as_bytes().to_vec().into(),
        part_number: block0.part,
        tape_file: stray.orphan.tape_file,
    };
    let answer = std::sync::Mutex::new(None);
    commit::persist("asking whose a part is", || async {
        let mut catalog = around.link.catalog();
        let judged = catalog.judge_part(request.clone()).await?.into_inner();
        let why = (!judged.current).then_some(judged.reason);
        *answer
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(why);
        Ok(())
    })
    .await?;
    let answer = answer
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    answer.ok_or_else(|| protocol("an answer that never came"))
}

/// Reads the part into the journal, or says why it can't be a part.
async fn adopt(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    stray: &Stray,
    stop: &CancellationToken,
) -> Result<Result<Entry, String>, Fault> {
    let (device, journal) = (around.device.clone(), around.journal.clone());
    let (gauge, recording) = (around.gauge.clone(), recording.clone());
    let (stray, stop) = (stray.clone(), stop.clone());
    around
        .block(move || {
            device.work(|drive| {
                let Some(block0) = &stray.part else {
                    return Ok(Err("it is no part".to_owned()));
                };
                let records = match journal.begin(block0.archive_uuid, block0.part) {
                    Ok(records) => records,
                    Err(error) => return Ok(Err(format!("the journal can't be written: {error}"))),
                };
                let reading = Reading {
                    gauge: &gauge,
                    recording: &recording,
                    stray: &stray,
                    block0,
                    stop: &stop,
                };
                reading.part(drive, key, records)
            })
        })
        .await
}

struct Reading<'a> {
    gauge: &'a Gauge,
    recording: &'a Recording,
    stray: &'a Stray,
    block0: &'a Block0,
    stop: &'a CancellationToken,
}

impl Reading<'_> {
    fn part(
        &self,
        drive: &mut dyn Drive,
        key: AssignmentKey,
        mut records: Records,
    ) -> Result<Result<Entry, String>, Fault> {
        let mut part = match self.whole(drive, &mut records) {
            Ok(Ok(part)) => part,
            Ok(Err(why)) => {
                discard(records);
                return Ok(Err(why));
            }
            Err(fault) => {
                discard(records);
                return Err(fault);
            }
        };
        part.key = Some(key);
        Ok(records
            .finish(part)
            .map_err(|error| format!("the journal can't be written: {error}")))
    }

    /// Reads all of it, its records into `records`: what the controller is to know of it, or why it is not whole.
    fn whole(
        &self,
        drive: &mut dyn Drive,
        records: &mut Records,
    ) -> Result<Result<PartHeader, String>, Fault> {
        let orphan = &self.stray.orphan;
        let again = |drive: &mut dyn Drive, _: &taf_drive::Error| {
            let proved = read::prove(drive, self.recording, self.gauge, self.stop);
            proved.map(|_| ()).map_err(|wrong| wrong.fault)
        };
        let (barcode, block_size) = (&self.recording.barcode, self.recording.block_size);
        let mut reader = Reader::new(drive, barcode, block_size, &again);
        let extent = Extent {
            first_block: orphan.first_block,
            // The filemark is the last object.
            blocks: orphan.next_block - 1 - orphan.first_block,
            until: None,
        };
        let mut take = |payload: &[u8]| {
            let added = records.add(payload);
            added.map_err(|error| format!("the journal can't be written: {error}"))
        };
        let part = (extent, self.block0);
        let read = readback::part(
            &mut reader,
            self.gauge,
            block_size,
            part,
            self.stop,
            &mut take,
        )?;
        let back = match read {
            Ok(back) => back,
            Err(why) => return Ok(Err(why)),
        };
        let range = back.table.tar_range();
        let sequences = back.table.segments();
        let sequences = sequences.first().zip(sequences.last());
        let (first, end) = sequences.map_or((0, 0), |(first, end)| (first.sequence, end.sequence));
        Ok(Ok(PartHeader {
            key: None,
            archive_uuid: self.block0.archive_uuid.as_bytes().to_vec().into(),
            part_number: self.block0.part,
            recording_uuid: self.recording.recording_uuid.clone(),
            tape_file: orphan.tape_file,
            first_block: orphan.first_block,
            block_count: extent.blocks,
            byte_count: back.byte_count,
            first_sequence: first,
            last_sequence: end,
            first_tar_offset: range.start,
            end_tar_offset: range.end,
            last: back.last,
            truncated: false,
            segment_table: back.table.encode().into(),
            next_tape_file: orphan.next_tape_file,
            next_block: orphan.next_block,
            adopted: true,
            ..PartHeader::default()
        }))
    }
}

fn discard(records: Records) {
    if let Err(error) = records.discard() {
        tracing::warn!(%error, "the records of a part that was not adopted stay until the next start");
    }
}
