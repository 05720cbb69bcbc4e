use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256,
    SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use svid_csi_core::bundle_document::{BundleDocument, BundleDocumentError, REFRESH_HINT};
use svid_csi_core::jwt::{JwtAuthority, JwtBundle, JwtBundleError};
use svid_csi_core::spiffe_id::TrustDomain;

use crate::forge::{Authority, HOUR, now};

fn anchor(algorithm: &'static SignatureAlgorithm) -> CertificateDer<'static> {
    Authority::root_with(algorithm, |_| {}).certificate
}

fn jwt_bundle() -> JwtBundle {
    let trust_domain = TrustDomain::parse("example.org").expect("a name");
    JwtBundle::clone(JwtAuthority::create(&trust_domain).expect("an authority").bundle())
}

fn document(anchors: Vec<CertificateDer<'static>>, jwt: JwtBundle) -> BundleDocument {
    BundleDocument { anchors, jwt, sequence: Some(7), refresh_hint: Some(REFRESH_HINT) }
}

#[test]
fn is_written_as_the_standard_says() {
    let algorithms = [
        (&PKCS_ECDSA_P256_SHA256, "EC", "P-256", 43),
        (&PKCS_ECDSA_P384_SHA384, "EC", "P-384", 64),
        (&PKCS_ECDSA_P521_SHA512, "EC", "P-521", 88),
        (&PKCS_ED25519, "OKP", "Ed25519", 43),
        (&PKCS_RSA_SHA256, "RSA", "", 0),
    ];
    let anchors: Vec<_> = algorithms.iter().map(|(algorithm, ..)| anchor(algorithm)).collect();
    let jwt = jwt_bundle();
    let text = document(anchors.clone(), jwt.clone()).to_json();
    let json: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!((&json["spiffe_sequence"], &json["spiffe_refresh_hint"]), (&json!(7), &json!(300)));
    for (index, (_, kty, crv, length)) in algorithms.into_iter().enumerate() {
        let jwk = &json["keys"][index];
        assert_eq!((&jwk["use"], &jwk["kty"]), (&json!("x509-svid"), &json!(kty)));
        assert_eq!(jwk["x5c"], json!([STANDARD.encode(&anchors[index])]), "exactly one certificate");
        assert!(jwk.get("kid").is_none(), "no key id");
        if kty == "RSA" {
            assert_eq!((jwk["n"].as_str().map(str::len), &jwk["e"]), (Some(342), &json!("AQAB")), "2048 bits");
        } else {
            assert_eq!((&jwk["crv"], jwk["x"].as_str().map(str::len)), (&json!(crv), Some(length)));
            assert_eq!(jwk.get("y").is_some(), kty == "EC");
        }
    }
    let last = &json["keys"][5];
    assert_eq!((&last["use"], last["kid"].as_str()), (&json!("jwt-svid"), jwt.key_ids().next()));
    assert_eq!(json["keys"].as_array().map(Vec::len), Some(6));
    assert_eq!(BundleDocument::read(&text), Ok(document(anchors, jwt)), "and reads back");
}

#[test]
fn reads_the_entries_of_known_use_and_key_type() {
    let (der, other) = (anchor(&PKCS_ECDSA_P256_SHA256), anchor(&PKCS_ECDSA_P256_SHA256));
    let jwt = jwt_bundle();
    let plain: Value = serde_json::from_slice(&jwt.to_jwks()).expect("JSON");
    let x5c = json!([STANDARD.encode(&der), STANDARD.encode(&other)]);
    let keys = json!([
        {"kty": "EC", "use": "x509-svid", "x5c": x5c},
        {"kty": "EC", "use": "x509-svid"},
        {"kty": "EC", "use": "x509-svid", "x5c": []},
        {"kty": "EC", "use": "X509-SVID", "x5c": x5c},
        {"kty": "EC", "x5c": x5c},
        {"kty": "LATER", "use": "x509-svid", "x5c": [STANDARD.encode(&other)]},
        {"use": "x509-svid", "x5c": [STANDARD.encode(&other)]},
        plain["keys"][0],
        {"kty": "LATER", "kid": "l", "use": "jwt-svid"},
    ]);
    let read = BundleDocument::read(json!({"keys": keys, "more": 1}).to_string().as_bytes()).expect("a document");
    assert_eq!(read.anchors, [der], "the first certificate, if use and key type are known");
    assert!(read.jwt.is_empty(), "a key without use does not belong in a bundle document");
    assert_eq!((read.sequence, read.refresh_hint), (None, None));
}

#[test]
fn refuses_damaged_documents() {
    let read = |json: Value| BundleDocument::read(json.to_string().as_bytes()).expect_err("it is damaged");
    assert_eq!(read(json!([])), BundleDocumentError::Jwks(JwtBundleError::NotAJwkSet));
    let entry = |x5c: Value| json!({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": x5c}]});
    for x5c in [json!(["?"]), json!([7])] {
        assert_eq!(read(entry(x5c)), BundleDocumentError::Certificate { position: 1 });
    }
    for (parameter, value) in
        [("spiffe_sequence", json!(-1)), ("spiffe_sequence", json!("7")), ("spiffe_refresh_hint", json!(1.5))]
    {
        assert_eq!(read(json!({"keys": [], parameter: value})), BundleDocumentError::Number { parameter });
    }
}

#[test]
fn the_sequence_grows_with_each_change_and_only_then() {
    let (first, second) = (anchor(&PKCS_ECDSA_P256_SHA256), anchor(&PKCS_ECDSA_P256_SHA256));
    let jwt = jwt_bundle();
    let sequence = |json: &[u8]| BundleDocument::read(json).expect("a document").sequence;
    let one = BundleDocument::next(None, std::slice::from_ref(&first), &jwt, now());
    assert_eq!(sequence(&one), Some(1_750_000_000));
    let same = BundleDocument::next(Some(&one), std::slice::from_ref(&first), &jwt, now() + HOUR);
    assert_eq!(same, one, "nothing changed");
    let both = [first, second];
    let at_once = BundleDocument::next(Some(&one), &both, &jwt, now());
    assert_eq!(sequence(&at_once), Some(1_750_000_001), "within the same second");
    let back = BundleDocument::next(Some(&at_once), &both, &JwtBundle::default(), now() - HOUR);
    assert_eq!(sequence(&back), Some(1_750_000_002), "also when the clock was set back");
    let later = BundleDocument::next(Some(&back), &both, &jwt, now() + HOUR);
    assert_eq!(sequence(&later), Some(1_750_003_600));
    assert_eq!(sequence(&BundleDocument::next(Some(b"damaged"), &both, &jwt, now())), Some(1_750_000_000));
    let end = json!({"keys": [], "spiffe_sequence": u64::MAX}).to_string();
    assert_eq!(sequence(&BundleDocument::next(Some(end.as_bytes()), &both, &jwt, now())), Some(u64::MAX));
}

proptest! {
    #[test]
    fn never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        x5c in prop::collection::vec("[A-Za-z0-9+/=]{0,40}", 0..3),
        number in any::<f64>(),
        anchors in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..3),
    ) {
        let _ = BundleDocument::read(&bytes).map_err(|error| error.to_string());
        let json = json!({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": x5c}], "spiffe_sequence": number}).to_string();
        let _ = BundleDocument::read(json.as_bytes()).map_err(|error| error.to_string());
        let anchors: Vec<_> = anchors.into_iter().map(CertificateDer::from).collect();
        let text = BundleDocument::next(Some(&bytes), &anchors, &JwtBundle::default(), now());
        let read = BundleDocument::read(&text).expect("a written document can be read");
        prop_assert!(read.anchors.is_empty(), "anchors that are not certificates are left out");
    }
}
