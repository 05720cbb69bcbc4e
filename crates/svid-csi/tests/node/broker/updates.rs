//! Changes while a pod runs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use svid_csi::spiffe::svid::Svid;
use svid_csi_proto::workload::X509svidResponse;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::agent::Entry;

use super::scene::{files_test, id, workload_api_test};
use crate::fixture::{pod, serial, svid, until, volume};
use crate::workload_api::client::Svids;

fn bundle(target: &Path) -> usize {
    svid(target).bundle.len()
}

#[test]
fn a_rotation_reaches_files_at_once() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let first = serial(&target);
        scene.agent.rotate(&pod("web"));
        until("the new pair", async || serial(&target) != first).await;
        svid(&target).check_chain().unwrap();
        assert_eq!(scene.subscriptions("web").len(), 1, "nothing is asked for");
    });
}

#[test]
fn a_repeated_delivery_changes_no_file() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let data = || fs::read_link(target.join("..data")).unwrap();
        let before = data();
        for _ in 0..3 {
            scene.agent.repeat(&pod("web"));
        }
        assert_eq!((scene.issued(), data()), (1, before.clone()));
        // A later update arrives only after these were processed.
        scene.agent.rotate(&pod("web"));
        until("the rotation", async || data() != before).await;
        until("its line in the audit log", async || scene.issued() == 2).await;
        assert_eq!(scene.metric("identities_issued_total").await, 2.0);
    });
}

#[test]
fn a_changed_bundle_arrives_beside_the_same_key() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        let first = serial(&target);
        scene.agent.add_root();
        until("both roots", async || bundle(&target) == 2).await;
        assert_eq!(serial(&target), first);
        scene.agent.rotate_all();
        until("a certificate of the new root", async || serial(&target) != first).await;
        svid(&target).check_chain().unwrap();
        scene.agent.drop_old_roots();
        until("the new root alone", async || bundle(&target) == 1).await;
        svid(&target).check_chain().unwrap();
    });
}

#[test]
fn no_bundle_of_one_pod_is_sent_to_another() {
    workload_api_test(async |scene| {
        scene.register("web");
        scene.agent.edit(&pod("web"), |response| {
            response.federated_bundles =
                [("spiffe://other.example".to_owned(), TestCa::new("other").bundle_der())].into();
            response.crl = vec![b"a list".to_vec()];
        });
        let (web, db) = (scene.node.publish(&volume("web")).await, scene.registered("db").await);
        let message =
            async |target: &Path| Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
        let web = message(&web).await;
        assert_eq!(web, scene.agent.response(&pod("web")), "all of it is passed on as it is");
        let db = message(&db).await;
        assert!(db.federated_bundles.is_empty() && db.crl.is_empty());
        assert_eq!(db.svids[0].spiffe_id, id("db"));
    });
}

#[test]
fn certificates_that_are_not_of_a_ca_are_skipped_and_named_once() {
    workload_api_test(async |scene| {
        let (other, strangers) = (TestCa::new("other").bundle_der(), TestCa::new("a stranger"));
        let stranger = strangers.issue(&id("stranger"), Duration::from_secs(600), None).chain;
        let mixed = |response: &mut X509svidResponse| {
            response.svids[0].bundle.extend_from_slice(&stranger);
            response.federated_bundles =
                [("spiffe://other.example".to_owned(), [&stranger[..], &other].concat())].into();
        };
        for name in ["web", "db"] {
            scene.register(name);
            let without = scene.agent.response(&pod(name));
            scene.agent.edit(&pod(name), mixed);
            let target = scene.node.publish(&volume(name)).await;
            let message = Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
            assert_eq!(message.svids[0].bundle, without.svids[0].bundle);
            assert_eq!(message.federated_bundles["spiffe://other.example"], other);
        }
        let log = scene.node.log();
        let skipping = "skipping a certificate in the bundle of a trust domain trust_domain=";
        for says in ["example.org reason=certificate 2 of 2 in", "other.example reason=certificate 1 of 2 in"] {
            assert_eq!(log.matches(&format!("{skipping}{says}")).count(), 1, "{log}");
        }
        assert!(log.contains("is not a CA certificate that may sign others"), "{log}");
    });
}

#[test]
fn a_trust_domain_without_certificates_is_left_out() {
    workload_api_test(async |scene| {
        scene.register("web");
        scene.agent.edit(&pod("web"), |response| {
            response.federated_bundles = [
                ("spiffe://other.example".to_owned(), TestCa::new("other").bundle_der()),
                ("spiffe://tokens.example".to_owned(), Vec::new()),
            ]
            .into();
        });
        let target = scene.node.publish(&volume("web")).await;
        let message = Svids::open(&target.join("agent.sock")).await.unwrap().next().await.unwrap();
        assert_eq!(message.federated_bundles.keys().collect::<Vec<_>>(), ["spiffe://other.example"]);
    });
}

#[test]
fn several_svids_and_their_changes_reach_open_streams() {
    workload_api_test(async |scene| {
        let entries = [Entry::new(&id("web")), Entry::new(&id("web-internal")).hint("internal")];
        scene.agent.register(&pod("web"), &entries);
        let target = scene.node.publish(&volume("web")).await;
        let mut svids = Svids::open(&target.join("agent.sock")).await.unwrap();
        assert_eq!(svids.next().await.unwrap(), scene.agent.response(&pod("web")));
        scene.agent.rotate(&pod("web"));
        assert_eq!(svids.next().await.unwrap(), scene.agent.response(&pod("web")));
        scene.agent.register(&pod("web"), &entries[..1]);
        let one = svids.next().await.unwrap();
        assert_eq!((one.svids.len(), &*one.svids[0].spiffe_id), (1, &*id("web")), "the other is no longer its own");
    });
}

#[test]
fn an_entry_that_names_another_id_replaces_it() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        scene.agent.register(&pod("web"), &[Entry::new(&id("renamed"))]);
        let shown = || Svid::read(&target).and_then(|svid| svid.leaf()).map(|leaf| leaf.spiffe_id);
        until("the other ID", async || shown().is_ok_and(|shown| shown == id("renamed"))).await;
        svid(&target).check_chain().unwrap();
    });
}
