use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use super::*;
use crate::telemetry::captured_log::CapturedLog;

type Answer = fn(&str) -> Response;

/// An API server that gives the same answer to every event, and passes the events on.
fn server(answer: Answer) -> (Client, mpsc::UnboundedReceiver<(String, Value)>) {
    let (seen, events) = mpsc::unbounded_channel();
    let create = async move |State(answer): State<Answer>, Path(namespace): Path<String>, body: String| {
        seen.send((namespace.clone(), serde_json::from_str(&body).unwrap())).unwrap();
        answer(&body)
    };
    let routes = Router::new().route("/api/v1/namespaces/{namespace}/events", post(create)).with_state(answer);
    (Client::new(routes, "default"), events)
}

fn created(event: &str) -> Response {
    (StatusCode::CREATED, event.to_owned()).into_response()
}

fn forbidden(message: &str) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403,
        "message": message});
    (StatusCode::FORBIDDEN, status.to_string()).into_response()
}

fn no_role(_: &str) -> Response {
    forbidden(
        r#"events is forbidden: User "u" cannot create resource "events" in API group "" in the namespace "shop""#,
    )
}

fn terminating(_: &str) -> Response {
    forbidden(
        "events \"web.1\" is forbidden: unable to create new content in namespace shop because it is being terminated",
    )
}

fn events(client: Client) -> Events {
    Events::new(client, "svid-csi-driver", "node-1".to_owned(), &Tasks::default())
}

fn pod(name: &str) -> ObjectReference {
    let text = |text: &str| Some(text.to_owned());
    ObjectReference {
        api_version: text("v1"),
        kind: text("Pod"),
        namespace: text("shop"),
        name: text(name),
        uid: Some(format!("uid-of-{name}")),
        ..ObjectReference::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_names_its_sender_and_its_object() {
    let (client, mut sent) = server(created);
    events(client).warn(pod("web"), "Denied", "no such issuer", None);
    let (namespace, event) = sent.recv().await.unwrap();
    assert_eq!(namespace, "shop");
    assert_eq!(event["involvedObject"]["uid"], "uid-of-web");
    assert_eq!(event["metadata"], json!({"generateName": "web.", "namespace": "shop"}));
    assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("Denied")));
    assert_eq!((&event["message"], &event["count"]), (&json!("no such issuer"), &json!(1)));
    assert_eq!(event["source"], json!({"component": "svid-csi-driver"}));
    assert_eq!(event["reportingComponent"], "svid-csi-driver");
    assert_eq!(event["reportingInstance"], "node-1");
    assert!(event["firstTimestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(event["firstTimestamp"], event["lastTimestamp"]);
}

#[tokio::test(start_paused = true)]
async fn the_same_event_is_repeated_only_after_ten_minutes() {
    let (client, mut sent) = server(created);
    let events = events(client);
    for _ in 0..3 {
        events.warn(pod("web"), "Denied", "first", None);
    }
    for (about, reason, message) in
        [(pod("api"), "Denied", "first"), (pod("web"), "Failed", "first"), (pod("web"), "Denied", "other")]
    {
        events.clone().warn(about, reason, message, None);
    }
    tokio::time::advance(REPEAT_AFTER).await;
    events.warn(pod("web"), "Denied", "first", None);
    events.warn(pod("end"), "End", "", None);
    let mut reported = Vec::new();
    while let (_, event) = sent.recv().await.unwrap()
        && event["reason"] != "End"
    {
        reported.push(["name", "message"].map(|key| event["involvedObject"].get(key).unwrap_or(&event[key]).clone()));
    }
    assert_eq!(reported, [["web", "first"], ["api", "first"], ["web", "first"], ["web", "other"], ["web", "first"]]);
}

#[tokio::test(start_paused = true)]
async fn a_long_message_is_cut_between_characters() {
    let (client, mut sent) = server(created);
    events(client).warn(pod("web"), "Denied", format!("{}\u{fc}\u{fc}", "a".repeat(MESSAGE - 1)), None);
    assert_eq!(sent.recv().await.unwrap().1["message"], "a".repeat(MESSAGE - 1));
}

#[tokio::test(start_paused = true)]
async fn the_finding_is_named_at_the_end_of_a_cut_message_too() {
    let (client, mut sent) = server(created);
    let events = events(client);
    for message in ["short".to_owned(), "a".repeat(2 * MESSAGE)] {
        events.warn(pod("web"), "AgentGone", message, Some(svid_csi_core::finding!("broker-not-connected")));
        let (_, sent) = sent.recv().await.unwrap();
        let message = sent["message"].as_str().unwrap();
        assert!(message.len() <= MESSAGE && message.ends_with(" [broker-not-connected]"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn objects_without_a_namespace_have_their_events_in_the_default_one() {
    let (client, mut sent) = server(created);
    events(client).warn(ObjectReference { namespace: None, ..pod("node-1") }, "Denied", "x", None);
    assert_eq!(sent.recv().await.unwrap().0, "default");
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named_once() {
    let log = CapturedLog::start();
    for (answer, lines) in [(no_role as Answer, 1), (terminating, 1)] {
        let (client, mut sent) = server(answer);
        let events = events(client);
        for number in 0..5 {
            events.warn(pod("web"), "Denied", format!("message {number}"), None);
            sent.recv().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(log.lines("the verb `create` on `events`").len(), lines);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_cut_off_and_reported() {
    let log = CapturedLog::start();
    let (client, mut sent) = server(created);
    let events = events(client);
    // The sending task cannot run before this one waits.
    for number in 0..QUEUE + 7 {
        events.warn(pod("web"), "Denied", format!("message {number}"), None);
    }
    for _ in 0..QUEUE {
        sent.recv().await.unwrap();
    }
    events.warn(pod("web"), "Denied", format!("message {}", QUEUE + 3), None);
    let (_, last) = sent.recv().await.unwrap();
    assert_eq!(last["message"], format!("message {}", QUEUE + 3), "what was dropped has not been said");
    let lines = log.lines("some were not sent");
    assert!(lines.len() == 1 && lines[0].contains("lost=7"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn notices_leave_half_of_the_queue_to_warnings() {
    let (client, mut sent) = server(created);
    let events = events(client);
    // The sending task cannot run before this one waits.
    for number in 0..QUEUE {
        events.inform(pod("web"), "IdentityIssued", format!("message {number}"));
    }
    for number in 0..QUEUE / 2 {
        events.warn(pod("web"), "Denied", format!("message {number}"), None);
    }
    let mut types = Vec::new();
    for _ in 0..QUEUE {
        types.push(sent.recv().await.unwrap().1["type"].clone());
    }
    let of = |kind: &str| types.iter().filter(|found| **found == kind).count();
    assert_eq!((of("Normal"), of("Warning")), (QUEUE / 2, QUEUE / 2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(sent.try_recv().is_err());
}
