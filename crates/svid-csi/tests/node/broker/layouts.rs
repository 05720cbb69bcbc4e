//! broker -> files in other layouts: several SVIDs, and the bundles of other trust domains.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_core::bundle_map::BundleMap;
use svid_csi_core::files::Layout;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::agent::Entry;

use super::scene::{Scene, files_test, id};
use crate::fixture::{pod, run, until, volume};
use crate::formats::layouts::identity;

const MAP: &str = "trust_bundles.json";

fn in_layout(name: &str) -> InlineVolume {
    volume("web").attribute("svid-csi/layout", name)
}

fn shown(target: &Path, name: &str) -> Option<Vec<u8>> {
    fs::read(target.join("..data").join(name)).ok()
}

/// The number of trust anchors of a trust domain in the volume's bundle map, and its sequence number.
fn in_map(target: &Path, trust_domain: &str) -> Option<(usize, u64)> {
    let (map, trust_domain) = (BundleMap::read(&shown(target, MAP)?), TrustDomain::parse(trust_domain).unwrap());
    Some((map.anchors(&trust_domain)?.len(), map.sequence(&trust_domain)?))
}

fn names(target: &Path) -> Vec<String> {
    let mut names = super::scene::names(target);
    names.retain(|name| !name.starts_with(".."));
    names
}

fn federate(scene: &Scene, name: &str) {
    let (name, der) = (format!("spiffe://{name}"), TestCa::new("other").bundle_der());
    scene.agent.edit(&pod("web"), |response| _ = response.federated_bundles.insert(name, der));
}

#[test]
fn the_bundle_map_follows_roots_and_federated_trust_domains() {
    files_test(async |scene| {
        scene.register("web");
        let target = scene.node.publish(&in_layout("gke")).await;
        let files = names(&target);
        let (_, first) = in_map(&target, "example.org").unwrap();
        assert_eq!((in_map(&target, "example.org"), in_map(&target, "other.org")), (Some((1, first)), None));
        federate(&scene, "other.org");
        until("the other trust domain is in the map", async || in_map(&target, "other.org").is_some()).await;
        assert_eq!(in_map(&target, "example.org"), Some((1, first)), "its own is the same as before");
        let (_, of_other) = in_map(&target, "other.org").unwrap();
        scene.agent.add_root();
        until("the new root is in the map", async || in_map(&target, "example.org").is_some_and(|(n, _)| n == 2)).await;
        assert!(in_map(&target, "example.org").unwrap().1 > first);
        assert_eq!(in_map(&target, "other.org"), Some((1, of_other)));
        scene.agent.rotate(&pod("web"));
        scene.agent.drop_old_roots();
        until("the old root is gone", async || in_map(&target, "example.org").is_some_and(|(n, _)| n == 1)).await;
        assert!(in_map(&target, "example.org").unwrap().1 > first + 1);
        scene.agent.edit(&pod("web"), |response| response.federated_bundles.clear());
        until("the other trust domain is gone", async || in_map(&target, "other.org").is_none()).await;
        assert_eq!(names(&target), files, "other trust domains are in the map, and in no file of their own");
        identity(&target, Layout::Gke).unwrap();
    });
}

#[test]
fn a_map_is_there_beside_any_files() {
    files_test(async |scene| {
        scene.register("web");
        federate(&scene, "other.org");
        let target = scene.node.publish(&volume("web").attribute("svid-csi/file-bundle-map", MAP)).await;
        assert_eq!(names(&target), ["ca.crt", "federated.other.org.pem", "tls.crt", "tls.key", MAP]);
        assert!(in_map(&target, "other.org").is_some());
        let alone = volume("web").attribute("svid-csi/file-bundle-map", MAP).attribute("svid-csi/federated", "none");
        scene.node.publish(&alone).await;
        assert_eq!(names(&target), ["ca.crt", "tls.crt", "tls.key", MAP]);
        assert_eq!(in_map(&target, "other.org"), None);
    });
}

#[test]
fn a_spiffe_folder_has_every_svid_and_every_trust_domain() {
    files_test(async |scene| {
        let entries = [Entry::new(&id("web")), Entry::new(&id("web-internal")).hint("internal")];
        scene.agent.register(&pod("web"), &entries);
        federate(&scene, "other.org");
        let target = scene.node.publish(&in_layout("spiffe")).await;
        let (first, second) = ("credential-bundle.private-key.x509.pem", "1.credential-bundle.private-key.x509.pem");
        let bundles = ["example.org.spiffe-trust-bundle.x509.pem", "other.org.spiffe-trust-bundle.x509.pem"];
        assert_eq!(names(&target), [second, first, bundles[0], "hints.json", bundles[1]]);
        let leaf = |file: &str| CertificateDer::from_pem_slice(&shown(&target, file).unwrap()).unwrap();
        assert_ne!(leaf(first), leaf(second));
        identity(&target, Layout::Spiffe).unwrap();
        let hints = || serde_json::from_slice::<Value>(&shown(&target, "hints.json").unwrap()).unwrap();
        assert_eq!((&hints()["hints"][0]["hint"], &hints()["hints"][1]["hint"]), (&"".into(), &"internal".into()));

        scene.node.publish(&in_layout("spiffe").attribute("svid-csi/hint", "internal")).await;
        assert_eq!(names(&target), [first, bundles[0], "hints.json", bundles[1]], "the one with the hint");
        assert_eq!(hints()["hints"].as_array().unwrap().len(), 1);
        scene.agent.edit(&pod("web"), |response| response.federated_bundles.clear());
        until("the other trust domain is gone", async || names(&target).len() == 3).await;
        scene.agent.withdraw(&pod("web"));
        until("nothing is left", async || names(&target).is_empty()).await;
    });
}

/// grpc-go, which reads the files of a volume and says what they hold whenever that changes.
struct GrpcGo {
    process: Child,
    lines: Receiver<Value>,
}

impl GrpcGo {
    fn start(scene: &Scene, target: &Path) -> Self {
        let (source, program) =
            (concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cluster/tools/gospiffe"), scene.node.path("gospiffe"));
        run("go", &["-C", source, "build", "-o", program.to_str().unwrap(), "."]);
        let files = [MAP, "certificates.pem", "private_key.pem"].map(|name| target.join(name));
        let mut process =
            Command::new(program).arg("bundles").args(files).stdout(Stdio::piped()).spawn().expect("it runs");
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.map(|line| serde_json::from_str(&line).unwrap()).try_for_each(|line| sender.send(line))
        });
        Self { process, lines }
    }

    /// The next line that fits.
    async fn says(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        until(what, async || {
            found = self.lines.try_iter().find(&fits);
            found.is_some()
        })
        .await;
        found.unwrap()
    }
}

impl Drop for GrpcGo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs Go: just grpc"]
fn grpc_go_reads_the_bundle_map_through_a_rotation() {
    files_test(async |scene| {
        scene.register("web");
        federate(&scene, "other.org");
        let target = scene.node.publish(&in_layout("gke")).await;
        let grpc = GrpcGo::start(&scene, &target);
        let authorities = |line: &Value, own: u64, other: u64| {
            let of = |name: &str| line["authorities"][name].as_u64().unwrap_or_default();
            line.get("error").is_none() && (of("example.org"), of("other.org")) == (own, other)
        };
        let first = grpc.says("both trust domains", |line| authorities(line, 1, 1)).await;
        scene.agent.add_root();
        let second = grpc.says("two roots", |line| authorities(line, 2, 1)).await;
        assert!(second["sequences"]["example.org"].as_u64() > first["sequences"]["example.org"].as_u64());
        scene.agent.rotate(&pod("web"));
        let rotated = |line: &Value| authorities(line, 2, 1) && line["serial"] != first["serial"];
        let renewed = grpc.says("a certificate of the new root", rotated).await;
        scene.agent.drop_old_roots();
        grpc.says("the new root alone", |line| authorities(line, 1, 1) && line["serial"] == renewed["serial"]).await;
        scene.agent.edit(&pod("web"), |response| response.federated_bundles.clear());
        grpc.says("one trust domain", |line| authorities(line, 1, 0)).await;
    });
}
