//! Trust bundles, whose changes reach every volume.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use svid_csi_core::bundle_document::BundleDocument;
use svid_csi_proto::workload::X509svidResponse;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::api_server::{Fault, Issuing, Mode};
use tonic::Code;

use super::cluster::{BUNDLE, Cluster, cluster_test};
use crate::fixture::{serial, svid, test, until};
use crate::workload_api::client::Svids;

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

async fn published(cluster: &Cluster, pods: usize) -> Vec<PathBuf> {
    let volumes: Vec<_> = (0..pods).map(|pod| cluster.volume(&format!("pod-{pod}"))).collect();
    futures::future::join_all(volumes.iter().map(|volume| cluster.node.publish(volume))).await
}

fn holds(target: &Path, cas: &[&TestCa]) -> bool {
    let text = fs::read_to_string(target.join("ca.crt")).unwrap_or_default();
    let has = |ca: &TestCa| body(&text).contains(&body(&ca.bundle_pem()));
    cas.iter().all(|ca| has(ca)) && text.matches("BEGIN").count() == cas.len()
}

/// PEM without line ends.
fn body(pem: &str) -> String {
    pem.split_whitespace().collect()
}

#[test]
fn a_changed_file_reaches_every_volume() {
    cluster_test(&[], async |cluster| {
        let targets = published(&cluster, 25).await;
        let serials: Vec<_> = targets.iter().map(|target| serial(target)).collect();
        let next = Arc::new(TestCa::new("next"));
        let both = cluster.ca.bundle_pem() + &next.bundle_pem();
        replace(&cluster.node.path("ca.crt"), &both);
        until("both CAs are everywhere", async || targets.iter().all(|target| holds(target, &[&cluster.ca, &next])))
            .await;
        let now: Vec<_> = targets.iter().map(|target| serial(target)).collect();
        assert_eq!(now, serials, "certificates that still lead to it stay");

        cluster.server.cert_manager.mode(Mode::Issue(Issuing::by(&next)));
        replace(&cluster.node.path("ca.crt"), &next.bundle_pem());
        until("every volume is of the new CA", async || {
            targets.iter().all(|target| holds(target, &[&next]) && svid(target).check_chain().is_ok())
        })
        .await;
    });
}

#[test]
fn a_text_that_changes_only_in_its_comments_reaches_files_and_nothing_else() {
    test(async || {
        let mut cluster = Cluster::started(&[BUNDLE, &["--allow-plan=cert-manager:workload-api"]]).await;
        let attribute = |(name, value): (&str, &str)| cluster.volume(name).attribute("svid-csi/delivery", value);
        let [files, socket] = [("web", "files"), ("api", "workload-api")].map(attribute);
        let files = files.attribute("svid-csi/file-bundle-json", "bundle.json");
        let (target, socket) = (cluster.node.publish(&files).await, cluster.node.publish(&socket).await);
        let mut stream = Svids::open(&socket.join("agent.sock")).await.unwrap();
        let bundle = |message: X509svidResponse| message.svids[0].bundle.clone();
        let first = bundle(stream.next().await.unwrap());
        let read = |name: &str| fs::read(target.join(name)).unwrap_or_default();
        let (leaf, document) = (serial(&target), read("bundle.json"));

        let commented = format!("# ours, until 2031\n{}", cluster.ca.bundle_pem());
        replace(&cluster.node.path("ca.crt"), &commented);
        until("the comment is in the file", async || read("ca.crt") == commented.as_bytes()).await;
        assert_eq!((serial(&target), read("bundle.json")), (leaf.clone(), document));
        assert_eq!(cluster.node.trouble(&files).await, None);

        cluster.node.terminate().await;
        let changed = commented.replace("2031", "2032");
        replace(&cluster.node.path("ca.crt"), &changed);
        cluster.start().await;
        until("it was changed without a driver", async || read("ca.crt") == changed.as_bytes()).await;
        let mut stream = Svids::open(&socket.join("agent.sock")).await.unwrap();
        assert_eq!(bundle(stream.next().await.unwrap()), first);

        // A client of the socket sees the certificates only, and its next message is the next that it can tell apart.
        let (next, last) = (TestCa::new("next"), TestCa::new("last"));
        let [own, next, last] = [cluster.ca.bundle_pem(), next.bundle_pem(), last.bundle_pem()];
        let both = own.clone() + &next;
        replace(&cluster.node.path("ca.crt"), &both);
        until("both CAs are delivered", async || read("ca.crt") == both.as_bytes()).await;
        let both = bundle(stream.next().await.unwrap());
        for text in [next.clone() + &own, format!("{next}# the old one\n{own}")] {
            replace(&cluster.node.path("ca.crt"), &text);
            until("the text is delivered", async || read("ca.crt") == text.as_bytes()).await;
        }
        replace(&cluster.node.path("ca.crt"), &(next + &own + &last));
        // A bundle may arrive once more when it is also recorded, but texts are not messages.
        let mut repeated = 0;
        while bundle(stream.next().await.unwrap()).len() <= both.len() {
            repeated += 1;
            assert!(repeated < 2, "messages without news");
        }
        assert_eq!(serial(&target), leaf);
        assert_eq!(cluster.creates(), 2, "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_changed_file_reaches_every_format() {
    cluster_test(&[], async |cluster| {
        let attributes = [("pkcs12", "key.p12"), ("pkcs12-bundle", "trust.p12"), ("bundle-json", "bundle.json")];
        let volume = attributes.iter().fold(cluster.volume("web"), |volume, (format, name)| {
            volume.attribute(&format!("svid-csi/file-{format}"), name)
        });
        let target = cluster.node.publish(&volume).await;
        let read = |name: &str| fs::read(fs::canonicalize(target.join(name)).ok()?).ok();
        let [key, trust] = ["key.p12", "trust.p12"].map(|name| read(name).expect("it exists"));
        let document = |json: Option<Vec<u8>>| BundleDocument::read(&json?).ok();
        let before = document(read("bundle.json")).expect("a document");
        assert_eq!((before.anchors.len(), before.jwt.is_empty()), (1, true));

        let next = Arc::new(TestCa::new("next"));
        replace(&cluster.node.path("ca.crt"), &(cluster.ca.bundle_pem() + &next.bundle_pem()));
        until("both CAs exist", async || {
            document(read("bundle.json")).is_some_and(|now| now.anchors.len() == 2 && now.sequence > before.sequence)
                && read("trust.p12").is_some_and(|now| now != trust)
                && holds(&target, &[&cluster.ca, &next])
        })
        .await;
        assert_eq!(read("key.p12"), Some(key), "the key and its certificate stay");
    });
}

#[test]
fn a_broken_file_keeps_the_last_bundle() {
    cluster_test(&[], async |cluster| {
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let file = cluster.node.path("ca.crt");
        for broken in ["garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let times_logged = || cluster.node.log().matches("using the last good one").count();
            let before = times_logged();
            replace(&file, broken);
            until("it is reported", async || times_logged() > before).await;
            assert!(holds(&target, &[&cluster.ca]), "{broken:?}");
        }
        fs::remove_file(&file).unwrap();
        let other = cluster.node.publish(&cluster.volume("api")).await;
        assert!(holds(&target, &[&cluster.ca]) && holds(&other, &[&cluster.ca]));
    });
}

#[test]
fn a_config_map_is_followed() {
    test(async || {
        let mut cluster = Cluster::prepared(&[&["--trust-bundle=configmap:cert-manager/issuance/roots.pem"]]);
        let put = |pem: &str| {
            let metadata = json!({"name": "issuance", "namespace": "cert-manager"});
            let data = json!({"roots.pem": pem, "other": "x"});
            cluster
                .server
                .objects
                .put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}));
        };
        put(&cluster.ca.bundle_pem());
        cluster.node.start().await;
        let target = cluster.node.publish(&cluster.volume("web")).await;
        assert!(holds(&target, &[&cluster.ca]));
        let next = TestCa::new("next");
        let put = |pem: &str| {
            let metadata = json!({"name": "issuance", "namespace": "cert-manager"});
            cluster.server.objects.put(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"roots.pem": pem}}),
            );
        };
        put(&(cluster.ca.bundle_pem() + &next.bundle_pem()));
        until("it exists", async || holds(&target, &[&cluster.ca, &next])).await;
        put("garbage");
        until("it is reported", async || cluster.node.log().contains("roots.pem")).await;
        assert!(cluster.server.objects.remove("configmaps", "cert-manager", "issuance"));
        assert!(holds(&target, &[&cluster.ca, &next]), "the last good one stays");
    });
}

fn map(pem: &str) -> serde_json::Value {
    let metadata = json!({"name": "issuance", "namespace": "cert-manager"});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"roots.pem": pem}})
}

#[test]
fn a_config_map_that_temporarily_cannot_be_watched_is_followed_again() {
    test(async || {
        let mut cluster = Cluster::prepared(&[&["--trust-bundle=configmap:cert-manager/issuance/roots.pem"]]);
        cluster.server.objects.put(map(&cluster.ca.bundle_pem()));
        cluster.start().await;
        let targets = published(&cluster, 3).await;
        cluster.until("it is watched", || (cluster.server.watches.count("configmaps") == 1).then_some(())).await;
        cluster.server.faults.always("watch", "configmaps", Fault::Unavailable);
        cluster.server.watches.end_all();
        let refused = || {
            let calls = cluster.server.calls.of("watch", "configmaps");
            calls.iter().filter(|call| call.code == Some(503)).count()
        };
        cluster.until("the watch is refused again and again", || (refused() >= 3).then_some(())).await;
        assert!(targets.iter().all(|target| holds(target, &[&cluster.ca])), "what they have stays");
        let (next, last) = (TestCa::new("next"), TestCa::new("last"));
        cluster.server.objects.put(map(&(cluster.ca.bundle_pem() + &next.bundle_pem())));
        cluster.server.faults.clear();
        until("all follow", async || targets.iter().all(|target| holds(target, &[&cluster.ca, &next]))).await;
        cluster.until("it is watched again", || (cluster.server.watches.count("configmaps") == 1).then_some(())).await;
        cluster.server.objects.put(map(&(cluster.ca.bundle_pem() + &last.bundle_pem())));
        until("all follow again", async || targets.iter().all(|target| holds(target, &[&cluster.ca, &last]))).await;
        assert!(targets.iter().all(|target| svid(target).check_chain().is_ok()));
    });
}

#[test]
fn a_changed_bundle_reaches_a_hundred_volumes_and_no_reader_sees_half_of_it() {
    cluster_test(&[], async |cluster| {
        let targets = published(&cluster, 100).await;
        let serials: Vec<_> = targets.iter().map(|target| serial(target)).collect();
        let next = TestCa::new("next");
        replace(&cluster.node.path("ca.crt"), &(cluster.ca.bundle_pem() + &next.bundle_pem()));
        until("both CAs are everywhere", async || {
            for (target, serial) in targets.iter().zip(&serials) {
                let seen = svid(target);
                seen.check_chain().unwrap();
                assert_eq!(&seen.leaf().unwrap().serial, serial, "the certificate stays");
            }
            targets.iter().all(|target| holds(target, &[&cluster.ca, &next]))
        })
        .await;
        assert_eq!(cluster.creates(), 100, "{}", cluster.server.calls.log());
    });
}

#[test]
fn a_cluster_trust_bundle_is_followed() {
    test(async || {
        let mut cluster = Cluster::prepared(&[&["--trust-bundle=clustertrustbundle:example.org"]]);
        cluster.server.permissions.everything();
        let put = |cluster: &Cluster, pem: &str| {
            let object = json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
                "metadata": {"name": "example.org"}, "spec": {"trustBundle": pem}});
            cluster.server.objects.put(object);
        };
        put(&cluster, &cluster.ca.bundle_pem());
        cluster.node.start().await;
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let next = TestCa::new("next");
        put(&cluster, &(cluster.ca.bundle_pem() + &next.bundle_pem()));
        until("it exists", async || holds(&target, &[&cluster.ca, &next])).await;
    });
}

#[test]
fn a_missing_bundle_is_named_and_waited_for() {
    test(async || {
        let mut cluster = Cluster::prepared(&[&["--trust-bundle=configmap:cert-manager/issuance/roots.pem"]]);
        cluster.start().await;
        let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
        assert_eq!(code, Code::Unavailable, "{message}");
        assert!(message.contains("issuance") && cluster.creates() == 0, "{message}");
        let metadata = json!({"name": "issuance", "namespace": "cert-manager"});
        let data = json!({"roots.pem": cluster.ca.bundle_pem()});
        cluster
            .server
            .objects
            .put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}));
        let target = cluster.node.publish(&cluster.volume("web")).await;
        svid(&target).check_chain().unwrap();
    });
}

#[test]
fn a_key_beside_the_bundle_causes_a_warning() {
    test(async || {
        let mut cluster = Cluster::prepared(&[super::cluster::BUNDLE]);
        fs::write(cluster.node.path("tls.key"), "secret").unwrap();
        cluster.start().await;
        let log = cluster.node.log();
        assert!(log.lines().any(|line| line.contains("WARN") && line.contains("tls.key")), "{log}");
    });
}
