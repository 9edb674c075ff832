//! From a reserved number to a readable version.
//!
//! A version's number is head + 1, so one attempt at a time writes a line. What an attempt before it left under the number is
//! gone on with if it was making the same, else emptied first. Publishing is the one step that readers see, and it happens only
//! when every byte is proved on tape.

use taf_core::catalog::{Kind, Line, Opening, Staged, open};
use taf_proto::agent::BackupDone;
use uuid::Uuid;

use crate::store::parts::{Left, Span};
use crate::store::versions::Counts;
use crate::store::{
    Error, GenericClient, Transaction, archives, bigint, expiry, indexes, lines, parts, unclaimed,
    versions,
};

/// Why a mirror has expired that was the current one.
const REPLACED: &str = "a newer mirror has taken its place";
/// Why a version is lost as soon as it is published.
const ERASED: &str = "a volume that it needs was erased while it was made";

/// A version that an attempt may fill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Line.
    pub line_id: i64,
    /// Its name on tape.
    pub line_uuid: Uuid,
    /// Number of the version.
    pub version: i64,
    /// What it is, and what it builds on.
    pub opening: Opening,
    /// Row of the archive.
    pub archive_id: i64,
    /// Its name on tape.
    pub archive_uuid: Uuid,
    /// Its ordinal within the line.
    pub ordinal: i32,
}

/// What a run on a line would make that was asked to make `asked`, as things are.
pub async fn foresee(
    client: &impl GenericClient,
    line_id: i64,
    asked: Kind,
) -> Result<Opening, Error> {
    Ok(open(asked, &line_of(client, line_id, asked).await?))
}

/// What is known of a line for a run that is asked to make `asked`.
pub async fn line_of(
    client: &impl GenericClient,
    line_id: i64,
    asked: Kind,
) -> Result<Line, Error> {
    let (last, head, full) = lines::line_heads(client, line_id).await?;
    let number = last + 1;
    let mut staged = None;
    if let Some(row) = versions::version_staged(client, line_id, number).await? {
        let left = parts::part_list_left(client, line_id, number).await?;
        staged = Some(Staged {
            kind: kind(&row.kind)?,
            parent: row.parent,
            floor: row.floor,
            // A page of one stream may name the place of a hard link in another, which perhaps never came to tape.
            whole: is_whole(&left)
                && !archives::archive_has_streams(client, line_id, number).await?,
        });
    }
    let share = match head {
        Some(head) if asked == Kind::Mirror => {
            versions::version_share(client, line_id, head.base.version).await?
        }
        _ => None,
    };
    Ok(Line {
        last,
        head,
        full,
        staged,
        share,
    })
}

/// A kind from its stored name.
pub fn kind(stored: &str) -> Result<Kind, Error> {
    Kind::from_name(stored).ok_or(Error::Corrupt("the kind of a version"))
}

/// Whether what earlier attempts left can be gone on with: every archive from its first part on without a gap, all of it where
/// it was.
fn is_whole(left: &[Left]) -> bool {
    let gapless = |archive: &[Left]| {
        let spans: Vec<Span> = archive.iter().map(|part| part.span.clone()).collect();
        follow(&spans).is_ok()
    };
    let mut archives = left.chunk_by(|a, b| a.ordinal == b.ordinal);
    !left.is_empty() && left.iter().all(|part| part.in_place) && archives.all(gapless)
}

/// Reserves the line's next version for an attempt, which must have its row, and gives it an archive.
///
/// What earlier attempts staged under the number is gone on with or goes; a part of theirs that comes late becomes an orphan in
/// either case. [`Error::Stale`] if there is no such line.
pub async fn open_version_on(
    tx: &Transaction<'_>,
    line_id: i64,
    attempt_id: i64,
    job_id: i64,
    asked: Kind,
) -> Result<Opened, Error> {
    let line = lines::line_lock_on(tx, line_id)
        .await?
        .ok_or(Error::Stale("line"))?;
    let opening = foresee(tx, line_id, asked).await?;
    let version = opening.version;
    if opening.resumes {
        archives::archive_close_on(tx, line_id, version).await?;
        versions::version_resume_on(tx, line_id, version, job_id).await?;
    } else {
        // A large listing takes a while to go.
        tx.batch_execute("SET LOCAL statement_timeout = '600s'")
            .await?;
        archives::archive_abandon_on(tx, line_id, version).await?;
        versions::version_clear_on(tx, line_id, version).await?;
        versions::version_open_on(tx, line_id, &opening, job_id).await?;
    }
    let ordinal = lines::line_take_ordinal_on(tx, line_id).await?;
    let archive_uuid = Uuid::new_v4();
    let archive_id =
        archives::archive_open_on(tx, archive_uuid, line_id, ordinal, version, attempt_id).await?;
    Ok(Opened {
        line_id,
        line_uuid: line.uuid,
        version,
        opening,
        archive_id,
        archive_uuid,
        ordinal,
    })
}

/// Gives a further stream of a version that is being made an archive. [`Error::Stale`] if that version is not the next of its
/// line.
pub async fn open_stream_on(
    tx: &Transaction<'_>,
    line_id: i64,
    version: i64,
    attempt_id: i64,
) -> Result<(), Error> {
    lines::line_lock_on(tx, line_id)
        .await?
        .filter(|line| line.head + 1 == version)
        .ok_or(Error::Stale("line"))?;
    let ordinal = lines::line_take_ordinal_on(tx, line_id).await?;
    archives::archive_open_on(tx, Uuid::new_v4(), line_id, ordinal, version, attempt_id).await?;
    Ok(())
}

/// Makes a version readable, if the archives of all its streams are whole: parts from 1 without a gap in segments or tar bytes,
/// the last one final and ending with the segment that the source agent wrote last. The first of `streams`, attempts with what
/// their source agent says, is the first stream. If nothing differed from its base there is no archive. [`Error::Stale`] if it is
/// not so, or if the version is not the next of its line; the transaction must then be given up. Gives line and number, and what was
/// made.
pub async fn publish_on(
    tx: &Transaction<'_>,
    streams: &[(i64, BackupDone)],
) -> Result<(i64, i64, Kind), Error> {
    let (first, _) = streams.first().ok_or(Error::Stale("archive"))?;
    let found = archives::archive_of_attempt_on(tx, *first)
        .await?
        .ok_or(Error::Stale("archive"))?;
    let (line, version) = (found.line_id, found.version);
    lines::line_lock_on(tx, line)
        .await?
        .ok_or(Error::Stale("line"))?;
    let staged = versions::version_staged(tx, line, version)
        .await?
        .ok_or(Error::Stale("version"))?;
    let mut counts = Counts::default();
    for (attempt_id, done) in streams {
        let archive = archives::archive_of_attempt_on(tx, *attempt_id)
            .await?
            .filter(|archive| (archive.line_id, archive.version) == (line, version))
            .ok_or(Error::Stale("archive"))?;
        let spans = parts::part_list_on(tx, archive.id).await?;
        if let Some(gap) = obstacle(&spans, done)? {
            tracing::warn!(attempt_id, version, "the version can't be published: {gap}");
            return Err(Error::Stale("archive"));
        }
        if done.unchanged {
            archives::archive_drop_on(tx, archive.id).await?;
        }
        counts.files = counts.files.saturating_add(bigint(done.file_count)?);
        counts.directories = counts
            .directories
            .saturating_add(bigint(done.directory_count)?);
        counts.bytes = counts.bytes.saturating_add(bigint(done.byte_count)?);
    }
    lines::line_publish_on(tx, line, version).await?;
    let left = parts::part_list_left(tx, line, version).await?;
    let archives = archives::archive_publish_on(tx, line, version).await?;
    if archives == 0 && staged.parent == 0 {
        tracing::warn!(line, version, "a version without a base has nothing");
        return Err(Error::Stale("archive"));
    }
    counts.stored_bytes = left.iter().map(|part| part.span.byte_count).sum();
    versions::version_publish_on(tx, line, version, &counts).await?;
    // What a rescan met under this number meanwhile, or before, is of another history.
    unclaimed::version_disown_on(tx, line, version).await?;
    let kind = kind(&staged.kind)?;
    super::closing::close_on(tx, line, version).await?;
    // Somebody may have erased by force what this one was writing on, or building on.
    let lost = versions::version_lost_meanwhile_on(tx, line, version, ERASED).await?;
    if kind == Kind::Mirror && !lost {
        let before = versions::version_list_mirrors_on(tx, line, version).await?;
        expiry::version_expire_on(tx, line, &before, REPLACED).await?;
    }
    indexes::index_due_of_version_on(tx, line, version).await?;
    Ok((line, version, kind))
}

/// Whether what an attempt made is all there: what [`publish_on`] demands.
pub async fn is_complete_on(
    tx: &Transaction<'_>,
    archive_id: i64,
    done: &BackupDone,
) -> Result<bool, Error> {
    let spans = parts::part_list_on(tx, archive_id).await?;
    Ok(obstacle(&spans, done)?.is_none())
}

/// What keeps an archive with these parts from being what the source agent says that it made.
fn obstacle(spans: &[Span], done: &BackupDone) -> Result<Option<&'static str>, Error> {
    if done.unchanged {
        return Ok((!spans.is_empty()).then_some("it has parts although nothing had changed"));
    }
    Ok(first_gap(spans, bigint(done.last_sequence)?))
}

/// Whether these parts follow each other from the first segment on.
fn follow(spans: &[Span]) -> Result<(), &'static str> {
    let (mut number, mut sequence, mut offset) = (1, 0, 0);
    for span in spans {
        if span.part_number != number {
            return Err("a part is missing");
        }
        if span.first_sequence != sequence || span.first_tar_offset != offset {
            return Err("a part does not go on where the one before ended");
        }
        (number, sequence, offset) = (number + 1, span.last_sequence + 1, span.end_tar_offset);
    }
    Ok(())
}

/// What keeps these parts from being the whole archive that ends with `last_sequence`.
fn first_gap(spans: &[Span], last_sequence: i64) -> Option<&'static str> {
    if let Err(gap) = follow(spans) {
        return Some(gap);
    }
    match spans.last() {
        None => Some("it has no parts"),
        Some(last) if !last.final_part => Some("its last part is not there"),
        Some(last) if last.last_sequence != last_sequence => {
            Some("it ends with another segment than the source agent wrote last")
        }
        Some(_) if spans[..spans.len() - 1].iter().any(|span| span.final_part) => {
            Some("parts follow its last one")
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(
        part_number: i32,
        sequences: (i64, i64),
        offsets: (i64, i64),
        final_part: bool,
    ) -> Span {
        Span {
            part_number,
            first_sequence: sequences.0,
            last_sequence: sequences.1,
            first_tar_offset: offsets.0,
            end_tar_offset: offsets.1,
            final_part,
            byte_count: 1,
        }
    }

    #[test]
    fn only_a_whole_archive_has_no_gap() {
        let whole = [
            span(1, (0, 3), (0, 100), false),
            span(2, (4, 4), (100, 120), true),
        ];
        assert_eq!(first_gap(&whole, 4), None);
        assert!(
            first_gap(&whole, 5).is_some(),
            "the source agent wrote more"
        );
        assert!(first_gap(&whole[..1], 3).is_some(), "not final");
        assert!(first_gap(&whole[1..], 4).is_some(), "the first is missing");
        assert!(first_gap(&[], 0).is_some());
        let torn = [
            span(1, (0, 3), (0, 100), false),
            span(2, (4, 4), (101, 120), true),
        ];
        assert!(first_gap(&torn, 4).is_some());
        let doubled = [
            span(1, (0, 3), (0, 100), true),
            span(2, (4, 4), (100, 120), true),
        ];
        assert!(first_gap(&doubled, 4).is_some());
    }
}
