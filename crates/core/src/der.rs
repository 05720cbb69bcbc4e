//! DER (X.690) in the one form it has.
//!
//! General parsers are lenient: they skip bytes after the last element they know, accept lengths that are too long, and
//! ignore the length of a set. An issuer with another parser may read those bytes, so nothing is skipped here.

use std::borrow::Cow;

use x509_parser::asn1_rs::Oid;

use crate::quoted::Quoted;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
}

/// Reads one element after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.0.len()
    }

    /// The next element, whatever it is: a tag, and a length of definite form and without unnecessary bytes. Of tags
    /// with several bytes the first one is returned, which no element here has.
    pub(crate) fn element(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (len, rest) = match *rest {
            [len @ ..=0x7f, ref rest @ ..] => (usize::from(len), rest),
            [0x81, len @ 0x80..=0xff, ref rest @ ..] => (usize::from(len), rest),
            [0x82, high @ 1..=0xff, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Element { tag, content, whole })
    }

    /// The content of the next element, which must have that tag.
    pub(crate) fn read(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.element().filter(|element| element.tag == tag).map(|element| element.content)
    }

    /// The content of the next element if it has that tag.
    pub(crate) fn read_optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.0.first() == Some(&tag) { self.read(tag).map(Some) } else { Some(None) }
    }

    /// The content of the next element, a bit string of whole bytes.
    pub(crate) fn read_bytes_of_bits(&mut self) -> Option<&'a [u8]> {
        self.read(BIT_STRING)?.strip_prefix(&[0])
    }

    /// No bytes are left.
    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The only element in these bytes, which must have that tag.
pub(crate) fn only(bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    let content = reader.read(tag)?;
    reader.end().map(|()| content)
}

/// An object identifier as numbers with dots.
pub(crate) fn dotted(oid: &[u8]) -> Quoted {
    if oid.is_empty() { Quoted::new("") } else { Quoted::new(Oid::new(Cow::Borrowed(oid)).to_id_string()) }
}
