//! The key of a CSR, and its signature.

use rustls_pki_types::AlgorithmIdentifier;
use rustls_pki_types::alg_id::{ECDSA_P256, ECDSA_P384, ECDSA_P521, ED25519, RSA_ENCRYPTION};
use webpki::ALL_VERIFICATION_ALGS;

use super::parts::Parts;
use crate::approve::fault::{CsrFault, DerFault};
use crate::der::{self, INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE};
use crate::identity::KeyType;
use crate::quoted::Quoted;

/// The first byte of an uncompressed public key of an elliptic curve.
const UNCOMPRESSED: u8 = 4;

const ED25519_BYTES: usize = 32;

const MALFORMED: DerFault = DerFault::Malformed { part: "the public key" };

/// A public key of a supported type.
pub(super) struct Key<'a> {
    pub(super) key_type: KeyType,
    algorithm: AlgorithmIdentifier,
    /// The contents of the bit string.
    bits: &'a [u8],
}

/// Reads a `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7), and how strong the key is.
pub(super) fn read(public_key: &[u8]) -> Result<Key<'_>, CsrFault> {
    let mut reader = Reader::new(public_key);
    let found = reader.read(SEQUENCE).ok_or(MALFORMED)?;
    let bits = reader.read_bytes_of_bits().ok_or(MALFORMED)?;
    reader.end().ok_or(MALFORMED)?;
    let known = [
        (KeyType::EcdsaP256, ECDSA_P256),
        (KeyType::EcdsaP384, ECDSA_P384),
        (KeyType::EcdsaP521, ECDSA_P521),
        (KeyType::Rsa2048, RSA_ENCRYPTION),
        (KeyType::Ed25519, ED25519),
    ];
    let known = known.into_iter().find(|(_, algorithm)| algorithm.as_ref() == found);
    let (key_type, algorithm) = known.ok_or_else(|| CsrFault::KeyAlgorithm { algorithm: name(found) })?;
    match key_type {
        KeyType::EcdsaP256 => check_point(bits, 32)?,
        KeyType::EcdsaP384 => check_point(bits, 48)?,
        KeyType::EcdsaP521 => check_point(bits, 66)?,
        KeyType::Ed25519 if bits.len() != ED25519_BYTES => return Err(MALFORMED.into()),
        KeyType::Ed25519 => {}
        KeyType::Rsa2048 => check_rsa(bits)?,
    }
    Ok(Key { key_type, algorithm, bits })
}

/// Verifying the signature shows whether the point is on the curve.
fn check_point(bits: &[u8], coordinate: usize) -> Result<(), CsrFault> {
    match bits.split_first() {
        Some((&UNCOMPRESSED, point)) if point.len() == 2 * coordinate => Ok(()),
        _ => Err(MALFORMED.into()),
    }
}

/// An `RSAPublicKey` (RFC 8017, appendix A.1.1).
fn check_rsa(bits: &[u8]) -> Result<(), CsrFault> {
    let numbers = der::only(bits, SEQUENCE).ok_or(MALFORMED)?;
    let mut reader = Reader::new(numbers);
    let modulus = reader.read(INTEGER).and_then(positive).ok_or(MALFORMED)?;
    reader.read(INTEGER).and_then(positive).ok_or(MALFORMED)?;
    reader.end().ok_or(MALFORMED)?;
    let first = modulus.first().ok_or(MALFORMED)?;
    let bits = 8 * modulus.len() - first.leading_zeros() as usize;
    if (2048..=8192).contains(&bits) { Ok(()) } else { Err(CsrFault::KeySize { bits }) }
}

/// A positive number without the zero byte that keeps it from being a negative one.
fn positive(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [0, number @ ..] if number.first() >= Some(&0x80) => Some(number),
        [1..=0x7f, ..] => Some(integer),
        _ => None,
    }
}

impl Key<'_> {
    /// Verifies the signature, with an algorithm that fits the key; SHA-1 is not allowed.
    pub(super) fn verify(&self, csr: &Parts<'_>) -> Result<(), CsrFault> {
        let fits = ALL_VERIFICATION_ALGS.iter().find(|algorithm| {
            algorithm.public_key_alg_id() == self.algorithm && algorithm.signature_alg_id().as_ref() == csr.algorithm
        });
        let fits = fits.ok_or_else(|| CsrFault::SignatureAlgorithm { algorithm: name(csr.algorithm) })?;
        fits.verify_signature(self.bits, csr.signed, csr.signature).map_err(|_| CsrFault::Signature)
    }
}

/// The object identifier of an algorithm; its parameters are not shown.
fn name(algorithm: &[u8]) -> Quoted {
    Reader::new(algorithm).read(OBJECT_IDENTIFIER).map_or_else(|| Quoted::new(algorithm), der::dotted)
}
