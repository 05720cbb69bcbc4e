//! The number of requests that wait for their certificate at the same time, in the order of the API server's events.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Instant;

use anyhow::{Result, bail};
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi_cluster::requests::condition;

/// The requests created since the count began.
#[derive(Default)]
pub(crate) struct RequestCounts {
    /// Whether each known request is still waiting.
    waits: HashMap<String, bool>,
    in_flight: u32,
    /// The maximum number waiting at once.
    pub(crate) most: u32,
    /// The number of issued certificates.
    pub(crate) issued: usize,
    /// The time at which each was created.
    pub(crate) made: Vec<Instant>,
}

/// A count in progress.
pub(crate) struct InFlight<S> {
    seen: RequestCounts,
    events: S,
}

type Events = watcher::Result<Event<CertificateRequest>>;

/// Begins to count; existing requests are not included.
pub(crate) async fn begin(requests: Api<CertificateRequest>) -> Result<InFlight<impl Stream<Item = Events> + Unpin>> {
    let mut events = Box::pin(watcher(requests, watcher::Config::default()));
    let mut seen = RequestCounts::default();
    while let Some(event) = events.next().await {
        match event? {
            Event::InitApply(request) => drop(seen.waits.insert(request.name_any(), false)),
            Event::InitDone => return Ok(InFlight { seen, events }),
            _ => {}
        }
    }
    bail!("the watch has ended")
}

impl<S: Stream<Item = Events> + Unpin> InFlight<S> {
    /// Counts until that many certificates were issued.
    pub(crate) async fn until_issued(mut self, count: usize) -> Result<RequestCounts> {
        let mut events = pin!(self.events);
        while self.seen.issued < count {
            match events.next().await {
                Some(Ok(Event::Apply(request))) => self.seen.applied(&request),
                Some(Ok(Event::Delete(request))) => self.seen.deleted(&request),
                Some(Ok(_)) => bail!("the watch began anew, so requests may have been missed"),
                Some(Err(error)) => bail!("the watch failed: {error}"),
                None => bail!("the watch has ended"),
            }
        }
        Ok(self.seen)
    }
}

impl RequestCounts {
    fn applied(&mut self, request: &CertificateRequest) {
        let waits = self.waits.entry(request.name_any()).or_insert_with(|| {
            self.in_flight += 1;
            self.most = self.most.max(self.in_flight);
            self.made.push(Instant::now());
            true
        });
        if *waits && condition(request, "Ready").is_some() {
            *waits = false;
            self.in_flight -= 1;
            self.issued += 1;
        }
    }

    fn deleted(&mut self, request: &CertificateRequest) {
        if self.waits.remove(&request.name_any()) == Some(true) {
            self.in_flight -= 1;
        }
    }

    /// From the first request to the last, in seconds.
    pub(crate) fn span(&self) -> f64 {
        let ends = self.made.first().zip(self.made.last());
        ends.map(|(first, last)| (*last - *first).as_secs_f64()).unwrap_or_default()
    }

    /// The maximum number of requests created within one second.
    pub(crate) fn busiest_second(&self) -> usize {
        let begins = self.made.iter().enumerate();
        let within = begins.map(|(index, first)| {
            let rest = self.made.get(index..).unwrap_or_default();
            rest.iter().take_while(|made| made.duration_since(*first).as_secs() < 1).count()
        });
        within.max().unwrap_or_default()
    }
}
