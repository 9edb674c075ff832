//! On which volumes the bytes of an entry are.

use taf_format::page::Place;

use crate::catalog::Error;
use crate::store::Store;
use crate::store::parts;

/// Where the parts of a line are.
#[derive(Debug, Clone)]
pub struct Places {
    /// By ordinal of the archive and number.
    parts: Vec<Located>,
    volumes: Vec<String>,
}

#[derive(Debug, Clone)]
struct Located {
    ordinal: u32,
    first: u64,
    end: u64,
    /// Index of its volume.
    volume: usize,
}

impl Places {
    /// Those of a line.
    pub async fn of_line(store: &Store, line: i64) -> Result<Self, Error> {
        let client = store.client().await?;
        let rows = parts::part_list_of_line(&client, line).await?;
        let mut volumes: Vec<String> = rows.iter().map(|row| row.barcode.clone()).collect();
        volumes.sort_unstable();
        volumes.dedup();
        let located = |row: &parts::PlacedPart| Located {
            ordinal: row.archive_ordinal as u32,
            first: row.first_tar_offset as u64,
            end: row.end_tar_offset as u64,
            volume: volumes.binary_search(&row.barcode).unwrap_or_default(),
        };
        let parts = rows.iter().map(located).collect();
        Ok(Self { parts, volumes })
    }

    /// Barcodes of the volumes that hold so many bytes from a place on, in order, each once.
    pub fn volumes(&self, place: Option<Place>, length: u64) -> Vec<&str> {
        let Some(place) = place else {
            return Vec::new();
        };
        let at = (place.archive_ordinal, place.tar_offset);
        let from = self
            .parts
            .partition_point(|part| (part.ordinal, part.end) <= at);
        let end = place.tar_offset.saturating_add(length);
        let mut found = Vec::new();
        for part in &self.parts[from..] {
            if part.ordinal != place.archive_ordinal || part.first >= end {
                break;
            }
            let volume = self.volumes[part.volume].as_str();
            if !found.contains(&volume) {
                found.push(volume);
            }
        }
        found
    }
}
