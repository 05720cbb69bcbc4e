//! The outcomes of requests, which a watch reports and others await.

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

type Outcome = Result<(), String>;

/// The requests whose outcome is awaited, by name.
#[derive(Clone, Default)]
pub(crate) struct Awaited(Arc<Mutex<HashMap<String, oneshot::Sender<Outcome>>>>);

/// One watch of all requests; it ends with the value.
pub(crate) struct Outcomes {
    awaited: Awaited,
    _watch: JoinSet<()>,
}

impl Outcomes {
    /// Starts the watch, and returns once it is established.
    pub(crate) async fn watch(requests: Api<CertificateRequest>) -> Result<Self> {
        let awaited = Awaited::default();
        let (begun, has_begun) = oneshot::channel();
        let mut watch = JoinSet::new();
        watch.spawn(follow(requests, awaited.clone(), begun));
        has_begun.await.context("the watch has ended")?;
        Ok(Self { awaited, _watch: watch })
    }

    /// [`Awaited::of`].
    pub(crate) fn of(&self, name: &str) -> impl Future<Output = Result<()>> + use<> {
        self.awaited.of(name)
    }
}

impl Awaited {
    /// The outcome of a request that is about to be created; completes when it is signed.
    pub(crate) fn of(&self, name: &str) -> impl Future<Output = Result<()>> + use<> {
        let (sender, received) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), sender);
        async move {
            match received.await.context("the watch has ended")? {
                Ok(()) => Ok(()),
                Err(reason) => bail!(reason),
            }
        }
    }

    /// Sends the outcome of this request, if it has one and is awaited.
    pub(crate) fn report(&self, request: &CertificateRequest) {
        let Some(outcome) = outcome(request).transpose() else { return };
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.name_any());
        if let Some(sender) = sender {
            let _ = sender.send(outcome.map_err(|error| error.to_string()));
        }
    }
}

async fn follow(requests: Api<CertificateRequest>, awaited: Awaited, begun: oneshot::Sender<()>) {
    let mut begun = Some(begun);
    let mut events = pin!(watcher(requests, watcher::Config::default()));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::InitDone) => drop(begun.take().map(|begun| begun.send(()))),
            Ok(Event::Apply(request)) => awaited.report(&request),
            _ => {}
        }
    }
}

fn outcome(request: &CertificateRequest) -> Result<Option<()>> {
    for bad in ["Denied", "InvalidRequest"] {
        let found = condition(request, bad);
        ensure!(found.is_none(), "{} is {bad}: {}", request.name_any(), found.unwrap_or_default().message);
    }
    Ok(condition(request, "Ready").map(drop))
}
