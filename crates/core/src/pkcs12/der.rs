//! Writing DER (X.690).

/// The tag of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag(u8);

impl Tag {
    pub(super) const INTEGER: Self = Self(0x02);
    pub(super) const OCTET_STRING: Self = Self(0x04);
    pub(super) const NULL: Self = Self(0x05);
    const OID: Self = Self(0x06);
    const BMP_STRING: Self = Self(0x1e);
    const SEQUENCE: Self = Self(0x30);
    const SET: Self = Self(0x31);
    /// `[0]` around other values.
    pub(super) const EXPLICIT_0: Self = Self(0xa0);
    /// `[0]` in place of the value's own tag.
    pub(super) const IMPLICIT_0: Self = Self(0x80);
}

/// A value made of parts: tag, length, and the concatenated parts.
pub(super) fn tlv(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 6);
    bytes.push(tag.0);
    match u8::try_from(length) {
        Ok(short @ 0..0x80) => bytes.push(short),
        _ => {
            let long = length.to_be_bytes();
            let zeros = long.iter().take_while(|byte| **byte == 0).count();
            bytes.push(0x80 | (long.len() - zeros) as u8);
            bytes.extend_from_slice(&long[zeros..]);
        }
    }
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(Tag::SEQUENCE, parts)
}

/// A set, its elements in DER order (section 11.6).
pub(super) fn set(mut elements: Vec<Vec<u8>>) -> Vec<u8> {
    elements.sort();
    let elements: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
    tlv(Tag::SET, &elements)
}

/// A number that is not negative.
pub(super) fn integer(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(3);
    let bytes = &bytes[zeros..];
    // If the first bit is set, the number would be negative.
    let sign: &[u8] = if bytes[0] & 0x80 == 0 { &[] } else { &[0] };
    tlv(Tag::INTEGER, &[sign, bytes])
}

/// Text in two-byte characters, as in all names in PKCS#12.
pub(super) fn bmp_string(text: &str) -> Vec<u8> {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    tlv(Tag::BMP_STRING, &[&units])
}

/// An object identifier by its arcs, of which there are at least two.
pub(super) fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut bytes = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let groups = (0..5).rev().map(|group| (arc >> (7 * group)) as u8 & 0x7f);
        let significant: Vec<u8> = groups.skip_while(|group| *group == 0).collect();
        let (last, before) = significant.split_last().unwrap_or((&0, &[]));
        bytes.extend(before.iter().map(|group| 0x80 | group));
        bytes.push(*last);
    }
    tlv(Tag::OID, &[&bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_der() {
        for (written, expected) in [
            (oid(&[1, 2, 840, 113549, 1, 7, 1]), &b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"[..]),
            (oid(&[2, 5, 29, 37, 0]), b"\x06\x04\x55\x1d\x25\x00"),
            (integer(0), b"\x02\x01\x00"),
            (integer(127), b"\x02\x01\x7f"),
            (integer(128), b"\x02\x02\x00\x80"),
            (integer(10_000), b"\x02\x02\x27\x10"),
            (bmp_string("aé"), b"\x1e\x04\x00a\x00\xe9"),
            (set(vec![integer(2), integer(1)]), b"\x31\x06\x02\x01\x01\x02\x01\x02"),
            (sequence(&[&integer(1), &tlv(Tag::NULL, &[])]), b"\x30\x05\x02\x01\x01\x05\x00"),
        ] {
            assert_eq!(written, expected);
        }
        for (length, head) in [
            (127, &b"\x04\x7f"[..]),
            (128, b"\x04\x81\x80"),
            (256, b"\x04\x82\x01\x00"),
            (70_000, b"\x04\x83\x01\x11\x70"),
        ] {
            let written = tlv(Tag::OCTET_STRING, &[&vec![7; length]]);
            assert_eq!((&written[..head.len()], written.len()), (head, head.len() + length));
        }
    }
}
