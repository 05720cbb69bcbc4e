use proptest::prelude::*;

use super::*;

#[test]
fn reads_every_id_the_standard_allows() {
    let longest_name = "a".repeat(MAX_TRUST_DOMAIN_BYTES);
    let longest = format!("spiffe://a/{}", "b".repeat(MAX_ID_BYTES - 11));
    for (uri, name, path) in [
        ("spiffe://example.org", "example.org", ""),
        ("spiffe://example.org/ns/shop/sa/cart", "example.org", "/ns/shop/sa/cart"),
        ("spiffe://a_b-1.c/Path/CASE.kept-_", "a_b-1.c", "/Path/CASE.kept-_"),
        ("spiffe://1.2.3.4/...", "1.2.3.4", "/..."),
        (&format!("spiffe://{longest_name}/a"), &longest_name, "/a"),
        (&longest, "a", &longest[10..]),
    ] {
        let id = SpiffeId::parse(uri).expect(uri);
        assert_eq!((id.trust_domain().as_str(), id.path()), (name, path));
        assert_eq!((id.as_str(), id.to_string().as_str()), (uri, uri));
    }
}

#[test]
fn refuses_every_id_the_standard_forbids() {
    let path = |problem| SpiffeIdError::Path { part: "the path", problem };
    let name = |character| SpiffeIdError::TrustDomainCharacter { character };
    let character = PathProblem::Character;
    for (uri, error) in [
        ("", SpiffeIdError::Scheme),
        ("example.org", SpiffeIdError::Scheme),
        ("SPIFFE://example.org/a", SpiffeIdError::Scheme),
        ("spiffe:/example.org/a", SpiffeIdError::Scheme),
        ("https://example.org/a", SpiffeIdError::Scheme),
        (" spiffe://example.org", SpiffeIdError::Scheme),
        ("spiffe://", SpiffeIdError::NoTrustDomain),
        ("spiffe:///a", SpiffeIdError::NoTrustDomain),
        ("spiffe://Example.org/a", name('E')),
        ("spiffe://example.org:8443/a", name(':')),
        ("spiffe://user@example.org/a", name('@')),
        ("spiffe://ex%61mple.org/a", name('%')),
        ("spiffe://example.org?q", name('?')),
        ("spiffe://example.org#f", name('#')),
        ("spiffe://exämple.org/a", name('ä')),
        ("spiffe://[::1]/a", name('[')),
        ("spiffe://example.org/", path(PathProblem::TrailingSlash)),
        ("spiffe://example.org/a/", path(PathProblem::TrailingSlash)),
        ("spiffe://example.org//", path(PathProblem::TrailingSlash)),
        ("spiffe://example.org//a", path(PathProblem::EmptySegment)),
        ("spiffe://example.org/a//b", path(PathProblem::EmptySegment)),
        ("spiffe://example.org/.", path(PathProblem::DotSegment)),
        ("spiffe://example.org/a/../b", path(PathProblem::DotSegment)),
        ("spiffe://example.org/a%2Fb", path(character('%'))),
        ("spiffe://example.org/a?q=1", path(character('?'))),
        ("spiffe://example.org/a#f", path(character('#'))),
        ("spiffe://example.org/a b", path(character(' '))),
        ("spiffe://example.org/a\0", path(character('\0'))),
        ("spiffe://example.org/a:b", path(character(':'))),
        ("spiffe://example.org/ü", path(character('ü'))),
    ] {
        assert_eq!(SpiffeId::parse(uri), Err(error), "{uri:?}");
    }
    let name = "a".repeat(MAX_TRUST_DOMAIN_BYTES + 1);
    let too_long = SpiffeIdError::TrustDomainTooLong { bytes: MAX_TRUST_DOMAIN_BYTES + 1 };
    assert_eq!(SpiffeId::parse(&format!("spiffe://{name}")), Err(too_long));
    let long = format!("spiffe://a/{}", "b".repeat(MAX_ID_BYTES - 10));
    assert_eq!(SpiffeId::parse(&long), Err(SpiffeIdError::TooLong { bytes: MAX_ID_BYTES + 1 }));
}

#[test]
fn reads_trust_domain_names_only() {
    let parse = TrustDomain::parse;
    assert_eq!(parse("example.org").expect("a name").id().as_str(), "spiffe://example.org");
    assert_eq!(parse(""), Err(SpiffeIdError::NoTrustDomain));
    assert_eq!(parse("spiffe://example.org"), Err(SpiffeIdError::NotAName));
    assert_eq!(parse("example.org/a"), Err(SpiffeIdError::TrustDomainCharacter { character: '/' }));
}

#[test]
fn names_the_invalid_part_of_an_id() {
    let trust_domain = TrustDomain::parse("example.org").expect("a name");
    let make = |namespace: &str, account: &str| {
        SpiffeId::for_service_account(&trust_domain, namespace, account).map_err(|error| error.to_string())
    };
    assert_eq!(make("shop", "cart").expect("an ID").as_str(), "spiffe://example.org/ns/shop/sa/cart");
    assert_eq!(make("", "cart"), Err("the namespace of a SPIFFE ID has an empty segment".to_owned()));
    assert_eq!(make("shop", ".."), Err("the service account of a SPIFFE ID has a segment `.` or `..`".to_owned()));
    assert!(make("shop", "a/b").expect_err("two segments").contains("not '/'"));
    let longest = "a".repeat(MAX_ID_BYTES - "spiffe://example.org/ns/shop/sa/".len());
    assert_eq!(make("shop", &longest).expect("an ID").as_str().len(), MAX_ID_BYTES);
    assert!(make("shop", &format!("{longest}a")).is_err());
    assert!(make("shop", &"a".repeat(MAX_ID_BYTES)).expect_err("too long").contains("at most 2048 bytes"));
}

#[test]
fn is_checked_when_it_is_read_back() {
    let id: SpiffeId = serde_json::from_str(r#""spiffe://example.org/a""#).expect("an ID");
    assert_eq!(serde_json::to_string(&id).expect("text"), r#""spiffe://example.org/a""#);
    assert!(serde_json::from_str::<SpiffeId>(r#""spiffe://example.org/""#).is_err());
    assert!(serde_json::from_str::<TrustDomain>(r#""Example.org""#).is_err());
}

proptest! {
    #[test]
    fn every_service_account_has_an_id_that_reads_back(
        name in "[a-z0-9._-]{1,255}",
        namespace in "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,62}",
        account in "[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,252}",
    ) {
        let trust_domain = TrustDomain::parse(&name).expect("a name");
        let id = SpiffeId::for_service_account(&trust_domain, &namespace, &account).expect("an ID");
        prop_assert_eq!(id.path(), format!("/ns/{namespace}/sa/{account}"));
        prop_assert_eq!(SpiffeId::parse(id.as_str()), Ok(id.clone()));
        let json = serde_json::to_string(&id).expect("text");
        prop_assert_eq!(serde_json::from_str::<SpiffeId>(&json).expect("an ID"), id);
    }

    #[test]
    fn ids_are_kept_as_written(rest in "[a-zA-Z0-9._/%:@?-]{0,20}") {
        let uri = format!("spiffe://{rest}");
        if let Ok(id) = SpiffeId::parse(&uri) {
            prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), uri);
            prop_assert!(!rest.contains(['%', ':', '@', '?']) && !rest.ends_with('/') && !rest.contains("//"));
        }
    }

    #[test]
    fn never_panics(text in any::<String>()) {
        let _ = SpiffeId::parse(&text).map_err(|error| error.to_string());
        let _ = SpiffeId::parse(&format!("spiffe://{text}")).map_err(|error| error.to_string());
    }
}
