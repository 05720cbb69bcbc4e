//! The fields of `spec` other than the CSR.

use svid_csi_core::approve::{Ignored, Policy, Request, Verdict, judge};
use svid_csi_core::cert_request::USAGES;

use super::forge::{Csr, denied_for, issuer, policy, request};

fn with(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = request(Csr::good().pem());
    change(&mut request);
    request
}

#[test]
fn the_duration_is_the_configured_one() {
    for same in ["1h", "60m", "3600s", "1h0m0s"] {
        assert_eq!(judge(&with(|request| request.duration = Some(same.into())), &policy()), Verdict::Approve, "{same}");
    }
    for other in ["30m", "2h", "1h1ns", "0", "-1h", "", "an hour", "1h\n"] {
        let sentence = format!("spec.duration is {}, but must be 1h0m0s", svid_csi_core::quoted::Quoted::new(other));
        denied_for(&with(|request| request.duration = Some(other.into())), &policy(), "duration", &sentence);
    }
    denied_for(&with(|request| request.duration = None), &policy(), "duration", "is not set");
}

#[test]
fn a_ca_certificate_is_never_approved() {
    denied_for(&with(|request| request.is_ca = true), &policy(), "is_ca", "spec.isCA is true");
}

#[test]
fn the_usages_are_the_four() {
    let mut reversed = USAGES.map(str::to_owned).to_vec();
    reversed.reverse();
    assert_eq!(judge(&with(|request| request.usages = reversed), &policy()), Verdict::Approve);
    for usages in [
        vec![],
        vec!["digital signature", "key encipherment", "server auth"],
        vec!["digital signature", "key encipherment", "server auth", "client auth", "cert sign"],
        vec!["digital signature", "key encipherment", "server auth", "server auth"],
        vec!["digital signature", "key encipherment", "server auth", "client auth", "client auth"],
        vec!["signing", "key encipherment", "server auth", "client auth"],
        vec!["Digital Signature", "key encipherment", "server auth", "client auth"],
        vec!["digital signature, key encipherment, server auth, client auth"],
    ] {
        let sentence = "but must be digital signature, key encipherment, server auth, client auth";
        let request = with(|request| request.usages = usages.into_iter().map(str::to_owned).collect());
        denied_for(&request, &policy(), "usages", sentence);
    }
}

#[test]
fn the_issuer_is_the_configured_one() {
    assert_eq!(judge(&with(|request| request.issuer.group.clear()), &policy()), Verdict::Approve);
    for (name, kind, group, shown) in [
        ("other", "ClusterIssuer", "cert-manager.io", "ClusterIssuer other of cert-manager.io"),
        ("spiffe-ca", "Issuer", "cert-manager.io", "Issuer spiffe-ca of cert-manager.io"),
        ("spiffe-ca", "", "", "Issuer spiffe-ca of cert-manager.io"),
        ("spiffe-ca", "ClusterIssuer", "example.org", "ClusterIssuer spiffe-ca of example.org"),
        ("", "ClusterIssuer", "cert-manager.io", "ClusterIssuer  of cert-manager.io"),
    ] {
        let sentence = format!(r#"is "{shown}", but must be "ClusterIssuer spiffe-ca of cert-manager.io""#);
        denied_for(&with(|request| request.issuer = issuer(name, kind, group)), &policy(), "issuer", &sentence);
    }
    let namespaced = Policy { issuer: Some(issuer("spiffe-ca", "", "")), ..policy() };
    let request = with(|request| request.issuer = issuer("spiffe-ca", "Issuer", "cert-manager.io"));
    assert_eq!(judge(&request, &namespaced), Verdict::Approve);
}

#[test]
fn without_an_issuer_requests_wait() {
    let waiting = Policy { issuer: None, ..policy() };
    assert_eq!(judge(&with(|_| {}), &waiting), Verdict::Ignore(Ignored::NoIssuer));
}
