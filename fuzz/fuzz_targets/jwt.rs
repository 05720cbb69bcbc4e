//! JWT-SVIDs and their keys. A token is accepted only if its claims are what the caller relies on, errors never print its
//! signature, and sets of keys are the same when they were written and read again.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use svid_csi_core::jwt::{Audiences, JwtBundle, JwtBundles, JwtSvid, validate};
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

const ID: &str = "spiffe://example.org/ns/shop/sa/cart";
const AUDIENCE: &str = "spiffe://example.org/ns/shop/sa/db";

// A 0 is followed by a token, a 1 by a set of keys, any other byte by a header and a payload on two lines, which are signed.
fuzz_target!(|input: &[u8]| {
    match input {
        [0, token @ ..] => check(&String::from_utf8_lossy(token)),
        [1, keys @ ..] => {
            if let Ok(bundle) = JwtBundle::read(keys) {
                assert_eq!(JwtBundle::read(&bundle.to_jwks()).expect("it is read back"), bundle);
            }
        }
        [_, rest @ ..] => {
            let at = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (header, payload) = rest.split_at(at);
            let payload = payload.get(1..).unwrap_or_default();
            let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            let signature = KEY.0.sign(&SystemRandom::new(), message.as_bytes()).expect("a signature");
            check(&format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)));
        }
        [] => {}
    }
});

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_750_000_000)
}

fn check(token: &str) {
    let signature = token.rsplit('.').next().filter(|signature| signature.len() > 16);
    let validated = validate(token, AUDIENCE, &KEY.1, now());
    if let Ok(jwt) = &validated {
        assert_eq!(jwt.id.trust_domain().as_str(), "example.org");
        assert!(!jwt.id.path().is_empty() && jwt.claims["sub"] == jwt.id.as_str());
        assert!(jwt.claims["aud"].as_array().expect("a list").iter().any(|audience| audience == AUDIENCE));
        assert!(jwt.claims["exp"].as_f64().expect("a time") > 1_750_000_000.0);
    }
    let audiences = Audiences::new(vec![AUDIENCE.to_owned()]).expect("audiences");
    let id = SpiffeId::parse(ID).expect("an ID");
    let read = JwtSvid::read(Secret::new(token.to_owned()), &id, &audiences, String::new(), now());
    if let Ok(svid) = &read {
        assert!(svid.id == id && svid.audience == [AUDIENCE] && svid.expires_at > now());
    }
    for rejection in validated.err().into_iter().chain(read.err()) {
        let shown = format!("{rejection} {rejection:?}");
        assert!(shown.is_ascii() && !shown.contains('\n'), "{shown}");
        assert!(signature.is_none_or(|signature| !shown.contains(signature)), "{shown}");
    }
}

/// The key with the private number 1, and a bundle with it: its public key is the base point of the curve (SEC 2, section
/// 2.4.2).
static KEY: LazyLock<(EcdsaKeyPair, JwtBundles)> = LazyLock::new(|| {
    let x = hex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296");
    let y = hex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5");
    let public = [&[4], &x[..], &y].concat();
    let private = [&[0; 31][..], &[1]].concat();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, &public);
    let encode = |number: &[u8]| URL_SAFE_NO_PAD.encode(number);
    let keys =
        serde_json::json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": encode(&x), "y": encode(&y)}]});
    let bundle = JwtBundle::read(keys.to_string().as_bytes()).expect("a bundle");
    let name = TrustDomain::parse("example.org").expect("a name");
    (pair.expect("a key"), BTreeMap::from([(name, Arc::new(bundle))]))
});

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}
