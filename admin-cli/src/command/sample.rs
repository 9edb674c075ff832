//! Verifications that read only a part: which part, and how that is said.

use std::str::FromStr;

use taf_peer::quantity::Span;

use crate::output::say;

/// A share in percent, as in `5%` or `5`.
#[derive(Debug, Clone, Copy)]
pub struct Percent(u32);

impl Percent {
    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').unwrap_or(text);
        match number.parse() {
            Ok(percent @ 1..=100) => Ok(Self(percent)),
            _ => Err("must be from 1% to 100%".to_owned()),
        }
    }
}

/// What a verification takes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Sample {
    /// Only about this share, in whole parts that are chosen at random
    #[arg(long = "sample", value_name = "PERCENT")]
    share: Option<Percent>,
    /// Only for so long on each volume, from a part on that is chosen at random
    #[arg(long = "for", value_name = "TIME", conflicts_with = "share")]
    limit: Option<Span>,
    /// The same choice as that of the verification which said this number
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=i64::MAX as u64))]
    seed: Option<u64>,
}

impl Sample {
    /// Share in percent, 0 for all.
    pub fn percent(self) -> u32 {
        self.share.map_or(0, |Percent(percent)| percent)
    }

    /// For how long it reads.
    pub fn time_limit(self) -> Option<prost_types::Duration> {
        let Span(limit) = self.limit?;
        Some(prost_types::Duration {
            seconds: limit.as_secs().max(1) as i64,
            nanos: 0,
        })
    }

    /// The seed, 0 for one of the controller's.
    pub fn seed(self) -> u64 {
        self.seed.unwrap_or(0)
    }

    /// What is chosen, for people; none if all is read.
    pub fn words(self, chosen: u64, all: u64, seed: u64) -> Option<String> {
        if let Some(Span(limit)) = self.limit {
            return Some(format!(
                "reads for {}, some of {all} parts, seed {seed}",
                crate::human::duration(limit)
            ));
        }
        (seed > 0).then(|| format!("a sample of {chosen} of {all} parts, seed {seed}"))
    }

    /// Says what is chosen.
    pub fn tell(self, what: &str, chosen: u64, all: u64, seed: u64) {
        if let Some(words) = self.words(chosen, all, seed) {
            say(format!("{what}: {words}; what is not read is not proved"));
        }
    }
}
