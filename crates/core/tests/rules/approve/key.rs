//! The key of a CSR, and its signature.

use std::collections::BTreeSet;

use rcgen::{KeyPair, RsaKeySize};
use svid_csi_core::approve::{Policy, Verdict, judge};
use svid_csi_core::identity::{KeyType, PrivateKey};
use svid_csi_core::request::csr_pem;
use svid_csi_core::spiffe_id::SpiffeId;

use super::forge::{Csr, armour, built, built_with, denied_for, oid, policy, request, seq, tlv};
use crate::forge::ID;

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

#[test]
fn approves_every_type_of_key_if_it_is_allowed() {
    let id = SpiffeId::parse(ID).expect("an ID");
    for key_type in KeyType::ALL {
        let key = PrivateKey::generate(key_type).expect("a key");
        let request = request(csr_pem(&key, &id).expect("a CSR"));
        let only = |allowed| Policy { key_types: BTreeSet::from([allowed]), ..policy() };
        assert_eq!(judge(&request, &policy()), Verdict::Approve, "{key_type}");
        assert_eq!(judge(&request, &only(key_type)), Verdict::Approve, "{key_type}");
        let other = if key_type == KeyType::Ed25519 { KeyType::Rsa2048 } else { KeyType::Ed25519 };
        let sentence = format!("key of type {key_type}, allowed are {other}");
        denied_for(&request, &only(other), "key_type", &sentence);
    }
}

#[test]
fn approves_longer_rsa_keys() {
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA512, RsaKeySize::_3072).expect("a key");
    assert_eq!(judge(&request(built_with(&key, |_| {})), &policy()), Verdict::Approve);
}

/// A CSR with that key, whose private part does not exist.
fn with_key(algorithm: &[Vec<u8>], bits: &[u8]) -> Vec<u8> {
    Csr::changed(|csr| csr.public_key = seq(&[seq(algorithm), tlv(3, &[&[0], bits].concat())]))
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    with_key(&[oid(RSA), vec![5, 0]], &seq(&[tlv(2, modulus), tlv(2, exponent)]))
}

fn modulus(bits: usize) -> Vec<u8> {
    let mut modulus = vec![0xff; bits.div_ceil(8)];
    modulus[0] = 0xff >> (8 * modulus.len() - bits);
    if modulus[0] >= 0x80 {
        modulus.insert(0, 0);
    }
    modulus
}

#[test]
fn denies_keys_of_another_size() {
    for bits in [512, 1024, 2040, 2047, 8193] {
        let csr = rsa(&modulus(bits), &[1, 0, 1]);
        denied_for(&request(csr), &policy(), "key_size", &format!("an RSA key of {bits} bits, 2048 to 8192"));
    }
    // The only remaining fault is that the signature is by another key.
    for bits in [2048, 2049, 8192] {
        denied_for(&request(rsa(&modulus(bits), &[1, 0, 1])), &policy(), "signature_algorithm", "does not fit its key");
    }
}

#[test]
fn denies_other_algorithms() {
    let secp256k1 = [0x2b, 0x81, 4, 0, 10];
    let p224 = [0x2b, 0x81, 4, 0, 33];
    let dsa = [0x2a, 0x86, 0x48, 0xce, 0x38, 4, 1];
    let ed448 = [0x2b, 0x65, 0x71];
    let pss = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
    let point = [&[4], &[7; 64][..]].concat();
    for (algorithm, dotted) in [
        (vec![oid(EC), oid(&secp256k1)], "1.2.840.10045.2.1"),
        (vec![oid(EC), oid(&p224)], "1.2.840.10045.2.1"),
        (vec![oid(EC)], "1.2.840.10045.2.1"),
        (vec![oid(EC), oid(P256), vec![5, 0]], "1.2.840.10045.2.1"),
        (vec![oid(&dsa)], "1.2.840.10040.4.1"),
        (vec![oid(&ed448)], "1.3.101.113"),
        (vec![oid(&pss)], "1.2.840.113549.1.1.10"),
        (vec![oid(RSA)], "1.2.840.113549.1.1.1"),
        (vec![oid(&[])], r#"algorithm """#),
        (vec![vec![5, 0]], r#"algorithm "\x05\x00""#),
    ] {
        denied_for(&request(with_key(&algorithm, &point)), &policy(), "key_algorithm", dotted);
    }
}

#[test]
fn denies_malformed_keys() {
    let p256 = &[oid(EC), oid(P256)];
    let key = PrivateKey::generate_p256().expect("a key");
    let compressed = [&[2], &[7; 32][..]].concat();
    let hybrid = [&[6], &[7; 64][..]].concat();
    let too_long = [&[4], &[7; 65][..]].concat();
    let (ed25519, null) = ([oid(&[0x2b, 0x65, 0x70])], vec![5, 0]);
    let negative = rsa(&modulus(2048)[1..], &[1, 0, 1]);
    let padded = rsa(&[&[0], &*modulus(2047)].concat(), &[1, 0, 1]);
    let rsa_with_more = seq(&[tlv(2, &modulus(2048)), tlv(2, &[3]), null.clone()]);
    for (what, csr) in [
        ("a compressed point", with_key(p256, &compressed)),
        ("a hybrid point", with_key(p256, &hybrid)),
        ("a long point", with_key(p256, &too_long)),
        ("a key in a key", with_key(p256, key.public_key_der())),
        ("no point", with_key(p256, &[])),
        ("half an Ed25519 key", with_key(&ed25519, &[7; 16])),
        ("a negative modulus", negative),
        ("a padded modulus", padded),
        ("no modulus", rsa(&[], &[3])),
        ("a modulus of zero", rsa(&[0], &[3])),
        ("no exponent", rsa(&modulus(2048), &[])),
        ("more than a modulus and an exponent", with_key(&[oid(RSA), null], &rsa_with_more)),
        ("no RSA key", with_key(&[oid(RSA), vec![5, 0]], &[1, 2, 3])),
        (
            "unused bits",
            Csr::changed(|csr| {
                let bits = csr.public_key.iter().position(|byte| *byte == 3).expect("a bit string");
                let zero = csr.public_key[bits..].iter().position(|byte| *byte == 0).expect("a zero");
                csr.public_key[bits + zero] = 1;
            }),
        ),
    ] {
        println!("{what}");
        denied_for(&request(csr), &policy(), "csr_der", "the public key");
    }
    // A point that is not on the curve is detected when it is used.
    let beside = [&[4], &[7; 64][..]].concat();
    denied_for(&request(with_key(p256, &beside)), &policy(), "signature", "is wrong");
}

#[test]
fn denies_a_wrong_signature() {
    let (good, other) = (Csr::good(), Csr::good());
    let foreign = seq(&[good.info(), good.algorithm.clone(), tlv(3, &[&[0], &*other.sign(&good.info())].concat())]);
    denied_for(&request(armour(&foreign)), &policy(), "signature", "is wrong");
    let of_other = seq(&[good.info(), good.algorithm.clone(), tlv(3, &[&[0], &*good.sign(&other.info())].concat())]);
    denied_for(&request(armour(&of_other)), &policy(), "signature", "is wrong");
    let empty = seq(&[good.info(), good.algorithm.clone(), tlv(3, &[0])]);
    denied_for(&request(armour(&empty)), &policy(), "signature", "is wrong");
}

#[test]
fn denies_an_exponent_that_makes_every_signature_right() {
    // With the exponent 1 a signature is the padded digest itself; the verifier has to refuse the key.
    let rsa_sha256 = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    let key = seq(&[tlv(2, &modulus(2048)), tlv(2, &[1])]);
    let mut csr = Csr::good();
    csr.public_key = seq(&[seq(&[oid(RSA), vec![5, 0]]), tlv(3, &[&[0], &*key].concat())]);
    let info = csr.info();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &info);
    let sha256 = seq(&[seq(&[oid(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]), vec![5, 0]]), tlv(4, digest.as_ref())]);
    let padded = [&[0, 1], &vec![0xff; 256 - 3 - sha256.len()][..], &[0], &sha256].concat();
    let csr = seq(&[info, seq(&[oid(rsa_sha256), vec![5, 0]]), tlv(3, &[&[0], &*padded].concat())]);
    denied_for(&request(armour(&csr)), &policy(), "signature", "is wrong");
}

#[test]
fn denies_signature_algorithms_that_do_not_fit() {
    let ecdsa = |hash: &[u8]| seq(&[oid(&[&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4], hash].concat())]);
    for (algorithm, dotted) in [
        (ecdsa(&[1]), "1.2.840.10045.4.1"),
        (ecdsa(&[3, 1]), "1.2.840.10045.4.3.1"),
        (seq(&[oid(&[0x2b, 0x65, 0x70])]), "1.3.101.112"),
        (seq(&[oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]), vec![5, 0]]), "1.2.840.10045.4.3.2"),
        (seq(&[]), r#"algorithm """#),
    ] {
        let csr = Csr::changed(|csr| csr.algorithm = algorithm);
        denied_for(&request(csr), &policy(), "signature_algorithm", dotted);
    }
    // SHA-512 with P-256 is unusual, but not weak; here the signature is made with SHA-256.
    denied_for(&request(Csr::changed(|csr| csr.algorithm = ecdsa(&[3, 4]))), &policy(), "signature", "is wrong");
    assert_eq!(judge(&request(built(|_| {})), &policy()), Verdict::Approve);
}
