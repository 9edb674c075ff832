//! The listings of a line: each row is read once, and counts for every version that resolves to it.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use taf_core::catalog::{Extent, Needs, Part, Span};
use taf_format::index::{ClosingRecord, Need};
use taf_format::key;
use taf_format::page::{self, Decoder, Page, Place};
use taf_proto::path;

use super::repair::Repair;
use super::{Finding, Report};
use crate::catalog::rebuild::Told;
use crate::catalog::vacuum::Judge;
use crate::catalog::{Error, closing};
use crate::store::checks::{self, Claimed, Row};
use crate::store::{Transaction, closings, dictionaries, expiry};

/// Rows that are read at once: some megabytes.
const ROWS: i64 = 256;

/// What is known of a line before its rows are read.
struct Known {
    line: i64,
    spans: Vec<Span>,
    versions: Vec<Claimed>,
    /// Number and floor of those that are not whole: parts may be missing of what they alone resolve to.
    incomplete: Vec<(i64, i64)>,
    /// Which rows must stay; none if rows are on their way out.
    judge: Option<Judge>,
}

/// What was counted of each version, and whether all that it resolves to could be read.
#[derive(Default)]
struct Counted {
    needs: BTreeMap<i64, Needs>,
    unread: BTreeSet<i64>,
}

/// Checks the listings of a line.
pub(super) async fn check(
    tx: &Transaction<'_>,
    line: i64,
    going: bool,
    report: &mut Report<'_>,
) -> Result<(), Error> {
    let spans = closings::closing_spans(tx, line).await?;
    let standing = expiry::version_list_standing(tx, line).await?;
    let known = Known {
        line,
        spans: spans.iter().map(closing::span).collect(),
        versions: checks::version_list_claimed(tx, line).await?,
        incomplete: standing
            .iter()
            .filter(|v| v.incomplete)
            .map(|v| (v.version, v.floor))
            .collect(),
        judge: (!going).then(|| Judge::by(&standing)),
    };
    let mut decoder = Decoder::new(dictionaries::dictionaries(tx, line).await?);
    let mut counted = Counted::default();
    let mut behind: Option<(Vec<u8>, i64)> = None;
    loop {
        let from = behind
            .as_ref()
            .map(|(chunk, version)| (chunk.as_slice(), *version));
        let rows = checks::page_list_checked(tx, line, from, ROWS).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            // Of each key the newest comes first: what was before it is what follows it.
            let next = behind.take().filter(|(chunk, _)| *chunk == row.chunk);
            let next = next.map(|(_, version)| version);
            one(&known, &row, next, &mut decoder, &mut counted, report).await?;
            report.summary.rows += 1;
            behind = Some((row.chunk, row.version));
        }
        report
            .progress(&format!("listings of lines/{line}"))
            .await?;
    }
    for version in &known.versions {
        let needs = counted.needs.remove(&version.version).unwrap_or_default();
        let whole = !counted.unread.contains(&version.version);
        compare(tx, &known, version, &needs, whole, report).await?;
    }
    Ok(())
}

/// One row; `next` is the version of the row of its key that follows it.
async fn one(
    known: &Known,
    row: &Row,
    next: Option<i64>,
    decoder: &mut Decoder,
    counted: &mut Counted,
    report: &mut Report<'_>,
) -> Result<(), Error> {
    let judge = known.judge.as_ref();
    if judge.is_some_and(|judge| judge.goes(row.version, next)) {
        let message = "no version that is kept resolves to it";
        let repair = Repair::Row {
            line: known.line,
            chunk: row.chunk.clone(),
        };
        let finding = finding(known, row, "ROW_UNNEEDED", message.to_owned(), true);
        report.found(finding, Some(repair)).await?;
    }
    let resolves = |v: &&Claimed| {
        v.version >= row.version
            && v.floor <= row.version
            && next.is_none_or(|next| v.version < next)
    };
    let resolving: Vec<i64> = known
        .versions
        .iter()
        .filter(resolves)
        .map(|v| v.version)
        .collect();
    let mut needs = Needs::default();
    needs.row(Part {
        version: row.version,
        archive_ordinal: row.part.0 as u32,
        part_number: row.part.1 as u32,
    });
    if let Some((body, hashes)) = &row.body {
        match decoder.decode(&row.chunk, body, Some(hashes)) {
            Ok(page) => {
                let lost = tally(&page, &known.spans, &mut needs);
                if let Some(place) =
                    lost.filter(|_| !resolving.is_empty() || !is_of_incomplete(known, row))
                {
                    let message = format!(
                        "an entry of it lies at {} of archive {}, which is in no part",
                        place.tar_offset, place.archive_ordinal
                    );
                    let finding = finding(known, row, "PLACE_IN_NO_PART", message, false);
                    report.found(finding, None).await?;
                }
            }
            Err(error) => {
                counted.unread.extend(&resolving);
                let kind = match error {
                    page::Error::Dictionary(_) => "DICTIONARY_MISSING",
                    _ => "LISTING_DAMAGED",
                };
                let finding = finding(known, row, kind, error.to_string(), false);
                report.found(finding, None).await?;
            }
        }
    }
    for version in resolving {
        counted
            .needs
            .entry(version)
            .or_default()
            .merge(needs.clone());
    }
    Ok(())
}

/// Whether a version that is not whole may resolve to a row.
fn is_of_incomplete(known: &Known, row: &Row) -> bool {
    let mut incomplete = known.incomplete.iter();
    incomplete.any(|&(version, floor)| version >= row.version && floor <= row.version)
}

fn finding(
    known: &Known,
    row: &Row,
    kind: &'static str,
    message: String,
    repairable: bool,
) -> Finding {
    let directory = key::split(&row.chunk)
        .map(|(path, _)| path)
        .unwrap_or_default();
    let directory = [b"/".as_slice(), &directory].concat();
    Finding {
        kind,
        subject: format!(
            "lines/{}/versions/{}, {}",
            known.line,
            row.version,
            path::display(&directory)
        ),
        message,
        repairable,
    }
}

/// Counts what a page names. Gives a place that is in no part, if there is one.
fn tally(page: &Page, spans: &[Span], needs: &mut Needs) -> Option<Place> {
    let mut lost = None;
    let extent = |place: Place, tar_length| Extent {
        archive_ordinal: place.archive_ordinal,
        tar_offset: place.tar_offset,
        tar_length,
    };
    let mut judge = |place: Place, tar_length: u64| {
        let end = place.tar_offset.saturating_add(tar_length.max(1));
        let within = |offset: u64| {
            let at = spans.partition_point(|s| {
                (s.part.archive_ordinal, s.end_tar_offset) <= (place.archive_ordinal, offset)
            });
            spans.get(at).is_some_and(|s| {
                s.part.archive_ordinal == place.archive_ordinal && s.first_tar_offset <= offset
            })
        };
        if !within(place.tar_offset) || !within(end - 1) {
            lost = Some(place);
        }
    };
    for entry in &page.entries {
        if let Some(place) = entry.place {
            needs.entry(spans, extent(place, entry.tar_length), entry.size);
            judge(place, entry.tar_length);
        }
    }
    if let Some(header) = &page.header
        && let Some(place) = header.place
    {
        needs.header(spans, extent(place, header.tar_length));
        judge(place, header.tar_length);
    }
    lost
}

/// What a version needs, and what it is noted to need.
async fn compare(
    tx: &Transaction<'_>,
    known: &Known,
    version: &Claimed,
    needs: &Needs,
    whole: bool,
    report: &mut Report<'_>,
) -> Result<(), Error> {
    let (line, number) = (known.line, version.version);
    let subject = format!("lines/{line}/versions/{number}");
    let noted = checks::version_parts_noted(tx, line, number).await?;
    let noted: BTreeSet<(i64, i32, i32)> = noted.into_iter().collect();
    let own = known
        .spans
        .iter()
        .map(|span| span.part)
        .filter(|part| part.version == number);
    let needed: BTreeSet<(i64, i32, i32)> = own
        .chain(needs.iter().map(|(part, _)| part))
        .filter(|part| known.spans.iter().any(|span| span.part == *part))
        .map(|part| {
            (
                part.version,
                part.archive_ordinal as i32,
                part.part_number as i32,
            )
        })
        .collect();
    for &(_, ordinal, part) in needed.difference(&noted) {
        let finding = Finding {
            kind: "NEED_NOT_NOTED",
            subject: subject.clone(),
            message: format!("it needs part {part} of archive {ordinal}, which is not held for it"),
            repairable: true,
        };
        let part = (ordinal, part);
        let repair = Repair::Need {
            line,
            version: number,
            part,
        };
        report.found(finding, Some(repair)).await?;
    }
    if !whole {
        // What can't be read may need more.
        return Ok(());
    }
    for (_, ordinal, part) in noted.difference(&needed) {
        let finding = Finding {
            kind: "NEED_TOO_MUCH",
            subject: subject.clone(),
            message: format!(
                "part {part} of archive {ordinal} is held for it, and it does not need it"
            ),
            repairable: false,
        };
        report.found(finding, None).await?;
    }
    if version.closing.is_none() && version.rebuilt {
        return Ok(());
    }
    let Some(encoded) = &version.closing else {
        let finding = Finding {
            kind: "CLOSING_MISSING",
            subject,
            message: "it is published and has no closing record".to_owned(),
            repairable: false,
        };
        return report.found(finding, None).await;
    };
    let Ok(record) = ClosingRecord::decode(encoded.as_slice()) else {
        let finding = Finding {
            kind: "CLOSING_DAMAGED",
            subject,
            message: "its closing record can't be read".to_owned(),
            repairable: false,
        };
        return report.found(finding, None).await;
    };
    let mut counts: Vec<Need> = needs.iter().map(closing::need).collect();
    for count in &mut counts {
        let told = Told::of(&record, count.archive_ordinal, count.part_number);
        count.barcode = told
            .need
            .map_or_else(String::new, |need| need.barcode.clone());
    }
    if record.needs.iter().any(|need| is_short(need, &counts)) {
        // The record alone tells of what is gone.
        let finding = Finding {
            kind: "LISTINGS_MISSING",
            subject,
            message: "it resolves to less than its closing record says: listings of it are gone"
                .to_owned(),
            repairable: false,
        };
        return report.found(finding, None).await;
    }
    if record.needs != counts {
        let finding = Finding {
            kind: "NEEDS_DIFFER",
            subject,
            message: "what its closing record says that it needs is not what it resolves to"
                .to_owned(),
            repairable: true,
        };
        let corrected = ClosingRecord {
            needs: counts,
            ..record
        };
        let repair = Repair::Closing {
            line,
            version: number,
            before: encoded.clone(),
            closing: corrected.encode_to_vec(),
        };
        report.found(finding, Some(repair)).await?;
    }
    Ok(())
}

/// Whether less of a part was counted than is noted.
fn is_short(noted: &Need, counts: &[Need]) -> bool {
    let part = |need: &Need| (need.version, need.archive_ordinal, need.part_number);
    let amounts = |need: &Need| [need.row_count, need.entry_count, need.byte_count];
    let found = counts.iter().find(|count| part(count) == part(noted));
    found.is_none_or(|count| {
        amounts(count)
            .iter()
            .zip(amounts(noted))
            .any(|(is, was)| *is < was)
    })
}
