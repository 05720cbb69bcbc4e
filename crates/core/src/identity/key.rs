//! Private keys.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use x509_parser::asn1_rs::{FromDer, Header};
use zeroize::Zeroizing;

use super::key_type::KeyType;
use crate::pem_text::{self, Block, KeyForm, PemError};

/// The largest document that is read, in bytes; an RSA key of 8192 bits needs 4.7 kB.
const MAX_BYTES: usize = 16 * 1024;

const CURVES: [(KeyType, &EcdsaSigningAlgorithm); 3] = [
    (KeyType::EcdsaP256, &ECDSA_P256_SHA256_ASN1_SIGNING),
    (KeyType::EcdsaP384, &ECDSA_P384_SHA384_ASN1_SIGNING),
    (KeyType::EcdsaP521, &ECDSA_P521_SHA512_ASN1_SIGNING),
];

/// A private key, as a PKCS#8 document (RFC 5208) that is overwritten when dropped.
///
/// It cannot be printed, serialized or copied by accident: the key leaves only through [`der`](PrivateKey::der) and
/// [`to_pem`](PrivateKey::to_pem).
pub struct PrivateKey {
    key_type: KeyType,
    pkcs8: Zeroizing<Vec<u8>>,
    public_key: Vec<u8>,
}

/// Why a key cannot be generated or read. Never contains any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system could not generate one.
    #[error("a new private key could not be generated")]
    Generate,
    /// Not PEM text with one key in it.
    #[error("the private key is not readable: {0}")]
    Pem(PemError),
    /// Of an unknown form or algorithm, or damaged.
    #[error(
        "the private key is not one of ECDSA (P-256, P-384, P-521), RSA (2048 to 8192 bits) or Ed25519, in PKCS#8, SEC1 or PKCS#1"
    )]
    Unsupported,
}

impl PrivateKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// [`KeyError::Generate`] if the system provides no randomness.
    pub fn generate_p256() -> Result<Self, KeyError> {
        Self::generate(KeyType::EcdsaP256)
    }

    /// A new key of that type; RSA with 2048 bits.
    ///
    /// # Errors
    /// [`KeyError::Generate`] if the system provides no randomness.
    pub fn generate(key_type: KeyType) -> Result<Self, KeyError> {
        let pkcs8 = generate_pkcs8(key_type).map_err(|_| KeyError::Generate)?;
        Self::from_pkcs8_der(&pkcs8).map_err(|_| KeyError::Generate)
    }

    /// Reads a PKCS#8 document: ECDSA P-256, P-384 or P-521, RSA of 2048 to 8192 bits, or Ed25519.
    ///
    /// # Errors
    /// [`KeyError::Unsupported`] for anything else. The key is checked against its own public part.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, KeyError> {
        let (key_type, public_key) = public_key_of(der).ok_or(KeyError::Unsupported)?;
        Ok(Self { key_type, pkcs8: Zeroizing::new(der.to_vec()), public_key })
    }

    /// Reads one block, `PRIVATE KEY` (PKCS#8), `EC PRIVATE KEY` (SEC1) or `RSA PRIVATE KEY` (PKCS#1); see
    /// [`from_pkcs8_der`](Self::from_pkcs8_der) for the supported keys.
    ///
    /// # Errors
    /// [`KeyError::Pem`] or [`KeyError::Unsupported`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (form, der) = pem_text::decode_key(text).map_err(KeyError::Pem)?;
        let pkcs8 = match form {
            _ if der.len() > MAX_BYTES || !is_one_der_value(&der) => None,
            KeyForm::Pkcs8 => Some(der),
            KeyForm::Sec1 => pkcs8_of_sec1(&der),
            KeyForm::Pkcs1 => rsa::KeyPair::from_der(&der).ok().and_then(|pair| pkcs8_of_rsa(&pair).ok()),
        };
        Self::from_pkcs8_der(&pkcs8.ok_or(KeyError::Unsupported)?)
    }

    /// The type of the key.
    pub fn key_type(&self) -> KeyType {
        self.key_type
    }

    /// One `PRIVATE KEY` block.
    pub fn to_pem(&self) -> Zeroizing<String> {
        pem_text::encode(Block::PrivateKey, std::iter::once(self.der()))
    }

    /// The PKCS#8 document.
    pub fn der(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key, as a `SubjectPublicKeyInfo` in DER (RFC 5280, section 4.1.2.7).
    pub fn public_key_der(&self) -> &[u8] {
        &self.public_key
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

/// PKCS#8 without the public key (version 1), which every library reads.
fn generate_pkcs8(key_type: KeyType) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let document = match key_type {
        KeyType::EcdsaP256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)?.to_pkcs8v1()?,
        KeyType::EcdsaP384 => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)?.to_pkcs8v1()?,
        KeyType::EcdsaP521 => EcdsaKeyPair::generate(&ECDSA_P521_SHA512_ASN1_SIGNING)?.to_pkcs8v1()?,
        KeyType::Ed25519 => Ed25519KeyPair::generate()?.to_pkcs8v1()?,
        KeyType::Rsa2048 => return pkcs8_of_rsa(&rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?),
    };
    Ok(Zeroizing::new(document.as_ref().to_vec()))
}

fn pkcs8_of_rsa(pair: &rsa::KeyPair) -> Result<Zeroizing<Vec<u8>>, Unspecified> {
    let document: Pkcs8V1Der<'_> = pair.as_der()?;
    Ok(Zeroizing::new(document.as_ref().to_vec()))
}

fn pkcs8_of_sec1(der: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut pairs = CURVES.into_iter().filter_map(|(_, curve)| EcdsaKeyPair::from_private_key_der(curve, der).ok());
    let document = pairs.next()?.to_pkcs8v1().ok()?;
    Some(Zeroizing::new(document.as_ref().to_vec()))
}

fn public_key_of(pkcs8: &[u8]) -> Option<(KeyType, Vec<u8>)> {
    if pkcs8.len() > MAX_BYTES || !is_one_der_value(pkcs8) {
        return None;
    }
    for (key_type, curve) in CURVES {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve, pkcs8) {
            return Some((key_type, spki(pair.public_key())?));
        }
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8(pkcs8) {
        return Some((KeyType::Ed25519, spki(pair.public_key())?));
    }
    let pair = rsa::KeyPair::from_pkcs8(pkcs8).ok()?;
    Some((KeyType::Rsa2048, spki(pair.public_key())?))
}

fn spki(public_key: &impl AsDer<PublicKeyX509Der<'static>>) -> Option<Vec<u8>> {
    public_key.as_der().ok().map(|der| der.as_ref().to_vec())
}

/// The key parser stops at the end of the document and ignores bytes after it.
fn is_one_der_value(bytes: &[u8]) -> bool {
    let Ok((content, header)) = Header::from_der(bytes) else { return false };
    header.length().definite().is_ok_and(|length| length == content.len())
}
