//! How data flow to a drive, for people.

use std::time::Duration;

use taf_proto::v1::DriveFlow;

use crate::human;

/// What is said of it line by line: heading, text. Empty texts are of things that there are none of.
pub fn lines(flow: &DriveFlow) -> Vec<(&'static str, String)> {
    let rate = |bytes: u64| format!("{}/s", human::size(bytes));
    let mut lines = vec![
        ("to drive", rate(flow.bytes_per_second)),
        ("from source", rate(flow.source_bytes_per_second)),
        ("in memory", filled(flow.ring_byte_count, flow.ring_size)),
        ("on spool", filled(flow.spool_byte_count, flow.spool_size)),
    ];
    if flow.floor_bytes_per_second > 0 {
        lines.push(("streams from", rate(flow.floor_bytes_per_second)));
    }
    lines.push(("starved", starved(flow)));
    if let Some(count) = flow.reposition_count {
        let times = human::counted(count, "time", "times");
        lines.push(("went back", format!("{times}, as the drive counts")));
    }
    lines
}

/// As lines of a job that is over say it.
pub fn outcome(flow: &DriveFlow) -> Vec<(&'static str, String)> {
    let stays = ["starved", "went back"];
    let lines = lines(flow).into_iter();
    lines.filter(|(key, _)| stays.contains(key)).collect()
}

/// In one line with other things: how full what is collected in is, and that the drive starved.
pub fn short(flow: &DriveFlow) -> Vec<String> {
    let mut parts = Vec::new();
    let size = flow.ring_size + flow.spool_size;
    if size > 0 {
        let held = flow.ring_byte_count + flow.spool_byte_count;
        parts.push(format!("buffer {:.0} %", percent(held, size)));
    }
    if flow.starved_count > 0 {
        parts.push(format!("starved {}", starved(flow)));
    }
    parts
}

fn filled(bytes: u64, size: u64) -> String {
    if size == 0 {
        return String::new();
    }
    format!(
        "{} of {} ({:.0} %)",
        human::size(bytes),
        human::size(size),
        percent(bytes, size)
    )
}

fn percent(bytes: u64, size: u64) -> f64 {
    (bytes as f64 / size as f64 * 100.0).min(100.0)
}

fn starved(flow: &DriveFlow) -> String {
    if flow.starved_count == 0 {
        return "never".to_owned();
    }
    let time = flow.starved_duration.unwrap_or_default();
    let time = Duration::try_from(time).unwrap_or_default();
    format!(
        "{} for {}",
        human::counted(flow.starved_count, "time", "times"),
        human::duration(time)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> DriveFlow {
        DriveFlow {
            bytes_per_second: 0,
            source_bytes_per_second: 50 << 20,
            floor_bytes_per_second: 177 << 20,
            ring_byte_count: 1 << 30,
            ring_size: 2 << 30,
            spool_byte_count: 5 << 30,
            spool_size: 10 << 30,
            collecting: true,
            starved_count: 3,
            starved_duration: Some(prost_types::Duration {
                seconds: 90,
                nanos: 0,
            }),
            reposition_count: Some(4),
        }
    }

    #[test]
    fn everything_is_said() {
        let said: Vec<String> = lines(&flow())
            .into_iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect();
        assert_eq!(
            said.join("\n"),
            "to drive: 0 B/s\nfrom source: 50.0 MiB/s\nin memory: 1.00 GiB of 2.00 GiB (50 %)\n\
             on spool: 5.00 GiB of 10.0 GiB (50 %)\nstreams from: 177 MiB/s\nstarved: 3 times for 1m 30s\n\
             went back: 4 times, as the drive counts"
        );
        assert_eq!(
            short(&flow()),
            ["buffer 50 %", "starved 3 times for 1m 30s"]
        );
        assert_eq!(outcome(&flow()).len(), 2);
    }

    #[test]
    fn what_there_is_none_of_is_left_out() {
        let flow = DriveFlow::default();
        assert!(short(&flow).is_empty());
        assert_eq!(outcome(&flow), [("starved", "never".to_owned())]);
        assert!(lines(&flow).contains(&("on spool", String::new())));
    }
}
