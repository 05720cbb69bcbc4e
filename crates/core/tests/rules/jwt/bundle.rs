use serde_json::{Value, json};
use svid_csi_core::jwt::{JwkError, JwtBundle, JwtBundleError, JwtBundles, MAX_JWKS_BYTES, MAX_KEYS, bundles_digest};
use svid_csi_core::spiffe_id::TrustDomain;

use super::forge::{TestKey, but, encode};

fn read(keys: &[Value]) -> Result<JwtBundle, JwtBundleError> {
    JwtBundle::read(json!({"keys": keys}).to_string().as_bytes())
}

fn ids(keys: &[Value]) -> Vec<String> {
    read(keys).expect("a bundle").key_ids().map(str::to_owned).collect()
}

#[test]
fn reads_the_keys_of_jwt_svids_and_ignores_others() {
    let ec = TestKey::new("ES384").jwk;
    let rsa = TestKey::new("RS256").jwk;
    let named = |jwk: &Value, id: &str| but(jwk.clone(), "kid", json!(id));
    assert_eq!(ids(&[named(&ec, "b"), named(&rsa, "a")]), ["a", "b"]);
    for usage in [Value::Null, json!("jwt-svid"), json!("sig")] {
        assert_eq!(ids(&[but(ec.clone(), "use", usage.clone())]), ["k"], "{usage}");
    }
    for usage in [json!("x509-svid"), json!("JWT-SVID"), json!("enc"), json!(""), json!(7)] {
        assert_eq!(ids(&[but(ec.clone(), "use", usage.clone())]), [""; 0], "{usage}");
    }
    let secret = json!({"kty": "oct", "kid": "s", "k": "c2VjcmV0"});
    let okp = json!({"kty": "OKP", "kid": "o", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let small = but(rsa.clone(), "n", json!(encode([0xff; 255])));
    let large = but(rsa.clone(), "n", json!(encode([0xff; 1025])));
    for (jwk, why) in [
        (but(ec.clone(), "kid", Value::Null), "no key id"),
        (but(ec.clone(), "kid", json!("")), "an empty key id"),
        (but(ec.clone(), "kid", json!(7)), "a key ID that is not a string"),
        (but(ec.clone(), "kty", json!("EC2")), "an unknown key type"),
        (but(ec.clone(), "kty", Value::Null), "no key type"),
        (but(ec.clone(), "crv", json!("secp256k1")), "an unknown curve"),
        (but(ec.clone(), "alg", json!("HS256")), "an algorithm that is not allowed"),
        (secret, "a shared secret"),
        (okp, "Ed25519"),
        (small, "RSA with 2040 bits"),
        (large, "RSA with 8200 bits"),
    ] {
        assert_eq!(ids(&[jwk, named(&rsa, "good")]), ["good"], "{why}");
    }
    assert!(read(&[]).expect("an empty bundle").is_empty(), "all keys revoked");
}

#[test]
fn a_damaged_key_invalidates_the_set() {
    let (ec, rsa) = (TestKey::new("ES256").jwk, TestKey::new("RS256").jwk);
    let point = encode([1; 32]);
    for (jwk, problem) in [
        (but(ec.clone(), "x", Value::Null), JwkError::Missing { parameter: "x" }),
        (but(ec.clone(), "y", json!(7)), JwkError::Missing { parameter: "y" }),
        (but(ec.clone(), "crv", Value::Null), JwkError::Missing { parameter: "crv" }),
        (but(ec.clone(), "x", json!("?")), JwkError::Encoding { parameter: "x" }),
        (but(ec.clone(), "x", json!(encode([1; 31]))), JwkError::Encoding { parameter: "x" }),
        (but(ec.clone(), "x", json!(encode([0; 33]))), JwkError::Encoding { parameter: "x" }),
        (but(ec.clone(), "x", json!(point)), JwkError::NotAKey),
        (but(rsa.clone(), "n", Value::Null), JwkError::Missing { parameter: "n" }),
        (but(rsa.clone(), "e", json!("AQ=B")), JwkError::Encoding { parameter: "e" }),
    ] {
        assert_eq!(read(&[rsa.clone(), jwk]), Err(JwtBundleError::Key { position: 2, problem }), "{problem}");
    }
    assert_eq!(read(&[ec.clone(), rsa]), Err(JwtBundleError::SameKeyId { position: 2 }));
    assert_eq!(ids(&[ec.clone(), ec]), ["k"], "the same key twice does no harm");
}

#[test]
fn refuses_documents_that_are_not_jwk_sets() {
    for text in ["", "null", "[]", "{}", "{\"keys\": {}}", "{\"keys\": [7]}", "{\"keys\": []", "{\"keys\": []} x"] {
        assert_eq!(JwtBundle::read(text.as_bytes()), Err(JwtBundleError::NotAJwkSet), "{text}");
    }
    let large = vec![b' '; MAX_JWKS_BYTES + 1];
    assert_eq!(JwtBundle::read(&large), Err(JwtBundleError::TooLarge { bytes: MAX_JWKS_BYTES + 1 }));
    let mut largest = br#"{"keys": []}"#.to_vec();
    largest.resize(MAX_JWKS_BYTES, b' ');
    assert!(JwtBundle::read(&largest).is_ok());
    assert!(read(&vec![json!({}); MAX_KEYS]).is_ok());
    let many = vec![json!({}); MAX_KEYS + 1];
    assert_eq!(read(&many), Err(JwtBundleError::TooMany { found: MAX_KEYS + 1 }));
}

#[test]
fn is_written_as_a_plain_jwk_set() {
    let keys = [("ES256", "e"), ("ES512", "f"), ("PS384", "p")].map(|(alg, id)| {
        let key = but(but(TestKey::new(alg).jwk, "kid", json!(id)), "use", json!("jwt-svid"));
        but(key, "ignored", json!("x"))
    });
    let bundle = read(&keys).expect("a bundle");
    let written: Value = serde_json::from_slice(&bundle.to_jwks()).expect("JSON");
    let expected: Vec<Value> =
        keys.iter().map(|key| but(but(key.clone(), "use", Value::Null), "ignored", Value::Null)).collect();
    assert_eq!(written, json!({"keys": expected}), "the keys, without use and unknown members");
    let mut turned = keys.clone();
    turned.reverse();
    assert_eq!(read(&turned).expect("a bundle").to_jwks(), bundle.to_jwks(), "whatever their order");
    assert_eq!(JwtBundle::read(&bundle.to_jwks()), Ok(bundle));
}

#[test]
fn numbers_of_rsa_may_have_leading_zeros() {
    let rsa = TestKey::new("RS256").jwk;
    let padded = but(rsa.clone(), "e", json!(encode([0, 1, 0, 1])));
    assert_eq!(read(&[padded]), read(&[rsa]));
}

#[test]
fn digests_of_different_bundles_differ() {
    let (one, other) = (TestKey::new("ES256"), TestKey::new("ES256"));
    assert_eq!(bundles_digest(&one.bundles()), bundles_digest(&one.bundles()));
    assert_ne!(bundles_digest(&one.bundles()), bundles_digest(&other.bundles()));
    let mut renamed = JwtBundles::new();
    let bundle = one.bundles().into_values().next().expect("a bundle");
    renamed.insert(TrustDomain::parse("example.com").expect("a name"), bundle);
    assert_ne!(bundles_digest(&one.bundles()), bundles_digest(&renamed));
}
