//! Requests that fail: the reports, and the time of the next attempt.

use svid_csi_testkit::api_server::Mode;
use tonic::Code;

use super::cluster::{Cluster, cluster_test};

/// Publishes while the test decides the request. Returns code, message and the request's name.
async fn ended(cluster: &Cluster, pod: &str, end: impl FnOnce(&str) -> bool) -> (Code, String, String) {
    cluster.server.cert_manager.mode(Mode::ByHand);
    let volume = cluster.volume(pod);
    let ending = async {
        let (name, _) = cluster.pending(pod).await;
        assert!(end(&name));
        name
    };
    let ((code, message), name) = tokio::join!(cluster.node.refused(&volume), ending);
    (code, message, name)
}

const PODS: [&str; 4] = ["denied", "failed", "invalid", "deleted"];

/// Each pod has so many attempts behind it, long ago, that minutes pass between the next two: no machine is so slow
/// that the second one would occur during the test.
async fn long_back_offs(cluster: &mut Cluster) {
    for pod in PODS {
        let (_, _, name) = ended(cluster, pod, |name| cluster.server.cert_manager.deny(name, "not yet")).await;
        assert!(cluster.server.cert_manager.backdate(&name, 9));
    }
    cluster.node.kill();
    cluster.start().await;
}

#[test]
fn each_failure_is_reported_and_not_repeated() {
    cluster_test(&[], async |mut cluster| {
        long_back_offs(&mut cluster).await;
        let manager = &cluster.server.cert_manager;
        let outcomes = [
            (ended(&cluster, "denied", |name| manager.deny(name, "not you")).await, Code::PermissionDenied, "not you"),
            (
                ended(&cluster, "failed", |name| manager.fail(name, "no disk")).await,
                Code::FailedPrecondition,
                "no disk",
            ),
            (
                ended(&cluster, "invalid", |name| manager.invalid(name, "nonsense")).await,
                Code::FailedPrecondition,
                "nonsense",
            ),
            (ended(&cluster, "deleted", |name| manager.delete(name)).await, Code::Unavailable, "deleted"),
        ];
        for ((code, message, name), expected, words) in &outcomes {
            assert_eq!(code, expected, "{message}");
            for part in [name.as_str(), "shop", "ClusterIssuer", "spiffe-ca", *words] {
                assert!(message.contains(part), "{part} in {message}");
            }
        }
        for (pod, (outcome, ..)) in PODS.into_iter().zip(&outcomes) {
            for _ in 0..3 {
                let (code, message) = cluster.node.refused(&cluster.volume(pod)).await;
                assert_eq!(code, outcome.0, "a retry has the same code: {message}");
                assert!(message.contains("retrying in") && message.contains(&outcome.2), "{message}");
            }
        }
        assert_eq!(cluster.creates(), 8, "{}", cluster.server.calls.log());

        cluster.node.kill();
        cluster.start().await;
        for pod in ["denied", "failed", "invalid"] {
            let (_, message) = cluster.node.refused(&cluster.volume(pod)).await;
            assert!(message.contains("retrying in"), "the back-off outlives a kill: {message}");
        }
        assert_eq!(cluster.creates(), 8, "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_denial_is_reported_on_the_pod_if_that_is_allowed() {
    cluster_test(&[], async |cluster| {
        cluster.server.permissions.everything();
        let manager = &cluster.server.cert_manager;
        ended(&cluster, "web", |name| manager.deny(name, "not you\u{1b}[31m")).await;
        let event = cluster
            .until("an event", || cluster.server.objects.all("events").pop().or_else(|| events_k8s(&cluster)))
            .await;
        let text = event.to_string();
        for part in ["uid-of-web", "Warning", "not you", "IdentityDenied"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("u001b"), "the approver's text is escaped: {text}");
    });
}

#[test]
fn a_denial_is_reported_on_the_pod_once() {
    cluster_test(&[], async |mut cluster| {
        cluster.server.permissions.everything();
        cluster.server.cert_manager.mode(Mode::Deny("not you".to_owned()));
        for restarted in [false, true] {
            if restarted {
                cluster.node.kill();
                cluster.start().await;
            }
            for _ in 0..4 {
                cluster.node.refused(&cluster.volume("web")).await;
            }
            // Events are sent in order, so those of this pod follow all those of the other.
            let last = format!("last-{restarted}");
            cluster.node.refused(&cluster.volume(&last)).await;
            cluster.until("the last event", || (!denial_events(&cluster, &last).is_empty()).then_some(())).await;
        }
        let events = denial_events(&cluster, "web");
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(
            (&events[0]["type"], &events[0]["reason"]),
            (&"Warning".into(), &"IdentityDenied".into()),
            "{events:?}"
        );
        assert_eq!(cluster.creates(), 3, "{}", cluster.server.calls.log());
    });
}

/// The events on a pod.
fn denial_events(cluster: &Cluster, pod: &str) -> Vec<serde_json::Value> {
    let events = cluster.server.calls.of("create", "events").into_iter().map(|call| call.body);
    events.filter(|event| event["involvedObject"]["name"] == pod).collect()
}

fn events_k8s(cluster: &Cluster) -> Option<serde_json::Value> {
    let of_events = cluster.server.calls.of("create", "events").pop()?;
    Some(of_events.body)
}
