//! Creating, reading, listing, updating and deleting.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use svid_csi_core::cert_request::CertificateRequestStatus;

use crate::fixture::{create, request, requests, server, version};

#[tokio::test]
async fn an_object_is_stamped_and_read_back() {
    let (server, client) = server().await;
    let created = create(&client, "a").await;
    let metadata = &created.metadata;
    assert_eq!(metadata.namespace.as_deref(), Some("shop"));
    assert!(metadata.uid.as_ref().is_some_and(|uid| uid.len() == 36) && metadata.creation_timestamp.is_some());
    let read = requests(&client).get("a").await.unwrap();
    assert_eq!((read.metadata.uid, version(&created)), (created.metadata.uid, 2));
    requests(&client).delete("a", &DeleteParams::default()).await.unwrap();
    assert!(requests(&client).get_opt("a").await.unwrap().is_none());
    assert_eq!(server.objects.all("certificaterequests"), Vec::<serde_json::Value>::new());
    let verbs: Vec<_> = server.calls.all().iter().map(|call| (call.verb, call.code)).collect();
    assert_eq!(verbs, [("create", Some(201)), ("get", Some(200)), ("delete", Some(200)), ("get", Some(404))]);
}

#[tokio::test]
async fn lists_come_in_pages_that_show_one_moment() {
    let (server, client) = server().await;
    for name in ["a", "b", "c", "d", "e"] {
        create(&client, name).await;
    }
    let names = |list: &kube::core::ObjectList<svid_csi::kube::cert_request::CertificateRequest>| {
        list.items.iter().map(|item| item.metadata.name.clone().unwrap()).collect::<Vec<_>>()
    };
    let first = requests(&client).list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!((names(&first), first.metadata.remaining_item_count), (vec!["a".into(), "b".into()], Some(3)));
    server.cert_manager.delete("d");
    create(&client, "b2").await;
    let next = ListParams::default().limit(2).continue_token(first.metadata.continue_.as_ref().unwrap());
    let second = requests(&client).list(&next).await.unwrap();
    assert_eq!(names(&second), ["c", "d"], "what was there at first");
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
    let next = ListParams::default().limit(2).continue_token(second.metadata.continue_.as_ref().unwrap());
    let third = requests(&client).list(&next).await.unwrap();
    assert_eq!((names(&third), third.metadata.continue_), (vec!["e".to_owned()], None));
    server.objects.compact();
    let expired = requests(&client).list(&next).await.unwrap_err();
    assert!(matches!(expired, kube::Error::Api(status) if status.code == 410 && status.reason == "Expired"));
}

#[tokio::test]
async fn selectors_select() {
    let (_server, client) = server().await;
    create(&client, "a").await;
    requests(&client).create(&PostParams::default(), &request("b", "n2")).await.unwrap();
    for (labels, fields, expected) in [
        ("node=n1", "", vec!["a"]),
        ("node==n2", "", vec!["b"]),
        ("node!=n2", "", vec!["a"]),
        ("node in (n1, n2),node notin (n2)", "", vec!["a"]),
        ("other", "", vec![]),
        ("!other", "", vec!["a", "b"]),
        ("", "metadata.name=b", vec!["b"]),
        ("node=n1", "metadata.name=b", vec![]),
    ] {
        let found = requests(&client).list(&ListParams::default().labels(labels).fields(fields)).await.unwrap();
        let names: Vec<_> = found.items.iter().map(|item| item.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, expected, "{labels} {fields}");
    }
}

#[tokio::test]
async fn an_old_version_conflicts_and_status_is_apart() {
    let (_server, client) = server().await;
    let mut created = create(&client, "a").await;
    created.status = Some(CertificateRequestStatus { certificate: Some("Yw==".to_owned()), ..Default::default() });
    created.metadata.labels = None;
    let updated = requests(&client).replace_status("a", &PostParams::default(), &created).await.unwrap();
    assert_eq!(updated.status.as_ref().unwrap().certificate.as_deref(), Some("Yw=="));
    assert!(updated.metadata.labels.is_some(), "the status alone is written");
    let conflict = requests(&client).replace_status("a", &PostParams::default(), &created).await.unwrap_err();
    let kube::Error::Api(status) = conflict else { panic!("{conflict}") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        status.message,
        "Operation cannot be fulfilled on certificaterequests.cert-manager.io \"a\": the object has been modified; \
         please apply your changes to the latest version and try again"
    );
    let mut read = requests(&client).get("a").await.unwrap();
    read.status = None;
    let replaced = requests(&client).replace("a", &PostParams::default(), &read).await.unwrap();
    assert!(replaced.status.is_some(), "the status is left alone");
}

#[tokio::test]
async fn leases_events_and_config_maps_work() {
    let (server, client) = server().await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let lease: Lease =
        serde_json::from_value(json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "a"}})).unwrap();
    let mut first = leases.create(&PostParams::default(), &lease).await.unwrap();
    let exists = leases.create(&PostParams::default(), &lease).await.unwrap_err();
    assert!(matches!(exists, kube::Error::Api(status) if status.reason == "AlreadyExists"));
    first.spec.as_mut().unwrap().holder_identity = Some("b".to_owned());
    leases.replace("l", &PostParams::default(), &first).await.unwrap();
    assert!(leases.replace("l", &PostParams::default(), &first).await.is_err(), "another client was faster");

    let events: Api<Event> = Api::namespaced(client.clone(), "shop");
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod"}, "count": 1});
    events.create(&PostParams::default(), &serde_json::from_value(event).unwrap()).await.unwrap();
    let patch = Patch::Merge(json!({"count": 2}));
    assert_eq!(events.patch("e", &PatchParams::default(), &patch).await.unwrap().count, Some(2));
    let applied = Patch::Apply(json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "f"}, "count": 5}));
    events.patch("f", &PatchParams::apply("test"), &applied).await.unwrap();
    assert_eq!(server.objects.all("events").len(), 2);

    server.objects.put(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "shop"}, "data": {"a": "b"}}));
    let maps: Api<ConfigMap> = Api::namespaced(client, "shop");
    assert_eq!(maps.get("c").await.unwrap().data.unwrap()["a"], "b");
    let patch = |was: &str| {
        let operations = json!([
            {"op": "test", "path": "/data/a", "value": was}, {"op": "replace", "path": "/data/a", "value": "c"},
        ]);
        Patch::Json::<()>(serde_json::from_value(operations).unwrap())
    };
    let refused = maps.patch("c", &PatchParams::default(), &patch("c")).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 422));
    assert_eq!(maps.patch("c", &PatchParams::default(), &patch("b")).await.unwrap().data.unwrap()["a"], "c");
    assert!(server.objects.remove("configmaps", "shop", "c") && !server.objects.remove("configmaps", "shop", "c"));
}
