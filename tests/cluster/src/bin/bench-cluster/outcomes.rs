//! One watch of all requests, on which the outcome of each is awaited.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi_cluster::requests::condition;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

type Waiting = Arc<Mutex<HashMap<String, oneshot::Sender<Result<(), String>>>>>;

/// The watch; it ends with the value.
pub(crate) struct Outcomes {
    waiting: Waiting,
    _watch: JoinSet<()>,
}

impl Outcomes {
    /// Starts the watch, and returns once it is established.
    pub(crate) async fn watch(requests: Api<CertificateRequest>) -> Result<Self> {
        let waiting = Waiting::default();
        let (begun, has_begun) = oneshot::channel();
        let mut watch = JoinSet::new();
        watch.spawn(follow(requests, Arc::clone(&waiting), begun));
        has_begun.await.context("the watch has ended")?;
        Ok(Self { waiting, _watch: watch })
    }

    /// The outcome of a request that is about to be created; completes when it is signed.
    pub(crate) fn of(&self, name: &str) -> impl Future<Output = Result<()>> + use<> {
        let (sender, received) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), sender);
        async move {
            match received.await.context("the watch has ended")? {
                Ok(()) => Ok(()),
                Err(reason) => bail!(reason),
            }
        }
    }
}

async fn follow(requests: Api<CertificateRequest>, waiting: Waiting, begun: oneshot::Sender<()>) {
    let mut begun = Some(begun);
    let mut events = pin!(watcher(requests, watcher::Config::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::InitDone) => drop(begun.take().map(|begun| begun.send(()))),
            Ok(Event::Apply(request)) => send_outcome(&request, &waiting),
            _ => {}
        }
    }
}

fn send_outcome(request: &CertificateRequest, waiting: &Waiting) {
    let Some(outcome) = outcome(request).transpose() else { return };
    let sender = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.name_any());
    if let Some(sender) = sender {
        let _ = sender.send(outcome.map_err(|error| error.to_string()));
    }
}

fn outcome(request: &CertificateRequest) -> Result<Option<()>> {
    for bad in ["Denied", "InvalidRequest"] {
        let found = condition(request, bad);
        ensure!(found.is_none(), "{} is {bad}: {}", request.name_any(), found.unwrap_or_default().message);
    }
    Ok(condition(request, "Ready").map(drop))
}
