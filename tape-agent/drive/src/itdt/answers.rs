//! What `itdt` prints, read as tolerantly as its manual is vague: values are found by their words, whatever stands around them, in
//! whatever order, in whatever columns. What is not there is `None`.
//!
//! Evidence for the words: facts/itdt-and-mam.md 2.3. Their layout is not known.

use taf_scsi::page::attribute::Attribute;
use taf_scsi::page::log::counters::TapeUsage;

/// A device as `scan` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// How `itdt` names it.
    pub device: String,
    /// Product.
    pub product: String,
    /// Firmware revision.
    pub revision: String,
    /// Serial number.
    pub serial: String,
}

/// `scan`: `#0 /dev/IBMtape0 - [ULT3580-TD5]-[BBNE] S/N:1168001104 H3-B0-T5-L0 …`, on some systems with a colon behind the name.
pub(crate) fn scan(output: &str) -> Vec<Listed> {
    let one = |line: &str| {
        let rest = line.trim_start().strip_prefix('#')?;
        let (number, rest) = rest.split_once(char::is_whitespace)?;
        number.parse::<u32>().ok()?;
        let (device, rest) = rest.trim_start().split_once(char::is_whitespace)?;
        let mut bracketed = rest
            .split('[')
            .skip(1)
            .filter_map(|piece| Some(piece.split_once(']')?.0.trim().to_owned()));
        let (_, behind) = rest.split_once("S/N:")?;
        Some(Listed {
            device: device.trim_end_matches(':').to_owned(),
            product: bracketed.next()?,
            revision: bracketed.next().unwrap_or_default(),
            serial: behind.split_whitespace().next()?.to_owned(),
        })
    };
    output.lines().filter_map(one).collect()
}

/// `qrypart`: how many partitions there are.
pub(crate) fn partitions(output: &str) -> Option<u8> {
    let additional = number_behind(output, "Additional Partitions defined")?;
    u8::try_from(additional.checked_add(1)?).ok()
}

/// `tapeusage`, in the words of log page 30h.
pub(crate) fn usage(output: &str) -> TapeUsage {
    let count = |words| number_behind(output, words);
    TapeUsage {
        thread_count: count("Thread Count"),
        data_sets_written: count("Data Sets Written"),
        write_retries: count("Write Retries"),
        unrecovered_write_errors: count("Unrecovered Write Err"),
        suspended_writes: count("Suspended Writes"),
        fatal_suspended_writes: count("Fatal Suspended Writes")
            .or_else(|| count("Fatal Suspend Writes")),
        data_sets_read: count("Data Sets Read"),
        read_retries: count("Read Retries"),
        unrecovered_read_errors: count("Unrecovered Read Err"),
        suspended_reads: count("Suspended Reads"),
        fatal_suspended_reads: count("Fatal Suspend Reads")
            .or_else(|| count("Fatal Suspended Reads")),
    }
}

/// `tur` of a drive that is not ready: whether it wants to be told to load, by the words that the standard has for that (04/02).
pub(crate) fn wants_load(output: &str) -> bool {
    output
        .to_ascii_lowercase()
        .contains("initializing command required")
}

/// `qrypos`: the object that comes next. The words are those of the manuals for READ POSITION; no output of the program is known.
pub(crate) fn position(output: &str) -> Option<u64> {
    [
        "Logical Block Position",
        "First Block Position",
        "Block Number",
        "Block Position",
    ]
    .into_iter()
    .find_map(|words| number_behind(output, words))
}

/// The file of `readattr`: one attribute as READ ATTRIBUTE carries it, five bytes of head and the value. Only that of this
/// identifier counts.
pub(crate) fn attribute(file: &[u8], id: u16) -> Option<Attribute> {
    let (head, value) = file.split_first_chunk::<5>()?;
    if u16::from_be_bytes([head[0], head[1]]) != id {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
    Some(Attribute {
        id,
        read_only: head[2] & 0x80 != 0,
        format: head[2] & 0x03,
        value: value.get(..length)?.to_vec(),
    })
}

/// The number in a line that begins with these words, behind whatever fills the space between.
fn number_behind(output: &str, words: &str) -> Option<u64> {
    output.lines().find_map(|line| {
        let line = line.trim_start();
        let (begin, rest) = line.split_at_checked(words.len())?;
        if !begin.eq_ignore_ascii_case(words) {
            return None;
        }
        let filled = |c: char| c.is_whitespace() || matches!(c, '.' | ':' | '=' | '…');
        let rest = rest.trim_start_matches(filled);
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let ends = rest[digits..]
            .chars()
            .next()
            .is_none_or(|c| c.is_whitespace() || c == ',');
        if ends {
            rest[..digits].parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCAN: &str = "Scanning SCSI Bus ...\r
#0 /dev/IBMtape0 - [ULT3580-TD5]-[BBNE] S/N:1168001104 H3-B0-T5-L0 Changer:00L4U78D6118_LL0 (IBM-Device)
#1 \\\\.\\scsi0: - [ULT3580-HH9]-[R3G1] S/N:10WT036260 H0-B0-T24-L0  (Generic-Device)
#2 /dev/sg4 - [half a line]
#x /dev/sg5 - [A]-[B] S/N:1
Exit with code: 0
";

    #[test]
    fn a_scan_is_read_with_a_colon_and_without() {
        let found = scan(SCAN);
        let of = |index: usize| (found[index].device.as_str(), found[index].serial.as_str());
        assert_eq!(of(0), ("/dev/IBMtape0", "1168001104"));
        assert_eq!(of(1), ("\\\\.\\scsi0", "10WT036260"));
        assert_eq!(
            (found[0].product.as_str(), found[0].revision.as_str()),
            ("ULT3580-TD5", "BBNE")
        );
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn partitions_and_usage_are_read_through_dots_and_spaces() {
        let text = "Active Partition ............ 0\nMax. Additional Partitions \u{2026} 3\n  Additional Partitions defined \u{2026} 1\nPartition 0 Size (Meg) ...... 128000\n";
        assert_eq!(partitions(text), Some(2));
        assert_eq!(partitions("Max. Additional Partitions ... 3\n"), None);
        assert_eq!(partitions("Additional Partitions defined ... 300"), None);
        let text = "Thread Count 7\nData Sets Read 294\nData Sets Written: 218\nRead Retries 0\nWrite Retries 4\nUnrecovered Read Err. 0\nUnrecovered Write Err. 1\nSuspended Reads 0\nSuspended Writes 4\nFatal Suspend Reads 0\nFatal Suspended Writes 2\nResult: PASSED\nCode: OK\n";
        let usage = usage(text);
        assert_eq!(
            (
                usage.thread_count,
                usage.data_sets_written,
                usage.unrecovered_write_errors
            ),
            (Some(7), Some(218), Some(1))
        );
        assert_eq!(
            (
                usage.suspended_writes,
                usage.fatal_suspended_writes,
                usage.fatal_suspended_reads
            ),
            (Some(4), Some(2), Some(0))
        );
    }

    #[test]
    fn a_number_that_is_cut_off_or_has_more_behind_it_is_none() {
        for text in [
            "Thread Count",
            "Thread Count ....",
            "Thread Count 7x",
            "Thread Count -7",
            "a Thread Count 7",
            "Thread Count 99999999999999999999999",
        ] {
            assert_eq!(usage(text), TapeUsage::default(), "{text}");
        }
        assert_eq!(position("  Block number ...... 4711\n"), Some(4711));
        assert_eq!(position("Block number unknown"), None);
        assert!(
            wants_load("Not Ready: Initializing Command Required\n") && !wants_load("Not Ready")
        );
    }

    #[test]
    fn an_attribute_is_the_one_that_was_asked_for_and_whole() {
        // The one that the former program took for an empty serial number.
        let bytes = [0, 2, 0x80, 0, 8, 0, 0x40, 0, 0, 0, 0, 0, 0];
        let one = attribute(&bytes, 0x0002).unwrap();
        assert!(one.read_only && one.format == 0);
        assert_eq!(one.value, bytes[5..]);
        assert_eq!(attribute(&bytes, 0x0401), None);
        assert_eq!(attribute(&bytes[..12], 0x0002), None);
        assert_eq!(attribute(&bytes[..4], 0x0002), None);
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(text in "(#0 |Thread Count|Block number|S/N:|[|]| |\\PC|\n){0,40}", bytes: Vec<u8>) {
            scan(&text);
            partitions(&text);
            usage(&text);
            position(&text);
            attribute(&bytes, 0x0401);
        }
    }
}
