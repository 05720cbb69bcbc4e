//! Authorization, and the messages of refusals.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams};
use svid_csi::kube::cert_request::CertificateRequest;

use crate::fixture::{client_of, create, request, requests, server};

async fn refused(outcome: impl Future<Output = Result<impl Sized, kube::Error>>) -> (u16, String, String) {
    match outcome.await.err().unwrap() {
        kube::Error::Api(status) => (status.code, status.reason.clone(), status.message.clone()),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_forbidden_call_names_the_missing_permission() {
    let (server, client) = server().await;
    server.permissions.only(|access| access.verb == "watch");
    let (code, reason, message) = refused(requests(&client).create(&PostParams::default(), &request("a", "n1"))).await;
    assert_eq!((code, reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        message,
        "certificaterequests.cert-manager.io is forbidden: User \"system:serviceaccount:shop:cart\" cannot create \
         resource \"certificaterequests\" in API group \"cert-manager.io\" in the namespace \"shop\""
    );
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "shop");
    assert_eq!(
        refused(maps.get("c")).await.2,
        "configmaps \"c\" is forbidden: User \"system:serviceaccount:shop:cart\" cannot get resource \"configmaps\" \
         in API group \"\" in the namespace \"shop\""
    );
    let everywhere: Api<CertificateRequest> = Api::all(client);
    let (.., message) = refused(everywhere.list(&ListParams::default())).await;
    assert!(message.ends_with(
        "cannot list resource \"certificaterequests\" in API group \"cert-manager.io\" at the cluster scope"
    ));
    assert!(server.cert_manager.requests().is_empty());
}

#[tokio::test]
async fn a_list_of_one_object_is_allowed_by_its_name() {
    let (server, client) = server().await;
    server.permissions.only(|access| access.action() == "list configmaps" && access.name == "c");
    let maps: Api<ConfigMap> = Api::namespaced(client, "shop");
    assert!(maps.list(&ListParams::default().fields("metadata.name=c")).await.is_ok());
    assert_eq!(refused(maps.list(&ListParams::default())).await.0, 403);
}

#[tokio::test]
async fn tokens_are_known_or_not() {
    let (server, client) = server().await;
    let stranger = client_of(&server, "unknown").await;
    assert_eq!(refused(requests(&stranger).get("a")).await, (401, "Unauthorized".into(), "Unauthorized".into()));
    create(&client, "a").await;
    server.users.expire("t0ken");
    assert_eq!(refused(requests(&client).get("a")).await.0, 401);
    let users: Vec<_> = server.calls.all().into_iter().map(|call| call.user).collect();
    assert_eq!(users, [None, Some("system:serviceaccount:shop:cart".to_owned()), None]);
}

#[tokio::test]
async fn missing_and_existing_objects_are_named() {
    let (_server, client) = server().await;
    create(&client, "a").await;
    let again = refused(requests(&client).create(&PostParams::default(), &request("a", "n1"))).await;
    assert_eq!(again.2, "certificaterequests.cert-manager.io \"a\" already exists");
    let missing = refused(requests(&client).get("b")).await;
    assert_eq!((missing.0, missing.2.as_str()), (404, "certificaterequests.cert-manager.io \"b\" not found"));
    let field = ListParams::default().fields("spec.username=x");
    let unknown = refused(requests(&client).list(&field)).await;
    assert_eq!((unknown.0, unknown.2.as_str()), (400, "field label not supported: spec.username"));
}
