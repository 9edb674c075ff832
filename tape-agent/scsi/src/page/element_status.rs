//! READ ELEMENT STATUS data (SMC-3 6.11): what is where in a library.
//!
//! Reading tolerates an answer that ends within a descriptor (some libraries state too small a length): the
//! element counts if its fixed part and its volume tag are whole, and an identifier that is cut is dropped,
//! never shortened, since half a serial number names the wrong drive.

use super::{Error, at_least, number, put_text, text};
use crate::cdb::ElementType;

/// One element.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent bits of the wire
pub struct Element {
    /// Its kind.
    pub kind: ElementType,
    /// Its address.
    pub address: u16,
    /// Whether a cartridge is in it.
    pub full: bool,
    /// Whether the picker can reach it (ACCESS).
    pub accessible: bool,
    /// Import/export elements: the cartridge was put in by a person (IMPEXP).
    pub imported: bool,
    /// Additional code if the element is in an abnormal state (EXCEPT).
    pub exception: Option<(u8, u8)>,
    /// The storage element its cartridge came from, if known (SVALID).
    pub source: Option<u16>,
    /// The cartridge's barcode, without padding; `None` if there is no tag or an empty one.
    pub volume_tag: Option<String>,
    /// The device's identifier (DVCID), if asked for, given and whole.
    pub identifier: Option<Identifier>,
}

impl Element {
    /// An empty, accessible element.
    pub fn new(kind: ElementType, address: u16) -> Self {
        Self {
            kind,
            address,
            full: false,
            accessible: true,
            imported: false,
            exception: None,
            source: None,
            volume_tag: None,
            identifier: None,
        }
    }
}

/// A drive's identifier as the library reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifier {
    /// 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    /// 0: vendor's own, by custom the serial number; 1: vendor (8), product (16) and serial number.
    pub kind: u8,
    /// The identifier.
    pub bytes: Vec<u8>,
}

impl Identifier {
    /// The serial number, if the identifier is text of kind 0 or 1.
    pub fn serial(&self) -> Option<String> {
        let bytes = match (self.code_set, self.kind) {
            (2 | 3, 0) => self.bytes.as_slice(),
            // Some libraries put the bare serial number under kind 1.
            (2 | 3, 1) => self.bytes.get(24..).unwrap_or(&self.bytes),
            _ => return None,
        };
        Some(text(bytes)).filter(|serial| !serial.is_empty())
    }
}

/// An answer to READ ELEMENT STATUS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Elements that the library says it reports; some libraries count all kinds, some one.
    pub stated: u16,
    /// Bytes that the whole report takes: more than came if the allocation was too small.
    pub needed: usize,
    /// The elements that came.
    pub elements: Vec<Element>,
}

const NAME: &str = "element status";
const HEADER: usize = 8;
const FIXED: usize = 12;
const TAG: usize = 36;

impl Report {
    /// Reads an answer, of any kinds of elements.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least(NAME, bytes, HEADER)?;
        let mut report = Self {
            stated: number(&bytes[2..4]) as u16,
            needed: HEADER + number(&bytes[5..8]) as usize,
            elements: Vec::new(),
        };
        let mut rest = &bytes[HEADER..bytes.len().min(report.needed)];
        let mut pages = 0;
        while rest.len() >= HEADER {
            let (head, behind) = rest.split_at(HEADER);
            let kind = ElementType::from_code(head[0] & 0x0f);
            let Some(kind) = kind.filter(|&kind| kind != ElementType::All) else {
                // Some libraries fill up what was allocated, and count it.
                if pages > 0 {
                    break;
                }
                return Err(Error::Malformed {
                    page: NAME,
                    reason: "a page has an unknown element type",
                });
            };
            pages += 1;
            let tags = [head[1] & 0x80 != 0, head[1] & 0x40 != 0];
            let length = number(&head[2..4]) as usize;
            if length < FIXED + TAG * usize::from(tags[0]) {
                return Err(Error::Malformed {
                    page: NAME,
                    reason: "its descriptors are too short for what they hold",
                });
            }
            let page = &behind[..behind.len().min(number(&head[5..8]) as usize)];
            for descriptor in page.chunks(length) {
                report.elements.extend(element(kind, tags, descriptor));
            }
            rest = &behind[page.len()..];
        }
        Ok(report)
    }

    /// Builds an answer: a page per kind, in the order in which kinds first appear. With `tags` every page
    /// has primary volume tags, with `identify` room for identifiers.
    pub fn build(elements: &[Element], tags: bool, identify: bool) -> Vec<u8> {
        let mut kinds: Vec<ElementType> = Vec::new();
        for element in elements {
            if !kinds.contains(&element.kind) {
                kinds.push(element.kind);
            }
        }
        let mut pages = Vec::new();
        for kind in kinds {
            let of_kind = elements.iter().filter(|element| element.kind == kind);
            let longest = of_kind
                .clone()
                .filter_map(|element| element.identifier.as_ref())
                .map(|identifier| identifier.bytes.len().min(255))
                .max()
                .unwrap_or(0);
            let identifier = if identify { 4 + longest } else { 0 };
            let length = FIXED + if tags { TAG } else { 0 } + identifier;
            let mut descriptors = Vec::new();
            for element in of_kind {
                let start = descriptors.len();
                descriptors.extend(build_element(element, tags, identify));
                descriptors.resize(start + length, 0);
            }
            pages.extend([kind as u8, u8::from(tags) << 7]);
            pages.extend((length as u16).to_be_bytes());
            pages.push(0);
            pages.extend(&(descriptors.len() as u32).to_be_bytes()[1..]);
            pages.extend(descriptors);
        }
        let first = elements.iter().map(|element| element.address).min();
        let mut bytes = Vec::with_capacity(HEADER + pages.len());
        bytes.extend(first.unwrap_or(0).to_be_bytes());
        bytes.extend((elements.len() as u16).to_be_bytes());
        bytes.push(0);
        bytes.extend(&(pages.len() as u32).to_be_bytes()[1..]);
        bytes.extend(pages);
        bytes
    }
}

/// One descriptor, or `None` if it is cut within its fixed part or the text of its tag.
fn element(
    kind: ElementType,
    [primary, alternate]: [bool; 2],
    descriptor: &[u8],
) -> Option<Element> {
    let fixed = descriptor.get(..FIXED)?;
    let mut rest = &descriptor[FIXED..];
    let mut volume_tag = None;
    if primary {
        let field = &rest[..rest.len().min(32)];
        // A tag that is cut within its padding is whole; cut within its text it would name another volume.
        if field.len() < 32 && !matches!(field.last(), Some(b' ' | 0)) {
            return None;
        }
        volume_tag = Some(text(field)).filter(|tag| !tag.is_empty());
        rest = rest.get(TAG..).unwrap_or(&[]);
    }
    if alternate {
        rest = rest.get(TAG..).unwrap_or(&[]);
    }
    let flags = fixed[2];
    let full = flags & 0x01 != 0;
    Some(Element {
        kind,
        address: number(&fixed[0..2]) as u16,
        full,
        accessible: flags & 0x08 != 0,
        imported: flags & 0x02 != 0,
        exception: (flags & 0x04 != 0).then_some((fixed[4], fixed[5])),
        source: (fixed[9] & 0x80 != 0).then(|| number(&fixed[10..12]) as u16),
        // Some libraries leave the last cartridge's tag in an element that is empty now.
        volume_tag: volume_tag.filter(|_| full),
        identifier: identifier(rest),
    })
}

fn identifier(bytes: &[u8]) -> Option<Identifier> {
    let head = bytes.get(..4)?;
    let length = usize::from(head[3]);
    let body = bytes.get(4..4 + length).filter(|body| !body.is_empty())?;
    Some(Identifier {
        code_set: head[0] & 0x0f,
        kind: head[1] & 0x0f,
        bytes: body.to_vec(),
    })
}

fn build_element(element: &Element, tags: bool, identify: bool) -> Vec<u8> {
    let mut bytes = vec![0; FIXED];
    bytes[0..2].copy_from_slice(&element.address.to_be_bytes());
    bytes[2] = u8::from(element.full)
        | (u8::from(element.imported) << 1)
        | (u8::from(element.exception.is_some()) << 2)
        | (u8::from(element.accessible) << 3);
    if element.kind == ElementType::ImportExport {
        bytes[2] |= 0x30; // import and export are possible
    }
    if let Some((asc, ascq)) = element.exception {
        bytes[4] = asc;
        bytes[5] = ascq;
    }
    if let Some(source) = element.source {
        bytes[9] = 0x80;
        bytes[10..12].copy_from_slice(&source.to_be_bytes());
    }
    if tags {
        let mut tag = [0; TAG];
        if let Some(barcode) = &element.volume_tag {
            put_text(&mut tag[..32], barcode);
        }
        bytes.extend(tag);
    }
    if identify {
        match &element.identifier {
            Some(one) => {
                let body = &one.bytes[..one.bytes.len().min(255)];
                bytes.extend([one.code_set & 0x0f, one.kind & 0x0f, 0, body.len() as u8]);
                bytes.extend(body);
            }
            None => bytes.extend([0; 4]),
        }
    }
    bytes
}
