//! Certificates whose chain does not lead to the trust bundle: csi-driver-spiffe delivers them, so its replacement does
//! too, and reports that.

use std::fs;
use std::sync::Arc;

use svid_csi_testkit::TestCa;
use svid_csi_testkit::api_server::{Issuing, Mode};
use tonic::Code;

use super::cluster::{Cluster, cluster_test};
use crate::endpoints::{metric, renew_all};
use crate::fixture::{serial, svid, until};

const TROUBLE: &str = "the certificate chain does not lead to the trust bundle";

/// The warnings on a pod.
fn events(cluster: &Cluster, pod: &str) -> Vec<String> {
    let events = cluster.server.calls.of("create", "events").into_iter().map(|call| call.body);
    let of_pod = events.filter(|event| event["involvedObject"]["name"] == pod && event["type"] == "Warning");
    of_pod.map(|event| format!("{} {} {}", event["type"], event["reason"], event["message"])).collect()
}

/// In how many of the three places it is reported: condition, status and metrics.
async fn said(cluster: &Cluster, pod: &str) -> usize {
    let condition = cluster.node.trouble(&cluster.volume(pod)).await;
    let places = [
        condition.is_some_and(|condition| condition.contains(TROUBLE)),
        cluster.status().await.to_string().contains(TROUBLE),
        metric(&cluster.node, "volumes_not_trusted").await == Some(1.0),
    ];
    places.into_iter().filter(|is_said| *is_said).count()
}

#[test]
fn an_issuer_outside_the_bundle_is_reported_and_the_pod_starts() {
    cluster_test(&[], async |cluster| {
        cluster.server.permissions.everything();
        let next = Arc::new(TestCa::new("next"));
        cluster.server.cert_manager.mode(Mode::Issue(Issuing::by(&next)));
        let target = cluster.node.publish(&cluster.volume("web")).await;
        assert!(svid(&target).check_chain().is_err());
        assert_eq!(said(&cluster, "web").await, 3);
        let event = cluster.until("an event", || events(&cluster, "web").pop()).await;
        assert!(["Warning", "ChainNotTrusted", TROUBLE].iter().all(|part| event.contains(part)), "{event}");

        let first = serial(&target);
        renew_all(&cluster.node).await;
        until("it is renewed", async || serial(&target) != first).await;
        assert_eq!(said(&cluster, "web").await, 3);
        assert_eq!(events(&cluster, "web").len(), 1, "the same is said once");

        fs::write(cluster.node.path("ca.crt"), next.bundle_pem()).unwrap();
        until("a bundle clears it", async || said(&cluster, "web").await == 0).await;
        assert!(svid(&target).check_chain().is_ok());
    });
}

#[test]
fn a_renewal_by_the_right_issuer_clears_it() {
    cluster_test(&[], async |cluster| {
        cluster.server.cert_manager.mode(Mode::Issue(Issuing::by(&Arc::new(TestCa::new("next")))));
        let target = cluster.node.publish(&cluster.volume("web")).await;
        assert_eq!(said(&cluster, "web").await, 3);
        cluster.server.cert_manager.mode(Mode::Issue(cluster.issuing()));
        renew_all(&cluster.node).await;
        until("a renewal clears it", async || said(&cluster, "web").await == 0).await;
        assert!(svid(&target).check_chain().is_ok());
    });
}

#[test]
fn it_is_refused_if_the_flag_says_so() {
    cluster_test(&["--require-chain"], async |cluster| {
        cluster.server.cert_manager.mode(Mode::Issue(Issuing::by(&Arc::new(TestCa::new("next")))));
        let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
        assert!(code != Code::Ok && message.contains(TROUBLE), "{message}");
    });
}

#[test]
fn a_socket_never_serves_it() {
    let args = ["--allow-plan=cert-manager:workload-api", "--require-chain=false"];
    cluster_test(&args, async |cluster| {
        cluster.server.cert_manager.mode(Mode::Issue(Issuing::by(&Arc::new(TestCa::new("next")))));
        let volume = cluster.volume("web").attribute("svid-csi/delivery", "workload-api");
        let (_, message) = cluster.node.refused(&volume).await;
        assert!(message.contains(TROUBLE), "{message}");
    });
}

#[test]
fn the_text_of_the_bundle_arrives_as_it_is() {
    cluster_test(&[], async |cluster| {
        let text = |ca: &TestCa| format!("# ours\r\n{}\n\nsubject=x\n", ca.bundle_pem());
        let shown = |target: &std::path::Path| fs::read_to_string(target.join("ca.crt")).unwrap_or_default();
        let next = TestCa::new("next");
        let both = text(&cluster.ca) + &text(&next);
        fs::write(cluster.node.path("ca.crt"), &both).unwrap();
        let target = cluster.node.publish(&cluster.volume("web")).await;
        until("it exists", async || shown(&target) == both).await;
        let other = text(&next) + &text(&cluster.ca) + &text(&TestCa::new("third"));
        fs::write(cluster.node.path("ca.crt"), &other).unwrap();
        until("so is the next", async || shown(&target) == other).await;
        let first = serial(&target);
        renew_all(&cluster.node).await;
        until("it is renewed", async || serial(&target) != first).await;
        assert_eq!(shown(&target), other);
    });
}

#[test]
fn a_bundle_is_used_without_a_certificate_that_is_not_of_a_ca() {
    cluster_test(&[], async |cluster| {
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let leaf = fs::read_to_string(target.join("tls.crt")).unwrap();
        let next = TestCa::new("next");
        fs::write(cluster.node.path("ca.crt"), leaf + &cluster.ca.bundle_pem() + &next.bundle_pem()).unwrap();
        let shown = || fs::read_to_string(target.join("ca.crt")).unwrap_or_default();
        until("the CAs exist", async || shown().matches("BEGIN").count() == 2).await;
        assert!(svid(&target).check_chain().is_ok());
        assert_eq!(cluster.node.log().matches("skipping a certificate in the trust bundle").count(), 1);
        assert!(cluster.node.log().contains("is not a CA certificate that may sign others"));
    });
}
