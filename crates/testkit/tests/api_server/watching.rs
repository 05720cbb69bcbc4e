//! Watching, as the driver and the approver do it.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use kube::Api;
use kube::api::WatchParams;
use kube::core::WatchEvent;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi_testkit::api_server::{ApiServer, Fault};

use crate::fixture::{create, request, requests, server, version};

const SOON: Duration = Duration::from_secs(60);

fn watch(client: &kube::Client) -> impl Stream<Item = Event<CertificateRequest>> {
    let all: Api<CertificateRequest> = Api::all(client.clone());
    watcher(all, Config::default().labels("node=n1")).default_backoff().filter_map(async |event| event.ok())
}

/// The next object that was created or changed, from a watch event or from a new list.
async fn next_name(events: &mut (impl Stream<Item = Event<CertificateRequest>> + Unpin)) -> String {
    loop {
        match tokio::time::timeout(SOON, events.next()).await.unwrap().unwrap() {
            Event::Apply(object) | Event::InitApply(object) => return object.metadata.name.unwrap(),
            _ => {}
        }
    }
}

async fn watched(server: &ApiServer) {
    server.pulse.until("a watch", || (server.watches.count("certificaterequests") == 1).then_some(())).await;
}

#[tokio::test]
async fn a_broken_watch_continues_where_it_was() {
    let (server, client) = server().await;
    create(&client, "a").await;
    let mut events = pin!(watch(&client));
    assert_eq!(next_name(&mut events).await, "a");
    let listening = tokio::time::timeout(SOON, async {
        futures::join!(next_name(&mut events), async {
            watched(&server).await;
            server.watches.break_all();
            requests(&client).create(&Default::default(), &request("other-node", "n2")).await.unwrap();
            create(&client, "b").await;
        })
    });
    assert_eq!(listening.await.unwrap().0, "b");
    assert_eq!(server.calls.count("list", "certificaterequests"), 1, "{}", server.calls.log());
}

#[tokio::test]
async fn a_watch_that_is_too_old_lists_again() {
    let (server, client) = server().await;
    create(&client, "a").await;
    let mut events = pin!(watch(&client));
    assert_eq!(next_name(&mut events).await, "a");
    let names = async { while next_name(&mut events).await != "b" {} };
    let go_on = async {
        watched(&server).await;
        server.watches.gone_all();
        create(&client, "b").await;
        server.objects.compact();
    };
    tokio::time::timeout(SOON, async { futures::join!(names, go_on) }).await.unwrap();
    assert_eq!(server.calls.count("list", "certificaterequests"), 2, "{}", server.calls.log());
}

#[tokio::test]
async fn a_forgotten_version_cannot_be_watched() {
    let (server, client) = server().await;
    let old = version(&create(&client, "a").await);
    let newer = version(&create(&client, "b").await);
    server.objects.compact();
    let start = async |version: u64| requests(&client).watch(&WatchParams::default(), &version.to_string()).await.err();
    let gone = start(old).await.unwrap();
    assert!(matches!(gone, kube::Error::Api(status) if status.code == 410 && status.reason == "Expired"));
    assert!(start(newer).await.is_none());
    server.faults.next(1, "watch", "certificaterequests", Fault::Gone);
    assert!(start(newer).await.is_some());
}

#[tokio::test]
async fn clients_reconnect_to_a_restarted_server() {
    let (server, client) = server().await;
    let mut events = pin!(watch(&client));
    let outage = async {
        watched(&server).await;
        server.stop();
        assert!(requests(&client).get("a").await.is_err(), "refused");
        server.resume();
        create(&client, "a").await;
    };
    let (name, ()) = futures::join!(next_name(&mut events), outage);
    assert_eq!(name, "a");
}

#[tokio::test]
async fn raw_events_are_those_of_kubernetes() {
    let (server, client) = server().await;
    let api = requests(&client);
    let first = create(&client, "a").await;
    let parameters = WatchParams::default().labels("node=n1").timeout(290);
    let mut events = pin!(api.watch(&parameters, &version(&first).to_string()).await.unwrap());
    watched(&server).await;
    assert!(server.cert_manager.approve("a") && server.cert_manager.delete("a"));
    server.watches.bookmark_all();
    server.watches.gone_all();
    let mut seen = Vec::new();
    while let Some(event) = tokio::time::timeout(SOON, events.try_next()).await.unwrap().unwrap() {
        seen.push(match event {
            WatchEvent::Added(object) => format!("added {}", version(&object)),
            WatchEvent::Modified(object) => format!("modified {}", version(&object)),
            WatchEvent::Deleted(object) => format!("deleted {}", version(&object)),
            WatchEvent::Bookmark(mark) => format!("bookmark {}", mark.metadata.resource_version),
            WatchEvent::Error(status) => format!("error {} {}", status.code, status.reason),
        });
    }
    assert_eq!(seen, ["modified 3", "modified 4", "deleted 5", "bookmark 5", "error 410 Expired"]);
    server.pulse.until("the watch is over", || (server.watches.count("certificaterequests") == 0).then_some(())).await;
    let mut all = pin!(api.watch(&WatchParams::default(), "0").await.unwrap());
    create(&client, "b").await;
    let event = tokio::time::timeout(SOON, all.try_next()).await.unwrap().unwrap();
    assert!(matches!(event, Some(WatchEvent::Added(object)) if object.metadata.name.as_deref() == Some("b")));
}
