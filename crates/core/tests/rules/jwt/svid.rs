use serde_json::{Value, json};
use svid_csi_core::jwt::{Audiences, ClaimProblem, JwtRejection, JwtSvid};
use svid_csi_core::quoted::Quoted;
use svid_csi_core::secret::Secret;
use svid_csi_core::spiffe_id::SpiffeId;

use super::forge::{AUDIENCE, TestKey, claims, claims_but, seconds};
use crate::forge::{HOUR, ID, now};

fn read(token: String, asked: &[&str]) -> Result<JwtSvid, JwtRejection> {
    let audiences = Audiences::new(asked.iter().map(|&one| one.to_owned()).collect()).expect("audiences");
    JwtSvid::read(Secret::new(token), &SpiffeId::parse(ID).expect("an ID"), &audiences, "internal".to_owned(), now())
}

#[test]
fn is_accepted_as_the_issuer_says() {
    let key = TestKey::new("ES256");
    let token = key.token(&claims_but("aud", json!([AUDIENCE, "more"])));
    let svid = read(token.clone(), &["more", AUDIENCE]).expect("it is the requested token");
    assert_eq!((svid.id.as_str(), svid.token.expose(), svid.hint.as_str()), (ID, token.as_str(), "internal"));
    assert_eq!(svid.audience, [AUDIENCE, "more"]);
    assert_eq!((seconds(svid.issued_at), seconds(svid.expires_at)), (seconds(now()), seconds(now()) + 300));
    assert_eq!(svid.validity().lifetime().as_secs(), 300);
    assert!(!format!("{svid:?}").contains(&token), "a token is not printed");
    let undated = read(key.token(&claims_but("iat", Value::Null)), &[AUDIENCE]).expect("iat is optional");
    assert_eq!(undated.issued_at, now());
}

#[test]
fn is_refused_if_it_is_not_the_requested_token() {
    let key = TestKey::new("ES256");
    let (found, expected) = (format!("{ID}2"), SpiffeId::parse(ID).expect("an ID"));
    let wrong = JwtRejection::WrongSubject { expected, found: SpiffeId::parse(&found).expect("an ID") };
    let expired_at = now() - HOUR;
    for (token, asked, rejection) in [
        (key.token(&claims_but("sub", json!(found))), &[AUDIENCE][..], wrong),
        (key.token(&claims()), &[AUDIENCE, "b"], JwtRejection::WrongAudience { audience: Quoted::new("b") }),
        (
            key.token(&claims_but("aud", json!([AUDIENCE, "more"]))),
            &[AUDIENCE],
            JwtRejection::UnwantedAudience { audience: Quoted::new("more") },
        ),
        (
            key.token(&claims_but("exp", json!(seconds(expired_at)))),
            &[AUDIENCE],
            JwtRejection::Expired { expired_at, now: now() },
        ),
        (
            key.token(&claims_but("exp", Value::Null)),
            &[AUDIENCE],
            JwtRejection::Claim { claim: "exp", problem: ClaimProblem::Missing },
        ),
        (
            key.token_with(&json!({"alg": "none"}), &claims()),
            &[AUDIENCE],
            JwtRejection::Algorithm { found: Quoted::new("none") },
        ),
        ("no token".to_owned(), &[AUDIENCE], JwtRejection::NotCompact),
    ] {
        assert_eq!(read(token, asked).expect_err("it is not the requested token"), rejection);
    }
}
