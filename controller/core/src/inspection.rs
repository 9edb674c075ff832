//! Whether what is on a cartridge is what the catalog says.

use crate::Fault;

/// What the catalog says of a cartridge. `Id` tells recordings, volumes and installations apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<Id> {
    /// This installation.
    pub installation: Id,
    /// The cartridge.
    pub volume: Id,
    /// The recording that is on it, or was to be.
    pub recording: Id,
    /// Where that one ends; `None` if it bears no label.
    pub end_block: Option<u64>,
}

/// What is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<Id> {
    /// Nothing.
    Blank,
    /// Something that is not ours: in words.
    Foreign(String),
    /// A label of ours.
    Label {
        /// Whose it is.
        installation: Id,
        /// Of which cartridge.
        volume: Id,
        /// Of which recording.
        recording: Id,
        /// Logical block behind the label.
        label_end_block: u64,
        /// Logical block behind all that is recorded.
        end_block: u64,
    },
}

/// What is on a cartridge instead of the recording that the catalog has there: that one is gone for good, whoever did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead<Id> {
    /// Nothing.
    Nothing,
    /// Another recording of the same volume, of which nothing is known but where its label ends.
    Recording {
        /// It.
        recording: Id,
        /// Logical block behind the label.
        label_end_block: u64,
    },
}

/// Whether the recording that the catalog has is gone, and what is there instead.
pub fn instead<Id: PartialEq + Copy>(
    expected: &Expected<Id>,
    found: &Found<Id>,
) -> Option<Instead<Id>> {
    expected.end_block?;
    match found {
        Found::Blank => Some(Instead::Nothing),
        Found::Label {
            installation,
            volume,
            recording,
            label_end_block,
            ..
        } if *installation == expected.installation
            && *volume == expected.volume
            && *recording != expected.recording =>
        {
            Some(Instead::Recording {
                recording: *recording,
                label_end_block: *label_end_block,
            })
        }
        Found::Foreign(_) | Found::Label { .. } => None,
    }
}

/// How they differ, for people; `None` if they do not.
pub fn difference<Id: PartialEq>(expected: &Expected<Id>, found: &Found<Id>) -> Option<String> {
    let Some(known_end) = expected.end_block else {
        return match found {
            // Nothing of it is in the catalog, and nothing of it need be.
            Found::Blank | Found::Foreign(_) => None,
            Found::Label { installation, .. } if *installation != expected.installation => None,
            // A labelling that was cut off.
            Found::Label {
                recording,
                label_end_block,
                end_block,
                ..
            } if *recording == expected.recording && end_block == label_end_block => None,
            Found::Label { .. } => {
                Some("it bears a label of ours, and the catalog has it without one".to_owned())
            }
        };
    };
    match found {
        Found::Blank => Some("it is blank".to_owned()),
        Found::Foreign(what) => Some(format!("it holds {what}")),
        Found::Label { installation, .. } if *installation != expected.installation => {
            Some("it bears the label of another installation".to_owned())
        }
        Found::Label { volume, .. } if *volume != expected.volume => {
            Some("it bears the label of another volume".to_owned())
        }
        Found::Label { recording, .. } if *recording != expected.recording => {
            Some("it was labelled anew, and holds another recording".to_owned())
        }
        Found::Label { end_block, .. } if *end_block > known_end => Some(format!(
            "it goes on to block {end_block}, and the catalog knows it up to block {known_end}"
        )),
        Found::Label { end_block, .. } if *end_block < known_end => Some(format!(
            "it ends at block {end_block}, and the catalog has it up to block {known_end}"
        )),
        Found::Label { .. } => None,
    }
}

/// Why the inspection of a suspect volume fails that is blank.
pub fn blank(barcode: &str) -> Fault {
    Fault::new(
        "VOLUME_DIFFERS",
        format!("volume {barcode} is not what the catalog said: it is blank"),
        format!(
            "the catalog has it as blank from now on, and what needed it as lost; label it with `taf volume label {barcode} --pool POOL` to use it"
        ),
    )
}

/// Why an inspection fails.
pub fn differs(barcode: &str, difference: &str) -> Fault {
    Fault::new(
        "VOLUME_DIFFERS",
        format!("volume {barcode} is not what the catalog says: {difference}"),
        format!(
            "it stays read only. `taf catalog rebuild {barcode}` reads from it what the catalog lacks; inspect it again then. `taf volume erase {barcode} --force` gives up what is on it"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Expected<u8> = Expected {
        installation: 1,
        volume: 2,
        recording: 3,
        end_block: Some(40),
    };

    fn label(installation: u8, volume: u8, recording: u8, end_block: u64) -> Found<u8> {
        Found::Label {
            installation,
            volume,
            recording,
            label_end_block: 4,
            end_block,
        }
    }

    #[test]
    fn only_the_same_recording_with_the_same_end_is_the_same() {
        assert_eq!(difference(&KNOWN, &label(1, 2, 3, 40)), None);
        for (found, word) in [
            (label(1, 2, 3, 41), "goes on to block 41"),
            (label(1, 2, 3, 39), "ends at block 39"),
            (label(1, 2, 9, 40), "labelled anew"),
            (label(1, 9, 3, 40), "another volume"),
            (label(9, 2, 3, 40), "another installation"),
            (Found::Blank, "blank"),
            (Found::Foreign("a tar archive".into()), "a tar archive"),
        ] {
            let told = difference(&KNOWN, &found).unwrap_or_default();
            assert!(told.contains(word), "{found:?}: {told}");
        }
    }

    #[test]
    fn a_recording_is_gone_if_the_same_cartridge_bears_another_or_none() {
        let gone = instead(&KNOWN, &label(1, 2, 9, 40));
        let recording = Instead::Recording {
            recording: 9,
            label_end_block: 4,
        };
        assert_eq!(gone, Some(recording));
        assert_eq!(instead(&KNOWN, &Found::Blank), Some(Instead::Nothing));
        for other in [
            label(1, 2, 3, 40),
            label(1, 2, 3, 99),
            label(1, 9, 9, 40),
            label(9, 2, 9, 40),
            Found::Foreign("a tar archive".into()),
        ] {
            assert_eq!(instead(&KNOWN, &other), None, "{other:?}");
        }
        let unlabelled = Expected {
            end_block: None,
            ..KNOWN
        };
        assert_eq!(instead(&unlabelled, &label(1, 2, 9, 40)), None);
    }

    #[test]
    fn what_has_no_label_in_the_catalog_must_have_none_of_ours() {
        let unlabelled = Expected {
            end_block: None,
            ..KNOWN
        };
        for found in [
            Found::Blank,
            Found::Foreign("a tar archive".into()),
            label(9, 2, 3, 40),
            label(1, 2, 3, 4),
        ] {
            assert_eq!(difference(&unlabelled, &found), None, "{found:?}");
        }
        assert!(difference(&unlabelled, &label(1, 2, 3, 5)).is_some());
        assert!(difference(&unlabelled, &label(1, 2, 9, 4)).is_some());
    }
}
