//! Any bytes may come from a tape. The fuzz bodies run here over random bytes and over mutated golden samples;
//! `cargo +nightly fuzz run TARGET` in `fuzz/` goes deeper. Set `TAF_SEED` to repeat a run.
#![allow(clippy::unwrap_used, missing_docs)]

mod synthetic;

use std::path::PathBuf;

use synthetic::Random;
use taf_format::fuzz;
use taf_format::segment::Method;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 7] = [
    ("label", fuzz::label),
    ("segment", fuzz::segment),
    ("block0", fuzz::block0),
    ("table", fuzz::table),
    ("part", fuzz::part),
    ("index_head", fuzz::index_head),
    ("index", fuzz::index),
];

fn seed() -> u64 {
    std::env::var("TAF_SEED").map_or_else(
        |_| {
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .as_nanos() as u64
        },
        |seed| seed.parse().unwrap(),
    )
}

fn mutate(sample: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = sample.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len());
        match random.below(6) {
            0 => out.truncate(at),
            1 => {
                let length = random.below(20);
                let more = random.bytes(length);
                out.splice(at..at, more);
            }
            2 => {
                let end = (at + random.below(64)).min(out.len());
                out.drain(at..end);
            }
            3 => {
                let end = (at + random.below(64)).min(out.len());
                let again = out[at..end].to_vec();
                out.splice(at..at, again);
            }
            _ => {
                if let Some(byte) = out.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
        }
    }
    out
}

/// Makes checksums right again after a mutation, so that what lies behind them is reached.
fn mend(sample: &mut [u8]) {
    // Where a segment's header lies in its cover, where its checksum begins, and where it ends.
    for (body, counted, end) in [(8, 0, 128), (16, 16, 146), (512, 512, 1024)] {
        if sample.len() >= end && sample[body..body + 8] == *b"TAFSEGM1" {
            let stored = crc32c::crc32c(&sample[end..]);
            sample[body + 104..body + 108].copy_from_slice(&stored.to_le_bytes());
            let head = crc32c::crc32c(&sample[counted..body + 116]);
            sample[body + 116..body + 120].copy_from_slice(&head.to_le_bytes());
        }
    }
    if sample.len() >= 64 && sample[8..16] == *b"TAFINDX1" {
        let length = u32::from_le_bytes([sample[4], sample[5], sample[6], sample[7]]) as usize;
        let end = (8 + length).clamp(64, sample.len());
        let records = crc32c::crc32c(&sample[64..end]);
        sample[48..52].copy_from_slice(&records.to_le_bytes());
        let head = crc32c::crc32c(&sample[..60]);
        sample[60..64].copy_from_slice(&head.to_le_bytes());
    }
}

fn samples() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    paths.sort();
    let mut samples: Vec<_> = paths.iter().map(|p| std::fs::read(p).unwrap()).collect();
    let mut label = Vec::new();
    for n in 0..3 {
        let name = format!("label-v1-{n}.bin");
        let block = &samples[paths.iter().position(|p| p.ends_with(&name)).unwrap()];
        label.extend_from_slice(&(block.len() as u16).to_le_bytes());
        label.extend_from_slice(block);
    }
    samples.push(label);
    for method in Method::ALL {
        let raw = synthetic::archive(synthetic::ARCHIVE, &[9000, 100], 3000, 1).1;
        let sealed = synthetic::seal_by(method, raw);
        samples.push(sealed.iter().flat_map(|s| s.bytes.to_vec()).collect());
    }
    samples
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let seed = seed();
    println!("TAF_SEED={seed}");
    let mut random = Random(seed);
    let samples = samples();
    for round in 0..3_000 {
        let bytes = if round % 10 == 0 {
            let length = random.below(3000);
            random.bytes(length)
        } else {
            let mut bytes = mutate(&samples[random.below(samples.len())], &mut random);
            if round % 2 == 0 {
                mend(&mut bytes);
            }
            bytes
        };
        for (name, target) in TARGETS {
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(
                result.is_ok(),
                "{name} failed in round {round} with TAF_SEED={seed}: {}",
                hex::encode(&bytes)
            );
        }
    }
}

#[test]
fn the_samples_themselves_pass() {
    for sample in samples() {
        for (_, target) in TARGETS {
            target(&sample);
        }
    }
}
