//! The driver creates the requests of the pods.

use super::cluster::{Cluster, DRIVER, REQUESTS, cluster_test};
use crate::fixture::{pod, serial, volume};

/// Publishes two volumes, one without a token of its pod, and checks who creates their requests, also at a renewal.
async fn creates_with_its_own_token(cluster: Cluster) {
    let bare = volume("web");
    let target = cluster.node.publish(&bare).await;
    cluster.node.publish(&cluster.volume("api")).await;
    let creators: Vec<_> = cluster.server.calls.of("create", REQUESTS);
    assert!(creators.len() == 2 && creators.iter().all(|call| call.user.as_deref() == Some(DRIVER)));
    for request in cluster.server.cert_manager.requests() {
        let fact = |fact: &str| request.spec.extra[&format!("authentication.kubernetes.io/{fact}")][0].clone();
        assert_eq!((fact("pod-uid"), fact("node-name")), ("uid-of-the-driver".to_owned(), "n1".to_owned()));
        assert_eq!(request.metadata.namespace, pod("web").namespace, "in the pod's namespace nevertheless");
    }
    let first = serial(&target);
    crate::endpoints::renew_all(&cluster.node).await;
    crate::fixture::until("it is renewed without a token", async || serial(&target) != first).await;
}

#[test]
fn with_the_predecessors_flag_the_driver_uses_its_own_token() {
    cluster_test(&["--use-own-service-account"], async |cluster| creates_with_its_own_token(cluster).await);
}

#[test]
fn in_mode_own_the_driver_uses_its_own_token() {
    cluster_test(&["--request-mode=own"], async |cluster| creates_with_its_own_token(cluster).await);
}

#[test]
fn in_mode_node_bound_the_driver_uses_its_own_token() {
    cluster_test(&["--request-mode=node-bound"], async |cluster| creates_with_its_own_token(cluster).await);
}

#[test]
fn a_broken_token_is_an_error_even_if_none_is_needed() {
    cluster_test(&["--request-mode=own"], async |cluster| {
        let mut volume = volume("web");
        volume.tokens = Some("{".to_owned());
        assert_eq!(cluster.node.refused(&volume).await.0, tonic::Code::InvalidArgument);
        assert_eq!(cluster.creates(), 0);
    });
}
