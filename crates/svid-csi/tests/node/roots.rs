//! --local-ca-roots: several drivers, each on a node of its own, with one API server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use svid_csi_core::ca::Authorities;
use svid_csi_core::identity::leads_to;
use svid_csi_core::jwt::validate;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_proto::workload::JwtBundlesRequest;
use svid_csi_testkit::api_server::{Access, ApiServer, Call, Fault, User};
use tonic::Code;

use crate::endpoints::{metric, status};
use crate::fixture::{FILES, Node, serial, svid, test, until, volume};
use crate::formats::tokens::bundles;
use crate::workload_api::client::{Stream, Svids, api, asking};

pub(crate) const TOKEN: &str = "t0ken";
pub(crate) const ARGS: &[&str] = &[
    "--allow-plan=local-ca:workload-api",
    "--data-root={dir}/root",
    "--trust-domain=example.org",
    "--admin-socket={dir}/admin.sock",
    "--metrics-address=127.0.0.1:0",
    "--local-ca-roots=svid-csi/roots",
    "--kubeconfig={dir}/kubeconfig",
];

/// The documented permissions of the driver.
fn documented_rbac(access: &Access) -> bool {
    let on_map = ["get", "list", "watch", "patch"].iter().any(|verb| access.action() == format!("{verb} configmaps"));
    (on_map && access.namespace == "svid-csi" && access.name == "roots")
        || ["get nodes", "get csidrivers"].contains(&&*access.action())
}

/// A cluster with the empty ConfigMap.
pub(crate) fn cluster() -> ApiServer {
    let server = ApiServer::start();
    server.users.accept(TOKEN, User::service_account("svid-csi", "svid-csi"));
    server.permissions.only(documented_rbac);
    put(&server, json!({}));
    server
}

fn put(server: &ApiServer, data: Value) {
    let metadata = json!({"name": "roots", "namespace": "svid-csi"});
    server.objects.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}));
}

/// Changes or removes an entry, like an administrator.
pub(crate) fn set(server: &ApiServer, node: &str, text: Option<&str>) {
    let mut data = entries(server);
    match text {
        Some(text) => data[node] = text.into(),
        None => _ = data.as_object_mut().unwrap().remove(node),
    }
    put(server, data);
}

pub(crate) fn entries(server: &ApiServer) -> Value {
    server.objects.get("configmaps", "svid-csi", "roots").unwrap()["data"].clone()
}

fn count(server: &ApiServer) -> usize {
    entries(server).as_object().map_or(0, serde_json::Map::len)
}

fn prepared(server: &ApiServer, name: &str) -> Node {
    let node = Node::new(&[FILES, ARGS, &[&format!("--node-id={name}")]]);
    fs::write(node.path("kubeconfig"), server.kubeconfig(TOKEN)).unwrap();
    node
}

async fn node(server: &ApiServer, name: &str) -> Node {
    let mut node = prepared(server, name);
    node.start().await;
    node
}

/// A pod with certificates and a token.
async fn pod(node: &Node, name: &str) -> PathBuf {
    node.publish(&volume(name).attribute("svid-csi/audience", "vault")).await
}

fn trusts(target: &Path, other: &Path) -> bool {
    leads_to(&svid(other).chain, &svid(target).bundle, SystemTime::now()).is_ok()
}

fn believes(target: &Path, other: &Path) -> bool {
    let token = fs::read_to_string(other.join("jwt_svid_0.token")).unwrap();
    let known = bundles(&fs::read(target.join("jwt_bundles.json")).unwrap());
    validate(&token, "vault", &known, SystemTime::now()).is_ok()
}

fn roots(target: &Path) -> usize {
    svid(target).bundle.len()
}

async fn all_trust_all(targets: &[&Path]) {
    until("all trust each other", async || {
        targets.iter().all(|one| {
            roots(one) == targets.len() && targets.iter().all(|other| trusts(one, other) && believes(one, other))
        })
    })
    .await;
}

/// The authorities of a node without a driver.
pub(crate) fn foreign() -> String {
    use svid_csi_core::ca::CertificateAuthority;
    use svid_csi_core::jwt::JwtAuthority;
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let ca = CertificateAuthority::create(&trust_domain, SystemTime::now(), Duration::from_secs(3600)).unwrap();
    let authorities = Authorities::of(&ca, &JwtAuthority::create(&trust_domain).unwrap());
    String::from_utf8(authorities.to_json()).unwrap()
}

async fn trouble(node: &Node) -> Option<String> {
    status(node).await["local_ca_roots"]["trouble"].as_str().map(str::to_owned)
}

#[test]
fn pods_of_different_nodes_trust_each_other() {
    test(async || {
        let server = cluster();
        let (one, two) = (node(&server, "n1").await, node(&server, "n2").await);
        let (web, db) = (pod(&one, "web").await, pod(&two, "db").await);
        all_trust_all(&[&web, &db]).await;
        let serials = [serial(&web), serial(&db)];
        let three = node(&server, "n3").await;
        let cart = pod(&three, "cart").await;
        all_trust_all(&[&web, &db, &cart]).await;
        assert_eq!([serial(&web), serial(&db)], serials, "another node does not cause a renewal");
        assert_eq!(metric(&one, "local_ca_roots").await, Some(3.0));
        assert_eq!(metric(&one, "local_ca_roots_in_trouble").await, Some(0.0));
        assert_eq!(trouble(&one).await, None);
        assert_eq!(server.calls.count("patch", "configmaps"), 3, "{}", server.calls.log());
        assert!(!entries(&server).to_string().contains("PRIVATE"));
    });
}

#[test]
fn pods_with_sockets_receive_changes_at_once() {
    test(async || {
        let server = cluster();
        let one = node(&server, "n1").await;
        let socket =
            one.publish(&volume("web").attribute("svid-csi/delivery", "workload-api")).await.join("agent.sock");
        let mut svids = Svids::open(&socket).await.unwrap();
        let mut api = api(&socket).await;
        let mut jwt = Stream::of(api.fetch_jwt_bundles(asking(JwtBundlesRequest {})).await.unwrap());
        let (first, first_jwt) = (svids.next().await.unwrap(), jwt.next().await.unwrap());
        let two = node(&server, "n2").await;
        let (next, next_jwt) = (svids.next().await.unwrap(), jwt.next().await.unwrap());
        assert_eq!(next.svids[0].x509_svid, first.svids[0].x509_svid, "the certificate stays");
        assert!(next.svids[0].bundle.len() > first.svids[0].bundle.len());
        assert!(next_jwt.bundles["spiffe://example.org"].len() > first_jwt.bundles["spiffe://example.org"].len());
        drop(two);
        set(&server, "n2", None);
        assert_eq!(svids.next().await.unwrap().svids[0].bundle, first.svids[0].bundle);
        assert_eq!(jwt.next().await.unwrap(), first_jwt);
    });
}

#[test]
fn broken_entries_keep_the_last_roots_and_removed_ones_are_distrusted() {
    test(async || {
        let server = cluster();
        set(&server, "n2", Some(&foreign()));
        let one = node(&server, "n1").await;
        let web = pod(&one, "web").await;
        until("both exist", async || roots(&web) == 2).await;
        for broken in ["garbage", "{\"keys\":[]}"] {
            set(&server, "n2", Some(broken));
            until("it is reported", async || trouble(&one).await.is_some_and(|text| text.contains("the entry n2")))
                .await;
            assert_eq!(roots(&web), 2);
        }
        assert_eq!(metric(&one, "local_ca_roots_in_trouble").await, Some(1.0));
        set(&server, "n2", None);
        until("it is removed", async || roots(&web) == 1).await;
        assert_eq!(trouble(&one).await, None);
        assert!(trusts(&web, &web) && believes(&web, &web), "its own stays");
    });
}

#[test]
fn a_startup_without_the_api_server_trusts_the_same_nodes() {
    test(async || {
        let server = cluster();
        let (mut one, two) = (node(&server, "n1").await, node(&server, "n2").await);
        let (web, db) = (pod(&one, "web").await, pod(&two, "db").await);
        all_trust_all(&[&web, &db]).await;
        let before = serial(&web);
        server.stop();
        one.kill();
        one.start().await;
        let again = pod(&one, "again").await;
        assert!(trusts(&again, &db) && believes(&again, &db), "{}", one.log());
        assert!(trusts(&web, &db) && believes(&web, &db));
        until("it is reported", async || trouble(&one).await.is_some_and(|text| text.contains("cannot be read"))).await;
        server.resume();
        let three = node(&server, "n3").await;
        let cart = pod(&three, "cart").await;
        until("the third is known", async || trusts(&web, &cart) && trusts(&db, &cart)).await;
        assert_eq!(serial(&web), before, "nothing was a reason to renew");
        until("all is well", async || trouble(&one).await.is_none()).await;
    });
}

#[test]
fn a_startup_without_the_stored_roots_takes_none_from_running_pods() {
    test(async || {
        let server = cluster();
        let (mut one, two) = (node(&server, "n1").await, node(&server, "n2").await);
        let (web, db) = (pod(&one, "web").await, pod(&two, "db").await);
        let with_socket = volume("api").attribute("svid-csi/delivery", "workload-api");
        let socket = one.publish(&with_socket).await.join("agent.sock");
        all_trust_all(&[&web, &db]).await;
        let before = Svids::open(&socket).await.unwrap().next().await.unwrap();
        server.stop();
        one.kill();
        fs::write(one.path("root/data/ca/example.org/roots.json"), "damaged").unwrap();
        one.start().await;
        assert!(trusts(&web, &db) && believes(&web, &db), "{}", one.log());
        assert_eq!(Svids::open(&socket).await.unwrap().next().await.unwrap(), before);
        let (code, message) = one.refused(&volume("again")).await;
        assert!(code == Code::Unavailable && message.contains("the roots of other nodes are not known"), "{message}");
        server.resume();
        until("all is well", async || trouble(&one).await.is_none()).await;
        let again = pod(&one, "again").await;
        all_trust_all(&[&web, &db]).await;
        assert!(trusts(&again, &db) && believes(&again, &db));
    });
}

#[test]
fn a_new_own_root_is_published_and_pods_are_renewed() {
    test(async || {
        let server = cluster();
        let (mut one, two) = (node(&server, "n1").await, node(&server, "n2").await);
        let (web, db) = (pod(&one, "web").await, pod(&two, "db").await);
        all_trust_all(&[&web, &db]).await;
        let (old, stays) = (serial(&web), serial(&db));
        one.kill();
        for file in ["ca.crt", "ca.key", "jwt.key"] {
            fs::remove_file(one.path("root/data/ca/example.org").join(file)).unwrap();
        }
        one.start().await;
        until("it is renewed", async || serial(&web) != old).await;
        all_trust_all(&[&web, &db]).await;
        assert_eq!(serial(&db), stays);
        assert!(!one.log().contains("has another writer"), "what was there was its own");
    });
}

#[test]
fn a_deleted_or_emptied_config_map_keeps_the_last_roots() {
    test(async || {
        let server = cluster();
        let (one, two) = (node(&server, "n1").await, node(&server, "n2").await);
        let (web, db) = (pod(&one, "web").await, pod(&two, "db").await);
        all_trust_all(&[&web, &db]).await;
        assert!(server.objects.remove("configmaps", "svid-csi", "roots"));
        let missing = async || trouble(&one).await.is_some_and(|text| text.contains("create it, without data"));
        until("it is reported", missing).await;
        put(&server, json!({}));
        until("both have published again", async || {
            assert_eq!((roots(&web), roots(&db)), (2, 2));
            count(&server) == 2
        })
        .await;
        until("all is well", async || trouble(&one).await.is_none()).await;
        assert_eq!((roots(&web), roots(&db)), (2, 2));
    });
}

#[test]
fn two_drivers_of_one_name_do_not_fight() {
    test(async || {
        let server = cluster();
        let (one, two) = (node(&server, "n1").await, node(&server, "n1").await);
        let is_reported = |node: &Node| node.log().contains("give each driver a --node-id of its own");
        until("it is reported", async || is_reported(&one) || is_reported(&two)).await;
        let written = || server.calls.of("patch", "configmaps");
        let text_of = |call: &Call| call.body["data"]["n1"].to_string();
        let by_driver = || {
            let first = text_of(written().first()?);
            let (of_one, of_other): (Vec<_>, Vec<_>) = written().into_iter().partition(|call| text_of(call) == first);
            (of_one.len().min(of_other.len()) >= 3).then_some([of_one, of_other])
        };
        let by_driver = server.pulse.until("both have written three times", by_driver).await;
        // On a machine of any speed, a driver that writes again has waited at least that long each time (half a second
        // and a fifth of jitter, doubled).
        for calls in by_driver {
            for (round, pair) in calls.windows(2).enumerate() {
                let pause = Duration::from_millis(400 << round);
                assert!(pair[1].at - pair[0].at >= pause, "write {round}: {}", server.calls.log());
            }
        }
    });
}

#[test]
fn missing_permissions_are_named_and_retried() {
    test(async || {
        let server = cluster();
        server.permissions.only(|_| false);
        let one = node(&server, "n1").await;
        let web = pod(&one, "web").await;
        assert_eq!(roots(&web), 1, "it serves its own");
        let is_reported = async |what: &str| trouble(&one).await.is_some_and(|text| text.contains(what));
        until("it may not read", async || is_reported("the verbs get, list and watch on it").await).await;
        set(&server, "n2", Some(&foreign()));
        server.permissions.only(|access| documented_rbac(access) && access.verb != "patch" && access.verb != "get");
        until("it may not write", async || is_reported("grant this service account the verb patch on it").await).await;
        until("it trusts the others", async || roots(&web) == 2).await;
        until("it may not look", async || one.log().contains("grant this service account the verb get on nodes")).await;
        assert_eq!(count(&server), 1);
        server.permissions.only(documented_rbac);
        until("it is reported", async || count(&server) == 2).await;
        until("all is well", async || trouble(&one).await.is_none()).await;
    });
}

#[test]
fn entries_of_deleted_nodes_are_removed_at_startup() {
    test(async || {
        let server = cluster();
        for name in ["n1", "n2"] {
            server.objects.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}));
        }
        put(&server, json!({"gone": foreign(), "broken": "garbage", "n2": foreign()}));
        server.faults.next(1, "get", "nodes", Fault::Delay(Duration::from_millis(50)));
        let one = node(&server, "n1").await;
        let web = pod(&one, "web").await;
        until("they are removed", async || {
            let names: Vec<_> = entries(&server).as_object().unwrap().keys().cloned().collect();
            names == ["n1", "n2"] && roots(&web) == 2
        })
        .await;
    });
}

#[test]
fn if_nodes_have_other_names_nothing_is_removed() {
    test(async || {
        let server = cluster();
        put(&server, json!({"elsewhere": foreign()}));
        let one = node(&server, "n1").await;
        until("it is reported", async || one.log().contains("there is no node with the name in --node-id")).await;
        until("both exist", async || count(&server) == 2).await;
    });
}

/// Otherwise the pod info of a request may come from the pod's author.
#[test]
fn a_driver_without_pod_info_does_not_start() {
    test(async || {
        let server = cluster();
        let metadata = json!({"name": "demo.svid-csi"});
        let csi_driver = |spec: Value| json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": metadata, "spec": spec});
        server.objects.put(csi_driver(json!({"podInfoOnMount": false})));
        let mut node = prepared(&server, "n1");
        node.spawn();
        until("it has ended", async || node.has_ended()).await;
        let log = node.log();
        assert!(log.contains("the CSIDriver object") && log.contains("lacks podInfoOnMount: true"), "{log}");
        server.objects.put(csi_driver(json!({"podInfoOnMount": true})));
        node.start().await;
    });
}
