//! Whose things become whose, as rules say. Names are those of this host.

use std::collections::HashMap;

use nix::unistd::{Group, User};
use taf_format::entry::Metadata;
use taf_proto::v1::{OwnerKind, OwnerRule};

use crate::fault::{Error, fault};

/// Rules by number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    users: Rules,
    groups: Rules,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rules {
    to: HashMap<u32, u32>,
    /// What all others become.
    rest: Option<u32>,
}

impl Owners {
    /// Reads rules; of several for one owner the first counts.
    ///
    /// # Errors
    /// A name that this host does not know.
    pub fn new(rules: &[OwnerRule]) -> Result<Self, Error> {
        let mut owners = Self::default();
        for rule in rules {
            let (rules, number): (_, fn(&str) -> Option<u32>) = match rule.kind() {
                OwnerKind::Group => (&mut owners.groups, group),
                OwnerKind::User | OwnerKind::Unspecified => (&mut owners.users, user),
            };
            let known = |text: &str| number(text).ok_or_else(|| unknown(rule.kind(), text));
            let to = known(&rule.to)?;
            if rule.from == "*" {
                rules.rest.get_or_insert(to);
            } else {
                rules.to.entry(known(&rule.from)?).or_insert(to);
            }
        }
        Ok(owners)
    }

    /// Gives an entry its new owners.
    pub fn apply(&self, meta: &mut Metadata) {
        let (uid, gid) = (self.users.of(meta.uid), self.groups.of(meta.gid));
        if (uid, gid) != (meta.uid, meta.gid) {
            (meta.uid, meta.gid) = (uid, gid);
            meta.user.clear();
            meta.group.clear();
        }
    }
}

impl Rules {
    fn of(&self, id: u32) -> u32 {
        self.to.get(&id).copied().or(self.rest).unwrap_or(id)
    }
}

fn user(text: &str) -> Option<u32> {
    let named = || User::from_name(text).ok().flatten();
    text.parse().ok().or_else(|| Some(named()?.uid.as_raw()))
}

fn group(text: &str) -> Option<u32> {
    let named = || Group::from_name(text).ok().flatten();
    text.parse().ok().or_else(|| Some(named()?.gid.as_raw()))
}

fn unknown(kind: OwnerKind, name: &str) -> Error {
    let what = match kind {
        OwnerKind::Group => "group",
        OwnerKind::User | OwnerKind::Unspecified => "user",
    };
    fault(
        "UNKNOWN_OWNER",
        format!("the host that writes knows no {what} {name}"),
        "write its number: `taf stat` shows what the version has",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rule(kind: OwnerKind, from: &str, to: &str) -> OwnerRule {
        OwnerRule {
            kind: kind.into(),
            from: from.into(),
            to: to.into(),
        }
    }

    #[test]
    fn the_first_rule_of_an_owner_counts_and_the_rest_comes_last() {
        let owners = Owners::new(&[
            rule(OwnerKind::User, "*", "7"),
            rule(OwnerKind::User, "root", "2000"),
            rule(OwnerKind::User, "0", "3000"),
            rule(OwnerKind::Group, "50", "root"),
        ])
        .unwrap();
        let users = [0, 1, 1000].map(|id| owners.users.of(id));
        assert_eq!(users, [2000, 7, 7]);
        assert_eq!([50, 51].map(|id| owners.groups.of(id)), [0, 51]);
    }

    #[test]
    fn a_name_that_is_not_known_is_named() {
        for kind in [OwnerKind::User, OwnerKind::Group] {
            let wrong = Owners::new(&[rule(kind, "no such owner", "1")]);
            let Err(Error::Fault(fault)) = wrong else {
                panic!("{wrong:?}")
            };
            assert_eq!(fault.reason, "UNKNOWN_OWNER");
            assert!(fault.message.contains("no such owner"), "{fault:?}");
        }
    }
}
