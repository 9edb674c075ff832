//! The zstd dictionaries that pages may use, by number.

use std::collections::BTreeMap;
use std::fmt;
use zstd::dict::DecoderDictionary;

/// Dictionaries made ready to decode with.
#[derive(Default)]
pub struct Dictionaries(BTreeMap<u32, DecoderDictionary<'static>>);

impl Dictionaries {
    /// No dictionaries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dictionary under its number, from 1; one with the same number goes.
    pub fn insert(&mut self, id: u32, dictionary: &[u8]) {
        self.0.insert(id, DecoderDictionary::copy(dictionary));
    }

    pub(super) fn get(&self, id: u32) -> Option<&DecoderDictionary<'static>> {
        self.0.get(&id)
    }
}

impl fmt::Debug for Dictionaries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}
