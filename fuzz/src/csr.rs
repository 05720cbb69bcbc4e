//! CSRs for the SPIFFE ID of the pod.

use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::ID;

/// The key with the private number 1: its public key is the base point of the curve (SEC 2, section 2.4.2).
static KEY: LazyLock<(EcdsaKeyPair, Vec<u8>)> = LazyLock::new(|| {
    let point = [
        [0x6b17_d1f2_e12c_4247_u64, 0xf8bc_e6e5_63a4_40f2, 0x7703_7d81_2deb_33a0, 0xf4a1_3945_d898_c296],
        [0x4fe3_42e2_fe1a_7f9b_u64, 0x8ee7_eb4a_7c0f_9e16, 0x2bce_3357_6b31_5ece, 0xcbb6_4068_37bf_51f5],
    ];
    let point: Vec<u8> = point.as_flattened().iter().flat_map(|word| word.to_be_bytes()).collect();
    let public = [&[4], &*point].concat();
    let private = [&[0; 31][..], &[1]].concat();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_ASN1_SIGNING, &private, &public);
    (pair.expect("a key"), public)
});

/// With a valid signature.
pub fn signed(info: Vec<u8>) -> Vec<u8> {
    let signature = KEY.0.sign(&SystemRandom::new(), &info).expect("a signature");
    let ecdsa_sha256 = tlv(0x30, &tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]));
    tlv(0x30, &[info, ecdsa_sha256, tlv(3, &[&[0], signature.as_ref()].concat())].concat())
}

/// The signed part of a good CSR, with edits, each the position, the number of bytes to remove, the number to insert, and
/// these.
pub fn edited(mut edits: &[u8]) -> Vec<u8> {
    let mut info = good_info();
    while let [at, cut, come, rest @ ..] = edits {
        let (more, rest) = rest.split_at(rest.len().min(usize::from(*come)));
        let start = info.len().min(usize::from(*at));
        let end = info.len().min(start + usize::from(*cut));
        info.splice(start..end, more.iter().copied());
        edits = rest;
    }
    info
}

fn good_info() -> Vec<u8> {
    let algorithm = [tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]), tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7])];
    let key = [tlv(0x30, &algorithm.concat()), tlv(3, &[&[0], &*KEY.1].concat())];
    let names = [tlv(6, &[0x55, 0x1d, 0x11]), tlv(4, &tlv(0x30, &tlv(0x86, ID.as_bytes())))];
    let usage = [tlv(6, &[0x55, 0x1d, 0x0f]), tlv(4, &[3, 2, 5, 0xa0])];
    let usages = [&[0x2b, 6, 1, 5, 5, 7, 3, 1], &[0x2b, 6, 1, 5, 5, 7, 3, 2]].map(|usage| tlv(6, usage));
    let usages = [tlv(6, &[0x55, 0x1d, 0x25]), tlv(4, &tlv(0x30, &usages.concat()))];
    let extensions = [names, usage, usages].map(|extension| tlv(0x30, &extension.concat())).concat();
    let request = tlv(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14]);
    let attribute = tlv(0x30, &[request, tlv(0x31, &tlv(0x30, &extensions))].concat());
    tlv(0x30, &[vec![2, 1, 0, 0x30, 0], tlv(0x30, &key.concat()), tlv(0xa0, &attribute)].concat())
}

/// As PEM.
pub fn armour(der: &[u8]) -> Vec<u8> {
    let base64 = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{base64}\n-----END CERTIFICATE REQUEST-----\n").into_bytes()
}

/// One DER element; one that is too long is cut.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let content = &content[..content.len().min(0xffff)];
    let [high, low] = (content.len() as u16).to_be_bytes();
    let head = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&head, content].concat()
}
