//! The keys of a version, one after another, fetched in batches.

use std::collections::VecDeque;

use crate::catalog::{Error, View, walk};
use crate::store::pages::{self, Key};

/// Keys fetched at once.
const KEYS: i64 = 4_000;

/// See the module.
pub(super) struct Keys {
    view: View,
    /// Where to go on, and whether behind it.
    from: (Vec<u8>, bool),
    to: Vec<u8>,
    fetched: VecDeque<Key>,
    exhausted: bool,
}

impl Keys {
    /// Everything in and below a directory (path without slash at either end). Of a very long path more may come.
    pub(super) fn below(view: &View, directory: &[u8]) -> Self {
        let (from, to) = walk::range_below(directory);
        Self {
            view: view.clone(),
            from: (from, false),
            to,
            fetched: VecDeque::new(),
            exhausted: false,
        }
    }

    /// The next key, which stays; none at the end.
    pub(super) async fn peek(&mut self) -> Result<Option<&Key>, Error> {
        while self.fetched.is_empty() && !self.exhausted {
            let client = self.view.client().await?;
            let (from, behind) = &self.from;
            let found =
                pages::page_keys(&client, self.view.scope, from, *behind, &self.to, KEYS).await?;
            match found.last {
                Some(last) => self.from = (last, true),
                None => self.exhausted = true,
            }
            self.fetched.extend(found.live);
        }
        Ok(self.fetched.front())
    }

    /// Steps over the next key.
    pub(super) fn pop(&mut self) {
        self.fetched.pop_front();
    }
}
