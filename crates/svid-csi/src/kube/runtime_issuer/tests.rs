use axum::http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::kube::scripted::Scripted;
use crate::telemetry::captured_log::CapturedLog;

fn server() -> Scripted {
    Scripted::new("/api/v1/namespaces/shop/configmaps", "issuance")
}

fn start(server: &Scripted, from_flags: Option<&str>) -> RuntimeIssuer {
    start_counting(server, from_flags, Counter::default())
}

fn start_counting(server: &Scripted, from_flags: Option<&str>, restarts: Counter) -> RuntimeIssuer {
    let place = ConfigMapPlace { namespace: "shop".to_owned(), name: "issuance".to_owned() };
    let from_flags = from_flags.map(|name| IssuerRef { name: name.to_owned(), ..IssuerRef::default() });
    RuntimeIssuer::start(server.client(), place, from_flags, restarts, &Tasks::default())
}

fn config_map(name: &str) -> Option<Value> {
    Some(json!({"data": {"issuer-name": name, "issuer-kind": "ClusterIssuer", "issuer-group": "cert-manager.io"}}))
}

fn broken() -> Option<Value> {
    Some(json!({"data": {"issuer-name": "other", "issuer-kind": ""}}))
}

/// Waits until the issuer has this name.
async fn becomes(issuer: &RuntimeIssuer, name: Option<&str>) {
    let mut current = issuer.current();
    current.wait_for(|issuer| issuer.as_ref().map(|issuer| &*issuer.name) == name).await.unwrap();
}

async fn name_now(issuer: &RuntimeIssuer) -> Option<String> {
    issuer.read_now().await.unwrap().map(|issuer| issuer.name)
}

#[tokio::test(start_paused = true)]
async fn a_config_map_is_followed_from_creation_to_deletion() {
    let server = server();
    let issuer = start(&server, Some("flags"));
    issuer.answered().await;
    becomes(&issuer, Some("flags")).await;
    for name in ["a", "b"] {
        server.set(config_map(name));
        becomes(&issuer, Some(name)).await;
    }
    assert_eq!(issuer.current().borrow().as_ref().unwrap().kind(), "ClusterIssuer");
    server.set(None);
    becomes(&issuer, Some("flags")).await;
    server.set(config_map("c"));
    becomes(&issuer, Some("c")).await;
    let calls = server.until(|_| true).await;
    assert_eq!((calls.lists, calls.watches, calls.gets), (1, 1, 0), "nothing is polled");
}

#[tokio::test(start_paused = true)]
async fn it_is_answered_only_after_the_config_map_was_read() {
    let server = server();
    server.set(config_map("a"));
    server.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    let issuer = start(&server, Some("flags"));
    server.until(|calls| calls.refused >= 2).await;
    assert!(!*issuer.answered.borrow());
    server.refuse(None);
    issuer.answered().await;
    becomes(&issuer, Some("a")).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_config_map_changes_nothing_and_is_reported_once() {
    let log = CapturedLog::start();
    let server = server();
    server.set(config_map("a"));
    let issuer = start(&server, None);
    becomes(&issuer, Some("a")).await;
    server.set(broken());
    server.set(broken());
    assert_eq!(name_now(&issuer).await.as_deref(), Some("a"));
    issuer.trouble.clone().wait_for(Option::is_some).await.unwrap();
    server.set(config_map("b"));
    becomes(&issuer, Some("b")).await;
    assert_eq!(issuer.trouble(), None);
    let lines = log.lines("the ConfigMap of --runtime-issuance-config-map-name is invalid; using the last issuer");
    let lacks = "the ConfigMap shop/issuance names no issuer: it lacks a value for issuer-kind and issuer-group";
    assert!(lines.len() == 1 && lines[0].contains(lacks) && lines[0].contains("ERROR"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn without_config_map_and_flags_nothing_can_be_issued() {
    let log = CapturedLog::start();
    let server = server();
    let issuer = start(&server, None);
    issuer.answered().await;
    assert!(issuer.current().borrow().is_none());
    assert_eq!(log.lines("no issuer: the ConfigMap").len(), 1);
    server.set(config_map("a"));
    becomes(&issuer, Some("a")).await;
    server.set(None);
    becomes(&issuer, None).await;
    assert_eq!(log.lines("no issuer: the ConfigMap").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_can_also_be_read_on_demand() {
    let server = server();
    let issuer = start(&server, Some("flags"));
    assert_eq!(name_now(&issuer).await.as_deref(), Some("flags"));
    server.set(config_map("a"));
    assert_eq!(name_now(&issuer).await.as_deref(), Some("a"));
    server.refuse(Some(StatusCode::FORBIDDEN));
    assert!(matches!(issuer.read_now().await, Err(ReadError::Forbidden { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_missing_permission_is_named_once_and_the_flags_apply() {
    let log = CapturedLog::start();
    let server = server();
    server.set(config_map("a"));
    server.refuse(Some(StatusCode::FORBIDDEN));
    let issuer = start(&server, Some("flags"));
    issuer.answered().await;
    server.until(|calls| calls.refused >= 20).await;
    becomes(&issuer, Some("flags")).await;
    assert!(issuer.trouble().unwrap().contains("not allowed to read"));
    let lines = log.lines("not allowed to read the ConfigMap shop/issuance (--runtime-issuance-config-map-name)");
    assert!(lines.len() == 1 && lines[0].contains("the verbs get, list and watch"), "{lines:?}");
    server.refuse(None);
    becomes(&issuer, Some("a")).await;
}

#[tokio::test(start_paused = true)]
async fn changes_during_an_outage_are_not_missed() {
    let log = CapturedLog::start();
    let server = server();
    server.set(config_map("a"));
    let issuer = start(&server, None);
    becomes(&issuer, Some("a")).await;
    server.refuse(Some(StatusCode::INTERNAL_SERVER_ERROR));
    server.set(config_map("b"));
    server.until(|calls| calls.refused >= 5).await;
    becomes(&issuer, Some("a")).await;
    server.refuse(None);
    becomes(&issuer, Some("b")).await;
    assert_eq!(log.lines("cannot be read at the moment").len(), 1, "an outage is reported once");
    server.set(None);
    server.forget();
    becomes(&issuer, None).await;
    assert_eq!(log.lines("cannot be read at the moment").len(), 1, "an old version is not an outage");
}

#[tokio::test(start_paused = true)]
async fn interruptions_of_the_watch_are_counted_once_it_is_established_again() {
    let (server, restarts) = (server(), Counter::default());
    server.set(config_map("a"));
    server.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
    let issuer = start_counting(&server, None, restarts.clone());
    server.until(|calls| calls.refused >= 2).await;
    server.refuse(None);
    becomes(&issuer, Some("a")).await;
    server.until(|calls| calls.watches >= 1).await;
    for (interruption, name) in ["b", "c"].into_iter().enumerate() {
        assert_eq!(restarts.get(), u64::try_from(interruption).unwrap(), "not the first watch, and not each attempt");
        let refused = server.until(|_| true).await.refused;
        server.refuse(Some(StatusCode::SERVICE_UNAVAILABLE));
        server.until(|calls| calls.refused >= refused + 3).await;
        server.refuse(None);
        server.set(config_map(name));
        becomes(&issuer, Some(name)).await;
        let watches = server.until(|_| true).await.watches;
        server.until(|calls| calls.watches >= watches.max(interruption + 2)).await;
        // The change after it arrives through the watch.
        server.set(config_map("after"));
        becomes(&issuer, Some("after")).await;
    }
    assert_eq!(restarts.get(), 2);
}
