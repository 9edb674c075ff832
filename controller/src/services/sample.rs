//! How much of what could be verified a request wants, and the choice of it.

use rand::Rng as _;
use taf_core::sampling;
use tonic::Status;

use super::status::Violations;
use crate::store::verifications::SampleOf;

/// Reads what a request says of a sample: none if all is to be read.
pub fn read(
    percent: u32,
    limit: Option<&prost_types::Duration>,
    seed: u64,
) -> Result<Option<SampleOf>, Status> {
    let mut bad = Violations::new();
    if percent > 100 {
        bad.add("sample_percent", "must be from 0 to 100");
    }
    if limit.is_some_and(|limit| limit.seconds < 1) {
        bad.add("time_limit", "must be at least a second");
    }
    if limit.is_some() && percent > 0 {
        bad.add("time_limit", "can't be set together with sample_percent");
    }
    if seed > i64::MAX as u64 {
        bad.add("seed", "must be at most 2^63 - 1");
    }
    bad.check()?;
    let some = (1..100).contains(&percent) || limit.is_some();
    Ok(some.then(|| SampleOf {
        seed: match seed {
            0 => rand::rng().random_range(1..1_000_000_000),
            seed => seed,
        },
        percent: (percent > 0).then_some(percent as i32),
        seconds: limit.map(|limit| limit.seconds),
    }))
}

/// Of these parts, each with its bytes, those that are to be read.
pub fn choose<T: Clone>(
    parts: Vec<T>,
    bytes: impl Fn(&T) -> i64,
    sample: Option<SampleOf>,
) -> Vec<T> {
    let Some((seed, percent)) = sample.and_then(|of| Some((of.seed, of.percent?))) else {
        return parts;
    };
    let sizes: Vec<u64> = parts.iter().map(|part| bytes(part) as u64).collect();
    let percent = percent as u32;
    let chosen = sampling::choose(&sizes, sampling::Sample { seed, percent });
    chosen.into_iter().map(|at| parts[at].clone()).collect()
}
