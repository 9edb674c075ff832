//! POSIX ACLs, which the kernel gives as a binary attribute and some tars want as text.
//!
//! GNU tar with `--xattrs-include='*'` restores the binary attribute; bsdtar, and GNU tar with `--acls`, only
//! the text. So both are written. The binary form is Linux's `posix_acl_xattr.h`: little endian, version 2,
//! then (tag u16, permissions u16, id u32) for each entry.

const VERSION: [u8; 4] = [2, 0, 0, 0];
const NO_ID: u32 = u32::MAX;
const TAGS: [(u16, &str); 6] = [
    (0x01, "user"),
    (0x02, "user"),
    (0x04, "group"),
    (0x08, "group"),
    (0x10, "mask"),
    (0x20, "other"),
];

/// The attribute's name and the pax keyword of its text.
pub(super) const NAMES: [(&[u8], &[u8]); 2] = [
    (b"system.posix_acl_access", b"SCHILY.acl.access"),
    (b"system.posix_acl_default", b"SCHILY.acl.default"),
];

/// The ACL as text with numeric ids; `None` if the attribute is not in the form we know.
pub(super) fn to_text(attribute: &[u8]) -> Option<String> {
    let entries = attribute.strip_prefix(&VERSION[..])?;
    if !entries.len().is_multiple_of(8) {
        return None;
    }
    let mut lines = Vec::new();
    for entry in entries.chunks_exact(8) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let permissions = entry[2];
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let name = TAGS.iter().find(|known| known.0 == tag)?.1;
        let id = if matches!(tag, 0x02 | 0x08) {
            id.to_string()
        } else {
            String::new()
        };
        let bit = |mask: u8, letter: char| if permissions & mask == 0 { '-' } else { letter };
        lines.push(format!(
            "{name}:{id}:{}{}{}",
            bit(4, 'r'),
            bit(2, 'w'),
            bit(1, 'x')
        ));
    }
    Some(lines.join(","))
}

/// The attribute of an ACL in text; `None` if it names people by name only, or is not an ACL.
pub(super) fn from_text(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for line in text
        .split([',', '\n'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        let line = line.strip_prefix("default:").unwrap_or(line);
        let fields: Vec<&str> = line.split(':').collect();
        let [name, who, permissions, ..] = fields[..] else {
            return None;
        };
        let first = TAGS.iter().find(|known| known.1 == name)?.0;
        let (tag, id) = if who.is_empty() {
            (first, NO_ID)
        } else {
            // star and libarchive put the number behind the name.
            let number = fields.get(3).copied().unwrap_or(who);
            (first << 1, number.parse().ok()?)
        };
        let mut bits = 0_u16;
        for letter in permissions.trim().chars() {
            bits |= match letter {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return None,
            };
        }
        entries.push((tag, id, bits));
    }
    entries.sort_unstable();
    let mut attribute = VERSION.to_vec();
    for (tag, id, bits) in entries {
        attribute.extend_from_slice(&tag.to_le_bytes());
        attribute.extend_from_slice(&bits.to_le_bytes());
        attribute.extend_from_slice(&id.to_le_bytes());
    }
    Some(attribute)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_acl_is_the_same_as_text_and_as_attribute() {
        let text = "user::rw-,user:1234:r--,group::r-x,group:5:---,mask::rwx,other::---";
        let attribute = from_text(text.as_bytes()).unwrap();
        assert_eq!(attribute.len(), 4 + 6 * 8);
        assert_eq!(to_text(&attribute).unwrap(), text);
        assert_eq!(
            from_text(b"user::rw-,user:anna:r--:7,group::r--,mask::rw-,other::r--"),
            from_text(b"user::rw-\nuser:7:r--\ngroup::r--\nmask::rw-\nother::r--\n")
        );
        assert_eq!(from_text(b"user:anna:rwx"), None);
        assert_eq!(to_text(&attribute[1..]), None);
        assert_eq!(to_text(&attribute[..9]), None);
    }
}
