//! How long it takes to read some volumes back: an estimate that says what it assumes. Who reads which of them is in [`turn`].

pub mod turn;

/// From the wish for a volume to its first block, and home again: robot, load, thread, proof of the label, rewind and unload.
const MOUNT_SECONDS: u64 = 120;
/// To the first part that is read: on average a third of the length of the tape, as drives tell of themselves.
const LOCATE_SECONDS: u64 = 50;
/// To each further part: they mostly lie near to each other.
const STEP_SECONDS: u64 = 5;
/// Native speed of a drive whose generation is not known, bytes a second.
const SLOWEST: u64 = 140_000_000;

/// What is read from one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// LTO generation of the cartridge, if it is known.
    pub generation: Option<u8>,
    /// Whether it is in a drive already.
    pub mounted: bool,
    /// Parts that are read from.
    pub parts: u64,
    /// Compressed bytes that are read.
    pub bytes: u64,
}

/// About how long one volume takes, in seconds.
pub fn seconds(reading: &Reading) -> u64 {
    let mount = if reading.mounted { 0 } else { MOUNT_SECONDS };
    let locate = match reading.parts {
        0 => 0,
        parts => LOCATE_SECONDS + (parts - 1) * STEP_SECONDS,
    };
    mount + locate + reading.bytes.div_ceil(speed(reading.generation))
}

/// Bytes a second of a half-height drive, native, as its maker says.
fn speed(generation: Option<u8>) -> u64 {
    match generation {
        Some(6) => 160_000_000,
        Some(7..) => 300_000_000,
        _ => SLOWEST,
    }
}

/// What the estimate assumes, for people.
pub fn basis(readings: &[Reading], drives: usize) -> String {
    let mut speeds: Vec<u64> = readings.iter().map(|r| speed(r.generation)).collect();
    speeds.sort_unstable();
    speeds.dedup();
    let speeds: Vec<String> = speeds
        .iter()
        .map(|speed| format!("{} MB/s", speed / 1_000_000))
        .collect();
    format!(
        "{}; {MOUNT_SECONDS} s for each mount, {LOCATE_SECONDS} s to the first part on a volume, {STEP_SECONDS} s to each further one; {} from tape, and a target that is as fast",
        match drives {
            0 | 1 => "one drive that nobody else uses".to_owned(),
            drives => format!("{drives} drives that nobody else uses"),
        },
        if speeds.is_empty() {
            "nothing".to_owned()
        } else {
            speeds.join(" or ")
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_ways_and_bytes_add_up() {
        let reading = Reading {
            generation: Some(8),
            mounted: false,
            parts: 3,
            bytes: 3_000_000_001,
        };
        assert_eq!(seconds(&reading), 120 + 50 + 10 + 11);
        let mounted = Reading {
            mounted: true,
            parts: 1,
            bytes: 0,
            ..reading
        };
        assert_eq!(seconds(&mounted), 50);
        let nothing = Reading {
            parts: 0,
            ..mounted
        };
        assert_eq!(seconds(&nothing), 0);
    }

    #[test]
    fn older_drives_are_slower_and_the_basis_says_so() {
        let of = |generation| Reading {
            generation,
            mounted: true,
            parts: 0,
            bytes: 1_400_000_000,
        };
        assert_eq!(seconds(&of(None)), 10);
        assert_eq!(seconds(&of(Some(6))), 9);
        assert_eq!(seconds(&of(Some(9))), 5);
        let told = basis(&[of(Some(9)), of(None), of(Some(5))], 1);
        assert!(told.contains("140 MB/s or 300 MB/s"), "{told}");
        assert!(told.starts_with("one drive "), "{told}");
        assert!(basis(&[of(None)], 3).starts_with("3 drives "));
    }
}
