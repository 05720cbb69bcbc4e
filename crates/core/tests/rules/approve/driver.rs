//! Requests the driver makes for its pods: what can be seen without reading a pod.

use svid_csi_core::approve::{Policy, Request, ServiceAccount, Verdict, cluster_rules, judge};
use svid_csi_core::cert_request::OwnerReference;

use super::forge::{DRIVER_UID, POD_UID, built, denied_for, driver_request, extra, node_bound, own_account, policy};
use crate::forge::uri;

fn with(change: impl FnOnce(&mut Request)) -> Request {
    let mut request = driver_request();
    change(&mut request);
    request
}

fn asking_for(id: &str) -> Request {
    with(|request| {
        request.csr = built(|params| params.subject_alt_names = vec![uri(id)]);
        request.identity = Some(id.to_owned());
    })
}

fn both() -> [Policy; 2] {
    [own_account(), node_bound()]
}

#[test]
fn a_good_request_names_the_pods_to_read() {
    for policy in both() {
        let Verdict::Depends(reads) = judge(&driver_request(), &policy) else { panic!("it depends") };
        let pod = reads.pod();
        assert_eq!((&*pod.namespace, &*pod.name, &*pod.uid), ("shop", "cart-0", POD_UID));
        let driver = reads.driver().map(|driver| (&*driver.namespace, &*driver.name, &*driver.uid));
        let expected = ("cert-manager", "csi-driver-spiffe-x7x", DRIVER_UID);
        assert_eq!(driver, (policy.mode == node_bound().mode).then_some(expected));
    }
    assert!(cluster_rules(&policy().mode).is_empty());
    assert!(cluster_rules(&own_account().mode).len() < cluster_rules(&node_bound().mode).len());
}

#[test]
fn the_driver_is_a_service_account() {
    for wrong in ["system:serviceaccount::driver", "system:serviceaccount:ns:", "ns:driver", "ns/driver", ""] {
        let error = wrong.parse::<ServiceAccount>().expect_err("no service account");
        assert!(error.to_string().ends_with("(system:serviceaccount:NAMESPACE:NAME)"), "{error}");
    }
}

#[test]
fn only_the_driver_creates_requests() {
    for policy in both() {
        for user in ["system:serviceaccount:shop:cart", "system:serviceaccount:cert-manager:other", "admin", ""] {
            let request = with(|request| request.username = user.to_owned());
            let sentence = r#"created by the driver, "system:serviceaccount:cert-manager:csi-driver-spiffe""#;
            denied_for(&request, &policy, "requester", sentence);
        }
    }
}

#[test]
fn the_identity_belongs_to_the_namespace() {
    for policy in both() {
        for other in [
            "spiffe://example.org/ns/other/sa/cart",
            "spiffe://example.org/ns/shop/sa/cart/more",
            "spiffe://example.org/ns/shop/cart",
            "spiffe://example.org/cart",
            "spiffe://example.org",
        ] {
            denied_for(&asking_for(other), &policy, "namespace", r#"in the namespace of the request, "shop""#);
        }
        denied_for(&asking_for("spiffe://example.com/ns/shop/sa/cart"), &policy, "trust_domain", "example.org");
    }
}

#[test]
fn a_pod_owns_each_request() {
    for policy in both() {
        denied_for(&with(|request| request.owners.clear()), &policy, "owner", "0 pods");
        let two = with(|request| request.owners.push(OwnerReference::pod("cart-1", "another")));
        denied_for(&two, &policy, "owner", "2 pods");
        for name in
            ["", ".", "..", "cart-0/status", "cart-0?resourceVersion=0", "../secrets/ca", "Cart", &"a".repeat(254)]
        {
            let request = with(|request| request.owners[0].name = name.to_owned());
            denied_for(&request, &policy, "owner_name", "is not a name a pod can have");
        }
    }
}

#[test]
fn node_bound_requests_are_stamped() {
    for (key, full) in [
        ("pod-uid", "authentication.kubernetes.io/pod-uid"),
        ("pod-name", "authentication.kubernetes.io/pod-name"),
        ("node-name", "authentication.kubernetes.io/node-name"),
    ] {
        let sentence = format!("spec.extra has no {full}");
        let without = with(|request| drop(request.extra.remove(full)));
        denied_for(&without, &node_bound(), "stamp_missing", &sentence);
        let empty = with(|request| request.extra.extend([extra(key, "")]));
        denied_for(&empty, &node_bound(), "stamp_missing", &sentence);
        let twice = with(|request| request.extra.entry(full.to_owned()).or_default().push("another".to_owned()));
        denied_for(&twice, &node_bound(), "stamp_values", "2 values");
        assert!(
            matches!(judge(&without, &own_account()), Verdict::Depends(_)),
            "{key} is useless without reading pods"
        );
    }
    let odd = with(|request| request.extra.extend([extra("pod-name", "a/b")]));
    denied_for(&odd, &node_bound(), "owner_name", r#""a/b" is not a name"#);
}
