//! Records out of a stream that is cut anywhere: bytes in, whole records out, never more than one record kept.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use taf_format::limits;
use taf_proto::tape::Record;

/// Collects bytes until they are records.
#[derive(Debug, Default)]
pub(super) struct Records {
    pending: BytesMut,
}

impl Records {
    /// Adds what came.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole record, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<Record>, &'static str> {
        let Some((length, head)) = length_of(&self.pending)? else {
            return Ok(None);
        };
        if self.pending.len() < head + length {
            return Ok(None);
        }
        self.pending.advance(head);
        let record = self.pending.split_to(length).freeze();
        Record::decode(record)
            .map(Some)
            .map_err(|_| "a record can't be decoded")
    }

    /// Whether nothing is left over.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// The length that the bytes begin with and its own length; none if it is not all there.
fn length_of(bytes: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let mut length = 0_usize;
    // Five bytes hold every length up to the limit.
    for (at, &byte) in bytes.iter().take(5).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return if length > limits::RECORD {
                Err("a record is longer than the format allows")
            } else {
                Ok(Some((length, at + 1)))
            };
        }
    }
    if bytes.len() < 5 {
        Ok(None)
    } else {
        Err("a record is longer than the format allows")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use taf_format::record;

    #[test]
    fn records_come_out_whole_however_the_stream_is_cut() {
        let mut bytes = Vec::new();
        for length in [0, 1, 200, 70_000] {
            record::encode(&record::tombstone(vec![7; length]), &mut bytes).unwrap();
        }
        for cut in [1, 2, 3, 127, 70_001] {
            let mut records = Records::default();
            let mut lengths = Vec::new();
            for piece in bytes.chunks(cut) {
                records.push(&Bytes::copy_from_slice(piece));
                while let Some(found) = records.next().unwrap() {
                    let Some(record::Body::Tombstone(tombstone)) = found.record else {
                        panic!("{found:?}")
                    };
                    lengths.push(tombstone.chunk.len());
                }
            }
            assert!(records.is_empty());
            assert_eq!(lengths, [0, 1, 200, 70_000], "cut every {cut}");
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_they_are_waited_for() {
        for bytes in [&[0xFF; 5][..], &[0xFF, 0xFF, 0xFF, 0xFF, 0x7F]] {
            let mut records = Records::default();
            records.push(&Bytes::copy_from_slice(bytes));
            assert!(records.next().is_err());
        }
    }
}
