//! The methods: how an archive's tar stream is stored. Their ids are fixed for ever.

use std::ops::RangeInclusive;

use taf_proto::v1::CompressionMethod;

/// How a segment's tar bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// One zstd frame a segment.
    Zstd,
    /// One gzip member a segment.
    Gzip,
    /// As it is: one member of a tar archive a segment.
    Tar,
    /// One 7z archive a segment, a member of a tar archive.
    SevenZip,
}

impl Method {
    /// All that the format knows.
    pub const ALL: [Self; 4] = [Self::Zstd, Self::Gzip, Self::Tar, Self::SevenZip];

    /// The id on tape.
    pub fn id(self) -> u8 {
        match self {
            Self::Zstd => 1,
            Self::Gzip => 2,
            Self::Tar => 3,
            Self::SevenZip => 4,
        }
    }

    /// The method of an id, if the format knows it.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.id() == id)
    }

    /// Its name in block 0, in the catalog and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Tar => "tar",
            Self::SevenZip => "7z",
        }
    }

    /// The method of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// The standard command that makes the tar stream of the bytes of parts.
    pub fn unpacker(self) -> &'static str {
        match self {
            Self::Zstd => "zstd -dc",
            Self::Gzip => "gzip -dc",
            Self::Tar => "tar -xOf - tar",
            Self::SevenZip => {
                "tar -xf - --to-command='cat > .taf.7z && 7z x -so .taf.7z && rm .taf.7z' 7z"
            }
        }
    }

    /// Its levels, from fastest to smallest; `None` if it has none.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Zstd => Some(1..=19),
            Self::Gzip | Self::SevenZip => Some(1..=9),
            Self::Tar => None,
        }
    }

    /// The level if nobody says; 0 if it has none.
    pub fn default_level(self) -> i32 {
        match self {
            Self::Zstd => 3,
            Self::Gzip => 6,
            Self::SevenZip => 5,
            Self::Tar => 0,
        }
    }

    /// The level that is meant: 0 is the default one.
    ///
    /// # Errors
    /// What levels it has, in words, if that is not one of them.
    pub fn level(self, asked: i32) -> Result<i32, String> {
        let name = self.name();
        match self.levels() {
            _ if asked == 0 => Ok(self.default_level()),
            None => Err(format!(
                "{name} does not compress and has no levels: leave it out"
            )),
            Some(levels) if levels.contains(&asked) => Ok(asked),
            Some(levels) => Err(format!(
                "{name} has levels {} to {}, and {} if none is given",
                levels.start(),
                levels.end(),
                self.default_level()
            )),
        }
    }
}

impl From<Method> for CompressionMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Zstd => Self::Zstd,
            Method::Gzip => Self::Gzip,
            Method::Tar => Self::Tar,
            Method::SevenZip => Self::SevenZip,
        }
    }
}

impl Method {
    /// What the API names. Who says nothing means zstd.
    ///
    /// # Errors
    /// What may be said, in words.
    pub fn of_api(value: i32) -> Result<Self, String> {
        let asked = CompressionMethod::try_from(value).ok();
        if asked == Some(CompressionMethod::Unspecified) {
            return Ok(Self::Zstd);
        }
        Self::ALL
            .into_iter()
            .find(|&method| Some(method.into()) == asked)
            .ok_or_else(|| format!("must be one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_that_the_method_has() {
        assert_eq!(Method::Zstd.level(0), Ok(3));
        assert_eq!(Method::Zstd.level(19), Ok(19));
        assert_eq!(Method::Gzip.level(0), Ok(6));
        assert_eq!(Method::Tar.level(0), Ok(0));
        assert!(Method::Gzip.level(10).unwrap_err().contains("1 to 9"));
        assert!(Method::Zstd.level(-1).is_err());
        assert!(Method::Tar.level(1).unwrap_err().contains("no levels"));
    }

    #[test]
    fn names_and_ids_lead_back() {
        for method in Method::ALL {
            assert_eq!(Method::from_id(method.id()), Some(method));
            assert_eq!(Method::from_name(method.name()), Some(method));
        }
    }
}
