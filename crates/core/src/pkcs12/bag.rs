//! The contents of a file: keys and certificates, with their attributes (RFC 7292, section 4.2).

use super::der::{Tag, bmp_string, oid, sequence, set, tlv};
use super::{Alias, Plain};

const SHROUDED_KEY: &[u32] = &[1, 2, 840, 113549, 1, 12, 10, 1, 2];
const CERTIFICATE: &[u32] = &[1, 2, 840, 113549, 1, 12, 10, 1, 3];
const X509: &[u32] = &[1, 2, 840, 113549, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u32] = &[1, 2, 840, 113549, 1, 9, 20];
const LOCAL_KEY_ID: &[u32] = &[1, 2, 840, 113549, 1, 9, 21];

/// Oracle's attribute, without which Java does not trust a certificate, and its value "for all uses".
const TRUSTED_KEY_USAGE: &[u32] = &[2, 16, 840, 1, 113894, 746875, 1, 1];
const ANY_USAGE: &[u32] = &[2, 5, 29, 37, 0];

/// The id that links the leaf and its key; a file has one such pair.
const KEY_ID: &[u8] = b"\x01";

/// One key or certificate.
pub(super) struct Bag {
    kind: &'static [u32],
    value: Vec<u8>,
    attributes: Vec<Vec<u8>>,
}

impl Bag {
    /// An encrypted key.
    pub(super) fn of_key(shrouded: Vec<u8>, alias: &Alias) -> Self {
        Self { kind: SHROUDED_KEY, value: shrouded, attributes: of_pair(alias) }
    }

    /// A certificate of the key's chain; the leaf has the key's alias.
    pub(super) fn of_chain(der: &[u8], alias: Option<&Alias>) -> Self {
        let attributes = alias.map(of_pair).unwrap_or_default();
        Self { kind: CERTIFICATE, value: certificate(der), attributes }
    }

    /// A trusted certificate.
    pub(super) fn of_anchor(der: &[u8], name: &str) -> Self {
        let attributes = vec![friendly_name(name), attribute(TRUSTED_KEY_USAGE, oid(ANY_USAGE))];
        Self { kind: CERTIFICATE, value: certificate(der), attributes }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let value = tlv(Tag::EXPLICIT_0, &[&self.value]);
        let attributes = if self.attributes.is_empty() { Vec::new() } else { set(self.attributes.clone()) };
        sequence(&[&oid(self.kind), &value, &attributes])
    }
}

/// All bags, as the content of one container.
pub(super) fn contents(bags: &[Bag]) -> Plain {
    let bags: Vec<Vec<u8>> = bags.iter().map(Bag::encode).collect();
    let bags: Vec<&[u8]> = bags.iter().map(Vec::as_slice).collect();
    Plain::new(sequence(&bags))
}

fn certificate(der: &[u8]) -> Vec<u8> {
    let contents = tlv(Tag::EXPLICIT_0, &[&tlv(Tag::OCTET_STRING, &[der])]);
    sequence(&[&oid(X509), &contents])
}

/// The common attributes of key and leaf.
fn of_pair(alias: &Alias) -> Vec<Vec<u8>> {
    vec![friendly_name(alias.as_str()), local_key_id()]
}

fn friendly_name(name: &str) -> Vec<u8> {
    attribute(FRIENDLY_NAME, bmp_string(name))
}

fn local_key_id() -> Vec<u8> {
    attribute(LOCAL_KEY_ID, tlv(Tag::OCTET_STRING, &[KEY_ID]))
}

fn attribute(kind: &[u32], value: Vec<u8>) -> Vec<u8> {
    sequence(&[&oid(kind), &set(vec![value])])
}
