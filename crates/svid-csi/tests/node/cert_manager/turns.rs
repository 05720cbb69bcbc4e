//! The order of renewals, and events that do not cost a volume its turn.

use std::path::{Path, PathBuf};
use std::time::Duration;

use svid_csi_testkit::api_server::Mode;

use super::cluster::{Cluster, REQUESTS, cluster_test};
use crate::endpoints::renew_pod;
use crate::fixture::{serial, svid, until};

const ONE: [&str; 2] = ["--renewal-concurrency=1", "--request-mode=own"];

/// Publishes volumes of these pods, and lets the test decide all later requests.
async fn published<const N: usize>(cluster: &Cluster, pods: [&str; N]) -> [PathBuf; N] {
    let mut targets = Vec::new();
    for pod in pods {
        targets.push(cluster.node.publish(&cluster.volume(pod)).await);
    }
    cluster.server.cert_manager.mode(Mode::ByHand);
    targets.try_into().unwrap()
}

/// Has a pod's volume renewed, and waits for its request. Returns the name.
async fn renews(cluster: &Cluster, pod: &str) -> String {
    renew_pod(&cluster.node, &format!("shop/{pod}")).await;
    let name = cluster.pending(pod).await.0;
    // Until then a change of mode may also apply to this request.
    let answered = || cluster.server.calls.of("create", REQUESTS).iter().all(|call| call.code.is_some()).then_some(());
    cluster.until("the request is answered", answered).await;
    name
}

/// Has a pod's volume renewed, and waits until it waits for its turn.
async fn queues(cluster: &Cluster, pod: &str) {
    renew_pod(&cluster.node, &format!("shop/{pod}")).await;
    let id = cluster.volume(pod).id().to_string();
    let waits = async || cluster.status().await["waiting"][&id].to_string().contains("renewal-concurrency");
    until("it waits for its turn", waits).await;
}

async fn changes(target: &Path, from: &str) {
    until("it is renewed", async || serial(target) != from).await;
    svid(target).check_chain().unwrap();
}

fn sign(cluster: &Cluster, request: &str) {
    assert!(cluster.server.cert_manager.sign(request, &cluster.issuing()));
}

#[test]
fn a_renewal_whose_request_exists_waits_for_no_turn() {
    cluster_test(&ONE, async |cluster| {
        let [a, b, c] = published(&cluster, ["a", "b", "c"]).await;
        let [first_a, first_b, first_c] = [&a, &b, &c].map(|target| serial(target));
        let of_a = renews(&cluster, "a").await;
        queues(&cluster, "b").await;
        queues(&cluster, "c").await;
        // Another order to renew restarts it with the same request. Two turns would take longer than the test waits.
        assert_eq!(renews(&cluster, "a").await, of_a);
        let of_b = cluster.pending("b").await.0;
        sign(&cluster, &of_a);
        changes(&a, &first_a).await;
        assert_eq!((serial(&b), serial(&c)), (first_b.clone(), first_c.clone()), "they are still in progress");
        sign(&cluster, &of_b);
        changes(&b, &first_b).await;
        sign(&cluster, &cluster.pending("c").await.0);
        changes(&c, &first_c).await;
        assert_eq!(cluster.creates(), 6, "{}", cluster.server.calls.log());
    });
}

#[test]
fn neither_an_alarm_nor_a_republish_costs_a_volume_its_place() {
    cluster_test(&ONE, async |cluster| {
        let manager = &cluster.server.cert_manager;
        published(&cluster, ["a", "last"]).await;
        let of_a = renews(&cluster, "a").await;
        manager.mode(Mode::Issue(cluster.issuing().lifetime(Duration::from_secs(8))));
        let [urgent] = published(&cluster, ["urgent"]).await;
        let first = serial(&urgent);
        queues(&cluster, "urgent").await;
        queues(&cluster, "last").await;
        until("the alarm", async || cluster.node.log().contains("about to expire and was not renewed")).await;
        for _ in 0..3 {
            cluster.node.publish(&cluster.volume("urgent")).await;
        }
        assert!(manager.sign(&of_a, &cluster.issuing()));
        let next = cluster.until("the next in turn", || manager.pending().pop()).await;
        assert_eq!(next.metadata.owner_references[0].name, "urgent", "{}", cluster.node.log());
        sign(&cluster, &next.metadata.name);
        changes(&urgent, &first).await;
    });
}
