//! Certificates that are not the pod's identity: the error names issuer and rule, and the last good pair stays.

use svid_csi_testkit::Flaw;
use svid_csi_testkit::api_server::Mode;
use tonic::Code;

use super::cluster::cluster_test;
use crate::endpoints::renew_all;
use crate::fixture::{serial, svid, until};

/// The default of a driver name of our own.
const STRICT: &[&str] = &["--require-chain=true"];

/// The fault, and a word of the rule it breaks.
const FLAWS: [(Flaw, &str); 15] = [
    (Flaw::OtherKey, "private key does not belong"),
    (Flaw::OtherId, "spiffe://example.org/ns/shop/sa/somebody-else"),
    (Flaw::NoUri, "0 URI names"),
    (Flaw::TwoUris, "2 URI names"),
    (Flaw::NoUsages, "extended key usage"),
    (Flaw::NoKeyUsage, "key usage"),
    (Flaw::IsCa, "CA certificate"),
    (Flaw::Expired, "expired"),
    (Flaw::NotYetValid, "valid only from"),
    (Flaw::EmptyChain, "empty"),
    (Flaw::HugeChain, "bytes"),
    (Flaw::UnknownCa, "does not lead to the trust bundle"),
    (Flaw::Garbage, "status.certificate"),
    (Flaw::SelfSigned, "private key does not belong"),
    (Flaw::NoIntermediate, "does not lead to the trust bundle"),
];

#[test]
fn a_wrong_first_certificate_is_refused_by_its_rule() {
    cluster_test(STRICT, async |cluster| {
        let deep = std::sync::Arc::new(svid_csi_testkit::TestCa::with_intermediate("deep"));
        for (index, (flaw, rule)) in FLAWS.into_iter().enumerate() {
            let issuing = if flaw == Flaw::NoIntermediate {
                svid_csi_testkit::api_server::Issuing::by(&deep)
            } else {
                cluster.issuing()
            };
            cluster.server.cert_manager.mode(Mode::Issue(issuing.flaw(flaw)));
            let volume = cluster.volume(&format!("pod-{index}"));
            let (code, message) = cluster.node.refused(&volume).await;
            assert_eq!(code, Code::FailedPrecondition, "{flaw:?}: {message}");
            let name = &cluster.server.cert_manager.of_pod(&volume.pod.name)[0].metadata.name;
            for part in [rule, "ClusterIssuer", "spiffe-ca", name] {
                assert!(message.contains(part), "{flaw:?}: {part} in {message}");
            }
            assert!(message.len() < 2000, "{flaw:?}: {} bytes", message.len());
            assert!(!cluster.node.kubelet.target(&volume).exists(), "{flaw:?}: nothing is mounted");
            let (_, again) = cluster.node.refused(&cluster.volume(&volume.pod.name)).await;
            assert!(again.contains("retrying in"), "{flaw:?}: {again}");
        }
        assert_eq!(cluster.creates(), FLAWS.len(), "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_wrong_renewal_leaves_the_last_good_pair() {
    cluster_test(&[STRICT, &["--request-mode=own"]].concat(), async |cluster| {
        let volumes: Vec<_> = (0..FLAWS.len()).map(|index| cluster.volume(&format!("pod-{index}"))).collect();
        for (volume, (flaw, rule)) in volumes.iter().zip(FLAWS) {
            cluster.server.cert_manager.mode(Mode::Issue(cluster.issuing()));
            let target = cluster.node.publish(volume).await;
            let first = serial(&target);
            let issuing = if flaw == Flaw::NoIntermediate {
                cluster.issuing().flaw(Flaw::UnknownCa)
            } else {
                cluster.issuing().flaw(flaw)
            };
            cluster.server.cert_manager.mode(Mode::Issue(issuing));
            let before = cluster.metric("renewal_failures_total").await;
            renew_all(&cluster.node).await;
            until("the failure is counted", async || cluster.metric("renewal_failures_total").await == before + 1.0)
                .await;
            assert_eq!(serial(&target), first, "{flaw:?}");
            svid(&target).check_chain().unwrap();
            assert_eq!(cluster.node.trouble(volume).await.filter(|trouble| trouble.contains("expired")), None);
            assert!(cluster.node.log().contains(rule), "{flaw:?}: {rule} in {}", cluster.node.log());
            let creates = cluster.server.cert_manager.of_pod(&volume.pod.name).len();
            assert!(creates <= 2, "{flaw:?}: {creates} requests");
            cluster.node.unpublish(volume).await;
        }
        assert_eq!(cluster.creates(), 2 * FLAWS.len(), "no loop: {}", cluster.server.calls.log());
    });
}
