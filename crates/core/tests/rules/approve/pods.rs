//! Requests that the driver creates for its pods: the rules for the pods.

use std::collections::BTreeSet;

use svid_csi_core::approve::{Ignored, Lookup, PodFacts, Policy, Verdict, cluster_rules, judge};

use super::forge::{DRIVER_UID, NODE, POD_UID, driver_request, faults_of, node_bound, own_account};

fn pod() -> PodFacts {
    PodFacts {
        namespace: "shop".to_owned(),
        name: "cart-0".to_owned(),
        uid: POD_UID.to_owned(),
        service_account: "cart".to_owned(),
        node: NODE.to_owned(),
        phase: "Pending".to_owned(),
        is_mirror: false,
        csi_drivers: vec!["csi.example.org".to_owned(), "spiffe.csi.cert-manager.io".to_owned()],
    }
}

fn driver() -> PodFacts {
    PodFacts {
        namespace: "cert-manager".to_owned(),
        name: "csi-driver-spiffe-x7x".to_owned(),
        uid: DRIVER_UID.to_owned(),
        service_account: "csi-driver-spiffe".to_owned(),
        node: NODE.to_owned(),
        phase: "Running".to_owned(),
        ..PodFacts::default()
    }
}

fn decide(pod: &Lookup, driver: Option<&Lookup>, policy: &Policy) -> Verdict {
    let Verdict::Depends(reads) = judge(&driver_request(), policy) else { panic!("it depends") };
    reads.decide(pod, driver, policy)
}

fn changed(facts: PodFacts, change: impl FnOnce(&mut PodFacts)) -> Lookup {
    let mut facts = facts;
    change(&mut facts);
    Lookup::Found(facts)
}

#[track_caller]
fn denied(verdict: &Verdict, class: &str, sentence: &str) {
    let found = faults_of(verdict);
    let as_expected = matches!(&found[..], [(one, text)] if *one == class && text.contains(sentence));
    assert!(as_expected, "expected {class}: {sentence}, found {verdict:#?}");
}

#[test]
fn a_good_request_is_approved() {
    let (pod, driver) = (Lookup::Found(pod()), Lookup::Found(driver()));
    assert_eq!(decide(&pod, Some(&driver), &node_bound()), Verdict::Approve);
    assert_eq!(decide(&pod, None, &own_account()), Verdict::Approve);
}

/// A change of a good pod, the class of the only reason, and a part of its sentence.
type Case = (fn(&mut PodFacts), &'static str, &'static str);

const OF_POD: [Case; 5] = [
    (|pod| pod.uid = "another".into(), "pod_uid", r#""shop/cart-0" was replaced by another pod, with UID "another""#),
    (|pod| pod.name = "cart-1".into(), "pod_uid", "was replaced by another pod"),
    (|pod| pod.namespace = "other".into(), "pod_uid", "was replaced by another pod"),
    (|pod| pod.service_account = "admin".into(), "pod_account", r#"runs as "admin", not as "cart""#),
    (|pod| pod.service_account.clear(), "pod_account", r#"runs as "", not as "cart""#),
];

#[test]
fn the_identity_must_be_that_of_the_pod() {
    let driver = Lookup::Found(driver());
    for (change, class, sentence) in OF_POD {
        let pod = changed(pod(), change);
        denied(&decide(&pod, Some(&driver), &node_bound()), class, sentence);
        denied(&decide(&pod, None, &own_account()), class, sentence);
    }
    denied(&decide(&Lookup::Missing, Some(&driver), &node_bound()), "pod_missing", "does not exist");
    denied(&decide(&Lookup::Missing, None, &own_account()), "pod_missing", "does not exist");
}

#[test]
fn node_bound_pods_are_on_the_drivers_node() {
    let cases: [Case; 7] = [
        (|pod| pod.node = "node-2".into(), "pod_node", r#"is on node "node-2", not on "node-1""#),
        (|pod| pod.node.clear(), "pod_node", r#"is on node "", not on "node-1""#),
        (|pod| pod.phase = "Succeeded".into(), "pod_finished", r#"has ended ("Succeeded")"#),
        (|pod| pod.phase = "Failed".into(), "pod_finished", "has ended"),
        (|pod| pod.is_mirror = true, "pod_mirror", "is a mirror pod"),
        (|pod| pod.csi_drivers.clear(), "pod_volume", r#"no volume of the driver "spiffe.csi.cert-manager.io""#),
        (|pod| pod.csi_drivers = vec!["csi.spiffe.io".into()], "pod_volume", "no volume of the driver"),
    ];
    for (change, class, sentence) in cases {
        let pod = changed(pod(), change);
        denied(&decide(&pod, Some(&Lookup::Found(driver())), &node_bound()), class, sentence);
        assert_eq!(decide(&pod, None, &own_account()), Verdict::Approve, "{class} is not a rule of that mode");
    }
}

#[test]
fn the_driver_is_a_live_pod_of_its_own() {
    let cases: [Case; 8] = [
        (|driver| driver.uid = "another".into(), "driver_uid", "was replaced by another pod"),
        (|driver| driver.namespace = "other".into(), "driver_uid", "was replaced by another pod"),
        (|driver| driver.name = "other".into(), "driver_uid", "was replaced by another pod"),
        (|driver| driver.service_account = "other".into(), "driver_account", r#"runs as "other""#),
        (|driver| driver.node = "node-2".into(), "driver_node", r#"is on node "node-2", not on "node-1""#),
        (|driver| driver.node.clear(), "driver_node", r#"is on node """#),
        (|driver| driver.phase = "Failed".into(), "driver_finished", "has ended"),
        (|driver| driver.phase = "Succeeded".into(), "driver_finished", "has ended"),
    ];
    for (change, class, sentence) in cases {
        let driver = changed(driver(), change);
        denied(&decide(&Lookup::Found(pod()), Some(&driver), &node_bound()), class, sentence);
    }
    let gone = decide(&Lookup::Found(pod()), Some(&Lookup::Missing), &node_bound());
    denied(
        &gone,
        "driver_missing",
        r#"the pod "cert-manager/csi-driver-spiffe-x7x", which created the request, does not exist"#,
    );
}

#[test]
fn without_the_right_to_read_pods_node_bound_requests_wait() {
    let waits = Verdict::Ignore(Ignored::PodsForbidden);
    let (pod, driver) = (Lookup::Found(pod()), Lookup::Found(driver()));
    assert_eq!(decide(&Lookup::Forbidden, Some(&driver), &node_bound()), waits);
    assert_eq!(decide(&pod, Some(&Lookup::Forbidden), &node_bound()), waits);
    assert_eq!(decide(&pod, None, &node_bound()), waits, "a pod that was not read is not a reason to approve");
    assert_eq!(decide(&Lookup::Forbidden, None, &own_account()), Verdict::Approve);
    // A known fault counts, even if other facts may not be read.
    denied(&decide(&Lookup::Missing, Some(&Lookup::Forbidden), &node_bound()), "pod_missing", "does not exist");
}

#[test]
fn all_faults_of_pods_are_reported_and_their_classes_are_known_beforehand() {
    let bad = |facts: PodFacts| {
        changed(facts, |facts| {
            facts.service_account = "other".into();
            facts.node.clear();
            facts.phase = "Failed".into();
            facts.is_mirror = true;
            facts.csi_drivers.clear();
        })
    };
    let verdict = decide(&bad(pod()), Some(&bad(driver())), &node_bound());
    let found: Vec<_> = faults_of(&verdict).into_iter().map(|(class, _)| class).collect();
    let of_driver = ["driver_account", "driver_node", "driver_finished"];
    let of_pod = ["pod_account", "pod_node", "pod_finished", "pod_mirror", "pod_volume"];
    assert_eq!(found, [&of_driver[..], &of_pod].concat());
    let named: BTreeSet<_> = cluster_rules(&node_bound().mode).iter().collect();
    assert!(found.iter().all(|class| named.contains(class)));
    assert_eq!(named.len(), found.len() + 4, "two each for pods that are missing or others");
}
