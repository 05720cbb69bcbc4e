//! A publisher with an API server that accepts any write, on a clock that is advanced while it sleeps.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State as Of;
use axum::response::IntoResponse;
use axum::routing::patch;
use kube::Client;
use serde_json::Value;
use svid_csi_core::ca::CertificateAuthority;
use svid_csi_core::jwt::JwtAuthority;
use svid_csi_core::spiffe_id::TrustDomain;

use super::*;
use crate::host::clock;
use crate::telemetry::captured_log::CapturedLog;

const HOUR: Duration = Duration::from_secs(3600);

/// The writes with their times, and their effects.
#[derive(Clone)]
struct Server {
    states: watch::Sender<SharedMap>,
    writes: Arc<Mutex<Vec<Instant>>>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// Another driver of that name writes its own entry at once.
    Overwritten,
    /// The write never appears.
    Lost,
}

async fn write(Of(server): Of<Server>, body: String) -> impl IntoResponse {
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["data"], "nothing else is touched");
    server.writes.lock().unwrap().push(Instant::now());
    let text = match server.fate {
        Fate::Stays => body["data"]["n1"].as_str().unwrap(),
        Fate::Overwritten => "another's",
        Fate::Lost => return body.to_string(),
    };
    server.there(&[("n1", text)]);
    body.to_string()
}

impl Server {
    fn new(fate: Fate) -> Self {
        Self { states: watch::Sender::new(SharedMap::Unknown), writes: Arc::default(), fate }
    }

    fn there(&self, entries: &[(&str, &str)]) {
        let entries = entries.iter().map(|(node, text)| ((*node).to_owned(), (*text).to_owned()));
        self.states.send_replace(SharedMap::There(Arc::new(entries.collect())));
    }

    fn publisher(&self, troubles: &Troubles) -> Publisher {
        let trust_domain = TrustDomain::parse("example.org").unwrap();
        let ca = CertificateAuthority::create(&trust_domain, clock::now(), HOUR).unwrap();
        let own = Authorities::of(&ca, &JwtAuthority::create(&trust_domain).unwrap());
        let path = "/api/v1/namespaces/svid-csi/configmaps/roots";
        let client = Client::new(Router::new().route(path, patch(write)).with_state(self.clone()), "default");
        let place = ConfigMapPlace { namespace: "svid-csi".to_owned(), name: "roots".to_owned() };
        Publisher::new(Api::namespaced(client, "svid-csi"), &place, "n1", &own, troubles.clone())
    }

    fn writes(&self) -> usize {
        self.writes.lock().unwrap().len()
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_written_once_and_not_before_the_map_was_read() {
    let (server, troubles) = (Server::new(Fate::Stays), Troubles::default());
    let mut run = Box::pin(server.publisher(&troubles).run(server.states.subscribe()));
    assert!(timeout(HOUR, &mut run).await.is_err());
    server.states.send_replace(SharedMap::Absent);
    assert!(timeout(HOUR, &mut run).await.is_err());
    assert_eq!(server.writes(), 0, "it is not there to be patched");
    server.there(&[("n1", "of the run before")]);
    assert!(timeout(HOUR, &mut run).await.is_err());
    server.there(&[("n2", "another node's")]);
    assert!(timeout(HOUR, &mut run).await.is_err());
    assert_eq!((server.writes(), troubles.summary()), (2, None));
}

#[tokio::test(start_paused = true)]
async fn a_removed_entry_is_soon_written_again() {
    let (server, troubles) = (Server::new(Fate::Stays), Troubles::default());
    let mut run = Box::pin(server.publisher(&troubles).run(server.states.subscribe()));
    server.there(&[]);
    assert!(timeout(HOUR, &mut run).await.is_err());
    for quiet in [1, 100, 10_000] {
        assert!(timeout(Duration::from_secs(quiet), &mut run).await.is_err());
        let before = server.writes();
        server.there(&[]);
        assert!(timeout(Duration::from_secs(5), &mut run).await.is_err());
        assert_eq!(server.writes(), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_of_one_name_end_up_writing_once_per_hour() {
    let log = CapturedLog::start();
    let (server, troubles) = (Server::new(Fate::Overwritten), Troubles::default());
    server.there(&[]);
    assert!(timeout(24 * HOUR, server.publisher(&troubles).run(server.states.subscribe())).await.is_err());
    let writes = server.writes.lock().unwrap().clone();
    assert!((20..50).contains(&writes.len()), "{} writes in a day", writes.len());
    assert!(writes[writes.len() - 1] - writes[writes.len() - 2] > HOUR / 2);
    let warning = "the entry n1 of the ConfigMap svid-csi/roots has another writer";
    assert!((2..7).contains(&log.lines(warning).len()), "{:?}", log.lines(warning));
    assert!(troubles.summary().unwrap().contains(warning));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_does_not_appear_is_not_written_repeatedly() {
    let (server, troubles) = (Server::new(Fate::Lost), Troubles::default());
    server.there(&[]);
    assert!(timeout(HOUR, server.publisher(&troubles).run(server.states.subscribe())).await.is_err());
    assert!(server.writes() < 80, "{} writes in an hour", server.writes());
}
