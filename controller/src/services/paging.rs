//! Pages of lists: by key, never by offset, so that a page costs the same wherever it is. A page token is opaque to
//! clients: the key behind which to go on, and which list it belongs to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::status::{Violations, invalid};

/// Longest page token, in bytes.
const TOKEN_LIMIT: usize = 8 * 1024;
/// Bytes of the list's hash that a token carries.
const SCOPE: usize = 6;

/// What page of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    scope: [u8; SCOPE],
    size: usize,
    after: Option<Vec<u8>>,
}

impl Page {
    /// Reads `page_size` and `page_token`. `scope` says which list, filters included: a token of another list is
    /// refused. 0 means `default` rows; more than `most` are cut to it, as AIP-158 has it.
    pub fn read(
        scope: &str,
        page_size: i32,
        page_token: &str,
        default: usize,
        most: usize,
    ) -> Result<Self, Status> {
        let mut bad = Violations::new();
        if page_size < 0 {
            bad.add("page_size", "must not be negative");
        }
        let hash = Sha256::digest(scope.as_bytes());
        let mut page = Self {
            scope: [0; SCOPE],
            size: default,
            after: None,
        };
        page.scope.copy_from_slice(&hash[..SCOPE]);
        if page_size > 0 {
            page.size = (page_size as usize).min(most);
        }
        if !page_token.is_empty() {
            let bytes = (page_token.len() <= TOKEN_LIMIT)
                .then(|| URL_SAFE_NO_PAD.decode(page_token).ok())
                .flatten();
            match bytes
                .as_deref()
                .and_then(|bytes| bytes.strip_prefix(&page.scope))
            {
                Some(key) => page.after = Some(key.to_vec()),
                None => bad.add("page_token", "is not from an earlier page of this list"),
            }
        }
        bad.check()?;
        Ok(page)
    }

    /// Rows to fetch: one more than the page has, which tells whether there is another page.
    pub fn limit(&self) -> i64 {
        self.size as i64 + 1
    }

    /// The key behind which the page begins, as bytes; none on the first page.
    pub fn after(&self) -> Option<&[u8]> {
        self.after.as_deref()
    }

    /// The key as text; empty on the first page.
    pub fn after_text(&self) -> Result<&str, Status> {
        std::str::from_utf8(self.after().unwrap_or_default())
            .ok()
            .filter(|key| !key.contains('\0'))
            .ok_or_else(|| invalid("page_token", "is damaged"))
    }

    /// The key as a number; none on the first page.
    pub fn after_number(&self) -> Result<Option<i64>, Status> {
        match &self.after {
            None => Ok(None),
            Some(_) => match self.after_text()?.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(invalid("page_token", "is damaged")),
            },
        }
    }

    /// Cuts what was fetched by [`Page::limit`] to the page and gives the token of the next one, empty if there is
    /// none. `key` is what the list is ordered by.
    pub fn cut<T, K: AsRef<[u8]>>(&self, rows: &mut Vec<T>, key: impl Fn(&T) -> K) -> String {
        if rows.len() <= self.size {
            return String::new();
        }
        rows.truncate(self.size);
        rows.last().map_or_else(String::new, |last| {
            URL_SAFE_NO_PAD.encode([&self.scope, key(last).as_ref()].concat())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another() {
        let page = Page::read("sources", 2, "", 100, 1000).unwrap();
        assert_eq!((page.limit(), page.after_text().unwrap()), (3, ""));
        let mut rows = vec!["a", "b", "c"];
        let token = page.cut(&mut rows, |r| *r);
        assert_eq!(rows, ["a", "b"]);
        let next = Page::read("sources", 2, &token, 100, 1000).unwrap();
        assert_eq!(next.after_text().unwrap(), "b");
        assert_eq!(next.cut(&mut vec!["c"], |r| *r), "");
    }

    #[test]
    fn tokens_of_other_lists_and_nonsense_are_refused() {
        let token = Page::read("a", 1, "", 1, 1)
            .unwrap()
            .cut(&mut vec!["x", "y"], |r| *r);
        assert!(Page::read("b", 1, &token, 1, 1).is_err());
        assert!(Page::read("a", 1, "?", 1, 1).is_err());
        assert!(Page::read("a", -1, "", 1, 1).is_err());
        assert_eq!(
            Page::read("a", 5000, &token, 1, 1000).unwrap().limit(),
            1001
        );
    }
}
