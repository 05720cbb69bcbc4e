//! Password-based encryption and authentication.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_256, AES_256_KEY_LEN, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use zeroize::Zeroizing;

use super::der::{Tag, integer, oid, sequence, tlv};
use super::{Password, Pkcs12Error, Plain};

const DATA: &[u32] = &[1, 2, 840, 113549, 1, 7, 1];
const ENCRYPTED_DATA: &[u32] = &[1, 2, 840, 113549, 1, 7, 6];
const PBES2: &[u32] = &[1, 2, 840, 113549, 1, 5, 13];
const PBKDF2: &[u32] = &[1, 2, 840, 113549, 1, 5, 12];
const HMAC_WITH_SHA256: &[u32] = &[1, 2, 840, 113549, 2, 9];
const AES256_CBC: &[u32] = &[2, 16, 840, 1, 101, 3, 4, 1, 42];
const SHA256: &[u32] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];

/// The same number as Java uses. More would protect a weak password better, but slow down every renewal.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(10_000).expect("it is not zero");

const SALT_BYTES: usize = 16;

/// The block of SHA-256, which the key derivation of PKCS#12 pads to (RFC 7292, appendix B.2).
const BLOCK_BYTES: usize = 64;

/// Contents that are not encrypted (RFC 7292, section 4.1).
pub(super) fn data(contents: &[u8]) -> Vec<u8> {
    let octets = tlv(Tag::OCTET_STRING, &[contents]);
    sequence(&[&oid(DATA), &tlv(Tag::EXPLICIT_0, &[&octets])])
}

pub(super) fn encrypted_data(contents: Plain, password: &Password) -> Result<Vec<u8>, Pkcs12Error> {
    let (algorithm, encrypted) = encrypt(contents, password)?;
    let content = sequence(&[&oid(DATA), &algorithm, &tlv(Tag::IMPLICIT_0, &[&encrypted])]);
    let versioned = sequence(&[&integer(0), &content]);
    Ok(sequence(&[&oid(ENCRYPTED_DATA), &tlv(Tag::EXPLICIT_0, &[&versioned])]))
}

/// A PKCS#8 key, encrypted (RFC 5208, section 6).
pub(super) fn shroud(pkcs8: &[u8], password: &Password) -> Result<Vec<u8>, Pkcs12Error> {
    // With capacity for the padding: growing would leave a copy of the key behind.
    let mut plain = Plain::new(Vec::with_capacity(pkcs8.len() + AES_BLOCK_BYTES));
    plain.extend_from_slice(pkcs8);
    let (algorithm, encrypted) = encrypt(plain, password)?;
    Ok(sequence(&[&algorithm, &tlv(Tag::OCTET_STRING, &[&encrypted])]))
}

const AES_BLOCK_BYTES: usize = 16;

/// PBES2 (RFC 8018, section 6.2): the algorithm with its parameters, and the ciphertext.
fn encrypt(mut text: Plain, password: &Password) -> Result<(Vec<u8>, Plain), Pkcs12Error> {
    let failed = |_| Pkcs12Error::Encrypt;
    let salt = random()?;
    let mut key = Zeroizing::new([0; AES_256_KEY_LEN]);
    let password = password.expose().as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ITERATIONS, &salt, password, key.as_mut());
    let key = UnboundCipherKey::new(&AES_256, key.as_ref()).map_err(failed)?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).map_err(failed)?;
    text.reserve_exact(AES_BLOCK_BYTES);
    let context = key.encrypt(&mut *text).map_err(failed)?;
    let DecryptionContext::Iv128(iv) = context else { return Err(Pkcs12Error::Encrypt) };
    let random_function = sequence(&[&oid(HMAC_WITH_SHA256), &tlv(Tag::NULL, &[])]);
    let derivation = sequence(&[&tlv(Tag::OCTET_STRING, &[&salt]), &integer(ITERATIONS.get()), &random_function]);
    let parameters = sequence(&[
        &sequence(&[&oid(PBKDF2), &derivation]),
        &sequence(&[&oid(AES256_CBC), &tlv(Tag::OCTET_STRING, &[iv.as_ref()])]),
    ]);
    Ok((sequence(&[&oid(PBES2), &parameters]), text))
}

/// The MAC over the contents (RFC 7292, section 4).
pub(super) fn mac(safe: &[u8], password: &Password) -> Result<Vec<u8>, Pkcs12Error> {
    let salt = random()?;
    let key = mac_key(password, &salt, ITERATIONS.get());
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), safe);
    let algorithm = sequence(&[&oid(SHA256), &tlv(Tag::NULL, &[])]);
    let digest = sequence(&[&algorithm, &tlv(Tag::OCTET_STRING, &[tag.as_ref()])]);
    Ok(sequence(&[&digest, &tlv(Tag::OCTET_STRING, &[&salt]), &integer(ITERATIONS.get())]))
}

/// RFC 7292, appendix B.2, for a MAC key (`ID` is 3) of exactly one block of SHA-256.
fn mac_key(password: &Password, salt: &[u8], iterations: u32) -> Zeroizing<[u8; 32]> {
    // The two-byte characters of the password, including the terminating zero.
    let units = password.expose().encode_utf16().chain([0]).flat_map(u16::to_be_bytes);
    let units: Zeroizing<Vec<u8>> = Zeroizing::new(units.collect());
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(&[3; BLOCK_BYTES]);
    hash.update(&repeated_to_whole_blocks(salt));
    hash.update(&repeated_to_whole_blocks(&units));
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(hash.finish().as_ref());
    for _ in 1..iterations {
        let next = digest::digest(&digest::SHA256, key.as_ref());
        key.copy_from_slice(next.as_ref());
    }
    key
}

/// Repeated to fill whole blocks.
fn repeated_to_whole_blocks(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let length = bytes.len().next_multiple_of(BLOCK_BYTES);
    Zeroizing::new(bytes.iter().copied().cycle().take(length).collect())
}

fn random() -> Result<[u8; SALT_BYTES], Pkcs12Error> {
    let mut bytes = [0; SALT_BYTES];
    rand::fill(&mut bytes).map_err(|_| Pkcs12Error::Encrypt)?;
    Ok(bytes)
}
