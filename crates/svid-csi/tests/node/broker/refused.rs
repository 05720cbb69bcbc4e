//! Responses of an agent that break a rule: they are refused as a whole, and the last identity stays.

use std::time::Duration;

use serde_json::json;
use svid_csi_proto::workload::X509svidResponse;
use svid_csi_testkit::agent::Entry;
use svid_csi_testkit::api_server::{ApiServer, User};
use svid_csi_testkit::{Flaw, TestCa};
use tonic::Code;

use super::scene::{FILES, SOCKET, files_test, id, prepared_test};
use crate::fixture::{Node, pod, serial, svid, until, volume};

/// Long enough for every success.
const SHORT: Duration = Duration::from_secs(5);

type Edit = fn(&mut X509svidResponse);

/// The fault of an otherwise valid response, and a word of the rule it breaks.
const EDITS: [(&str, Edit, &str); 8] = [
    (
        "a key of another certificate",
        |response| response.svids[0].x509_svid_key = other_key(),
        "private key does not belong",
    ),
    ("a key that is none", |response| response.svids[0].x509_svid_key = b"hunter2".to_vec(), "key of SVID 1"),
    (
        "it contradicts itself",
        |response| response.svids[0].spiffe_id = id("somebody-else"),
        "somebody-else was requested",
    ),
    ("no SPIFFE ID", |response| response.svids[0].spiffe_id = "web".to_owned(), "SVID 1 is not a SPIFFE ID"),
    ("an empty bundle", |response| response.svids[0].bundle.clear(), "empty trust bundle"),
    ("a bundle of another CA", |response| response.svids[0].bundle = TestCa::new("x").bundle_der(), "does not lead"),
    ("no certificate", |response| response.svids[0].x509_svid.clear(), "no certificate"),
    ("garbage", |response| response.svids[0].x509_svid = b"garbage".to_vec(), "cannot be read"),
];

/// Certificates that are not X509-SVIDs of the pod.
const FLAWS: [(Flaw, &str); 6] = [
    (Flaw::Expired, "expired"),
    (Flaw::NotYetValid, "valid only from"),
    (Flaw::IsCa, "CA certificate"),
    (Flaw::NoKeyUsage, "key usage"),
    (Flaw::NoUsages, "extended key usage"),
    (Flaw::UnknownCa, "does not lead to the trust bundle"),
];

fn other_key() -> Vec<u8> {
    TestCa::new("x").issue(&id("web"), Duration::from_secs(60), None).key
}

#[test]
fn a_pod_does_not_start_with_it() {
    files_test(async |scene| {
        let foreign = vec![Entry::new("spiffe://other.example/web")];
        let flawed = FLAWS.iter().map(|(flaw, says)| (vec![Entry::new(&id("web")).flaw(*flaw)], *says));
        for (entries, says) in flawed.chain([(foreign, "not of the source's trust domain example.org")]) {
            scene.agent.register(&pod("web"), &entries);
            until(says, async || {
                let (code, message) = scene.node.refused(&volume("web")).await;
                assert_eq!(code, Code::Internal, "{says}: {message}");
                message.contains(says)
            })
            .await;
            assert!(!scene.node.kubelet.target(&volume("web")).join("tls.key").exists(), "{says}");
        }
        for (what, edit, says) in EDITS {
            scene.agent.register_spoiled(&pod("web"), &[Entry::new(&id("web"))], edit);
            until(what, async || scene.node.refused(&volume("web")).await.1.contains(says)).await;
        }
        assert!(!scene.node.log().contains("hunter2"));
        scene.register("web");
        until("a good one", async || scene.node.publish_within(&volume("web"), SHORT).await.is_ok()).await;
    });
}

#[test]
fn a_running_pod_keeps_its_last_good_identity() {
    files_test(async |scene| {
        let target = scene.registered("web").await;
        for (round, (what, edit, says)) in EDITS.into_iter().enumerate() {
            let before = serial(&target);
            scene.agent.edit(&pod("web"), edit);
            until(what, async || scene.metric("identities_refused_total").await == (round + 1) as f64).await;
            assert_eq!(serial(&target), before, "{what}");
            assert!(scene.node.log().contains(says), "{what}: {says} in {}", scene.node.log());
            assert_eq!(scene.node.trouble(&volume("web")).await, None, "{what}");
            let waiting = scene.status().await["waiting"][volume("web").id().to_string()].to_string();
            assert!(waiting.contains("the last one was refused"), "{what}: {waiting}");
            scene.register("web");
            until("the next good one", async || serial(&target) != before).await;
        }
        assert!(!scene.node.log().contains("hunter2"));
        scene.agent.withdraw(&pod("web"));
        until("a withdrawal after all that", async || !target.join("tls.key").exists()).await;
    });
}

fn with_api_server(node: &mut Node) -> ApiServer {
    let server = ApiServer::start();
    server.users.accept("token", User::service_account("spire", "svid-csi"));
    let kubeconfig = node.path("kubeconfig");
    std::fs::write(&kubeconfig, server.kubeconfig("token")).unwrap();
    node.add_args(&[&format!("--kubeconfig={}", kubeconfig.display())]);
    server
}

/// Otherwise the pod info of a request may come from the pod's author.
#[test]
fn a_driver_without_pod_info_does_not_start() {
    prepared_test(&[FILES, SOCKET], async |mut scene| {
        let server = with_api_server(&mut scene.node);
        let metadata = json!({"name": "csi.spiffe.io"});
        let spec = json!({"podInfoOnMount": false});
        server
            .objects
            .put(json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": metadata, "spec": spec}));
        scene.agent.resume();
        scene.node.spawn();
        until("it has ended", async || scene.node.has_ended()).await;
        let log = scene.node.log();
        assert!(log.contains("the CSIDriver object") && log.contains("lacks podInfoOnMount: true"), "{log}");
    });
}

#[test]
fn the_pod_gets_an_event() {
    prepared_test(&[FILES, SOCKET], async |mut scene| {
        let server = with_api_server(&mut scene.node);
        scene.agent.resume();
        scene.node.start().await;
        let target = scene.registered("web").await;
        scene.agent.edit(&pod("web"), |response| response.svids[0].bundle.clear());
        let event = async |reason: &str| {
            server
                .pulse
                .until(reason, || {
                    let calls = server.calls.of("create", "events");
                    calls.into_iter().find(|call| call.body["reason"] == reason).map(|call| call.body)
                })
                .await
        };
        let refused = event("IdentityRefused").await;
        assert_eq!(
            (&refused["involvedObject"]["name"], &refused["involvedObject"]["uid"]),
            (&"web".into(), &"uid-of-web".into())
        );
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("empty trust bundle") && message.ends_with(" [identity-refused]"), "{refused}");
        svid(&target).check_chain().unwrap();
        scene.agent.withdraw(&pod("web"));
        let denied = event("IdentityDenied").await;
        assert!(denied["message"].as_str().unwrap().contains("withdrawn"), "{denied}");
        assert!(denied["message"].as_str().unwrap().ends_with(" [identity-missing]"), "{denied}");
    });
}

#[test]
fn outside_of_a_cluster_no_event_is_written_and_that_is_logged_once() {
    files_test(async |scene| {
        scene.registered("web").await;
        scene.agent.edit(&pod("web"), |response| response.svids[0].bundle.clear());
        until("it is refused", async || scene.metric("identities_refused_total").await == 1.0).await;
        assert_eq!(scene.node.log().matches("events for pods are not sent").count(), 1, "{}", scene.node.log());
    });
}
