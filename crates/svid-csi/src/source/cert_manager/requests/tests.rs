use serde_json::json;

use super::*;

fn request(name: &str, status: serde_json::Value) -> CertificateRequest {
    let metadata = json!({
        "namespace": "shop", "name": name, "labels": { VOLUME_LABEL: "v1" }, "annotations": { ATTEMPT_ANNOTATION: "3" },
        "ownerReferences": [{ "apiVersion": "v1", "kind": "Pod", "name": "cart-0", "uid": "u1" }],
    });
    serde_json::from_value(json!({ "metadata": metadata, "spec": {}, "status": status })).unwrap()
}

fn pod(namespace: &str, uid: &str) -> PodRef {
    let word = str::to_owned;
    PodRef { namespace: word(namespace), name: word("cart-0"), uid: word(uid), service_account: word("cart") }
}

#[test]
fn texts_of_others_on_requests_are_limited() {
    let requests = Requests::default();
    for number in 0..100 {
        requests.apply(Event::Apply(request(&format!("r{number}"), denied())));
    }
    assert_eq!(requests.of_volume("v1", &pod("shop", "u1")).len(), MOST_OF_A_VOLUME);
    let mut endless = request("r0", denied());
    let annotations = endless.metadata.annotations.get_or_insert_default();
    annotations.insert(ATTEMPT_ANNOTATION.to_owned(), u32::MAX.to_string());
    requests.apply(Event::Apply(endless));
    let last = requests.last_failure("v1", &pod("shop", "u1"));
    assert!(last.is_some_and(|failure| failure.attempt <= 16), "{last:?}");
}

#[test]
fn requests_of_others_do_not_hide_those_of_a_volume() {
    let requests = Arc::new(Requests::default());
    let forge = |namespace: &str, uid: &str| {
        for number in 0..2 * MOST_OF_A_VOLUME {
            let mut forged = request(&format!("a{number}"), denied());
            forged.metadata.namespace = Some(namespace.to_owned());
            forged.metadata.owner_references.iter_mut().flatten().for_each(|owner| owner.uid = uid.to_owned());
            requests.apply(Event::InitApply(forged));
        }
    };
    let expected = requests.expect(key("waited-for"));
    expected.made();
    requests.apply(Event::Init);
    forge("evil", "u1");
    forge("shop", "u2");
    requests.apply(Event::InitApply(request("own", denied())));
    forge("shop", "u1");
    requests.apply(Event::InitApply(request("waited-for", json!({}))));
    requests.apply(Event::InitDone);
    let known = requests.of_volume("v1", &pod("shop", "u1"));
    assert_eq!(known.len(), MOST_OF_A_VOLUME + 1);
    assert!(["own", "waited-for"].iter().all(|name| known.contains(&(key(name), false))), "{known:?}");
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Progress(_)), "it exists");
}

fn key(name: &str) -> RequestName {
    ("shop".to_owned(), name.to_owned())
}

fn denied() -> serde_json::Value {
    let condition = json!({ "type": "Denied", "status": "True", "lastTransitionTime": "2026-01-31T12:00:00Z" });
    json!({ "conditions": [condition] })
}

#[test]
fn a_waiter_sees_only_its_own_request() {
    let requests = Arc::new(Requests::default());
    let expected = requests.expect(key("a"));
    requests.apply(Event::Apply(request("b", denied())));
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Nothing));
    requests.apply(Event::Apply(request("a", json!({}))));
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Progress(Ok(Progress::AwaitsApproval))));
    requests.apply(Event::Delete(request("a", json!({}))));
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Deleted));
}

#[test]
fn a_request_missing_from_a_later_list_was_deleted() {
    let requests = Arc::new(Requests::default());
    requests.apply(Event::Init);
    let expected = requests.expect(key("a"));
    expected.made();
    requests.apply(Event::InitDone);
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Nothing), "the list may be older than the request");
    requests.apply(Event::Init);
    requests.apply(Event::InitDone);
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Deleted));
}

#[test]
fn a_request_not_created_yet_is_not_deleted() {
    let requests = Arc::new(Requests::default());
    let expected = requests.expect(key("a"));
    requests.apply(Event::Init);
    requests.apply(Event::InitDone);
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Nothing));
}

#[test]
fn a_list_replaces_the_known_requests() {
    let requests = Arc::new(Requests::default());
    requests.apply(Event::Apply(request("a", json!({}))));
    requests.apply(Event::Init);
    requests.apply(Event::InitApply(request("b", denied())));
    assert_eq!(requests.of_volume("v1", &pod("shop", "u1")), [(key("a"), false)], "until the list is complete");
    requests.apply(Event::InitDone);
    assert_eq!(requests.of_volume("v1", &pod("shop", "u1")), [(key("b"), false)]);
    assert_eq!(requests.of_volume("v1", &pod("shop", "u2")), [], "hashes collide, pods do not");
    assert_eq!(requests.of_volume("v1", &pod("evil", "u1")), [], "an owner is whatever the author writes");
    assert_eq!(requests.last_failure("v1", &pod("shop", "u1")).map(|failure| failure.attempt), Some(3));
}

#[test]
fn a_request_that_its_author_changes_is_remembered_once() {
    let requests = Requests::default();
    let with = |uid: String, volume: Option<&str>| {
        let mut changed = request("r", denied());
        changed.metadata.owner_references.iter_mut().flatten().for_each(|owner| owner.uid = uid.clone());
        changed.metadata.labels = volume.map(|volume| [(VOLUME_LABEL.to_owned(), volume.to_owned())].into());
        changed
    };
    for number in 0..100 {
        requests.apply(Event::Apply(with(format!("u{number}"), Some(&format!("v{number}")))));
    }
    assert_eq!(requests.lock().known.by_purpose.len(), 1);
    assert_eq!(requests.of_volume("v99", &pod("shop", "u99")).len(), 1);
    requests.apply(Event::Apply(with("u".repeat(LONGEST_UID + 1), Some("v1"))));
    assert!(requests.lock().known.by_purpose.is_empty(), "no pod has such a UID");
    requests.apply(Event::Apply(with("u1".to_owned(), Some("v1"))));
    requests.apply(Event::Apply(with("u1".to_owned(), None)));
    let Known { by_purpose, purposes, of_namespace } = &requests.lock().known;
    assert!(by_purpose.is_empty() && purposes.is_empty() && of_namespace.is_empty(), "without its label");
}

#[test]
fn a_namespace_cannot_have_any_number_of_requests_remembered() {
    let requests = Arc::new(Requests::default());
    for number in 0..2 * MOST_OF_A_NAMESPACE {
        let mut many = request(&format!("r{number}"), denied());
        many.metadata.labels = Some([(VOLUME_LABEL.to_owned(), format!("v{number}"))].into());
        requests.apply(Event::Apply(many));
    }
    assert_eq!(requests.lock().known.purposes.len(), MOST_OF_A_NAMESPACE);
    let expected = requests.expect(key("own"));
    requests.apply(Event::Apply(request("own", json!({}))));
    assert_eq!(requests.of_volume("v1", &pod("shop", "u1")).len(), 2, "what is awaited is remembered in any case");
    drop(expected);
}

#[test]
fn a_waiter_sees_its_request_whatever_labels_it_has() {
    let requests = Arc::new(Requests::default());
    let expected = requests.expect(key("a"));
    expected.made();
    let mut changed = request("a", denied());
    changed.metadata.labels = None;
    requests.apply(Event::Apply(changed.clone()));
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Progress(Ok(Progress::Denied { .. }))));
    requests.apply(Event::Init);
    requests.apply(Event::InitApply(changed.clone()));
    requests.apply(Event::InitDone);
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Progress(_)), "it exists");
    requests.apply(Event::Delete(changed));
    assert!(matches!(*expected.seen().borrow(), WatchedRequest::Deleted));
}
