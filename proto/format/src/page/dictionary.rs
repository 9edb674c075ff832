//! The zstd dictionaries that pages of a line may use, by number.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Error, MAX_DICTIONARY, validate};

/// The dictionaries of a line, as far as they are known. A number stands for one dictionary for ever.
#[derive(Clone, Default)]
pub struct Dictionaries(BTreeMap<u32, Arc<[u8]>>);

impl Dictionaries {
    /// No dictionaries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dictionary under its number. Whether it was not known.
    ///
    /// # Errors
    /// The number 0, a length above [`MAX_DICTIONARY`], or another dictionary that has this number.
    pub fn insert(&mut self, id: u32, dictionary: &[u8]) -> Result<bool, Error> {
        validate::limit("a dictionary", dictionary.len(), MAX_DICTIONARY)?;
        if id == 0 {
            return Err(Error::Dictionary(0));
        }
        match self.0.get(&id) {
            Some(known) if **known == *dictionary => Ok(false),
            Some(_) => Err(Error::OtherDictionary(id)),
            None => {
                self.0.insert(id, dictionary.into());
                Ok(true)
            }
        }
    }

    /// The dictionary with this number.
    pub fn get(&self, id: u32) -> Option<&[u8]> {
        self.0.get(&id).map(AsRef::as_ref)
    }

    /// The one with the highest number.
    pub fn newest(&self) -> Option<(u32, &[u8])> {
        let (id, dictionary) = self.0.last_key_value()?;
        Some((*id, dictionary))
    }
}

impl fmt::Debug for Dictionaries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}
