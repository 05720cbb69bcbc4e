//! The form of a certificate (RFC 5280, section 4.1), as far as the parser is lenient: programs with another parser cannot
//! read such a certificate, and refuse the whole bundle or chain that it is in.

use crate::der::{BIT_STRING, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, SET, only};

const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The part that is malformed.
pub(super) fn malformed_part(der: &[u8]) -> Option<&'static str> {
    check(der).err()
}

fn check(der: &[u8]) -> Result<(), &'static str> {
    const VERSION: u8 = 0xa0;
    const UNIQUE_IDS: [u8; 2] = [0x81, 0x82];
    const EXTENSIONS: u8 = 0xa3;
    let form = "form is";
    let signed = only(der, SEQUENCE).and_then(|whole| Reader::new(whole).read(SEQUENCE)).ok_or(form)?;
    let mut fields = Reader::new(signed);
    let version = fields.read_optional(VERSION).ok_or("version is")?;
    version.is_none_or(|version| matches!(only(version, INTEGER), Some([0..=2]))).then_some(()).ok_or("version is")?;
    fields.read(INTEGER).filter(|number| is_shortest(number)).ok_or("serial number is")?;
    fields.read(SEQUENCE).ok_or(form)?;
    fields.read(SEQUENCE).and_then(check_name).ok_or("issuer is")?;
    fields.read(SEQUENCE).and_then(check_validity).ok_or("validity is")?;
    fields.read(SEQUENCE).and_then(check_name).ok_or("subject is")?;
    fields.read(SEQUENCE).ok_or(form)?;
    for id in UNIQUE_IDS {
        fields.read_optional(id).ok_or(form)?;
    }
    if let Some(extensions) = fields.read_optional(EXTENSIONS).ok_or(form)? {
        only(extensions, SEQUENCE).and_then(check_extensions).ok_or("extensions are")?;
    }
    fields.end().ok_or(form)
}

/// Whether a number has no unnecessary first byte (X.690, section 8.3.2).
fn is_shortest(number: &[u8]) -> bool {
    !matches!(number, [] | [0, ..=0x7f, ..] | [0xff, 0x80..=0xff, ..])
}

/// RFC 5280, section 4.1.2.4.
fn check_name(content: &[u8]) -> Option<()> {
    let mut parts = Reader::new(content);
    while parts.left() > 0 {
        let mut attributes = Reader::new(parts.read(SET)?);
        while attributes.left() > 0 {
            let mut attribute = Reader::new(attributes.read(SEQUENCE)?);
            attribute.read(OBJECT_IDENTIFIER).filter(|id| is_identifier(id))?;
            let value = attribute.element()?;
            (value.tag != UTF8_STRING || std::str::from_utf8(value.content).is_ok()).then_some(())?;
            attribute.end()?;
        }
    }
    Some(())
}

/// Whether each number of an object identifier is there in full, and has no unnecessary first byte (X.690, section 8.19).
fn is_identifier(id: &[u8]) -> bool {
    let is_end = |byte: &u8| *byte < 0x80;
    id.last().is_some_and(is_end) && id.split_inclusive(is_end).all(|number| number[0] != 0x80)
}

/// Two times to the second and in UTC (RFC 5280, section 4.1.2.5).
fn check_validity(content: &[u8]) -> Option<()> {
    let mut times = Reader::new(content);
    for _ in 0..2 {
        let time = times.element()?;
        let digits = time.content.strip_suffix(b"Z")?;
        let length = match time.tag {
            UTC_TIME => 12,
            GENERALIZED_TIME => 14,
            _ => return None,
        };
        (digits.len() == length && digits.iter().all(u8::is_ascii_digit)).then_some(())?;
    }
    times.end()
}

/// RFC 5280, sections 4.1.2.9, 4.2.1.1 and 4.2.1.2.
fn check_extensions(content: &[u8]) -> Option<()> {
    const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
    const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
    const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
    const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
    const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];
    let mut all = Reader::new(content);
    while all.left() > 0 {
        let mut extension = Reader::new(all.read(SEQUENCE)?);
        let id = extension.read(OBJECT_IDENTIFIER).filter(|id| is_identifier(id))?;
        check_boolean(extension.read_optional(BOOLEAN)?)?;
        let value = extension.read(OCTET_STRING)?;
        extension.end()?;
        match id {
            SUBJECT_KEY_ID => drop(only(value, OCTET_STRING)?),
            KEY_USAGE => check_bits(only(value, BIT_STRING)?)?,
            BASIC_CONSTRAINTS => check_basic_constraints(only(value, SEQUENCE)?)?,
            EXTENDED_KEY_USAGE => check_identifiers(only(value, SEQUENCE)?)?,
            AUTHORITY_KEY_ID => drop(only(value, SEQUENCE)?),
            _ => {}
        }
    }
    Some(())
}

/// RFC 5280, section 4.2.1.12.
fn check_identifiers(content: &[u8]) -> Option<()> {
    let mut all = Reader::new(content);
    while all.left() > 0 {
        all.read(OBJECT_IDENTIFIER).filter(|id| is_identifier(id))?;
    }
    Some(())
}

/// The number of unused bits, which are zero, and the bits (X.690, section 11.2.1).
fn check_bits(content: &[u8]) -> Option<()> {
    let (unused, bits) = content.split_first()?;
    let last = bits.last().map_or(8, |byte| byte.trailing_zeros());
    let most = if bits.is_empty() { 0 } else { 7 };
    (*unused <= most && u32::from(*unused) <= last).then_some(())
}

/// RFC 5280, section 4.2.1.9.
fn check_basic_constraints(content: &[u8]) -> Option<()> {
    let mut fields = Reader::new(content);
    check_boolean(fields.read_optional(BOOLEAN)?)?;
    let length = fields.read_optional(INTEGER)?;
    length.is_none_or(|length| is_shortest(length) && length[0] < 0x80).then_some(())?;
    fields.end()
}

/// One of the two values (X.690, section 11.1). Everyone reads one that is the default, although it should be left out.
fn check_boolean(content: Option<&[u8]>) -> Option<()> {
    matches!(content, None | Some([0 | 0xff])).then_some(())
}
