use rcgen::{KeyPair, PublicKeyData, RsaKeySize};
use svid_csi_core::identity::{KeyError, KeyType, PemError, PrivateKey};

#[test]
fn a_new_key_reads_back_from_der_and_pem() {
    let key = PrivateKey::generate_p256().expect("a key");
    let der = PrivateKey::from_pkcs8_der(key.der()).expect("its own form");
    let pem = PrivateKey::from_pem(&key.to_pem()).expect("its own form");
    for read in [der, pem] {
        assert_eq!(read.der(), key.der());
        assert_eq!(read.public_key_der(), key.public_key_der());
    }
    assert_ne!(PrivateKey::generate_p256().expect("a key").der(), key.der());
}

#[test]
fn a_new_key_of_every_type_reads_back() {
    for key_type in KeyType::ALL {
        let key = PrivateKey::generate(key_type).expect("a key");
        assert_eq!(key.key_type(), key_type);
        let read = PrivateKey::from_pem(&key.to_pem()).expect("its own form");
        assert_eq!((read.key_type(), read.der(), read.public_key_der()), (key_type, key.der(), key.public_key_der()));
    }
}

#[test]
fn finds_the_public_key_of_every_type() {
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072).expect("a key");
    let curves = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA512];
    let pairs = curves.into_iter().chain([&rcgen::PKCS_ED25519]);
    let pairs = pairs.map(|algorithm| KeyPair::generate_for(algorithm).expect("a key")).chain([rsa]);
    for pair in pairs {
        let key = PrivateKey::from_pkcs8_der(pair.serialized_der()).expect("PKCS#8");
        assert_eq!(key.public_key_der(), pair.subject_public_key_info(), "{:?}", pair.algorithm());
    }
}

#[test]
fn refuses_anything_but_one_pkcs8_document() {
    let key = PrivateKey::generate_p256().expect("a key");
    let der = key.der();
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("a part", der[..der.len() - 1].to_vec()),
        ("more than one", [der, der].concat()),
        ("a byte more", [der, &[0]].concat()),
        ("its public key", key.public_key_der().to_vec()),
        ("too much", vec![0x30; 20_000]),
    ] {
        assert_eq!(PrivateKey::from_pkcs8_der(&bytes).err(), Some(KeyError::Unsupported), "{what}");
    }
}

#[test]
fn refuses_other_pem_without_quoting_it() {
    let key = PrivateKey::generate_p256().expect("a key");
    let pem = key.to_pem();
    let other = pem.replace("PRIVATE KEY", "CERTIFICATE");
    let broken = pem.replacen('\n', "\n!", 1);
    let expected = "PRIVATE KEY";
    for (text, error) in [
        (other, PemError::Label { expected }),
        (format!("{}{}", *pem, *pem), PemError::Count { found: 2 }),
        (broken, PemError::NotPem { expected }),
        (String::new(), PemError::NotPem { expected }),
    ] {
        let found = PrivateKey::from_pem(&text).expect_err("it is not PEM with one key");
        assert_eq!(found, KeyError::Pem(error));
        let body = pem.lines().nth(1).expect("a line");
        assert!(!format!("{found} {found:?}").contains(&body[..8]));
    }
}
