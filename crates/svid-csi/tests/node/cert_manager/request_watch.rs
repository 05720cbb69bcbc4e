//! One list and one watch per node, without a gap and without polling.

use svid_csi_core::cert_request::{NODE_LABEL, VOLUME_LABEL, hash_identifier};
use svid_csi_testkit::api_server::{Fault, Mode};

use super::cluster::{Cluster, REQUESTS, cluster_test, prepared_test};
use crate::fixture::svid;

/// Publishes; once the request exists, runs `meanwhile` and then has the certificate issued.
async fn publish_through(cluster: &Cluster, pod: &str, meanwhile: impl AsyncFnOnce(&str)) {
    cluster.server.cert_manager.mode(Mode::ByHand);
    let volume = cluster.volume(pod);
    let issue = async {
        let (name, _) = cluster.pending(pod).await;
        meanwhile(&name).await;
    };
    let (target, ()) = tokio::join!(cluster.node.publish(&volume), issue);
    svid(&target).check_chain().unwrap();
    assert_eq!(cluster.server.calls.count("get", REQUESTS), 0, "{}", cluster.server.calls.log());
    assert_eq!(cluster.server.cert_manager.of_pod(pod).len(), 1, "{}", cluster.server.calls.log());
}

async fn not_watching(cluster: &Cluster) {
    cluster.until("the watch is over", || (cluster.server.watches.count(REQUESTS) == 0).then_some(())).await;
}

/// The number of lists, without those of one object, which only show the current version.
pub(super) fn lists(cluster: &Cluster) -> usize {
    let calls = cluster.server.calls.of("list", REQUESTS).into_iter();
    calls.filter(|call| !call.uri.ends_with("limit=1")).count()
}

#[test]
fn certificates_issued_while_the_connection_is_broken_are_seen() {
    cluster_test(&[], async |cluster| {
        publish_through(&cluster, "web", async |name| {
            cluster.server.watches.break_all();
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
        })
        .await;
        publish_through(&cluster, "api", async |name| {
            cluster.server.watches.end_all();
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
        })
        .await;
        assert_eq!(lists(&cluster), 1, "it continues where it was: {}", cluster.server.calls.log());
    });
}

#[test]
fn a_forgotten_resource_version_causes_a_new_list() {
    cluster_test(&[], async |cluster| {
        publish_through(&cluster, "web", async |name| {
            cluster.server.watches.gone_all();
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
            cluster.server.objects.compact();
        })
        .await;
        assert_eq!(lists(&cluster), 2, "{}", cluster.server.calls.log());
    });
}

#[test]
fn an_older_state_that_was_restored_causes_a_new_list() {
    cluster_test(&[], async |cluster| {
        publish_through(&cluster, "web", async |name| {
            let backup = cluster.server.objects.backup();
            for number in 0..20 {
                cluster.server.objects.put(other_map(number));
            }
            cluster.server.faults.always("watch", REQUESTS, Fault::Unavailable);
            cluster.server.watches.bookmark_all();
            cluster.server.watches.end_all();
            not_watching(&cluster).await;
            cluster.server.objects.restore(backup);
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
            cluster.server.faults.clear();
        })
        .await;
        assert_eq!(lists(&cluster), 2, "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_watch_refused_as_too_old_is_listed_again() {
    cluster_test(&[], async |cluster| {
        publish_through(&cluster, "web", async |name| {
            cluster.server.faults.always("watch", REQUESTS, Fault::Unavailable);
            cluster.server.watches.break_all();
            not_watching(&cluster).await;
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
            // The version it knows is now too old, and every watch from there is answered with 410.
            cluster.server.objects.compact();
            cluster.server.faults.clear();
        })
        .await;
        assert_eq!(lists(&cluster), 2, "{}", cluster.server.calls.log());
    });
}

#[test]
fn deletions_without_a_watch_are_noticed() {
    cluster_test(&[], async |cluster| {
        cluster.server.cert_manager.mode(Mode::ByHand);
        let volume = cluster.volume("web");
        let delete = async {
            let (name, _) = cluster.pending("web").await;
            cluster.server.faults.always("watch", REQUESTS, Fault::Unavailable);
            cluster.server.watches.gone_all();
            not_watching(&cluster).await;
            assert!(cluster.server.cert_manager.delete(&name));
            cluster.server.objects.compact();
            cluster.server.faults.clear();
            name
        };
        let ((_, message), name) = tokio::join!(cluster.node.refused(&volume), delete);
        assert!(message.contains("deleted") && message.contains(&name), "{message}");
    });
}

#[test]
fn a_bookmark_saves_a_list() {
    cluster_test(&[], async |cluster| {
        publish_through(&cluster, "web", async |name| {
            for number in 0..20 {
                cluster.server.objects.put(other_map(number));
            }
            cluster.server.faults.always("watch", REQUESTS, Fault::Unavailable);
            cluster.server.watches.bookmark_all();
            cluster.server.watches.end_all();
            not_watching(&cluster).await;
            cluster.server.objects.compact();
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
            cluster.server.faults.clear();
        })
        .await;
        assert_eq!(lists(&cluster), 1, "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_node_with_many_requests_lists_them_in_pages() {
    prepared_test(&[], async |mut cluster| {
        let (node, mut gone) = (hash_identifier("n1"), None);
        for number in 0..250 {
            let (volume, name) = (hash_identifier(&format!("volume-{number}")), format!("request-{number:03}"));
            let labels = serde_json::json!({NODE_LABEL: node, VOLUME_LABEL: volume});
            let metadata = serde_json::json!({"name": name, "namespace": "shop", "labels": labels});
            let spec = serde_json::json!({"request": "", "issuerRef": {"name": "spiffe-ca"}});
            let (version, kind) = ("cert-manager.io/v1", "CertificateRequest");
            let object = serde_json::json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
            cluster.server.objects.put(object);
            gone = Some(name);
        }
        cluster.start().await;
        let pages = lists(&cluster);
        assert!(pages >= 3, "{}", cluster.server.calls.log());
        publish_through(&cluster, "web", async |name| {
            assert!(cluster.server.cert_manager.delete(&gone.unwrap()));
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
        })
        .await;
        assert_eq!(lists(&cluster), pages, "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_waiting_volume_sends_no_requests() {
    cluster_test(&[], async |cluster| {
        cluster.node.publish(&cluster.volume("idle")).await;
        publish_through(&cluster, "web", async |name| {
            // The remaining work for the other pod may take place now, so only reads of requests count.
            let looks = || ["get", "list", "watch"].map(|verb| cluster.server.calls.count(verb, REQUESTS));
            let before = looks();
            // Long enough for a client that polls, like the predecessor five times per second.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            assert_eq!(looks(), before, "{}", cluster.server.calls.log());
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
        })
        .await;
    });
}

#[test]
fn a_server_that_restarts_during_a_wait_is_found_again() {
    cluster_test(&[], async |cluster| {
        publish_through(&cluster, "web", async |name| {
            cluster.server.stop();
            assert!(cluster.server.cert_manager.sign(name, &cluster.issuing()));
            cluster.server.resume();
        })
        .await;
    });
}

fn other_map(number: u32) -> serde_json::Value {
    let metadata = serde_json::json!({"name": format!("other-{number}"), "namespace": "shop"});
    serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
}
