//! Whether the catalog may be believed, and what must not be done while it may not.
//!
//! A catalog that was restored from an older dump, or that lost its newest transactions, does not know of what was written
//! since: it would take tape that holds living data for free. So a catalog that may be older than the tapes writes nothing.

use crate::Fault;

/// A generation: epoch and counter. They compare in this order.
pub type Generation = (i64, i64);

/// What jobs neither write to a tape, nor let anything go because of what the catalog says. All others do: who adds a kind
/// must say so here, or it rests with them.
const HARMLESS: [&str; 13] = [
    "restore",
    "remove-extra",
    "verify",
    "inspect",
    "rescan",
    "inventory",
    "import",
    "export",
    "move",
    "drive-load",
    "drive-unload",
    "drive-rewind",
    "drive-clean",
];

/// Whether jobs of this kind rest while the catalog is not trusted.
pub fn rests(kind: &str) -> bool {
    !HARMLESS.contains(&kind)
}

/// What a catalog says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The highest generation that it has given out.
    pub generation: Generation,
    /// The tables that it says it lies in; `None` if it was never asked.
    pub mark: Option<String>,
    /// The tables that it lies in.
    pub tables: String,
}

/// A sign that a catalog may be older than the tapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// Its tables are not those that it was last seen in.
    Copied,
    /// This controller has seen a higher generation.
    Outlived(Generation),
}

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sign::Copied => f.write_str("the database was restored from a dump"),
            Sign::Outlived((epoch, counter)) => write!(
                f,
                "this controller has seen generation {epoch}.{counter}, and the database does not know it"
            ),
        }
    }
}

/// Compares what a catalog says with what this controller has seen of it.
pub fn judge(claims: &Claims, seen: Generation) -> Option<Sign> {
    if claims
        .mark
        .as_ref()
        .is_some_and(|mark| *mark != claims.tables)
    {
        return Some(Sign::Copied);
    }
    (claims.generation < seen).then_some(Sign::Outlived(seen))
}

/// Why jobs wait while it is not trusted, for people.
pub fn wait(reason: &str) -> String {
    format!(
        "the catalog may be older than the tapes ({reason}): inspect the volumes first, `taf status` says how"
    )
}

/// Why work that had begun under a catalog that is not trusted any more ends.
pub fn fault(reason: &str) -> Fault {
    Fault::new(
        "CATALOG_DISTRUSTED",
        format!("the catalog may be older than the tapes: {reason}"),
        "inspect the volumes with `taf volume inspect --all`, and run again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(generation: Generation, mark: Option<&str>) -> Claims {
        Claims {
            generation,
            mark: mark.map(str::to_owned),
            tables: "1".into(),
        }
    }

    #[test]
    fn a_catalog_that_nobody_has_seen_newer_is_believed() {
        for seen in [(0, 0), (1, 4), (1, 5)] {
            assert_eq!(judge(&claims((1, 5), Some("1")), seen), None);
            assert_eq!(judge(&claims((1, 5), None), seen), None);
        }
    }

    #[test]
    fn an_older_one_is_not() {
        for seen in [(1, 6), (2, 0)] {
            let sign = judge(&claims((1, 5), Some("1")), seen);
            assert_eq!(sign, Some(Sign::Outlived(seen)));
        }
        assert_eq!(
            judge(&claims((1, 5), Some("2")), (1, 5)),
            Some(Sign::Copied)
        );
    }

    #[test]
    fn what_is_new_rests_until_somebody_says_that_it_need_not() {
        assert!(rests("backup") && rests("label") && rests("remove-sources"));
        assert!(rests("reclaim") && rests("whatever comes"));
        assert!(!rests("restore") && !rests("rescan"));
    }
}
