//! cert-manager's webhook, and its controllers as the test plays them.

use std::sync::Arc;
use std::time::Duration;

use kube::api::PostParams;
use svid_csi_core::cert_request::{CertificateRequest as Typed, Condition, Progress};
use svid_csi_testkit::api_server::{Issuing, Mode};
use svid_csi_testkit::{Flaw, TestCa};

use crate::fixture::{client_of, create, pod, request, requests, server};

#[tokio::test]
async fn a_request_names_its_creator() {
    let (server, _) = server().await;
    let client = client_of(&server, &server.token_of(&pod("cart-0"), "n1")).await;
    let mut forged = request("a", "n1");
    forged.spec.username = "system:admin".to_owned();
    forged.spec.extra = [("x".to_owned(), vec!["y".to_owned()])].into();
    let created = requests(&client).create(&PostParams::default(), &forged).await.unwrap();
    assert_eq!(created.spec.username, "system:serviceaccount:shop:cart");
    assert!(created.spec.groups.contains(&"system:serviceaccounts:shop".to_owned()));
    let fact = |fact: &str| created.spec.extra[&format!("authentication.kubernetes.io/{fact}")].clone();
    assert_eq!((fact("pod-uid"), fact("node-name")), (vec!["uid-of-cart-0".to_owned()], vec!["n1".to_owned()]));
    assert!(!created.spec.extra.contains_key("x"));
}

#[tokio::test]
async fn only_a_user_with_the_verb_approves_and_only_once() {
    let (server, client) = server().await;
    let decided = |kind: &str, mut request: svid_csi::kube::cert_request::CertificateRequest| {
        let condition = Condition { kind: kind.to_owned(), status: "True".to_owned(), ..Default::default() };
        request.status.get_or_insert_default().conditions.push(condition);
        request
    };
    let api = requests(&client);
    let created = create(&client, "a").await;
    server.permissions.only(|access| access.verb != "approve");
    let refused = api.replace_status("a", &PostParams::default(), &decided("Denied", created.clone())).await;
    let message = refused.unwrap_err().to_string();
    assert!(
        message.contains("does not have permissions to set approved/denied conditions for issuer {ca ClusterIssuer }"),
        "{message}"
    );
    server.permissions.only(|access| access.verb != "approve" || access.name == "clusterissuers.cert-manager.io/ca");
    let approved = api.replace_status("a", &PostParams::default(), &decided("Approved", created)).await.unwrap();
    let both = api.replace_status("a", &PostParams::default(), &decided("Denied", approved)).await;
    assert!(both.unwrap_err().to_string().contains("cannot coexist"));
}

#[tokio::test]
async fn requests_can_end_in_every_way() {
    let (server, client) = server().await;
    let ca = Arc::new(TestCa::with_intermediate("root"));
    let progress = |name: &str| {
        let find = |request: &Typed| request.metadata.name == name;
        Progress::read(server.cert_manager.requests().into_iter().find(find).unwrap().status.as_ref())
    };
    create(&client, "a").await;
    assert_eq!(progress("a"), Ok(Progress::AwaitsApproval));
    assert!(server.cert_manager.approve("a"));
    assert!(matches!(progress("a"), Ok(Progress::AwaitsIssuer { message: Some(_) })));
    assert_eq!(server.cert_manager.pending().len(), 1);
    assert!(server.cert_manager.sign("a", &Issuing::by(&ca)));
    assert!(matches!(progress("a"), Ok(Progress::Issued(issued)) if issued.chain.len() == 2));
    for (name, mode) in [("d", Mode::Deny("no".into())), ("f", Mode::Fail("broken".into()))] {
        server.cert_manager.mode(mode);
        create(&client, name).await;
    }
    assert!(matches!(progress("d"), Ok(Progress::Denied { message }) if message.to_string().contains("no")));
    assert!(matches!(progress("f"), Ok(Progress::Failed { message }) if message.to_string().contains("broken")));
    server.cert_manager.mode(Mode::Issue(Issuing::by(&ca).lifetime(Duration::from_secs(5)).flaw(Flaw::HugeChain)));
    create(&client, "h").await;
    assert!(progress("h").is_err_and(|error| error.to_string().contains("bytes")));
    assert!(
        server.cert_manager.invalid("f", "x") && server.cert_manager.delete("f") && !server.cert_manager.delete("f")
    );
    assert!(server.cert_manager.pending().is_empty());
}
