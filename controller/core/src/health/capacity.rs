//! Whether a cartridge held what it should when its end was reached.
//!
//! Worn heads and bad tape are written around: the drive reports success, and the end comes early. What was reached counts,
//! never the remaining capacity that the drive estimates.

/// Less than this share of the native capacity is a loss.
pub const LEAST_PERCENT: u64 = 95;

/// A volume at its early warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtEnd {
    /// Bytes that the host has written from the beginning of the tape to early warning.
    pub achieved_bytes: u64,
    /// Native capacity, as the drive or the cartridge's memory states it.
    pub native_bytes: u64,
    /// Writes that were done again in this recording, if the drives told: the drive itself explains the loss by them.
    pub rewrites: Option<u64>,
    /// The capacity was set smaller on purpose.
    pub capacity_set: bool,
}

/// A loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What was reached of the native capacity, percent.
    pub percent: u64,
    /// In words.
    pub why: String,
}

/// The loss, if there is one without another cause.
pub fn loss(end: &AtEnd) -> Option<Loss> {
    if end.capacity_set || end.native_bytes == 0 {
        return None;
    }
    let percent = (u128::from(end.achieved_bytes) * 100 / u128::from(end.native_bytes)) as u64;
    if percent >= LEAST_PERCENT {
        return None;
    }
    let cause = match end.rewrites {
        Some(0) => "the drive reports no rewrites: a worn head, or a bad cartridge",
        Some(_) => {
            "the drive wrote much of it twice: clean it, then try the cartridge in another drive"
        }
        None => {
            "the drive does not count rewrites: clean it, then try the cartridge in another drive"
        }
    };
    Some(Loss {
        percent,
        why: format!("it was full at {percent} % of its native capacity; {cause}"),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WHOLE: AtEnd = AtEnd {
        achieved_bytes: 11_800_000_000_000,
        native_bytes: 12_000_000_000_000,
        rewrites: Some(0),
        capacity_set: false,
    };

    #[test]
    fn a_whole_tape_has_no_loss_and_a_short_one_has() {
        assert_eq!(loss(&WHOLE), None);
        let short = AtEnd {
            achieved_bytes: 8_000_000_000_000,
            ..WHOLE
        };
        let found = loss(&short).unwrap();
        assert_eq!(found.percent, 66);
        assert!(found.why.contains("66 %") && found.why.contains("worn head"));
        assert!(
            loss(&AtEnd {
                rewrites: Some(9),
                ..short
            })
            .unwrap()
            .why
            .contains("twice")
        );
    }

    #[test]
    fn the_limit_is_exact_and_other_causes_excuse() {
        let at = |percent: u64| AtEnd {
            achieved_bytes: percent * 120_000_000_000,
            ..WHOLE
        };
        assert_eq!(loss(&at(95)), None);
        assert_eq!(loss(&at(94)).unwrap().percent, 94);
        assert_eq!(
            loss(&AtEnd {
                capacity_set: true,
                ..at(50)
            }),
            None
        );
        assert_eq!(
            loss(&AtEnd {
                native_bytes: 0,
                ..at(50)
            }),
            None
        );
    }
}
