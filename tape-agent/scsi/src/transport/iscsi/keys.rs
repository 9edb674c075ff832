//! The text of logins and text requests (RFC 7143 section 6): `key=value` pairs, each ended by a zero byte, and what the
//! two sides agree on by them.

use super::pdu::Digests;

/// The longest text that one side says, over several PDUs.
pub const TEXT_MAX: usize = 64 << 10;
/// The longest data segment in a login, and before anything else is agreed on.
pub const LOGIN_SEGMENT: usize = 8192;
/// The longest data segment that we take.
pub const SEGMENT_MAX: usize = 256 << 10;
/// The longest burst that we ask for: what fits the field, in whole words.
pub const BURST_MAX: usize = (1 << 24) - 512;
/// What goes along with a command unasked at most.
pub const FIRST_BURST: usize = 1 << 20;

/// What one side said, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(Vec<(String, String)>);

impl Keys {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this pair.
    #[must_use]
    pub fn and(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.push((key.to_owned(), value.into()));
        self
    }

    /// Reads a text, or says what is wrong with it.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut keys = Self::new();
        for pair in text
            .split(|byte| *byte == 0)
            .filter(|pair| !pair.is_empty())
        {
            let pair = std::str::from_utf8(pair).map_err(|_| "a text that is none".to_owned())?;
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{:?} is no pair of key and value", brief(pair)))?;
            keys.0.push((key.to_owned(), value.to_owned()));
        }
        Ok(keys)
    }

    /// The text.
    pub fn build(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (key, value) in &self.0 {
            text.extend(key.as_bytes());
            text.push(b'=');
            text.extend(value.as_bytes());
            text.push(0);
        }
        text
    }

    /// What was said of this key first.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(own, _)| *own == key)
            .map(|(_, value)| value)
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what another text says.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }
}

/// So much of what a stranger sent as a message may repeat.
pub fn brief(text: &str) -> String {
    text.chars().take(80).collect()
}

/// What two sides agree on for a session of one connection, without recovery below the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Checksums, in both directions.
    pub digests: Digests,
    /// The target asks for all data but the immediate ones.
    pub initial_r2t: bool,
    /// Data go along with the command.
    pub immediate_data: bool,
    /// Bytes that go unasked at most.
    pub first_burst: usize,
    /// Bytes of one sequence at most.
    pub max_burst: usize,
    /// Bytes of a data segment that the other side takes.
    pub segment: usize,
}

impl Default for Agreed {
    /// As it is if nobody says anything (RFC 7143 section 13).
    fn default() -> Self {
        Self {
            digests: Digests::default(),
            initial_r2t: true,
            immediate_data: true,
            first_burst: 64 << 10,
            max_burst: 256 << 10,
            segment: LOGIN_SEGMENT,
        }
    }
}

/// What one side would like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Checksums if the other side can.
    pub digests: bool,
    /// All data but the immediate ones only when asked for.
    pub initial_r2t: bool,
    /// Data along with the command.
    pub immediate_data: bool,
    /// Bytes unasked.
    pub first_burst: usize,
    /// Bytes of one sequence.
    pub max_burst: usize,
    /// Bytes of a data segment that this side takes.
    pub segment: usize,
}

impl Default for Wishes {
    fn default() -> Self {
        Self {
            digests: true,
            initial_r2t: false,
            immediate_data: true,
            first_burst: FIRST_BURST,
            max_burst: BURST_MAX,
            segment: SEGMENT_MAX,
        }
    }
}

fn word(yes: bool) -> &'static str {
    if yes { "Yes" } else { "No" }
}

/// A number within what the standard allows for a key.
fn number(key: &str, value: &str) -> Result<usize, String> {
    let parsed = match value.strip_prefix("0x") {
        Some(digits) => usize::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    };
    let range = if key.starts_with("Max") && !key.ends_with("Length") {
        1..=65_535
    } else {
        512..=(1 << 24) - 1
    };
    parsed
        .filter(|parsed| range.contains(parsed))
        .ok_or_else(|| format!("{key}={} is out of range", brief(value)))
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "Yes" => Ok(true),
        "No" => Ok(false),
        _ => Err(format!("{key} must be Yes or No, not {}", brief(value))),
    }
}

impl Wishes {
    /// What an initiator offers. Without `normal` it is a discovery session, which carries no data.
    pub fn offer(&self, normal: bool) -> Keys {
        let digests = if self.digests { "CRC32C,None" } else { "None" };
        let keys = Keys::new()
            .and("HeaderDigest", digests)
            .and("DataDigest", digests)
            .and("MaxRecvDataSegmentLength", self.segment.to_string())
            .and("DefaultTime2Wait", "0")
            .and("DefaultTime2Retain", "0")
            .and("ErrorRecoveryLevel", "0");
        if !normal {
            return keys;
        }
        keys.and("InitialR2T", word(self.initial_r2t))
            .and("ImmediateData", word(self.immediate_data))
            .and("MaxBurstLength", self.max_burst.to_string())
            .and("FirstBurstLength", self.first_burst.to_string())
            .and("MaxOutstandingR2T", "1")
            .and("MaxConnections", "1")
            .and("DataPDUInOrder", "Yes")
            .and("DataSequenceInOrder", "Yes")
    }
}

impl Agreed {
    /// An initiator hears what the target answered to its offer, or declares by itself.
    pub fn hear(&mut self, said: &Keys) -> Result<(), String> {
        for (key, value) in said.iter() {
            match key {
                "HeaderDigest" => self.digests.header = digest(key, value)?,
                "DataDigest" => self.digests.data = digest(key, value)?,
                "MaxRecvDataSegmentLength" => self.segment = number(key, value)?,
                "InitialR2T" => self.initial_r2t = boolean(key, value)?,
                "ImmediateData" => self.immediate_data = boolean(key, value)?,
                "MaxBurstLength" => self.max_burst = number(key, value)?,
                "FirstBurstLength" => self.first_burst = number(key, value)?,
                "MaxOutstandingR2T" | "MaxConnections" => {
                    number(key, value)?;
                }
                "DataPDUInOrder" | "DataSequenceInOrder" if !boolean(key, value)? => {
                    return Err(format!("the target wants {key}=No, which was not offered"));
                }
                "ErrorRecoveryLevel" if value != "0" => {
                    return Err("the target wants an error recovery level above 0".to_owned());
                }
                // Names, addresses and whatever a target tells of itself.
                _ => {}
            }
        }
        self.first_burst = self.first_burst.min(self.max_burst);
        Ok(())
    }

    /// A target hears what an initiator offers: what is agreed on, and its answer.
    pub fn answer(&mut self, offered: &Keys, wishes: &Wishes) -> Result<Keys, String> {
        let mut answer = Keys::new();
        for (key, value) in offered.iter() {
            let reply = match key {
                "HeaderDigest" => {
                    self.digests.header = wishes.digests && first_digest(value)?;
                    digest_word(self.digests.header).to_owned()
                }
                "DataDigest" => {
                    self.digests.data = wishes.digests && first_digest(value)?;
                    digest_word(self.digests.data).to_owned()
                }
                // Each side declares its own.
                "MaxRecvDataSegmentLength" => {
                    self.segment = number(key, value)?;
                    continue;
                }
                "InitialR2T" => {
                    self.initial_r2t = boolean(key, value)? || wishes.initial_r2t;
                    word(self.initial_r2t).to_owned()
                }
                "ImmediateData" => {
                    self.immediate_data = boolean(key, value)? && wishes.immediate_data;
                    word(self.immediate_data).to_owned()
                }
                "MaxBurstLength" => {
                    self.max_burst = number(key, value)?.min(wishes.max_burst);
                    self.max_burst.to_string()
                }
                "FirstBurstLength" => {
                    self.first_burst = number(key, value)?.min(wishes.first_burst);
                    self.first_burst.to_string()
                }
                "MaxOutstandingR2T" | "MaxConnections" => {
                    number(key, value)?;
                    "1".to_owned()
                }
                "DataPDUInOrder" | "DataSequenceInOrder" => {
                    boolean(key, value)?;
                    "Yes".to_owned()
                }
                "DefaultTime2Wait" | "DefaultTime2Retain" | "ErrorRecoveryLevel" => "0".to_owned(),
                "IFMarker" | "OFMarker" => "No".to_owned(),
                "InitiatorName" | "InitiatorAlias" | "TargetName" | "SessionType" => continue,
                _ => "NotUnderstood".to_owned(),
            };
            answer = answer.and(key, reply);
        }
        self.first_burst = self.first_burst.min(self.max_burst);
        Ok(answer)
    }
}

fn digest_word(on: bool) -> &'static str {
    if on { "CRC32C" } else { "None" }
}

fn digest(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "CRC32C" => Ok(true),
        "None" => Ok(false),
        _ => Err(format!("{key}={} was not offered", brief(value))),
    }
}

/// The first of a list that we know.
fn first_digest(list: &str) -> Result<bool, String> {
    list.split(',')
        .find_map(|one| digest("", one).ok())
        .ok_or_else(|| format!("none of the digests {} is known here", brief(list)))
}

#[cfg(test)]
mod tests;
