//! Names of devices at the end of iSCSI: `iscsi://[USER@]HOST[:PORT]/TARGET/LUN`, and of portals: `[USER@]HOST[:PORT]`.

use std::fmt;

/// The port if none is named.
pub const PORT: u16 = 3260;
/// The longest name of a target (RFC 7143 4.2.7.1).
const NAME_MAX: usize = 223;

/// Where a portal is, and as whom to log in to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portal<'a> {
    /// By CHAP; without it nobody has to prove anything.
    pub user: Option<&'a str>,
    /// Name or address, an IPv6 address without its brackets.
    pub host: &'a str,
    /// TCP port.
    pub port: u16,
}

/// A logical unit of a target at a portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'a> {
    /// Where.
    pub portal: Portal<'a>,
    /// The target's name: `iqn.…`, `eui.…`, `naa.…`.
    pub target: &'a str,
    /// The logical unit's number.
    pub lun: u16,
}

impl<'a> Portal<'a> {
    /// Reads one, or says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, text),
        };
        if user.is_some_and(|user| user.is_empty() || user.contains(['%', ':'])) {
            return Err(
                "a user's name is missing, or has a secret with it, which belongs into the file of secrets".to_owned(),
            );
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest
                    .split_once(']')
                    .ok_or_else(|| "the bracket behind the IPv6 address is missing".to_owned())?;
                (host, behind.strip_prefix(':'))
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port {
            None => PORT,
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("{port:?} is no TCP port"))?,
        };
        if host.is_empty() || host.contains(['/', ' ']) {
            return Err("the host's name is missing".to_owned());
        }
        Ok(Self { user, host, port })
    }
}

impl fmt::Display for Portal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl<'a> Address<'a> {
    /// Reads what stands behind `iscsi://`, or says what is wrong.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '/');
        let portal = Portal::parse(parts.next().unwrap_or_default())?;
        let target = parts.next().unwrap_or_default();
        let named = ["iqn.", "eui.", "naa."]
            .iter()
            .any(|form| target.starts_with(form));
        if !named || target.len() > NAME_MAX || target.contains(char::is_whitespace) {
            return Err("the target's name must begin with iqn., eui. or naa.".to_owned());
        }
        let lun = parts
            .next()
            .and_then(|lun| lun.parse().ok())
            .filter(|lun| *lun < 1 << 14)
            .ok_or_else(|| "the logical unit's number is missing behind the target".to_owned())?;
        Ok(Self {
            portal,
            target,
            lun,
        })
    }
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "iscsi://{}/{}/{}", self.portal, self.target, self.lun)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_come_back_as_they_went() {
        for (text, whole) in [
            ("h/iqn.2026-11.x:y/3", "iscsi://h:3260/iqn.2026-11.x:y/3"),
            ("u@h:99/iqn.x/0", "iscsi://u@h:99/iqn.x/0"),
            (
                "[fe80::1]:7/eui.02/16383",
                "iscsi://[fe80::1]:7/eui.02/16383",
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.to_string(), whole);
            let again = whole.strip_prefix("iscsi://").unwrap();
            assert_eq!(Address::parse(again).unwrap(), address);
        }
        for wrong in [
            "",
            "h",
            "h/iqn.x",
            "h/iqn.x/",
            "h/iqn.x/x",
            "h/iqn.x/16384",
            "h/disk/1",
            "/iqn.x/1",
            "h:0/iqn.x/1",
            "h:x/iqn.x/1",
            "u%secret@h/iqn.x/1",
            "u:secret@h/iqn.x/1",
            "@h/iqn.x/1",
            "[::1/iqn.x/1",
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
