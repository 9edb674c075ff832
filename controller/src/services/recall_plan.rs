//! How a restore reads its volumes: in which order, where each of them is, how much is read of it, and about how long that takes.

use std::collections::BTreeMap;

use taf_core::generation::{self, Format};
use taf_core::recall::{self as estimate, Reading, turn};
use taf_proto::v1::{RecallVolume, RestoreVersionResponse};
use tonic::Status;

use super::volume;
use crate::catalog::recall::{Needed, Preference};
use crate::store::{GenericClient, recalls, volumes};

/// What a restore reads.
pub(super) struct Plan {
    /// The volumes' rows in the order in which they are read.
    pub volumes: Vec<i64>,
    /// The turn of each.
    pub turns: Vec<i32>,
    /// The answer that tells of them.
    pub answer: RestoreVersionResponse,
}

/// The plan, for so many drives at most; 0 for as many as there are.
pub(super) async fn plan(
    client: &impl GenericClient,
    needed: &Needed<'_>,
    drives_most: u32,
) -> Result<Plan, Status> {
    let all: Vec<i64> = Preference::default().order(needed.parts());
    let preference = Preference {
        away: volumes::volume_list_away(client, &all).await?,
        ..Preference::default()
    };
    let order = preference.order(needed.parts());
    let mut answer = RestoreVersionResponse::default();
    let mut readings = Vec::with_capacity(order.len());
    for id in &order {
        let mut told = RecallVolume::default();
        let (mut barcode, mut tar_bytes) = ("", 0);
        for (part, take) in needed.takes().filter(|(part, _)| part.volume_id == *id) {
            barcode = &part.barcode;
            tar_bytes += take.tar_bytes;
            told.part_count += 1;
            told.entry_count += take.entries;
            told.byte_count += share(
                take.tar_bytes,
                (part.end_tar_offset - part.first_tar_offset) as u64,
                part.byte_count as u64,
            );
        }
        if let Some(row) = volumes::volume_get(client, barcode).await? {
            let volume = volume::message(&row);
            told.volume = volume.name;
            told.location = volume.location;
            told.last_location = volume.last_location;
            told.last_seen_time = volume.last_seen_time;
        }
        told.missing = preference.away.contains(id);
        let reading = Reading {
            generation: generation::of_barcode(barcode).map(|(format, _)| match format {
                Format::Lto(generation) => generation,
                Format::M8 => 8,
            }),
            mounted: told.location.starts_with("drives/"),
            // Of what has no bytes on tape nothing is read.
            parts: if tar_bytes == 0 {
                0
            } else {
                u64::from(told.part_count)
            },
            bytes: told.byte_count,
        };
        told.estimated_duration = Some(duration(estimate::seconds(&reading)));
        readings.push(reading);
        answer.volumes.push(told.volume.clone());
        answer.recall.push(told);
    }
    let turns = turn::turns(&order, needed.joined());
    let mut lengths: BTreeMap<i32, u64> = BTreeMap::new();
    for (turn, reading) in turns.iter().zip(&readings) {
        *lengths.entry(*turn).or_default() += estimate::seconds(reading);
    }
    let lengths: Vec<u64> = lengths.into_values().collect();
    let usable = recalls::drive_count_reading(client, &order).await?;
    let most = match drives_most {
        0 => usize::MAX,
        most => most as usize,
    };
    let drives = (usable as usize).min(most).min(lengths.len()).max(1);
    answer.drive_count = drives as u32;
    answer.estimated_duration = Some(duration(turn::seconds(&lengths, drives)));
    answer.estimate_basis = estimate::basis(&readings, drives);
    answer.mount_count = readings.iter().filter(|r| !r.mounted).count() as u32;
    Ok(Plan {
        volumes: order,
        turns,
        answer,
    })
}

/// What so many of a part's tar bytes are of what it is on tape.
fn share(tar_bytes: u64, of: u64, bytes: u64) -> u64 {
    let exact = u128::from(bytes) * u128::from(tar_bytes.min(of)) / u128::from(of.max(1));
    u64::try_from(exact).unwrap_or(bytes)
}

fn duration(seconds: u64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_a_share_of_the_part() {
        assert_eq!(share(10, 100, 50), 5);
        assert_eq!(share(100, 100, 50), 50);
        assert_eq!(share(200, 100, 50), 50);
        assert_eq!(share(0, 0, 50), 0);
        assert_eq!(share(1 << 62, 1 << 63, 1 << 63), 1 << 62);
    }
}
