//! Arbitrary input: nothing panics, no error holds the token, and an accepted token is the one that was signed.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};
use svid_csi_core::jwt::{Audiences, JwtBundle, JwtSvid, validate};
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::SpiffeId;

use super::forge::{AUDIENCE, TestKey, claims, encode};
use crate::forge::{ID, now};

static KEY: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("ES256"));

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        prop::sample::select(vec!["ES256", "RS256", "none", "JWT", "k", ID, AUDIENCE]).prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "alg", "kid", "typ", "crit", "sub", "aud", "exp", "nbf", "iat", "kty", "crv", "x", "y", "n", "e", "use", "keys",
    ]);
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Reads the token in every possible way.
fn try_all(token: &str) -> Result<(), TestCaseError> {
    let validated = validate(token, AUDIENCE, &KEY.bundles(), now());
    let audiences = Audiences::new(vec![AUDIENCE.to_owned()]).expect("audiences");
    let id = SpiffeId::parse(ID).expect("an ID");
    let read = JwtSvid::read(Secret::new(token.to_owned()), &id, &audiences, String::new(), now());
    let signature = token.rsplit('.').next().filter(|signature| signature.len() > 8);
    for rejection in validated.err().into_iter().chain(read.err()) {
        let shown = format!("{rejection} {rejection:?}");
        prop_assert!(shown.is_ascii() && !shown.contains('\n'), "{}", shown);
        prop_assert!(signature.is_none_or(|signature| !shown.contains(signature)), "{}", shown);
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>(), parts in "[A-Za-z0-9_=.-]{0,80}") {
        try_all(&text)?;
        try_all(&parts)?;
    }

    #[test]
    fn no_objects_panic(header in any_json(), payload in any_json()) {
        try_all(&KEY.token_with(&header, &payload))?;
        try_all(&KEY.token(&payload))?;
    }

    #[test]
    fn no_changed_token_is_accepted(at in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.-]") {
        let token = KEY.token(&claims());
        let mut changed = token.clone();
        let index = at.index(token.len());
        changed.replace_range(index..=index, &byte);
        try_all(&changed)?;
        let believed = validate(&changed, AUDIENCE, &KEY.bundles(), now()).is_ok();
        prop_assert_eq!(believed, changed == token, "byte {}", index);
    }

    #[test]
    fn no_bytes_are_a_bundle_by_accident(bytes in prop::collection::vec(any::<u8>(), 0..200), json in any_json()) {
        let _ = JwtBundle::read(&bytes).map_err(|error| error.to_string());
        let _ = JwtBundle::read(json.to_string().as_bytes()).map_err(|error| error.to_string());
        let one = json!({"keys": [json]}).to_string();
        if let Ok(bundle) = JwtBundle::read(one.as_bytes()) {
            prop_assert_eq!(JwtBundle::read(&bundle.to_jwks()), Ok(bundle), "an accepted set is written again");
        }
    }

    #[test]
    fn any_numbers_make_a_key_or_an_error(
        kty in prop::sample::select(vec!["EC", "RSA"]),
        crv in prop::sample::select(vec!["P-256", "P-384", "P-521"]),
        numbers in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 4),
    ) {
        let jwk = json!({"kty": kty, "crv": crv, "kid": "k", "x": encode(&numbers[0]), "y": encode(&numbers[1]),
            "n": encode(&numbers[2]), "e": encode(&numbers[3])});
        if let Ok(bundle) = JwtBundle::read(json!({"keys": [jwk]}).to_string().as_bytes()) {
            let name = svid_csi_core::spiffe_id::TrustDomain::parse("example.org").expect("a name");
            let bundles = [(name, bundle.into())].into();
            for alg in ["ES256", "ES384", "ES512", "RS256", "PS512"] {
                let token = KEY.token_with(&json!({"alg": alg, "kid": "k"}), &claims());
                prop_assert!(validate(&token, AUDIENCE, &bundles, now()).is_err());
            }
        }
    }

    #[test]
    fn claims_come_back_as_they_were_signed(extra in any_json()) {
        let mut signed = claims();
        signed["extra"] = extra;
        let token = KEY.token(&signed);
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).expect("a payload")).expect("base64");
        let valid = validate(&token, AUDIENCE, &KEY.bundles(), now()).expect("it keeps every rule");
        prop_assert_eq!(Value::Object(valid.claims), serde_json::from_slice::<Value>(&payload).expect("JSON"));
    }
}
