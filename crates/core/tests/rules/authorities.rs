use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, IsCa, PKCS_ED25519};
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use svid_csi_core::bundle_document::{BundleDocument, BundleDocumentError};
use svid_csi_core::ca::{Authorities, AuthoritiesError, CertificateAuthority, MAX_DOCUMENT_BYTES, UnionError};
use svid_csi_core::identity::Rejection;
use svid_csi_core::jwt::{JwtAuthority, JwtBundle};
use svid_csi_core::spiffe_id::TrustDomain;

use crate::forge::{Authority, HOUR, now, uri, valid};

fn example_org() -> TrustDomain {
    TrustDomain::parse("example.org").expect("a name")
}

fn node() -> Authorities {
    let ca = CertificateAuthority::create(&example_org(), now(), 24 * HOUR).expect("a CA");
    Authorities::of(&ca, &JwtAuthority::create(&example_org()).expect("an authority"))
}

fn read(json: &Value) -> Result<Authorities, AuthoritiesError> {
    Authorities::read(json.to_string().as_bytes(), &example_org())
}

fn document(anchors: &[CertificateDer<'static>], jwt: &JwtBundle) -> Value {
    let document = BundleDocument { anchors: anchors.to_vec(), jwt: jwt.clone(), sequence: None, refresh_hint: None };
    serde_json::from_slice(&document.to_json()).expect("JSON")
}

fn written(node: &Authorities) -> Value {
    serde_json::from_slice(&node.to_json()).expect("JSON")
}

#[test]
fn a_document_reads_back_and_has_no_secret() {
    let node = node();
    let json = node.to_json();
    assert_eq!(Authorities::read(&json, &example_org()), Ok(node.clone()));
    assert_eq!(node.to_json(), json, "the same text every time");
    let keys = written(&node)["keys"].as_array().expect("keys").clone();
    assert_eq!((keys.len(), &keys[0]["use"], &keys[1]["use"]), (2, &json!("x509-svid"), &json!("jwt-svid")));
    assert!(keys.iter().all(|key| key.get("d").is_none()), "{keys:?}");
    assert!(json.len() < 1200, "{} bytes: a ConfigMap has room for 1 MiB", json.len());
}

#[test]
fn documents_of_other_writers_are_read() {
    let jwt = JwtBundle::default();
    let nameless = Authority::root(|params| params.subject_alt_names.clear()).certificate;
    let several = [nameless, Authority::root_with(&PKCS_ED25519, |_| {}).certificate];
    let mut json = document(&several, &jwt);
    json["spiffe_sequence"] = json!(7);
    json["spiffe_refresh_hint"] = json!(300);
    json["keys"][0]["alg"] = json!("ES256");
    let union = Authorities::union([&read(&json).expect("good")].into_iter(), now()).expect("a union");
    assert_eq!(union.bundle.certificates(), several);
}

#[test]
fn a_document_that_breaks_a_rule_is_refused_as_a_whole() {
    let good = written(&node());
    let but = |change: &dyn Fn(&mut Value)| {
        let mut json = good.clone();
        change(&mut json);
        read(&json).expect_err("it breaks a rule")
    };
    let key = |position| AuthoritiesError::Key { position };
    let other = written(&node());
    assert_eq!(but(&|json| json["keys"][0]["x"] = other["keys"][0]["x"].clone()), key(1), "the key of another");
    assert_eq!(but(&|json| json["keys"][0]["x5c"] = json!([])), key(1));
    assert_eq!(but(&|json| json["keys"][0]["kty"] = json!("LATER")), key(1));
    let twice = json!([good["keys"][0]["x5c"][0], good["keys"][0]["x5c"][0]]);
    assert_eq!(but(&|json| json["keys"][0]["x5c"] = twice.clone()), key(1), "one certificate each");
    for usage in [json!(null), json!("sig"), json!("X509-SVID"), json!(7)] {
        assert_eq!(but(&|json| json["keys"][1]["use"] = usage.clone()), key(2));
    }
    assert_eq!(but(&|json| json["keys"][1]["kid"] = json!("")), AuthoritiesError::JwtKey);
    assert_eq!(but(&|json| json["keys"][1]["crv"] = json!("secp256k1")), AuthoritiesError::JwtKey);
    assert!(matches!(but(&|json| json["keys"][1]["kid"] = json!("k")), AuthoritiesError::Misnamed { .. }));
    let damaged = but(&|json| json["keys"][0]["x5c"][0] = json!("?"));
    assert_eq!(damaged, BundleDocumentError::Certificate { position: 1 }.into());
    assert!(matches!(but(&|json| json["keys"] = json!({})), AuthoritiesError::Document(_)));
    assert!(matches!(but(&|json| json["spiffe_sequence"] = json!(-1)), AuthoritiesError::Document(_)));
    assert_eq!(but(&|json| json["keys"].as_array_mut().into_iter().for_each(|keys| drop(keys.remove(0)))), {
        AuthoritiesError::Empty
    });
}

#[test]
fn only_cas_of_the_trust_domain_are_accepted() {
    let jwt = JwtBundle::default();
    let refused = |certificate: CertificateDer<'static>| read(&document(&[certificate], &jwt)).expect_err("refused");
    let no_ca = Authority::root(|params| params.is_ca = IsCa::ExplicitNoCa).certificate;
    assert!(matches!(refused(no_ca), AuthoritiesError::Certificate(Rejection::NotACa { .. })));
    for names in [vec!["spiffe://other.org"], vec!["spiffe://example.org/a"], vec!["spiffe://example.org", "https://x"]]
    {
        let root = Authority::root(|params| params.subject_alt_names = names.iter().map(|name| uri(name)).collect());
        let error = refused(root.certificate);
        assert!(matches!(error, AuthoritiesError::TrustDomain { position: 1, .. }), "{error}");
        assert!(error.to_string().contains(names[0]), "{error}");
    }
    let garbage = json!({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(b"garbage")]}]});
    assert_eq!(read(&garbage), Err(AuthoritiesError::Key { position: 1 }));
}

#[test]
fn a_document_has_a_limit() {
    let long = format!("{{\"keys\":[],\"x\":\"{}\"}}", "x".repeat(MAX_DOCUMENT_BYTES));
    let bytes = long.len();
    assert_eq!(Authorities::read(long.as_bytes(), &example_org()), Err(AuthoritiesError::TooLarge { bytes }));
}

#[test]
fn a_union_has_every_authority_except_expired_ones() {
    let (first, second) = (node(), node());
    let union = |all: &[&Authorities], at| Authorities::union(all.iter().copied(), at);
    let both = union(&[&first, &second, &first], now()).expect("a union");
    assert_eq!((both.bundle.certificates().len(), both.jwt.key_ids().count()), (2, 2), "none of them twice");
    assert_eq!(both, union(&[&second, &first], now()).expect("a union"), "the order does not matter");
    let old = Authority::root(|params| valid(params, now() - HOUR, now() + HOUR)).certificate;
    let old = read(&document(&[old], &JwtBundle::default())).expect("good");
    assert_eq!(union(&[&first, &old], now()).expect("a union").bundle.certificates().len(), 2);
    let later = union(&[&first, &old], now() + 2 * HOUR).expect("a union");
    assert_eq!(later.bundle.certificates().len(), 1, "one has expired");
    let all_expired = union(&[&old], now() + 2 * HOUR).expect("a clock may be wrong");
    assert_eq!(all_expired, union(&[&old], now()).expect("a union"));
    assert_eq!(union(&[], now()), Err(UnionError::Certificates(Rejection::EmptyBundle)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_document_reads_back_only_for_its_own_trust_domain(name in "[a-z0-9][a-z0-9.-]{0,40}") {
        let trust_domain = TrustDomain::parse(&name).expect("a name");
        let ca = CertificateAuthority::create(&trust_domain, now(), HOUR).expect("a CA");
        let node = Authorities::of(&ca, &JwtAuthority::create(&trust_domain).expect("an authority"));
        prop_assert_eq!(Authorities::read(&node.to_json(), &trust_domain), Ok(node.clone()));
        let other = TrustDomain::parse("other.example.org").expect("a name");
        prop_assert!(Authorities::read(&node.to_json(), &other).is_err());
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0..1000_usize, byte in any::<u8>()) {
        let _ = Authorities::read(&bytes, &example_org()).map_err(|error| error.to_string());
        let mut json = node().to_json();
        let at = at % json.len();
        json[at] = byte;
        let _ = Authorities::read(&json, &example_org()).map_err(|error| error.to_string());
    }
}

#[test]
fn one_that_does_not_fit_is_left_out_and_the_others_stay() {
    let own = node();
    let nodes: Vec<_> = (0..9).map(|number| (format!("n{number}"), node())).collect();
    // The maximum that one node may write, from forty nodes: too much for one bundle.
    let padded =
        |params: &mut CertificateParams| params.distinguished_name.push(DnType::CommonName, "x".repeat(11_000));
    let large = |_| {
        let roots = [Authority::root(padded).certificate, Authority::root(padded).certificate];
        read(&document(&roots, &JwtBundle::default())).expect("good by itself")
    };
    let hostile: Vec<_> = (0..40).map(large).enumerate().map(|(number, one)| (format!("a{number}"), one)).collect();
    let all = hostile.iter().chain(&nodes).map(|(name, one)| (name.as_str(), one));
    assert!(Authorities::union([&own].into_iter().chain(all.clone().map(|(_, one)| one)), now()).is_err());
    let (union, left_out) = Authorities::union_of_most(&own, all, now()).expect("a union");
    assert!(!left_out.is_empty() && left_out.iter().all(|(name, _)| name.starts_with('a')), "{left_out:?}");
    let small = Authorities::union([&own].into_iter().chain(nodes.iter().map(|(_, one)| one)), now()).expect("a union");
    let trusted = union.bundle.certificates();
    assert!(small.bundle.certificates().iter().all(|root| trusted.contains(root)));
    assert!(small.jwt.key_ids().all(|id| union.jwt.key_ids().any(|other| other == id)));
}
