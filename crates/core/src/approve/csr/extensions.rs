//! The extensions a CSR asks for: the names, and at most the usages that every identity has anyway.

use crate::approve::fault::{CsrFault, DerFault, Reasons};
use crate::der::{self, BOOLEAN, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};
use crate::quoted::Quoted;

/// 2.5.29.17
const NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// 2.5.29.15
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// 2.5.29.37
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 2.5.29.19
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

/// 1.3.6.1.5.5.7.3.1 and 1.3.6.1.5.5.7.3.2
const USAGES: [&[u8]; 2] = [&[0x2b, 6, 1, 5, 5, 7, 3, 1], &[0x2b, 6, 1, 5, 5, 7, 3, 2]];

/// `digitalSignature`, `keyEncipherment` and both, each in its only DER form: as few bits as needed, after the number of
/// unused bits.
const KEY_USAGES: [&[u8]; 3] = [&[3, 2, 7, 0x80], &[3, 2, 5, 0x20], &[3, 2, 5, 0xa0]];

/// The tag `[6]` of a URI.
const URI: u8 = 0x86;

/// Checks every extension, and returns the requested URIs; `None` if they cannot be read.
pub(super) fn check<'a>(extensions: &'a [u8], reasons: &mut Reasons) -> Option<Vec<&'a [u8]>> {
    let mut reader = Reader::new(extensions);
    let (mut seen, mut uris) = (Vec::new(), Some(Vec::new()));
    while reader.left() > 0 {
        let (oid, value) = reasons.take(extension(&mut reader).ok_or(malformed("an extension")))?;
        if seen.contains(&oid) {
            reasons.add(CsrFault::RepeatedExtension { extension: der::dotted(oid) });
            continue;
        }
        seen.push(oid);
        match oid {
            NAMES => uris = check_names(value, reasons),
            KEY_USAGE if KEY_USAGES.contains(&value) => {}
            KEY_USAGE => reasons.add(CsrFault::KeyUsage { bits: hex(value) }),
            EXTENDED_KEY_USAGE => check_usages(value, reasons),
            BASIC_CONSTRAINTS if is_ca(value) => reasons.add(CsrFault::Ca),
            other => reasons.add(CsrFault::Extension { extension: der::dotted(other) }),
        }
    }
    uris
}

/// One extension (RFC 5280, section 4.1): its type and its value. Critical or not, it means the same here.
fn extension<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let mut fields = Reader::new(reader.read(SEQUENCE)?);
    let oid = fields.read(OBJECT_IDENTIFIER)?;
    // DER leaves out a false boolean, and encodes true in one way.
    if fields.read_optional(BOOLEAN)?.is_some_and(|critical| critical != [0xff]) {
        return None;
    }
    let value = fields.read(OCTET_STRING)?;
    fields.end().map(|()| (oid, value))
}

fn check_names<'a>(value: &'a [u8], reasons: &mut Reasons) -> Option<Vec<&'a [u8]>> {
    let malformed = || malformed("the subject alternative name");
    let names = reasons.take(der::only(value, SEQUENCE).ok_or_else(malformed))?;
    let (mut reader, mut uris) = (Reader::new(names), Vec::new());
    while reader.left() > 0 {
        let name = reasons.take(reader.element().ok_or_else(malformed))?;
        match kind(name.tag) {
            Some("URI") => uris.push(name.content),
            Some(kind) => reasons.add(CsrFault::Name { kind, name: Quoted::new(name.content) }),
            None => {
                reasons.add(malformed());
                return None;
            }
        }
    }
    Some(uris)
}

/// The kind of a name (RFC 5280, section 4.2.1.6).
fn kind(tag: u8) -> Option<&'static str> {
    Some(match tag {
        URI => "URI",
        0x81 => "email address",
        0x82 => "DNS name",
        0x87 => "IP address",
        0x88 => "registered ID",
        0xa0 => "other name",
        0xa3 => "X.400 address",
        0xa4 => "directory name",
        0xa5 => "EDI party name",
        _ => return None,
    })
}

fn check_usages(value: &[u8], reasons: &mut Reasons) {
    let malformed = || malformed("the extended key usage");
    let usages = der::only(value, SEQUENCE).filter(|usages| !usages.is_empty());
    let Some(usages) = reasons.take(usages.ok_or_else(malformed)) else { return };
    let mut reader = Reader::new(usages);
    while reader.left() > 0 {
        let Some(usage) = reasons.take(reader.read(OBJECT_IDENTIFIER).ok_or_else(malformed)) else { return };
        if !USAGES.contains(&usage) {
            reasons.add(CsrFault::ExtendedKeyUsage { usage: der::dotted(usage) });
        }
    }
}

/// Basic constraints that begin with TRUE (RFC 5280, section 4.2.1.9).
fn is_ca(value: &[u8]) -> bool {
    let constraints = der::only(value, SEQUENCE);
    let ca = constraints.and_then(|constraints| Reader::new(constraints).read(BOOLEAN));
    ca.is_some_and(|ca| ca != [0])
}

fn hex(value: &[u8]) -> String {
    value.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn malformed(part: &'static str) -> CsrFault {
    CsrFault::from(DerFault::Malformed { part })
}
