//! The requests to cert-manager, and the identities of pods.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use svid_csi::spiffe::svid::Svid;
use svid_csi_core::approve::{Mode, Policy, Request, Verdict, judge};
use svid_csi_core::cert_request::{CertificateRequest, IssuerRef, hash_identifier};
use svid_csi_core::identity::KeyType;
use svid_csi_core::spiffe_id::TrustDomain;

use super::cluster::{Cluster, DRIVER, REQUESTS, cluster_test};
use crate::fixture::{serial, test};

fn issuer(kind: &str) -> IssuerRef {
    IssuerRef { name: "spiffe-ca".to_owned(), kind: kind.to_owned(), group: "cert-manager.io".to_owned() }
}

fn policy(kind: &str, key_type: KeyType, duration: Duration) -> Policy {
    Policy {
        driver_name: "spiffe.csi.cert-manager.io".to_owned(),
        trust_domain: TrustDomain::parse("example.org").unwrap(),
        duration,
        issuer: Some(issuer(kind)),
        former_issuers: Vec::new(),
        mode: Mode::Pod,
        key_types: [key_type].into(),
        auto_approve_non_spiffe: false,
    }
}

fn only_request(cluster: &Cluster) -> CertificateRequest {
    let requests = cluster.server.cert_manager.requests();
    assert_eq!(requests.len(), 1, "{}", cluster.server.calls.log());
    requests.into_iter().next().unwrap()
}

#[test]
fn a_pod_gets_its_identity_by_one_request() {
    cluster_test(&[], async |cluster| {
        let volume = cluster.volume("web");
        let target = cluster.node.publish(&volume).await;
        let svid = Svid::read(&target).unwrap();
        svid.check_key().unwrap();
        svid.check_chain().unwrap();
        assert_eq!(svid.leaf().unwrap().spiffe_id, "spiffe://example.org/ns/shop/sa/web");
        assert_eq!(
            serial(&cluster.node.publish(&cluster.volume("web")).await),
            serial(&target),
            "a republish is quiet"
        );
        let users = |verb| cluster.server.calls.of(verb, REQUESTS).into_iter().map(|call| call.user.unwrap()).collect();
        let (creators, watchers): (Vec<String>, Vec<String>) = (users("create"), users("watch"));
        assert_eq!((creators, watchers), (vec!["system:serviceaccount:shop:web".to_owned()], vec![DRIVER.to_owned()]));
        assert_eq!(cluster.server.calls.count("get", REQUESTS), 0, "{}", cluster.server.calls.log());

        let request = only_request(&cluster);
        let metadata = &request.metadata;
        assert_eq!((metadata.namespace.as_str(), metadata.name.len()), ("shop", 36));
        let labels = [
            ("csi.cert-manager.io/node-id-hash".to_owned(), hash_identifier("n1")),
            ("csi.cert-manager.io/volume-id-hash".to_owned(), hash_identifier(volume.id().as_str())),
        ];
        assert_eq!(metadata.labels, BTreeMap::from(labels));
        let identity = ("spiffe.csi.cert-manager.io/identity", "spiffe://example.org/ns/shop/sa/web");
        assert_eq!(
            metadata.annotations,
            BTreeMap::from([identity].map(|(key, value)| (key.to_owned(), value.to_owned())))
        );
        assert!(metadata.owner_references.len() == 1 && metadata.owner_references[0].is_pod());
        assert_eq!((&*metadata.owner_references[0].name, &*metadata.owner_references[0].uid), ("web", "uid-of-web"));
        assert_eq!((request.spec.duration.as_deref(), request.spec.is_ca), (Some("1h0m0s"), false));
        assert_eq!(request.spec.usages, ["digital signature", "key encipherment", "server auth", "client auth"]);
        assert_eq!(
            (&request.spec.issuer_ref, request.spec.username.as_str()),
            (&issuer("ClusterIssuer"), "system:serviceaccount:shop:web")
        );
    });
}

#[test]
fn the_approver_approves_the_requests_of_every_flag() {
    test(async || {
        for (name, kind, key_type) in [
            ("ecdsa-p256", "ClusterIssuer", KeyType::EcdsaP256),
            ("ecdsa-p384", "Issuer", KeyType::EcdsaP384),
            ("ecdsa-p521", "Issuer", KeyType::EcdsaP521),
            ("rsa-2048", "Issuer", KeyType::Rsa2048),
            ("ed25519", "Issuer", KeyType::Ed25519),
        ] {
            let flags = [format!("--issuer-kind={kind}"), format!("--key-type={name}")];
            let more =
                [&*flags[0], &*flags[1], "--certificate-request-duration=90m", "--source-ca-bundle={dir}/ca.crt"];
            let cluster = Cluster::started(&[&more]).await;
            let target = cluster.node.publish(&cluster.volume("web")).await;
            Svid::read(&target).unwrap().check_key().unwrap();
            let mut request = only_request(&cluster);
            request.status = None;
            let verdict = judge(&Request::from(&request), &policy(kind, key_type, Duration::from_secs(5400)));
            assert!(matches!(verdict, Verdict::Approve | Verdict::Depends(_)), "{name}: {verdict:?}");
        }
    });
}

#[test]
fn extra_annotations_are_added_but_do_not_override_ours() {
    let more =
        ["--extra-certificate-request-annotations=team=shop,spiffe.csi.cert-manager.io/identity=spiffe://evil/x"];
    cluster_test(&more, async |cluster| {
        cluster.node.publish(&cluster.volume("web")).await;
        let annotations = only_request(&cluster).metadata.annotations;
        assert_eq!(annotations["team"], "shop");
        assert_eq!(annotations["spiffe.csi.cert-manager.io/identity"], "spiffe://example.org/ns/shop/sa/web");
        let log = cluster.node.log();
        assert!(log.contains("extra-certificate-request-annotations"), "the administrator is warned: {log}");
    });
}

#[test]
fn without_a_bundle_there_is_no_ca_file() {
    test(async || {
        let cluster = Cluster::started(&[]).await;
        let target = cluster.node.publish(&cluster.volume("web")).await;
        assert!(target.join("tls.crt").exists() && target.join("tls.key").exists());
        assert!(!target.join("ca.crt").exists(), "the issuer's statement about itself is not a trust bundle");
    });
}

#[test]
fn many_pods_at_once_get_one_request_each() {
    cluster_test(&[], async |cluster| {
        let volumes: Vec<_> = (0..24).map(|pod| cluster.volume(&format!("pod-{pod}"))).collect();
        let published = futures::future::join_all(volumes.iter().map(|volume| cluster.node.publish(volume))).await;
        for (pod, target) in published.iter().enumerate() {
            let leaf = Svid::read(target).unwrap().leaf().unwrap();
            assert_eq!(leaf.spiffe_id, format!("spiffe://example.org/ns/shop/sa/pod-{pod}"));
        }
        assert_eq!((cluster.creates(), cluster.server.cert_manager.requests().len()), (24, 24));
        assert_eq!(cluster.server.calls.count("watch", REQUESTS), 1, "{}", cluster.server.calls.log());
        assert!(fs::read_dir(cluster.node.path("root/records")).unwrap().count() == 24);
    });
}
