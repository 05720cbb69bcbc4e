//! The limits that CAs set for certificates below them: names, policies, lengths.

mod oracles;

use rcgen::{BasicConstraints, CertificateParams, IsCa, SanType};
use svid_csi_core::identity::{Candidate, PrivateKey, Rejection};

use crate::forge::{Authority, accepted, der, extension, rejected, uri};

const NAME_CONSTRAINTS: &[u64] = &[2, 5, 29, 30];
const POLICIES: &[u64] = &[2, 5, 29, 32];
const MAPPINGS: &[u64] = &[2, 5, 29, 33];
const POLICY_CONSTRAINTS: &[u64] = &[2, 5, 29, 36];
const INHIBIT_ANY: &[u64] = &[2, 5, 29, 54];

const DNS: u8 = 0x82;
const URI: u8 = 0x86;

/// Adds name constraints, each given by the tag of its form and its value.
fn constrain(params: &mut CertificateParams, permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]) {
    let list = |tag, bases: &[(u8, &[u8])]| {
        let subtrees: Vec<_> = bases.iter().map(|(form, value)| der(0x30, &[&der(*form, &[value])])).collect();
        let subtrees: Vec<&[u8]> = subtrees.iter().map(Vec::as_slice).collect();
        if bases.is_empty() { Vec::new() } else { der(tag, &subtrees) }
    };
    let value = der(0x30, &[&list(0xa0, permitted), &list(0xa1, excluded)]);
    params.custom_extensions.push(extension(NAME_CONSTRAINTS, true, &value));
}

/// A leaf below an intermediate below a root, each changed before it is signed.
fn chain(
    root: impl FnOnce(&mut CertificateParams),
    intermediate: impl FnOnce(&mut CertificateParams),
    leaf: impl FnOnce(&mut CertificateParams),
) -> Candidate {
    let root = Authority::root(root);
    let intermediate = root.intermediate(intermediate);
    let mut candidate = intermediate.leaf(leaf);
    candidate.chain.push(intermediate.certificate);
    candidate.bundle = Some(vec![root.certificate]);
    candidate
}

fn reason(candidate: Candidate) -> String {
    match rejected(candidate) {
        Rejection::Untrusted { reason } => reason,
        other => panic!("{other}"),
    }
}

/// X509-SVID, appendix A: URI name constraints may be in CA certificates.
#[test]
fn a_constraint_on_uris_applies_to_the_trust_domain() {
    for (permitted, excluded, is_fine) in [
        (&["example.org"][..], &[][..], true),
        (&["EXAMPLE.org"], &[], true),
        (&["other.org", "example.org"], &[], true),
        (&[], &["other.org", ".example.org", "xample.org"], true),
        (&["example.org"], &["example.org"], false),
        (&["other.org"], &[], false),
        (&[".example.org"], &[], false),
        (&["xample.org"], &[], false),
        (&["org"], &[], false),
        (&[], &["example.org"], false),
        (&[], &["Example.Org"], false),
    ] {
        let uris = |hosts: &[&'static str]| hosts.iter().map(|host| (URI, host.as_bytes())).collect::<Vec<_>>();
        let change = |params: &mut CertificateParams| constrain(params, &uris(permitted), &uris(excluded));
        for candidate in [chain(change, |_| {}, |_| {}), chain(|_| {}, change, |_| {})] {
            if is_fine {
                accepted(candidate);
            } else {
                let reason = reason(candidate);
                assert!(
                    reason.contains("name constraint of a CA in the chain"),
                    "{permitted:?} {excluded:?}: {reason}"
                );
                assert!(reason.contains("\"spiffe://example.org"), "{reason}");
            }
        }
    }
}

#[test]
fn a_constraint_with_a_dot_applies_to_hosts_below() {
    let domain = |params: &mut CertificateParams| constrain(params, &[(URI, b".example.org")], &[]);
    let sub = |params: &mut CertificateParams| params.subject_alt_names = vec![uri("spiffe://example.org.example.org")];
    assert!(reason(chain(domain, sub, |_| {})).contains("does not permit the name \"spiffe://example.org/ns"));
    let both = |params: &mut CertificateParams| constrain(params, &[(URI, b".org")], &[]);
    accepted(chain(both, |_| {}, |_| {}));
}

#[test]
fn every_certificate_below_is_constrained() {
    let only = |params: &mut CertificateParams| constrain(params, &[(URI, b"example.org")], &[]);
    for name in
        ["spiffe://other.org", "urn:b", "https://10.0.0.1/", "https://[::1]/", "https://u@example.org/", "https:///"]
    {
        let named = |params: &mut CertificateParams| params.subject_alt_names = vec![uri(name)];
        assert!(reason(chain(only, named, |_| {})).contains(name), "{name}");
    }
    for name in ["https://example.org", "https://example.org:443/a", "https://EXAMPLE.org?a"] {
        accepted(chain(only, |params| params.subject_alt_names = vec![uri(name)], |_| {}));
    }
}

#[test]
fn other_names_are_constrained_by_their_form() {
    let dns = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
    let email = |name: &str| SanType::Rfc822Name(name.try_into().expect("ASCII"));
    let ip = |address: &str| SanType::IpAddress(address.parse().expect("an address"));
    let (mail, net, block): (_, _, &[u8]) = (0x81, 0x87, &[10, 0, 0, 0, 255, 0, 0, 0]);
    for (constraint, inside, outside) in [
        ((DNS, &b"example.org"[..]), dns("a.Example.org"), dns("aexample.org")),
        ((DNS, b"example.org"), dns("example.org"), dns("example.com")),
        ((DNS, b".example.org"), dns("a.example.org"), dns("example.org")),
        ((mail, b"a@example.org"), email("a@EXAMPLE.org"), email("A@example.org")),
        ((mail, b"example.org"), email("a@example.org"), email("a@b.example.org")),
        ((mail, b".example.org"), email("a@b.example.org"), email("a@example.org")),
        ((net, block), ip("10.1.2.3"), ip("11.0.0.1")),
        ((net, block), ip("10.1.2.3"), ip("::1")),
    ] {
        let with = |name: &SanType| {
            let name = name.clone();
            |params: &mut CertificateParams| params.subject_alt_names.push(name)
        };
        let permits = |params: &mut CertificateParams| constrain(params, &[constraint], &[]);
        let excludes = |params: &mut CertificateParams| constrain(params, &[], &[constraint]);
        accepted(chain(permits, |_| {}, with(&inside)));
        accepted(chain(excludes, |_| {}, with(&outside)));
        assert!(reason(chain(permits, |_| {}, with(&outside))).contains("does not permit"), "{constraint:?}");
        assert!(reason(chain(excludes, |_| {}, with(&inside))).contains("excludes"), "{constraint:?}");
    }
    let excludes_one = |params: &mut CertificateParams| constrain(params, &[], &[(DNS, b"a.example.org")]);
    let wildcard = |params: &mut CertificateParams| params.subject_alt_names.push(dns("*.example.org"));
    assert!(reason(chain(excludes_one, |_| {}, wildcard)).contains("excludes"));
}

#[test]
fn subjects_are_constrained_as_directory_names() {
    let name = |text: &[u8]| der(0x30, &[&der(0x31, &[&der(0x30, &[&der(6, &[&[0x55, 4, 3]]), &der(0x0c, &[text])])])]);
    let permits =
        |text: &'static [u8]| move |params: &mut CertificateParams| constrain(params, &[(0xa4, &name(text))], &[]);
    accepted(chain(permits(b" INTERMEDIATE "), |_| {}, |_| {}));
    assert!(reason(chain(permits(b"other"), |_| {}, |_| {})).contains("does not permit"));
    let excludes = |params: &mut CertificateParams| constrain(params, &[], &[(0xa4, &name(b"intermediate"))]);
    assert!(reason(chain(excludes, |_| {}, |_| {})).contains("excludes"));
}

#[test]
fn constraints_that_cannot_be_read_or_compared_are_refused() {
    for (form, value) in [
        (URI, &b"10.0.0.1"[..]),
        (URI, b""),
        (URI, b"a..b"),
        (DNS, b"a."),
        (0x87, &[0; 4]),
        (0x87, &[10, 0, 0, 0, 255, 0, 255, 0]),
    ] {
        let odd = rejected(chain(|_| {}, |params| constrain(params, &[(form, value)], &[]), |_| {}));
        assert!(matches!(odd, Rejection::Unreadable { .. }), "{form} {value:?}: {odd}");
    }
    let empty =
        |params: &mut CertificateParams| params.custom_extensions.push(extension(NAME_CONSTRAINTS, true, &[0x30, 0]));
    assert!(matches!(rejected(chain(|_| {}, empty, |_| {})), Rejection::Unreadable { .. }));
    let registered = |params: &mut CertificateParams| constrain(params, &[], &[(0x88, &[0x2a, 3])]);
    accepted(chain(|_| {}, registered, |_| {}));
}

fn policy(last: u8) -> Vec<u8> {
    der(6, &[&[0x2a, last]])
}

fn policies(critical: bool, list: &[u8]) -> impl Fn(&mut CertificateParams) {
    let list: Vec<_> = list.iter().map(|last| der(0x30, &[&policy(*last)])).collect();
    move |params| {
        let list: Vec<&[u8]> = list.iter().map(Vec::as_slice).collect();
        params.custom_extensions.push(extension(POLICIES, critical, &der(0x30, &list)));
    }
}

fn requires_policy(skip: u8) -> impl Fn(&mut CertificateParams) {
    move |params| {
        params.custom_extensions.push(extension(POLICY_CONSTRAINTS, true, &der(0x30, &[&der(0x80, &[&[skip]])])));
    }
}

#[test]
fn critical_policies_are_accepted() {
    accepted(chain(|_| {}, policies(true, &[1]), |_| {}));
    accepted(chain(policies(true, &[1]), policies(true, &[1]), policies(true, &[1])));
    accepted(chain(|_| {}, |params| params.custom_extensions.push(extension(INHIBIT_ANY, true, &[2, 1, 0])), |_| {}));
    accepted(chain(|_| {}, requires_policy(9), |_| {}));
}

#[test]
fn a_required_policy_must_exist() {
    let both = |list: &'static [u8], skip| {
        move |params: &mut CertificateParams| {
            policies(true, list)(params);
            requires_policy(skip)(params);
        }
    };
    accepted(chain(|_| {}, both(&[1, 2], 0), policies(false, &[2])));
    let none = "requires a certificate policy";
    assert!(reason(chain(|_| {}, both(&[1], 0), |_| {})).contains(none));
    assert!(reason(chain(|_| {}, both(&[1], 0), policies(false, &[2]))).contains(none));
    assert!(reason(chain(|_| {}, requires_policy(0), policies(false, &[2]))).contains(none));
    let maps = |params: &mut CertificateParams| {
        both(&[1], 0)(params);
        let mapping = der(0x30, &[&policy(1), &policy(7)]);
        params.custom_extensions.push(extension(MAPPINGS, true, &der(0x30, &[&mapping])));
    };
    accepted(chain(|_| {}, maps, policies(false, &[7])));
    assert!(reason(chain(|_| {}, maps, policies(false, &[1]))).contains(none));
}

#[test]
fn unknown_critical_and_repeated_extensions_are_refused() {
    let unknown = |params: &mut CertificateParams| params.custom_extensions.push(extension(&[1, 2, 3], true, &[5, 0]));
    let known = "unknown critical extension";
    assert!(reason(chain(unknown, |_| {}, |_| {})).contains(known));
    assert!(reason(chain(|_| {}, unknown, |_| {})).contains(known));
    assert!(reason(chain(|_| {}, |_| {}, unknown)).contains(known));
    let twice = |params: &mut CertificateParams| {
        for _ in 0..2 {
            params.custom_extensions.push(extension(&[1, 2, 3], false, &[5, 0]));
        }
    };
    assert!(matches!(rejected(chain(|_| {}, twice, |_| {})), Rejection::Unreadable { .. }));
}

#[test]
fn a_ca_limits_how_many_are_below_it() {
    let limited =
        |most| move |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(most));
    accepted(chain(limited(1), limited(0), |_| {}));
    assert!(reason(chain(limited(0), |_| {}, |_| {})).contains("longer than one of its CAs allows"));
}

/// More CAs with one name than signatures may be verified: the wanted key is tried first, and without it the search
/// ends.
#[test]
fn the_search_has_a_limit() {
    let mut candidate = chain(|_| {}, |_| {}, |params| params.use_authority_key_identifier_extension = true);
    candidate.chain.splice(1..1, (0..101).map(|_| Authority::root(|_| {}).intermediate(|_| {}).certificate));
    let key = PrivateKey::from_pkcs8_der(candidate.key.der()).expect("a key");
    let mut without = Candidate { chain: candidate.chain.clone(), key, bundle: candidate.bundle.clone() };
    accepted(candidate);
    without.chain.pop();
    assert!(reason(without).contains("too much work"));
}
