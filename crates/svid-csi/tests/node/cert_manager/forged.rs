//! Requests that look like a volume's, which everyone can create who may create requests.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi::telemetry::report::rfc3339;
use svid_csi_core::cert_request::{NODE_LABEL, VOLUME_LABEL, hash_identifier};
use svid_csi_testkit::api_server::{Fault, Mode};

use super::cluster::{Cluster, REQUESTS, cluster_test, prepared_test};
use crate::endpoints::renew_all;
use crate::fixture::{serial, svid, until};

/// More than the driver deletes at once for any reason, and far fewer than exist.
const FEW: usize = 10;

/// A request with the labels and the owner of a volume's.
fn forged(volume: &InlineVolume, namespace: &str, name: &str) -> Value {
    let labels = json!({NODE_LABEL: hash_identifier("n1"), VOLUME_LABEL: hash_identifier(volume.id().as_str())});
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": volume.pod.name, "uid": volume.pod.uid});
    let metadata = json!({"name": name, "namespace": namespace, "labels": labels, "ownerReferences": [owner]});
    let spec = json!({"request": "", "issuerRef": {"name": "spiffe-ca"}});
    json!({"apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest", "metadata": metadata, "spec": spec})
}

/// Forges many in a namespace that precedes that of the pod in every list.
fn forge(cluster: &Cluster, volume: &InlineVolume, namespace: &str, many: usize) {
    for number in 0..many {
        cluster.server.objects.put(forged(volume, namespace, &format!("a-{namespace}-{number:03}")));
    }
}

/// Those that the driver itself created.
fn own(cluster: &Cluster) -> Vec<String> {
    let made = cluster.server.cert_manager.requests().into_iter().filter(|request| !request.spec.username.is_empty());
    made.map(|request| request.metadata.name).collect()
}

fn in_namespace(cluster: &Cluster, namespace: &str) -> usize {
    let all = cluster.server.cert_manager.requests();
    all.iter().filter(|request| request.metadata.namespace == namespace).count()
}

#[test]
fn many_forged_requests_do_not_disturb_a_volume() {
    prepared_test(&[], async |mut cluster| {
        let volume = cluster.volume("web");
        forge(&cluster, &volume, "shop", 300);
        forge(&cluster, &volume, "evil", 50);
        cluster.start().await;
        cluster.server.faults.always("delete", REQUESTS, Fault::Delay(Duration::from_millis(20)));
        let target = cluster.node.publish(&volume).await;
        svid(&target).check_chain().unwrap();
        let (first, name) = (serial(&target), own(&cluster).remove(0));
        renew_all(&cluster.node).await;
        until("it is renewed", async || serial(&target) != first).await;
        let is_gone = || (!own(&cluster).contains(&name)).then_some(());
        cluster.until("its own old request is removed", is_gone).await;
        cluster.node.unpublish(&volume).await;
        assert!(!target.exists());
        cluster.until("its own requests are removed", || own(&cluster).is_empty().then_some(())).await;
        let deletes = cluster.server.calls.of("delete", REQUESTS);
        assert!(deletes.iter().all(|call| call.namespace == "shop"), "{deletes:?}");
        assert_eq!((in_namespace(&cluster, "evil"), cluster.creates()), (50, 2), "{}", cluster.server.calls.log());
        let peak = cluster.server.calls.peak("delete", REQUESTS);
        assert!((1..=FEW).contains(&peak), "{peak} at once: {}", cluster.server.calls.log());
        assert!(in_namespace(&cluster, "shop") < 300, "those in the pod's namespace are taken for its own");
    });
}

#[test]
fn a_forged_denial_in_another_namespace_delays_no_volume() {
    prepared_test(&[], async |mut cluster| {
        let volume = cluster.volume("web");
        let mut denied = forged(&volume, "evil", "denied");
        denied["metadata"]["annotations"] = json!({"svid-csi/attempt": "4294967295"});
        denied["status"] = json!({
            "conditions": [
                {"type": "Denied", "status": "True", "reason": "Policy", "message": "no"},
                {"type": "Ready", "status": "False", "reason": "Denied", "message": "no"},
            ],
            "failureTime": rfc3339(SystemTime::now()),
        });
        cluster.server.objects.put(denied);
        cluster.start().await;
        let target = cluster.node.publish(&volume).await;
        let first = serial(&target);
        assert_eq!(cluster.creates(), 1, "{}", cluster.server.calls.log());
        cluster.node.kill();
        cluster.start().await;
        cluster.node.publish(&cluster.volume("web")).await;
        renew_all(&cluster.node).await;
        until("nor a renewal", async || serial(&target) != first).await;
        cluster.node.unpublish(&volume).await;
        cluster.until("its own requests are removed", || own(&cluster).is_empty().then_some(())).await;
        assert_eq!(in_namespace(&cluster, "evil"), 1);
    });
}

#[test]
fn forged_requests_do_not_hide_the_awaited_one() {
    cluster_test(&[], async |cluster| {
        cluster.server.cert_manager.mode(Mode::ByHand);
        let volume = cluster.volume("web");
        forge(&cluster, &volume, "evil", 50);
        forge(&cluster, &volume, "shop", 50);
        let sign = async {
            let name = cluster.until("a request", || own(&cluster).pop()).await;
            // Everything is listed again, the forged ones before the real one.
            let lists = cluster.server.calls.count("list", REQUESTS);
            cluster.server.watches.gone_all();
            let listed = || (cluster.server.calls.count("list", REQUESTS) > lists).then_some(());
            cluster.until("it lists again", listed).await;
            cluster.is_watching().await;
            assert!(cluster.server.cert_manager.sign(&name, &cluster.issuing()));
        };
        let (target, ()) = tokio::join!(cluster.node.publish(&volume), sign);
        svid(&target).check_chain().unwrap();
        assert_eq!(cluster.creates(), 1, "{}", cluster.server.calls.log());
    });
}
