//! The identity that a pod may request.

use svid_csi_core::approve::{Policy, Request, Verdict, judge};
use svid_csi_core::cert_request::OwnerReference;
use svid_csi_core::spiffe_id::TrustDomain;

use super::forge::{Csr, POD_UID, built, denied_for, extra, faults, policy, request};
use crate::forge::{ID, uri};

fn with(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = request(Csr::good().pem());
    change(&mut request);
    request
}

/// A request for that ID, both in the CSR and in the annotation.
fn asking_for(id: &str) -> Request {
    let mut request = request(built(|params| params.subject_alt_names = vec![uri(id)]));
    request.identity = Some(id.to_owned());
    request
}

#[test]
fn the_identity_is_that_of_the_requester() {
    for other in [
        "spiffe://example.org/ns/shop/sa/admin",
        "spiffe://example.org/ns/other/sa/cart",
        "spiffe://example.org/ns/shop/sa/cart/more",
        "spiffe://example.org/ns/shop/sa/CART",
        "spiffe://example.org/cart",
        "spiffe://example.org",
    ] {
        let sentence = format!(r#"the request asks for "{other}", but may ask only for "{ID}""#);
        denied_for(&asking_for(other), &policy(), "identity", &sentence);
    }
}

#[test]
fn the_identity_is_of_the_trust_domain() {
    for other in ["spiffe://example.com/ns/shop/sa/cart", "spiffe://a.example.org/ns/shop/sa/cart"] {
        denied_for(&asking_for(other), &policy(), "trust_domain", "is not of the trust domain example.org");
    }
    let elsewhere = Policy { trust_domain: TrustDomain::parse("example.com").expect("a name"), ..policy() };
    denied_for(&with(|_| {}), &elsewhere, "trust_domain", "is not of the trust domain example.com");
    assert_eq!(judge(&asking_for("spiffe://example.com/ns/shop/sa/cart"), &elsewhere), Verdict::Approve);
}

#[test]
fn the_requester_is_a_service_account() {
    for user in [
        "",
        "kubernetes-admin",
        "system:node:node-1",
        "system:serviceaccount:shop",
        "system:serviceaccount:shop:cart:more",
        "system:serviceaccount::cart",
        "system:serviceaccount:shop:",
        "system:serviceaccounts:shop:cart",
        "x:system:serviceaccount:shop:cart",
        "system:serviceaccount:shop:c/art",
        "system:serviceaccount:..:cart",
    ] {
        let request = with(|request| request.username = user.to_owned());
        denied_for(&request, &policy(), "user", "is not a service account (system:serviceaccount:NAMESPACE:NAME)");
    }
}

#[test]
fn the_annotation_names_the_same_identity() {
    for annotation in ["", "spiffe://example.org/ns/shop/sa/admin", "spiffe://example.org/ns/shop/sa/cart/", "cart"] {
        let request = with(|request| request.identity = Some(annotation.to_owned()));
        let sentence = format!(r#"the annotation names "{annotation}", but the CSR names "{ID}""#);
        denied_for(&request, &policy(), "annotation", &sentence);
    }
    let mut only_in_csr = asking_for("spiffe://example.org/ns/shop/sa/admin");
    only_in_csr.identity = Some(ID.to_owned());
    let classes: Vec<_> = faults(&only_in_csr, &policy()).into_iter().map(|(class, _)| class).collect();
    assert_eq!(classes, ["annotation", "identity"], "the annotation hides nothing");
}

#[test]
fn the_stamp_agrees_with_the_owner() {
    let approved = |request| assert_eq!(judge(&request, &policy()), Verdict::Approve);
    // API servers before 1.30 do not stamp the node, and may stamp nothing; then there is nothing to compare.
    approved(with(|request| request.extra.clear()));
    approved(with(|request| {
        request.extra.clear();
        request.owners.clear();
    }));
    let other = with(|request| request.owners = vec![OwnerReference::pod("cart-0", "another")]);
    let sentence = format!(r#"created by the pod with UID "{POD_UID}", but its owner is the pod with UID "another""#);
    denied_for(&other, &policy(), "owner_stamp", &sentence);
    let ownerless = with(|request| request.owners.clear());
    denied_for(&ownerless, &policy(), "owner", "0 pods as owners");
    let two = with(|request| request.owners.push(OwnerReference::pod("cart-1", POD_UID)));
    denied_for(&two, &policy(), "owner", "2 pods as owners");
    for (api_version, kind) in [("apps/v1", "Pod"), ("v1", "ReplicationController")] {
        let no_pod = with(|request| {
            request.owners[0].api_version = api_version.to_owned();
            request.owners[0].kind = kind.to_owned();
        });
        denied_for(&no_pod, &policy(), "owner", "0 pods as owners");
    }
    let twice = with(|request| {
        let (key, mut values) = extra("pod-uid", POD_UID);
        values.push(POD_UID.to_owned());
        request.extra.insert(key, values);
    });
    denied_for(&twice, &policy(), "stamp_values", "2 values for authentication.kubernetes.io/pod-uid");
}
