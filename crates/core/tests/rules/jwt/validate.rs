use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use svid_csi_core::identity::CLOCK_SKEW;
use svid_csi_core::jwt::{ClaimProblem, JwtRejection, MAX_TOKEN_BYTES, ValidatedJwt, validate};
use svid_csi_core::quoted::Quoted;
use svid_csi_core::spiffe_id::TrustDomain;

use super::forge::{AUDIENCE, TestKey, bundles, but, claims, claims_but, encode, seconds};
use crate::forge::{ID, now};

fn check(token: &str, key: &TestKey) -> Result<ValidatedJwt, JwtRejection> {
    validate(token, AUDIENCE, &key.bundles(), now())
}

#[track_caller]
fn refused(token: &str, key: &TestKey) -> JwtRejection {
    let rejection = check(token, key).expect_err("it breaks a rule");
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!format!("{rejection} {rejection:?}").contains(part), "it holds the token: {rejection}");
    }
    rejection
}

#[test]
fn accepts_every_algorithm_of_the_standard_and_no_other_signature() {
    for alg in ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"] {
        let key = TestKey::new(alg);
        let token = key.token(&claims());
        let valid = check(&token, &key).expect(alg);
        assert_eq!((valid.id.as_str(), &valid.claims["sub"]), (ID, &json!(ID)), "{alg}");
        assert_eq!(check(&token, &TestKey::new(alg)), Err(JwtRejection::Signature), "{alg}: another key");
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        for wrong in [&bytes[1..], &[bytes.as_slice(), b"\0"].concat(), &bytes[..0]] {
            let token = format!("{message}.{}", encode(wrong));
            assert_eq!(check(&token, &key), Err(JwtRejection::Signature), "{alg}: {} bytes", wrong.len());
        }
        bytes[20] ^= 1;
        assert_eq!(check(&format!("{message}.{}", encode(&bytes)), &key), Err(JwtRejection::Signature), "{alg}");
        let other = claims_but("sub", json!(format!("{ID}2")));
        let swapped =
            format!("{}.{}.{signature}", message.split('.').next().expect("a header"), encode(other.to_string()));
        assert_eq!(check(&swapped, &key), Err(JwtRejection::Signature), "{alg}: other claims");
    }
}

#[test]
fn a_key_verifies_only_its_own_algorithm() {
    for (key, claimed) in [("ES256", "ES384"), ("ES256", "RS256"), ("RS256", "PS256"), ("RS256", "RS512")] {
        let key = TestKey::new(key);
        let token = key.token_with(&json!({"alg": claimed, "kid": "k"}), &claims());
        assert_eq!(refused(&token, &key), JwtRejection::Signature, "{} as {claimed}", key.alg);
    }
    let key = TestKey::new("RS256");
    let token = key.token(&claims());
    for (alg, ok) in [("RS256", true), ("PS256", false)] {
        let bundles = bundles(&[but(key.jwk.clone(), "alg", json!(alg))]);
        assert_eq!(validate(&token, AUDIENCE, &bundles, now()).is_ok(), ok, "the key says it is for {alg}");
    }
}

#[test]
fn refuses_every_other_algorithm() {
    let key = TestKey::new("ES256");
    for alg in ["none", "None", "HS256", "HS384", "HS512", "EdDSA", "ES256K", "es256", "RSA-OAEP", ""] {
        let token = key.token_with(&json!({"alg": alg, "kid": "k"}), &claims());
        assert_eq!(refused(&token, &key), JwtRejection::Algorithm { found: Quoted::new(alg) });
        let unsigned = format!("{}.", token.rsplit_once('.').expect("three parts").0);
        assert_eq!(refused(&unsigned, &key), JwtRejection::Algorithm { found: Quoted::new(alg) });
    }
    let token = key.token_with(&json!({"kid": "k"}), &claims());
    assert_eq!(refused(&token, &key), JwtRejection::NoAlgorithm);
}

#[test]
fn accepts_three_headers_and_no_others() {
    let key = TestKey::new("ES256");
    let header = json!({"alg": "ES256", "kid": "k"});
    let with = |name: &str, value: Value| key.token_with(&but(header.clone(), name, value), &claims());
    for typ in [Value::Null, json!("JWT"), json!("JOSE")] {
        assert!(check(&with("typ", typ.clone()), &key).is_ok(), "{typ}");
    }
    for typ in ["jwt", "at+jwt", "JWS", ""] {
        assert_eq!(refused(&with("typ", json!(typ)), &key), JwtRejection::Type { found: Quoted::new(typ) });
    }
    for (name, value) in [
        ("jku", json!("https://example.org/keys")),
        ("jwk", key.jwk.clone()),
        ("x5u", json!("https://example.org/certificate")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("abcd")),
        ("x5t#S256", json!("abcd")),
        ("cty", json!("JWT")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("private", json!("x")),
        ("alg", json!(7)),
        ("kid", json!(["k"])),
        ("typ", json!({})),
    ] {
        assert_eq!(refused(&with(name, value), &key), JwtRejection::Header { name: Quoted::new(name) });
    }
    for value in [Value::Null, json!("")] {
        assert_eq!(refused(&with("kid", value), &key), JwtRejection::NoKeyId);
    }
}

#[test]
fn accepts_only_the_compact_form() {
    let key = TestKey::new("ES256");
    let token = key.token(&claims());
    let parts: Vec<&str> = token.split('.').collect();
    let json_form = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string();
    for text in [
        "",
        ".",
        "..",
        "a.b",
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{token}.{}", parts[2]),
        &format!("{token}="),
        &format!("{token} "),
        &format!("Bearer {token}"),
        &token.replacen('.', "=.", 1),
        &format!("{}.{}.{}!", parts[0], parts[1], parts[2]),
        &json_form,
    ] {
        let rejection = check(text, &key).expect_err("it is not compact");
        assert!(matches!(rejection, JwtRejection::NotCompact | JwtRejection::NotAnObject { .. }), "{rejection}");
    }
    let header = encode(json!({"alg": "ES256", "kid": "k"}).to_string());
    for (message, what) in [
        (format!("{}.{}", encode("[]"), parts[1]), "header"),
        (format!("{}.{}", encode("{"), parts[1]), "header"),
        (format!("{header}.{}", encode("[]")), "payload"),
        (format!("{header}.{}", encode(b"\xff\xfe")), "payload"),
        (format!("{header}.{}", encode("[".repeat(4000))), "payload"),
    ] {
        assert_eq!(refused(&key.sign(&message), &key), JwtRejection::NotAnObject { what });
    }
    let long = key.token(&claims_but("more", json!("x".repeat(MAX_TOKEN_BYTES))));
    assert_eq!(refused(&long, &key), JwtRejection::TooLong { bytes: long.len() });
}

#[test]
fn needs_subject_audience_and_end() {
    let key = TestKey::new("ES256");
    for claim in ["sub", "aud", "exp"] {
        let problem = ClaimProblem::Missing;
        assert_eq!(refused(&key.token(&claims_but(claim, Value::Null)), &key), JwtRejection::Claim { claim, problem });
    }
    for (claim, value, problem) in [
        ("sub", json!(7), ClaimProblem::NotText),
        ("sub", json!([ID]), ClaimProblem::NotText),
        ("aud", json!([]), ClaimProblem::Missing),
        ("aud", json!(7), ClaimProblem::NotTexts),
        ("aud", json!([AUDIENCE, 7]), ClaimProblem::NotTexts),
        ("exp", json!("soon"), ClaimProblem::NotATime),
        ("exp", json!(-1), ClaimProblem::NotATime),
        ("exp", json!(1e300), ClaimProblem::NotATime),
        ("exp", json!(u64::MAX), ClaimProblem::NotATime),
        ("nbf", json!("now"), ClaimProblem::NotATime),
        ("iat", json!(true), ClaimProblem::NotATime),
    ] {
        let rejection = refused(&key.token(&claims_but(claim, value.clone())), &key);
        assert_eq!(rejection, JwtRejection::Claim { claim, problem }, "{claim} {value}");
    }
    for subject in ["", "cart", "spiffe://Example.org/a", "spiffe://example.org/a/", "https://example.org/a"] {
        let rejection = refused(&key.token(&claims_but("sub", json!(subject))), &key);
        assert!(matches!(rejection, JwtRejection::Subject { .. }), "{subject}: {rejection}");
    }
    let rejection = refused(&key.token(&claims_but("sub", json!("spiffe://example.org"))), &key);
    assert!(matches!(rejection, JwtRejection::SubjectWithoutPath { .. }), "{rejection}");
}

#[test]
fn is_for_its_audiences_only() {
    let key = TestKey::new("ES256");
    for aud in [json!(AUDIENCE), json!([AUDIENCE]), json!(["other", AUDIENCE])] {
        let claims = check(&key.token(&claims_but("aud", aud.clone())), &key).expect("it is meant for it").claims;
        let list = if aud.is_string() { json!([AUDIENCE]) } else { aud };
        assert_eq!(claims["aud"], list, "the audience is a list");
    }
    let audience = Quoted::new(AUDIENCE);
    for aud in
        [json!("other"), json!([""]), json!(["SPIFFE://example.org/ns/shop/sa/db"]), json!([format!("{AUDIENCE}2")])]
    {
        let rejection = refused(&key.token(&claims_but("aud", aud)), &key);
        assert_eq!(rejection, JwtRejection::WrongAudience { audience: audience.clone() });
    }
    let token = key.token(&claims_but("aud", json!([""])));
    assert_eq!(validate(&token, "", &key.bundles(), now()), Err(JwtRejection::NoAudience));
}

#[test]
fn a_trust_domain_vouches_only_for_its_own_workloads() {
    let key = TestKey::new("ES256");
    let name = |name| TrustDomain::parse(name).expect("a name");
    let foreign = key.token(&claims_but("sub", json!("spiffe://other.org/ns/shop/sa/cart")));
    assert_eq!(refused(&foreign, &key), JwtRejection::NoBundle { trust_domain: name("other.org") });
    let mut bundles = key.bundles();
    bundles.extend(TestKey::new("ES256").bundles().into_values().map(|bundle| (name("other.org"), bundle)));
    assert_eq!(validate(&foreign, AUDIENCE, &bundles, now()), Err(JwtRejection::Signature));
    assert!(validate(&key.token(&claims()), AUDIENCE, &bundles, now()).is_ok());
    let unknown = key.token_with(&json!({"alg": "ES256", "kid": "k2"}), &claims());
    let trust_domain = name("example.org");
    let key_id = Quoted::new("k2");
    assert_eq!(refused(&unknown, &key), JwtRejection::UnknownKey { trust_domain: trust_domain.clone(), key_id });
    let none = validate(&key.token(&claims()), AUDIENCE, &BTreeMap::new(), now());
    assert_eq!(none, Err(JwtRejection::NoBundle { trust_domain }));
}

#[test]
fn is_valid_only_in_its_time() {
    let key = TestKey::new("ES256");
    let at = |claim: &str, time: std::time::SystemTime| key.token(&claims_but(claim, json!(seconds(time))));
    let second = Duration::from_secs(1);
    assert!(check(&at("exp", now() + second), &key).is_ok());
    for expired_at in [now(), now() - second, now() - Duration::from_secs(3600)] {
        assert_eq!(refused(&at("exp", expired_at), &key), JwtRejection::Expired { expired_at, now: now() });
    }
    let half = key.token(&claims_but("exp", json!(seconds(now()) as f64 + 0.5)));
    assert!(check(&half, &key).is_ok(), "fractions are allowed");
    for claim in ["nbf", "iat"] {
        assert!(check(&at(claim, now() + CLOCK_SKEW), &key).is_ok(), "{claim}");
        let from = now() + CLOCK_SKEW + second;
        assert_eq!(refused(&at(claim, from), &key), JwtRejection::NotYetValid { claim, from, now: now() });
    }
    assert!(check(&key.token(&claims_but("iat", Value::Null)), &key).is_ok(), "iat is optional");
}

#[test]
fn returns_all_claims() {
    let key = TestKey::new("ES256");
    let token = key.token(&claims_but("role", json!({"reader": true})));
    let valid = check(&token, &key).expect("it keeps every rule");
    assert_eq!(valid.claims["role"], json!({"reader": true}));
    assert_eq!(valid.claims["exp"], json!(seconds(now()) + 300));
    assert!(!format!("{valid:?}").contains("reader"), "claims are not printed");
}
