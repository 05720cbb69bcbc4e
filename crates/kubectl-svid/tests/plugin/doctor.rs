//! `kubectl svid doctor`.

use serde_json::{Value, json};
use svid_csi_core::findings::{Category, Finding, NotChecked, check};

use crate::api_server::{ApiServer, Script};
use crate::{run, user_pod};

/// A finding as the driver serialises it.
fn finding(id: &str, about: &str, cause: &str) -> Finding {
    let check = check(id).unwrap();
    let (about, cause, fix) = (about.to_owned(), cause.to_owned(), "svid-csi renew --all".to_owned());
    Finding { id: check.id, severity: check.severity, category: check.category, about, cause, fix }
}

fn answer(findings: &[Finding]) -> Script {
    let code = u8::from(!findings.is_empty()) * 2;
    let missing =
        NotChecked { category: Category::Cluster, what: "the cluster".to_owned(), why: "no access".to_owned() };
    let text = json!({
        "node": "n", "driver_version": "1", "worst": null, "findings": findings,
        "not_checked": if findings.is_empty() { vec![] } else { vec![missing] },
    });
    Script::Ends(text.to_string(), String::new(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_finding_on_many_nodes_is_one_paragraph() {
    let server = ApiServer::start().await;
    server.driver("a", answer(&[]));
    let (code, text, _) = run(&server, &["doctor"]);
    assert_eq!((code, text.as_str()), (0, "nodes: 1 asked, 1 answered\nnothing is wrong\n"));

    let warning = finding("identity-overdue", "shop/web", "it is late");
    server.driver("b", answer(std::slice::from_ref(&warning)));
    assert_eq!(run(&server, &["doctor"]).0, 1);
    let fault = |about: &str| finding("identity-missing", about, "its source \x1b[2J withdrew it");
    server.driver("c", answer(&[warning, fault("shop/api")]));
    server.driver("d", answer(&[fault("shop/db")]));
    let (code, text, _) = run(&server, &["doctor"]);
    assert_eq!(code, 2);
    assert_eq!(
        text,
        "nodes: 4 asked, 4 answered\n\n\
         FAULT identity-missing: A published volume holds no identity.\n  \
           its source \\u{1b}[2J withdrew it\n  \
           on 2 nodes (c, d)\n  \
           affected: shop/api, shop/db\n  \
           fix, on the node: svid-csi renew --all\n  \
           more: kubectl svid doctor --explain identity-missing\n\n\
         WARNING identity-overdue: The identity of a pod should have been renewed.\n  \
           it is late\n  \
           on 2 nodes (b, c)\n  \
           affected: shop/web\n  \
           fix, on the node: svid-csi renew --all\n  \
           more: kubectl svid doctor --explain identity-overdue\n\n\
         Not checked:\n  \
           the cluster: no access on 3 nodes (b, c, d)\n"
    );
    let (_, text, _) = run(&server, &["doctor", "--json", "--at=+30d"]);
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&all["nodes"][2]["node"], &all["nodes"][2]["findings"][1]["id"]),
        (&json!("c"), &json!("identity-missing"))
    );
    assert_eq!(server.executed().pop().unwrap().words[1..6], ["doctor", "--at", "+30d", "--output", "json"]);
    server.driver("e", Script::Ends(String::new(), "error: --at: wrong\n".to_owned(), 2));
    let (code, text, _) = run(&server, &["doctor"]);
    assert!(code == 2 && text.contains("no answer from 1 node (e): --at: wrong"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_prints_for_itself() {
    let server = ApiServer::start().await;
    let words = |server: &ApiServer| server.executed().pop().unwrap().words[1..].join(" ");
    server.driver("a", Script::Ends("node a: 1 fault\n\x1b[2J".to_owned(), "noted\n".to_owned(), 2));
    server.driver("b", Script::Ends(String::new(), String::new(), 1));
    for (pod, node) in [("web", "a"), ("api", "a"), ("db", "b")] {
        server.put(user_pod(pod, node, "csi.spiffe.io"));
    }
    let ran = run(&server, &["doctor", "--node", "a"]);
    assert_eq!(ran, (2, "node a: 1 fault\n\\x1b[2J".to_owned(), "noted\n".to_owned()));
    let socket = "--admin-socket /plugin/data/admin.sock";
    assert_eq!(words(&server), format!("doctor {socket}"));
    for pod in [&["db"][..], &["--pod=shop/db"], &["db", "-n", "shop"]] {
        assert_eq!(run(&server, &[&["doctor"], pod].concat()).0, 1);
        assert_eq!(words(&server), format!("doctor --pod shop/db {socket}"));
    }
    assert_eq!(run(&server, &["doctor", "--from=web", "--to=shop/api", "--json"]).0, 2);
    assert_eq!(words(&server), format!("doctor --output json --from shop/web --to shop/api {socket}"));
    let (code, _, error) = run(&server, &["doctor", "--from=web", "--to=db"]);
    assert!(code == 2 && error.contains("shop/web is on node a and shop/db on node b"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_explained_without_a_cluster() {
    let server = ApiServer::start().await;
    let (code, text, _) = run(&server, &["doctor", "--explain=identity-expired", "--kubeconfig=/none"]);
    assert!(code == 0 && text.starts_with("identity-expired (category identity)\n\nThe identity of a pod"), "{text}");
    let (code, _, error) = run(&server, &["doctor", "--explain=x"]);
    assert!(code == 2 && error.contains("identity-expired"), "{error}");
}
