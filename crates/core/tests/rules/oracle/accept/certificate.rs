//! Certificates written element by element, with everything that parsers disagree about.

use std::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use rustls_pki_types::CertificateDer;

use crate::forge::{der, now};
use crate::oracle::Rolls;

pub(super) const ID: &str = "spiffe://example.org/ns/shop/sa/cart";

/// A key that is the same in every run, and signs the same in every run.
pub(super) struct Key {
    pub(super) pkcs8: Vec<u8>,
    pair: Ed25519KeyPair,
}

impl Key {
    pub(super) fn of(number: u64) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[number as u8 + 1; 32]).expect("a seed");
        Self { pkcs8: pair.to_pkcs8v1().expect("PKCS#8").as_ref().to_vec(), pair }
    }

    fn public(&self) -> Vec<u8> {
        sequence(&[&sequence(&[ED25519]), &der(3, &[&[0], self.pair.public_key().as_ref()])])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
}

/// 1.3.101.112 (RFC 8410).
const ED25519: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];
const ECDSA_SHA256: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
pub(super) const NULL: &[u8] = &[5, 0];

/// The parts of a certificate, in DER.
pub(super) struct Shape {
    pub(super) subject: Vec<u8>,
    /// In seconds from now.
    pub(super) not_before: i64,
    signed: Vec<u8>,
    algorithm: Vec<u8>,
    /// The unusual choices, for people.
    notes: Vec<String>,
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:02x?}", self.notes, self.signed)
    }
}

impl Shape {
    /// A CA; that of level 0 signs itself.
    pub(super) fn authority(rolls: &mut Rolls, level: u64, key: &Key) -> Self {
        let issuer = name(&format!("level {}", level.saturating_sub(1)));
        Maker { rolls, notes: Vec::new(), is_leaf: false }.shape(issuer, name(&format!("level {level}")), key)
    }

    pub(super) fn leaf(rolls: &mut Rolls, issuer: Vec<u8>, key: &Key) -> Self {
        let subject = if rolls.one_in(4) { name("cart") } else { sequence(&[]) };
        Maker { rolls, notes: Vec::new(), is_leaf: true }.shape(issuer, subject, key)
    }

    /// Whether something was chosen whose note begins with that.
    pub(super) fn has(&self, note: &str) -> bool {
        self.notes.iter().any(|made| made.starts_with(note))
    }

    pub(super) fn signed_by(&self, issuer: &Key) -> CertificateDer<'static> {
        let signature = issuer.pair.sign(&self.signed);
        let signature = der(3, &[&[0], signature.as_ref()]);
        sequence(&[&self.signed, &self.algorithm, &signature]).into()
    }
}

pub(super) struct Maker<'a> {
    pub(super) rolls: &'a mut Rolls,
    pub(super) notes: Vec<String>,
    pub(super) is_leaf: bool,
}

impl Maker<'_> {
    /// Once in so many times one of the others, which is noted.
    pub(super) fn mostly(&mut self, what: &str, usual: &[u8], sides: u64, others: &[&[u8]]) -> Vec<u8> {
        if !self.rolls.one_in(sides) {
            return usual.to_vec();
        }
        let other = self.rolls.pick(others);
        self.notes.push(format!("{what} {other:02x?}"));
        other.to_vec()
    }

    fn shape(mut self, issuer: Vec<u8>, subject: Vec<u8>, key: &Key) -> Shape {
        let version = self.mostly(
            "version",
            &[0xa0, 3, 2, 1, 2],
            60,
            &[&[], &[0xa0, 3, 2, 1, 0], &[0xa0, 3, 2, 1, 1], &[0xa0, 3, 2, 1, 3]],
        );
        let serial = self.mostly(
            "serial",
            &[2, 1, 1],
            30,
            &[
                &[2, 1, 0],
                &[2, 1, 0x81],
                &[2, 2, 0, 1],
                &[2, 0],
                &[2, 2, 0xff, 0x80],
                &[2, 21, 0, 0xff, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            ],
        );
        let inner = self.mostly("algorithm", ED25519, 80, &[&[ED25519, NULL].concat(), ECDSA_SHA256]);
        let algorithm = self.mostly("outer algorithm", &inner, 80, &[&[ED25519, NULL].concat(), ECDSA_SHA256]);
        let (validity, not_before) = self.validity();
        let ids =
            self.mostly("unique ids", &[], 80, &[&[0x81, 2, 0, 1], &[0x82, 2, 0, 1], &[0x81, 2, 0, 1, 0x82, 2, 0, 1]]);
        let extensions = self.extensions();
        let parts: [&[u8]; 8] =
            [&version, &serial, &sequence(&[&inner]), &issuer, &validity, &subject, &key.public(), &ids];
        let mut content = [&parts.concat()[..], &extensions].concat();
        if self.rolls.one_in(10) {
            self.rolls.edit(&mut content);
            self.notes.push("edited".to_owned());
        }
        let signed = sequence(&[&content]);
        Shape { subject, not_before, signed, algorithm: sequence(&[&algorithm]), notes: self.notes }
    }

    fn validity(&mut self) -> (Vec<u8>, i64) {
        let early: &[i64] = &[0, 1, 30, 59, 60, 61, 3600, -1];
        let late: &[i64] = &[0, 1, -1, -60, -3600, 100_000_000, 1_000_000_000];
        let not_before = self.rolls.mostly(-3600, 12, early);
        let not_after = self.rolls.mostly(3600, 12, late);
        let times = [not_before, not_after].map(|offset| self.time(offset));
        (sequence(&[&times[0], &times[1]]), not_before)
    }

    fn time(&mut self, offset: i64) -> Vec<u8> {
        let at = time::OffsetDateTime::from(now()) + time::Duration::seconds(offset);
        let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
        let rest = format!("{month:02}{day:02}{:02}{:02}{:02}", at.hour(), at.minute(), at.second());
        let short = |zone: &str| der(0x17, &[format!("{:02}{rest}{zone}", year % 100).as_bytes()]);
        let long = |zone: &str| der(0x18, &[format!("{year}{rest}{zone}").as_bytes()]);
        let usual = if year < 2050 { short("Z") } else { long("Z") };
        let no_seconds = der(0x17, &[format!("{:02}{}Z", year % 100, &rest[..8]).as_bytes()]);
        let others = [
            long("Z"),
            short("+0000"),
            long(".5Z"),
            short(""),
            no_seconds,
            long("+0100"),
            der(0x18, &[b"99991231235959Z"]),
        ];
        self.mostly("time", &usual, 25, &others.each_ref().map(Vec::as_slice))
    }
}

/// A name with just a common name.
fn name(common: &str) -> Vec<u8> {
    let attribute = sequence(&[&[6, 3, 0x55, 4, 3], &der(0x0c, &[common.as_bytes()])]);
    sequence(&[&der(0x31, &[&attribute])])
}

pub(super) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, parts)
}
