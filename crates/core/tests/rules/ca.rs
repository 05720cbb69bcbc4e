use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use svid_csi_core::ca::{CaError, CertificateAuthority, LoadError, SvidRequest};
use svid_csi_core::identity::{CLOCK_SKEW, Candidate, Expected, Identity, KeyError, PrivateKey, accept};
use svid_csi_core::renew;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};

use crate::forge::{Authority, HOUR, ID, expected, now, uri, valid};

const SECOND: Duration = Duration::from_secs(1);
const SERIAL: [u8; 16] = [0x9a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn trust_domain() -> TrustDomain {
    TrustDomain::parse("example.org").expect("a trust domain")
}

fn new_ca() -> CertificateAuthority {
    CertificateAuthority::create(&trust_domain(), now(), 24 * HOUR).expect("a CA")
}

fn request(lifetime: Duration) -> (PrivateKey, SvidRequest) {
    SvidRequest::with_new_key(SpiffeId::parse(ID).expect("an ID"), lifetime).expect("a key")
}

fn issue(ca: &CertificateAuthority, lifetime: Duration, now: SystemTime) -> Identity {
    let (key, request) = request(lifetime);
    let leaf = ca.sign(&request, now, SERIAL).expect("a leaf");
    let candidate = Candidate { chain: vec![leaf], key, bundle: Some(vec![ca.certificate_der().clone()]) };
    accept(candidate, &Expected { now, ..expected() }).expect("an SVID from the CA keeps every rule")
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> X509Certificate<'a> {
    x509_parser::parse_x509_certificate(der).expect("a certificate").1
}

fn only_uri(certificate: &X509Certificate<'_>) -> (String, bool) {
    let names = certificate.subject_alternative_name().expect("readable").expect("names");
    let [GeneralName::URI(uri)] = names.value.general_names[..] else { panic!("one URI: {names:?}") };
    (uri.to_owned(), names.critical)
}

fn key_id<'a>(certificate: &'a X509Certificate<'_>, of_issuer: bool) -> Option<&'a [u8]> {
    certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) if !of_issuer => Some(id.0),
        ParsedExtension::AuthorityKeyIdentifier(id) if of_issuer => id.key_identifier.as_ref().map(|id| id.0),
        _ => None,
    })
}

#[test]
fn its_certificate_is_one_of_a_trust_domain() {
    let ca = new_ca();
    let root = parse(ca.certificate_der());
    assert_eq!(only_uri(&root).0, "spiffe://example.org");
    assert_eq!(root.subject().to_string(), "CN=svid-csi local CA");
    assert_eq!(root.issuer(), root.subject());
    let constraints = root.basic_constraints().expect("readable").expect("constraints");
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0), "it signs leaves only");
    let usage = root.key_usage().expect("readable").expect("a key usage");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
    assert!(!usage.value.digital_signature(), "it is not for authentication");
    assert!(key_id(&root, false).is_some());
    assert_eq!(ca.validity().not_before, now() - Duration::from_secs(60));
    assert_eq!(ca.validity().not_after, now() + 24 * HOUR);
    assert_eq!(ca.trust_domain(), &trust_domain());
}

#[test]
fn a_leaf_is_an_x509_svid() {
    let ca = new_ca();
    let (key, request) = request(HOUR);
    let der = ca.sign(&request, now(), SERIAL).expect("a leaf");
    let leaf = parse(&der);
    assert_eq!(only_uri(&leaf), (ID.to_owned(), true), "critical, as the subject is empty");
    assert_eq!(leaf.subject().iter().count(), 0);
    assert_eq!(leaf.issuer(), parse(ca.certificate_der()).subject());
    let usage = leaf.key_usage().expect("readable").expect("a key usage");
    assert!(usage.critical);
    assert_eq!(usage.value.flags, 1, "digitalSignature and nothing else");
    let extended = leaf.extended_key_usage().expect("readable").expect("an extended key usage").value;
    assert!(extended.client_auth && extended.server_auth && !extended.any && extended.other.is_empty());
    let constraints = leaf.basic_constraints().expect("readable").expect("constraints");
    assert!(constraints.critical && !constraints.value.ca);
    assert_eq!(key_id(&leaf, true), key_id(&parse(ca.certificate_der()), false));
    assert!(key_id(&leaf, false).is_some());
    assert_eq!(leaf.public_key().raw, key.public_key_der());
}

#[test]
fn issues_again_after_it_was_stored_and_loaded() {
    let ca = new_ca();
    let before = issue(&ca, HOUR, now());
    let loaded = CertificateAuthority::load(&ca.certificate_pem(), &ca.key_pem(), &trust_domain(), now()).expect("it");
    assert_eq!(loaded.certificate_der(), ca.certificate_der());
    assert_eq!(*loaded.key_pem(), *ca.key_pem());
    assert_eq!(loaded.validity(), ca.validity());
    let after = issue(&loaded, HOUR, now());
    assert_eq!(after.bundle(), before.bundle());
    assert_eq!(after.serial(), "9a0102030405060708090a0b0c0d0e0f");
}

#[test]
fn is_not_printed_with_its_key() {
    let ca = new_ca();
    let pem = ca.key_pem();
    let body = pem.lines().nth(1).expect("a line");
    assert!(!format!("{ca:?} {ca:#?}").contains(&body[..16]));
}

#[test]
fn a_leaf_does_not_outlive_the_ca() {
    let ca = new_ca();
    let identity = issue(&ca, 48 * HOUR, now());
    assert_eq!(identity.validity().not_after, ca.validity().not_after);
    let end = ca.validity().not_after;
    let late = ca.sign(&request(HOUR).1, end, SERIAL);
    assert!(matches!(late, Err(CaError::Expired { not_after }) if not_after == end));
}

#[test]
fn a_short_certificate_is_not_due_on_arrival() {
    let ca = new_ca();
    for seconds in [10, 30, 60, 600, 3600] {
        let lifetime = Duration::from_secs(seconds);
        let identity = issue(&ca, lifetime, now());
        for jitter in [0.0, 0.5, 1.0] {
            for validity in [identity.held(), identity.validity()] {
                let part = renew::delay(&validity, now(), jitter).as_secs_f64() / lifetime.as_secs_f64();
                assert!((0.5..0.74).contains(&part), "{seconds} s, jitter {jitter}: due after {part} of it");
            }
        }
    }
}

#[test]
fn refuses_to_sign_invalid_requests() {
    let ca = new_ca();
    let sign = |change: fn(&mut SvidRequest), serial| {
        let (_, mut request) = request(HOUR);
        change(&mut request);
        ca.sign(&request, now(), serial).expect_err("it may not")
    };
    assert!(matches!(sign(|_| {}, [0; 16]), CaError::ZeroSerial));
    for id in ["spiffe://example.com/ns/shop/sa/cart", "spiffe://example.org", "spiffe://sub.example.org/a"] {
        let (_, request) = SvidRequest::with_new_key(SpiffeId::parse(id).expect("an ID"), HOUR).expect("a key");
        assert!(matches!(ca.sign(&request, now(), SERIAL), Err(CaError::ForeignId { .. })), "{id}");
    }
    for change in [
        (|request| request.lifetime = Duration::ZERO) as fn(&mut SvidRequest),
        |request| request.lifetime = Duration::from_millis(999),
        |request| request.lifetime = Duration::MAX,
    ] {
        assert!(matches!(sign(change, SERIAL), CaError::Lifetime { .. }));
    }
    assert!(matches!(sign(|request| request.public_key = vec![0x30, 0], SERIAL), CaError::Build(_)));
    let beyond = CertificateAuthority::create(&trust_domain(), now(), 9000 * 365 * 24 * HOUR);
    assert!(matches!(beyond, Err(CaError::Lifetime { .. })), "certificates end with the year 9999");
}

/// A CA made by other means, as PEM with its key.
fn foreign(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let authority = Authority::root(change);
    let pem = pem_of(&authority.certificate);
    (pem, authority.key_pem())
}

fn pem_of(der: &CertificateDer<'_>) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

fn load((certificate, key): &(String, String)) -> Result<CertificateAuthority, LoadError> {
    CertificateAuthority::load(certificate, key, &trust_domain(), now())
}

#[test]
fn loads_a_ca_made_by_other_means() {
    let ca = load(&foreign(|_| {})).expect("it has all it needs");
    issue(&ca, HOUR, now());
}

#[test]
fn refuses_to_load_another_ca() {
    let refused = |change: fn(&mut CertificateParams)| load(&foreign(change)).expect_err("it is not");
    assert_eq!(refused(|params| params.is_ca = IsCa::ExplicitNoCa), LoadError::NotACa);
    assert_eq!(refused(|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]), LoadError::NotACa);
    for (change, found) in [
        (
            (|params| params.subject_alt_names = vec![uri("spiffe://example.com")]) as fn(&mut CertificateParams),
            "spiffe://example.com",
        ),
        (|params| params.subject_alt_names = vec![uri("spiffe://example.org/a")], "spiffe://example.org/a"),
        (|params| params.subject_alt_names.push(uri("urn:b")), "spiffe://example.org, urn:b"),
    ] {
        let expected = trust_domain();
        assert_eq!(refused(change), LoadError::TrustDomain { found: found.to_owned(), expected });
    }
}

#[test]
fn a_ca_that_is_not_valid_now_is_loaded_but_does_not_sign() {
    let valid_between = |from, to| load(&foreign(|params| valid(params, from, to))).expect("a clock may be wrong");
    let sign = |ca: &CertificateAuthority, at| ca.sign(&request(HOUR).1, at, SERIAL);
    let (end, start) = (now() - SECOND, now() + HOUR);
    let expired = valid_between(now() - HOUR, end);
    assert!(matches!(sign(&expired, now()), Err(CaError::Expired { not_after }) if not_after == end));
    let early = valid_between(start, now() + 2 * HOUR);
    assert!(matches!(sign(&early, now()), Err(CaError::NotYetValid { not_before }) if not_before == start));
    issue(&early, HOUR, start);
    issue(&expired, HOUR, end - SECOND);
    sign(&early, start - CLOCK_SKEW).expect("another clock may be ahead");
}

/// An imported CA with an intermediate and a root above it, of which any may be the first to expire.
#[test]
fn a_ca_signs_while_all_certificates_above_it_are_valid() {
    let (start, end) = (now() - HOUR, now() + 24 * HOUR);
    let window = |from, until| move |params: &mut CertificateParams| valid(params, from, until);
    let named = |params: &mut CertificateParams, name: &str| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
    };
    let chain = |windows: [(SystemTime, SystemTime); 3]| {
        let [of_root, of_upper, of_own] = windows.map(|(from, until)| window(from, until));
        let root = Authority::root(of_root);
        let upper = root.intermediate(of_upper);
        let own = upper.intermediate(|params| {
            of_own(params);
            named(params, "own");
        });
        let text = [&own, &upper, &root].map(|one| pem_of(&one.certificate)).concat();
        load(&(text, own.key_pem())).expect("a clock may be wrong")
    };
    for position in 0..3 {
        let with = |from, until| {
            let mut windows = [(start, end); 3];
            windows[position] = (from, until);
            chain(windows)
        };
        let expired = with(start, now() - SECOND);
        let error = expired.check_validity(now()).expect_err("peers would refuse what it signs");
        assert!(matches!(error, CaError::Expired { not_after } if not_after == now() - SECOND), "{position}: {error}");
        let early = with(now() + HOUR, end);
        let error = early.check_validity(now()).expect_err("peers would refuse what it signs");
        assert!(matches!(error, CaError::NotYetValid { not_before } if not_before == now() + HOUR), "{position}");
        let ends_soon = with(start, now() + HOUR);
        assert_eq!(ends_soon.validity().not_after, now() + HOUR, "{position}");
        let leaf = ends_soon.sign(&request(2 * HOUR).1, now(), SERIAL).expect("a leaf");
        assert_eq!(parse(&leaf).validity().not_after.timestamp(), unix(now() + HOUR), "it does not outlive the chain");
    }
}

fn unix(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_secs().cast_signed()
}

#[test]
fn an_expired_root_beside_a_valid_one_does_not_matter() {
    let (old, new) = (Authority::root(|params| valid(params, now() - HOUR, now() - SECOND)), Authority::root(|_| {}));
    let (certificate, key) = foreign(|_| {});
    let ca = load(&([certificate, pem_of(&old.certificate), pem_of(&new.certificate)].concat(), key)).expect("a CA");
    assert_eq!(ca.validity().not_after, now() + 24 * HOUR);
    ca.check_validity(now()).expect("it is a root itself");
}

#[test]
fn refuses_to_load_the_wrong_key_or_text() {
    let (certificate, key) = foreign(|_| {});
    let other_key = KeyPair::generate().expect("a key").serialize_pem();
    let load_key = |key: &str| load(&(certificate.clone(), key.to_owned())).expect_err("another key");
    assert_eq!(load_key(&other_key), LoadError::KeyMismatch);
    assert!(matches!(load_key(&certificate), LoadError::Key(KeyError::Pem(_))));
    assert!(matches!(load_key(""), LoadError::Key(KeyError::Pem(_))));
    let load_certificate = |text: &str| load(&(text.to_owned(), key.clone())).expect_err("no certificate");
    for text in ["", "garbage", &key] {
        assert!(matches!(load_certificate(text), LoadError::CertificatePem(_)), "{text}");
    }
    let not_x509 = load_certificate(&pem_of(&vec![0x30, 0].into()));
    assert!(matches!(not_x509, LoadError::Certificate { .. }), "{not_x509}");
    let longer = load_certificate(&pem_of(&[new_ca().certificate_der().as_ref(), &[0]].concat().into()));
    assert!(matches!(longer, LoadError::Certificate { .. }), "{longer}");
}

#[test]
fn every_load_error_says_what_to_do() {
    let text = load(&foreign(|params| params.is_ca = IsCa::ExplicitNoCa)).expect_err("it must not sign").to_string();
    assert!(text.contains("to create a new CA"), "{text}");
    let expired = load(&foreign(|params| valid(params, now() - HOUR, now() - SECOND))).expect("a CA");
    let text = expired.check_validity(now()).expect_err("it expired").to_string();
    assert!(text.contains("2025-06-15T15:06:39Z") && text.contains("to create a new CA"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn its_certificates_are_accepted(
        namespace in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        account in "[a-z0-9]([a-z0-9.-]{0,100}[a-z0-9])?",
        lifetime in 1u64..200_000,
        serial in any::<u128>().prop_filter("not zero", |serial| *serial != 0),
    ) {
        let ca = new_ca();
        let id = SpiffeId::for_service_account(&trust_domain(), &namespace, &account).expect("an ID");
        let (key, request) = SvidRequest::with_new_key(id.clone(), Duration::from_secs(lifetime)).expect("a key");
        let leaf = ca.sign(&request, now(), serial.to_be_bytes()).expect("a leaf");
        let candidate = Candidate { chain: vec![leaf], key, bundle: Some(vec![ca.certificate_der().clone()]) };
        let identity = accept(candidate, &Expected { id, now: now() }).expect("it is accepted");
        prop_assert_eq!(u128::from_str_radix(identity.serial(), 16).expect("hexadecimal"), serial);
        let validity = identity.validity();
        prop_assert!(validity.not_after <= ca.validity().not_after);
        prop_assert!(validity.not_before <= now() && validity.not_after > now());
    }
}
