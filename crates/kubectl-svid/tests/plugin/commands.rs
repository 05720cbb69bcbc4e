//! `kubectl svid identity` and `kubectl svid renew`, on the node of the pod.

use serde_json::json;

use crate::api_server::{ApiServer, Script};
use crate::{driver_pod, run, user_pod};

const SOCKET: &str = "--admin-socket /plugin/data/admin.sock";

fn prints(text: &str, code: u8) -> Script {
    Script::Ends(text.to_owned(), String::new(), code)
}

/// The pod and the words of the only command.
fn only(server: &ApiServer) -> (String, String) {
    let mut executed = server.executed();
    assert_eq!(executed.len(), 1, "{executed:?}");
    let executed = executed.pop().unwrap();
    (executed.pod, executed.words[1..].join(" "))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_of_the_pods_volume_is_asked() {
    let server = ApiServer::start().await;
    server.driver("a", prints("of a\n", 0));
    server.driver("b", prints("of b\n", 1));
    // A second driver on the node, which serves another name and has its socket elsewhere.
    let mut second = driver_pod("b");
    second["metadata"]["name"] = json!("second-b");
    second["spec"]["containers"][1]["args"] =
        json!(["driver", "-plugin-name", "x.example", "--admin-socket=unix:///run/admin"]);
    server.put(second);
    server.script("second-b", prints("of x\n", 0));
    server.put(user_pod("web", "b", "csi.spiffe.io"));
    server.put(user_pod("db", "b", "x.example"));

    assert_eq!(run(&server, &["identity", "web"]), (1, "of b\n".to_owned(), String::new()));
    assert_eq!(only(&server), ("driver-b".to_owned(), format!("identity --pod shop/web {SOCKET}")));
    assert_eq!(run(&server, &["identity", "db", "-n", "shop", "--pem"]).1, "of x\n");
    assert_eq!(
        only(&server),
        ("second-b".to_owned(), "identity --pod shop/db --pem --admin-socket /run/admin".to_owned())
    );
    assert_eq!(run(&server, &["renew", "shop/web"]).0, 1);
    assert_eq!(only(&server), ("driver-b".to_owned(), format!("renew --pod shop/web {SOCKET}")));
    assert_eq!(run(&server, &["renew", "--all", "--node=a"]).1, "of a\n");
    assert_eq!(only(&server), ("driver-a".to_owned(), format!("renew --all {SOCKET}")));
    assert_eq!(
        run(&server, &["renew", "--all", "--node=b"]),
        (1, "of b\nof x\n".to_owned(), "driver pod svid-csi/driver-b:\ndriver pod svid-csi/second-b:\n".to_owned())
    );
}

/// Anyone who may create privileged pods can give one the label.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_only_looks_like_a_driver_does_not_stop_a_renewal() {
    let server = ApiServer::start().await;
    server.driver("a", prints("renewing 1 volume\n", 0));
    let mut other = driver_pod("a");
    other["metadata"] = json!({
        "name": "other", "namespace": "another", "labels": {"app.kubernetes.io/component": "driver"},
    });
    server.put(other.clone());
    server.script("other", Script::NoProgram);
    server.put(user_pod("web", "a", "csi.spiffe.io"));
    let (code, text, error) = run(&server, &["renew", "shop/web"]);
    assert!(code == 2 && text == "renewing 1 volume\n" && error.contains("driver pod another/other: "), "{error}");
    // Nor does it hide that the driver does not run.
    let mut driver = driver_pod("a");
    driver["status"]["phase"] = json!("Pending");
    server.put(driver);
    server.script("other", prints("{\"node\": \"a\", \"volumes\": []}", 0));
    let (code, text, _) = run(&server, &["status", "-A"]);
    assert!(code == 2 && text.contains("svid-csi/driver-a is Pending"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_without_a_driver_are_refused() {
    let server = ApiServer::start().await;
    server.driver("a", prints("", 0));
    server.put(user_pod("other", "a", "nfs.example"));
    server.put(user_pod("lonely", "b", "csi.spiffe.io"));
    let mut plain = user_pod("plain", "a", "x");
    plain["spec"]["volumes"] = json!([]);
    server.put(plain);
    let mut waiting = user_pod("waiting", "a", "csi.spiffe.io");
    waiting["spec"].as_object_mut().unwrap().remove("nodeName");
    server.put(waiting);
    for (pod, expected) in [
        ("gone", "there is no pod shop/gone"),
        ("other", "pod shop/other has no volume of svid-csi: no driver pod on node a serves nfs.example"),
        ("lonely", "there is no driver pod on node b: no privileged pod in any namespace has the labels"),
        ("plain", "pod shop/plain has no volume of svid-csi: it has no CSI volume"),
        ("waiting", "pod shop/waiting is not on a node yet"),
        ("x\u{1b}[2J", "\"x\\x1b[2J\" is not a pod; write it as POD or NAMESPACE/POD"),
        ("--pod=../x", "unexpected argument"),
    ] {
        for command in
            ["identity", "renew", "status", "doctor"].into_iter().take(if pod.starts_with('-') { 2 } else { 4 })
        {
            let (code, text, error) = run(&server, &[command, pod]);
            assert!(code == 2 && text.is_empty() && error.contains(expected), "{command} {pod}: {error}");
        }
    }
    assert_eq!(server.executed(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_cannot_be_asked_is_named() {
    let server = ApiServer::start().await;
    server.driver("a", Script::Breaks("half".to_owned()));
    server.put(user_pod("web", "a", "csi.spiffe.io"));
    let (code, text, error) = run(&server, &["identity", "web"]);
    assert_eq!((code, text.as_str()), (2, "half"));
    assert_eq!(error, "error: node a, driver pod svid-csi/driver-a: the connection ended before the command did\n");
    server.script("driver-a", Script::Ends(String::new(), "error: unrecognized subcommand 'identity'\n".to_owned(), 2));
    let (code, _, error) = run(&server, &["identity", "web"]);
    assert!(code == 2 && error.contains("unrecognized subcommand 'identity'"), "{error}");
}
