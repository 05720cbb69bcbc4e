//! Several SVIDs, and the bundles of other trust domains.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use svid_csi_core::identity::{Candidate, PrivateKey, Rejection};
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_core::x509_context::{ContextCandidate, MAX_OTHER_BYTES, MAX_SVIDS, SvidCandidate, X509Context, accept};

use crate::forge::{Authority, HOUR, ID, accepted, extension, good, now, uri, valid};

fn id(uri: &str) -> SpiffeId {
    SpiffeId::parse(uri).expect("a SPIFFE ID")
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).expect("a trust domain")
}

fn svid(candidate: Candidate, hint: &str) -> SvidCandidate {
    SvidCandidate { id: id(ID), candidate, hint: hint.to_owned() }
}

fn of(svids: Vec<SvidCandidate>) -> ContextCandidate {
    ContextCandidate { svids, ..ContextCandidate::default() }
}

fn accepted_context(candidate: ContextCandidate) -> X509Context {
    accept(candidate, &domain("example.org"), now()).expect("it keeps every rule")
}

fn refused(candidate: ContextCandidate) -> Rejection {
    accept(candidate, &domain("example.org"), now()).expect_err("it breaks a rule")
}

fn other() -> CertificateDer<'static> {
    Authority::root(|_| {}).certificate
}

#[test]
fn the_first_svid_is_the_default_and_a_hint_picks_another() {
    let root = Authority::root(|_| {});
    let all = || of(vec![svid(root.leaf(|_| {}), ""), svid(root.leaf(|_| {}), "db"), svid(root.leaf(|_| {}), "web")]);
    let context = accepted_context(all());
    assert_eq!(context.default_svid().serial(), context.svids()[0].identity.serial());
    let serial = context.svids()[1].identity.serial().to_owned();
    let only = context.only("db").expect("it exists");
    assert_eq!((only.svids().len(), only.default_svid().serial()), (1, serial.as_str()));
    let error = accepted_context(all()).only("mail").expect_err("no SVID has it").to_string();
    assert!(error.contains(r#""mail" (there are "db", "web")"#) && error.contains("svid-csi/hint"), "{error}");
}

#[test]
fn of_two_svids_with_the_same_hint_the_first_counts() {
    let root = Authority::root(|_| {});
    let first = root.leaf(|_| {});
    let chain = first.chain.clone();
    let context =
        accepted_context(of(vec![svid(first, "db"), svid(root.leaf(|_| {}), "db"), svid(root.leaf(|_| {}), "")]));
    assert_eq!(context.svids().len(), 2);
    assert_eq!(context.only("db").expect("it exists").default_svid().chain(), chain);
}

#[test]
fn one_bad_svid_invalidates_all() {
    let root = Authority::root(|_| {});
    let with = |bad: SvidCandidate| refused(of(vec![svid(root.leaf(|_| {}), ""), bad]));
    let stranger = svid(root.leaf(|params| params.subject_alt_names = vec![uri("spiffe://example.org/other")]), "");
    assert!(matches!(with(stranger), Rejection::WrongId { .. }), "it is not for the ID it is said to be for");
    let foreign = SvidCandidate { id: id("spiffe://other.org/a"), ..svid(root.leaf(|_| {}), "") };
    assert!(with(foreign).to_string().contains("not of the source's trust domain example.org"));
    let key = PrivateKey::generate_p256().expect("a key");
    let mismatch = svid(Candidate { key, ..root.leaf(|_| {}) }, "");
    assert_eq!(with(mismatch), Rejection::KeyMismatch);
    let expired = svid(root.leaf(|params| valid(params, now() - 2 * HOUR, now() - HOUR)), "");
    assert!(matches!(with(expired), Rejection::Expired { .. }));
    let no_bundle = svid(Candidate { bundle: Some(Vec::new()), ..root.leaf(|_| {}) }, "");
    assert_eq!(with(no_bundle), Rejection::EmptyBundle);
    assert_eq!(refused(of(Vec::new())), Rejection::EmptyChain);
    let root = Authority::root(|_| {});
    let most = (0..MAX_SVIDS).map(|_| svid(root.leaf(|_| {}), "")).collect();
    assert_eq!(accepted_context(of(most)).svids().len(), MAX_SVIDS);
    let many = (0..=MAX_SVIDS).map(|_| svid(good(), "")).collect();
    assert_eq!(refused(of(many)), Rejection::TooMany { svids: MAX_SVIDS + 1 });
}

#[test]
fn bundles_of_others_are_checked_and_the_own_one_is_not_taken_from_them() {
    let with = |name: &str, bundle: Vec<CertificateDer<'static>>| ContextCandidate {
        federated: [(domain(name), bundle)].into(),
        ..of(vec![svid(good(), "")])
    };
    let friend = other();
    assert_eq!(
        accepted_context(with("friend.org", vec![friend.clone(), friend.clone()])).federated()[&domain("friend.org")],
        [friend]
    );
    assert!(
        accepted_context(with("example.org", vec![other()])).federated().is_empty(),
        "only the issuer's bundle decides whom to trust"
    );
    assert!(
        accepted_context(with("friend.org", Vec::new())).federated().is_empty(),
        "none of its certificates is trusted"
    );
    let damaged = CertificateDer::from(b"damaged".to_vec());
    let last = accepted_context(with("friend.org", vec![other()]));
    for (bundle, says) in [(good().chain, "is not a CA certificate"), (vec![damaged], "certificate 1 of 1")] {
        let mut candidate = with("friend.org", bundle);
        candidate.federated.insert(domain("sound.org"), vec![other()]);
        let context = accepted_context(candidate);
        assert!(context.damaged()["friend.org"].contains(says), "{:?}", context.damaged());
        let names = |context: &X509Context| context.federated().keys().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&context), ["sound.org"], "the pod keeps its identity, and the others");
        assert_eq!(names(&context.or_last_good(Some(&last))), ["friend.org", "sound.org"]);
    }
}

#[test]
fn an_oversized_bundle_of_another_trust_domain_affects_only_itself() {
    let huge = |bytes| vec![CertificateDer::from(vec![0; bytes])];
    let federated = [("a.org", huge(MAX_OTHER_BYTES)), ("friend.org", vec![other()]), ("z.org", huge(MAX_OTHER_BYTES))];
    let federated = federated.map(|(name, bundle)| (domain(name), bundle)).into();
    let context = accepted_context(ContextCandidate { federated, ..of(vec![svid(good(), "")]) });
    assert!(context.federated().keys().eq([&domain("friend.org")]));
    assert!(["a.org", "z.org"].iter().all(|name| context.damaged()[*name].contains("are allowed")));
}

#[test]
fn revocation_lists_are_passed_on_up_to_a_limit() {
    let with = |crls: &[Vec<u8>]| ContextCandidate { crls: crls.to_vec(), ..of(vec![svid(good(), "")]) };
    let half = vec![7; MAX_OTHER_BYTES / 2];
    let most = [half.clone(), half.clone()];
    assert_eq!(accepted_context(with(&most)).crls(), most);
    let (what, limit) = ("revocation lists", MAX_OTHER_BYTES);
    let refused = refused(with(&[half.clone(), half, vec![7]]));
    assert_eq!(refused, Rejection::TooLarge { what, bytes: limit + 1, limit });
}

#[test]
fn a_last_good_bundle_that_no_longer_fits_affects_only_itself() {
    const LARGE: usize = 60_000;
    let large = || {
        let padding = extension(&[1, 2, 3], false, &[0; LARGE]);
        Authority::root(|params| params.custom_extensions.push(padding)).certificate
    };
    let most = || (0..MAX_OTHER_BYTES * 3 / 5 / LARGE).map(|_| large()).collect::<Vec<_>>();
    let damaged = || vec![CertificateDer::from(b"damaged".to_vec())];
    let context = |federated: [(&str, Vec<CertificateDer<'static>>); 3]| {
        let federated = federated.map(|(name, bundle)| (domain(name), bundle)).into();
        accepted_context(ContextCandidate { federated, ..of(vec![svid(good(), "")]) })
    };
    let last = context([("a.org", most()), ("b.org", vec![other()]), ("c.org", vec![other()])]);
    let merged = |c: Vec<CertificateDer<'static>>| {
        let merged = context([("a.org", damaged()), ("b.org", damaged()), ("c.org", c)]).or_last_good(Some(&last));
        merged.federated().keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(merged(vec![other()]), ["a.org", "b.org", "c.org"]);
    assert_eq!(merged(most()), ["b.org", "c.org"]);
}

/// X509-SVID, section 3.2: only certificates of CAs are validation material.
#[test]
fn certificates_that_are_not_of_a_ca_are_skipped_in_every_bundle() {
    let root = Authority::root(|_| {});
    let (own, stranger) = (root.certificate.clone(), good().chain.remove(0));
    let version_1 = include_str!("openssl/version-1.crt").as_bytes();
    let version_1 = CertificateDer::from_pem_slice(version_1).expect("a certificate");
    let friend = other();
    let with = |own: Vec<CertificateDer<'static>>, others: Vec<CertificateDer<'static>>| ContextCandidate {
        svids: ["", "db"].map(|hint| svid(Candidate { bundle: Some(own.clone()), ..root.leaf(|_| {}) }, hint)).into(),
        federated: [(domain("friend.org"), others)].into(),
        ..ContextCandidate::default()
    };
    let mixed = with(
        vec![stranger.clone(), own.clone(), version_1.clone(), own.clone()],
        vec![friend.clone(), version_1.clone()],
    );
    let context = accepted_context(mixed);
    assert!(context.svids().iter().all(|svid| svid.identity.bundle() == std::slice::from_ref(&own)));
    assert_eq!(context.federated()[&domain("friend.org")], std::slice::from_ref(&friend));
    let skipped = |name: &str| context.skipped()[&domain(name)].iter().map(ToString::to_string).collect::<Vec<_>>();
    let says = |position, of, subject| {
        let place = format!("certificate {position} of {of} in the trust bundle");
        format!("{place}, \"{subject}\", is not a CA certificate that may sign others")
    };
    assert_eq!(skipped("example.org"), [says(1, 4, ""), says(3, 4, "CN=Version 1")]);
    assert_eq!(skipped("friend.org"), [says(2, 2, "CN=Version 1")]);
    assert!(accepted_context(with(vec![own.clone()], vec![friend.clone()])).skipped().is_empty());
    let none_left = with(vec![stranger.clone(), version_1.clone()], vec![friend]);
    assert!(refused(none_left).to_string().contains("is not a CA certificate that may sign others"));
    let none_left = accepted_context(with(vec![own], vec![stranger]));
    assert!(none_left.damaged()["friend.org"].contains("is not a CA certificate that may sign others"));
}

#[test]
fn the_digest_changes_only_with_the_content() {
    let root = Authority::root(|_| {});
    let (a, b, leaf) = (other(), other(), root.leaf(|_| {}));
    let again = |hint: &str, federated: Vec<CertificateDer<'static>>, crls: Vec<Vec<u8>>| {
        let key = PrivateKey::from_pkcs8_der(leaf.key.der()).expect("a key");
        let candidate = Candidate { chain: leaf.chain.clone(), key, bundle: leaf.bundle.clone() };
        let federated = [(domain("friend.org"), federated)].into();
        let svids = vec![svid(candidate, hint)];
        accepted_context(ContextCandidate { svids, federated, crls, ..ContextCandidate::default() }).digest()
    };
    let first = again("", vec![a.clone(), b.clone()], vec![]);
    assert_eq!(first, again("", vec![b.clone(), a.clone()], vec![]), "the order of a bundle does not matter");
    for different in
        [again("x", vec![a.clone(), b.clone()], vec![]), again("", vec![b], vec![]), again("", vec![a], vec![vec![1]])]
    {
        assert_ne!(first, different);
    }
}

#[test]
fn lasts_as_long_as_its_shortest_svid_and_takes_another_bundle() {
    let root = Authority::root(|_| {});
    let short = root.leaf(|params| valid(params, now() - HOUR, now() + HOUR / 2));
    let context = accepted_context(of(vec![svid(root.leaf(|_| {}), ""), svid(short, "short")]));
    assert_eq!(context.held().not_after, now() + HOUR / 2);
    let bundle = [other()];
    assert_eq!(context.with_bundle(&bundle).bundle(), bundle);
    let alone = X509Context::from(accepted(root.leaf(|_| {})));
    assert_eq!((alone.svids().len(), alone.trust_domain().as_str()), (1, "example.org"));
}
