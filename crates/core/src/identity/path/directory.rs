//! Distinguished names (RFC 5280, section 4.1.2.4).

use crate::der::{Element, OBJECT_IDENTIFIER, Reader, SEQUENCE, SET, only};

/// The contents of the object identifier of `emailAddress`, 1.2.840.113549.1.9.1.
const EMAIL: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];

/// One relative name: the kinds of its attributes, and their values.
type Attributes<'a> = Vec<(&'a [u8], Element<'a>)>;

/// The canonical form, in which equal names are identical: its attributes in order, each with a value in which
/// neither case nor the amount of space counts (RFC 5280, section 7.1).
type Part = Vec<(Vec<u8>, Vec<u8>)>;

/// The parts of a name; `None` if one of them is in a character set that is not compared here.
pub(super) fn parts(name: &[u8]) -> Option<Vec<Part>> {
    relative_names(name)?.into_iter().map(part).collect()
}

fn part(attributes: Attributes<'_>) -> Option<Part> {
    let comparable = attributes.into_iter().map(|(kind, value)| Some((kind.to_vec(), comparable(value)?)));
    let mut part: Part = comparable.collect::<Option<_>>()?;
    part.sort();
    Some(part)
}

fn comparable(value: Element<'_>) -> Option<Vec<u8>> {
    match value.tag {
        // UTF8String, NumericString, PrintableString, IA5String and VisibleString.
        0x0c | 0x12 | 0x13 | 0x16 | 0x1a => {
            let text = std::str::from_utf8(value.content).ok()?;
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            Some(words.join(" ").to_ascii_lowercase().into_bytes())
        }
        // TeletexString, UniversalString and BMPString.
        0x14 | 0x1c | 0x1e => None,
        _ => Some(value.whole.to_vec()),
    }
}

/// Whether a name begins with all of another.
pub(super) fn is_within(name: &[u8], base: &[u8]) -> Option<bool> {
    Some(parts(name)?.starts_with(&parts(base)?))
}

/// The email addresses in a name. They do not belong there, but constraints still apply to them.
pub(super) fn emails(name: &[u8]) -> Option<Vec<&[u8]>> {
    let attributes = relative_names(name)?.into_iter().flatten();
    Some(attributes.filter(|(kind, _)| *kind == EMAIL).map(|(_, value)| value.content).collect())
}

fn relative_names(name: &[u8]) -> Option<Vec<Attributes<'_>>> {
    let (mut sets, mut names) = (Reader::new(only(name, SEQUENCE)?), Vec::new());
    while sets.left() > 0 {
        let (mut attributes, mut part) = (Reader::new(sets.read(SET)?), Vec::new());
        while attributes.left() > 0 {
            let mut attribute = Reader::new(attributes.read(SEQUENCE)?);
            part.push((attribute.read(OBJECT_IDENTIFIER)?, attribute.element()?));
            attribute.end()?;
        }
        names.push(part);
    }
    Some(names)
}
