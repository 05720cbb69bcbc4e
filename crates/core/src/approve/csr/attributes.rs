//! The attributes of a CSR: one, which holds the extensions (RFC 2985, section 5.4.2).

use crate::approve::fault::{CsrFault, DerFault, Reasons};
use crate::der::{self, OBJECT_IDENTIFIER, Reader, SEQUENCE, SET};

/// 1.2.840.113549.1.9.14
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

/// The requested extensions, without tag and length; `None` if the attributes cannot be read.
pub(super) fn read<'a>(attributes: &'a [u8], reasons: &mut Reasons) -> Option<&'a [u8]> {
    let mut reader = Reader::new(attributes);
    let mut requests = Vec::new();
    while reader.left() > 0 {
        match reasons.take(attribute(&mut reader).ok_or(CsrFault::from(malformed())))? {
            (EXTENSION_REQUEST, values) => requests.push(values),
            (other, _) => reasons.add(CsrFault::Attribute { attribute: der::dotted(other) }),
        }
    }
    match requests[..] {
        [] => Some(&[]),
        [values] => reasons.take(only_value(values)),
        _ => {
            reasons.add(CsrFault::Repeated);
            None
        }
    }
}

/// One attribute: its type, and the set of its values.
fn attribute<'a>(reader: &mut Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let mut fields = Reader::new(reader.read(SEQUENCE)?);
    let (oid, values) = (fields.read(OBJECT_IDENTIFIER)?, fields.read(SET)?);
    fields.end().map(|()| (oid, values))
}

/// The set has one value. Most parsers look at the first only.
fn only_value(values: &[u8]) -> Result<&[u8], CsrFault> {
    let mut reader = Reader::new(values);
    let extensions = reader.read(SEQUENCE).ok_or_else(malformed)?;
    if reader.left() > 0 { Err(CsrFault::Repeated) } else { Ok(extensions) }
}

fn malformed() -> DerFault {
    DerFault::Malformed { part: "the list of attributes" }
}
