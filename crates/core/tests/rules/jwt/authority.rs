use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use svid_csi_core::identity::{KeyError, KeyType, PrivateKey};
use svid_csi_core::jwt::{Audiences, JwtAuthority, JwtBundle, JwtSignError, validate};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};

use super::forge::seconds;
use crate::forge::{ID, now};

const LIFETIME: Duration = Duration::from_secs(300);

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").expect("a name")
}

fn authority() -> JwtAuthority {
    JwtAuthority::create(&trust_domain()).expect("an authority")
}

fn id(id: &str) -> SpiffeId {
    SpiffeId::parse(id).expect("an ID")
}

fn audiences(list: &[&str]) -> Audiences {
    Audiences::new(list.iter().map(|&audience| audience.to_owned()).collect()).expect("audiences")
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a part");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("JSON")
}

#[test]
fn signs_valid_tokens() {
    let authority = authority();
    let svid = authority.sign(&id(ID), &audiences(&["vault", "db"]), now(), LIFETIME).expect("a token");
    let token = svid.token.expose();
    assert_eq!(part(token, 0), json!({"alg": "ES256", "kid": authority.key_id(), "typ": "JWT"}));
    let (iat, exp) = (seconds(now()), seconds(now()) + 300);
    assert_eq!(part(token, 1), json!({"sub": ID, "aud": ["vault", "db"], "iat": iat, "exp": exp}));
    assert_eq!((svid.id.as_str(), svid.audience.as_slice()), (ID, &["vault".to_owned(), "db".to_owned()][..]));
    assert_eq!((svid.issued_at, svid.expires_at), (now(), now() + LIFETIME));
    assert!(!format!("{svid:?}").contains(token.split('.').nth(2).expect("a signature")), "a token is not printed");

    let bundle = JwtBundle::read(&authority.bundle().to_jwks()).expect("a bundle");
    let bundles = BTreeMap::from([(trust_domain(), bundle.into())]);
    for audience in ["vault", "db"] {
        let valid = validate(token, audience, &bundles, now() + LIFETIME - Duration::from_secs(1));
        assert_eq!(valid.expect("it is valid").id, id(ID));
    }
    let one = authority.sign(&id(ID), &audiences(&["vault"]), now(), LIFETIME).expect("a token");
    assert_eq!(part(one.token.expose(), 1)["aud"], json!(["vault"]), "one audience is a list too");
}

#[test]
fn counts_whole_seconds() {
    let late = now() + Duration::from_millis(999);
    let svid = authority().sign(&id(ID), &audiences(&["a"]), late, LIFETIME).expect("a token");
    assert_eq!((svid.issued_at, svid.expires_at), (now(), now() + LIFETIME));
}

#[test]
fn signs_only_for_its_own_workloads() {
    let authority = authority();
    for foreign in ["spiffe://other.org/a", "spiffe://example.org", "spiffe://example.org.evil/a"] {
        let error = authority.sign(&id(foreign), &audiences(&["a"]), now(), LIFETIME).expect_err(foreign);
        assert_eq!(error, JwtSignError::ForeignId { id: id(foreign), trust_domain: trust_domain() });
    }
    for lifetime in [Duration::ZERO, Duration::from_millis(999), Duration::MAX, Duration::from_secs(1 << 40)] {
        let error = authority.sign(&id(ID), &audiences(&["a"]), now(), lifetime).expect_err("no such lifetime");
        assert_eq!(error, JwtSignError::Lifetime { lifetime });
    }
    let ancient = SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 40);
    assert!(authority.sign(&id(ID), &audiences(&["a"]), ancient, LIFETIME).is_err());
}

#[test]
fn a_stored_key_is_the_same_authority() {
    let authority = authority();
    let key = PrivateKey::from_pem(&authority.key().to_pem()).expect("a key");
    let again = JwtAuthority::from_key(&trust_domain(), key).expect("an authority");
    assert_eq!(again.key_id(), authority.key_id());
    assert_eq!(again.bundle(), authority.bundle());
    assert_ne!(self::authority().key_id(), authority.key_id(), "another key has another id");
    assert_eq!(authority.bundle().key_ids().collect::<Vec<_>>(), [authority.key_id()]);
    let other = PrivateKey::generate(KeyType::EcdsaP384).expect("a key");
    assert_eq!(JwtAuthority::from_key(&trust_domain(), other).err(), Some(KeyError::Unsupported));
    let shown = format!("{authority:?}");
    assert!(shown.contains(authority.key_id()) && !shown.to_lowercase().contains("private"), "{shown}");
}
