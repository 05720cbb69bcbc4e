//! All requests of the cluster, by one list and one watch. Decided requests are not kept.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::metrics::Metrics;
use super::notices::Notices;
use super::object::Listed;
use super::queue::Queue;
use super::text::{Once, shown};
use crate::backoff::pause;
use crate::kube::error;
use crate::kube::lease::Leadership;
use crate::kube::watching::{GONE, Selection, WatchItem, Watching, describe};
use crate::telemetry::reported::Reported;

/// The number of requests per page of a list. A page is in memory both as received and as parsed, and a request may
/// have any size.
const PAGE: u32 = 10;

/// How long a watch lasts before it is resumed, in seconds. Then a dead connection is noticed.
const LASTS: u32 = 60;

/// The longest pause after a failure. Without a watch, no starting pod gets an identity.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct RequestWatch {
    pub(super) client: Client,
    pub(super) queue: Arc<Queue>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) notices: Notices,
    pub(super) leadership: Leadership,
    /// Whether all requests have been listed.
    pub(super) synced: watch::Sender<bool>,
    /// Whether requests without our annotation are also judged.
    pub(super) all: bool,
    pub(super) progress: Progress,
}

/// The client to watch with: on it, the API server is never silent for longer than a watch lasts.
pub(super) fn config(mut config: Config) -> Config {
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(Duration::from_secs(u64::from(LASTS) + 10));
    config.reset_reader_on_write = true;
    config
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    failures: u32,
    reported: Reported,
    was_synced: bool,
    /// The requests in the first list that another approver approved: how many, and the first of them.
    found_approved: (usize, Option<Box<Listed>>),
    once: Once,
}

impl Progress {
    fn answered(&mut self) {
        self.failures = 0;
        self.reported.ends();
    }
}

impl RequestWatch {
    /// Fills the queue until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        stop.run_until_cancelled(self.follow()).await;
        Ok(())
    }

    async fn follow(&mut self) {
        let selection = Selection { labels: None, fields: None, page: PAGE, lasts: LASTS };
        let restarts = self.metrics.watch_restarts.clone();
        let mut watching = Watching::new(Api::<Listed>::all(self.client.clone()), selection, restarts);
        loop {
            match watching.next().await {
                Ok(WatchItem::Event(event)) => self.take(event),
                Ok(WatchItem::Watched) => self.progress.answered(),
                Err(error) => {
                    self.log_failure(&error);
                    self.progress.failures += 1;
                    sleep(pause(self.progress.failures, LONGEST_PAUSE)).await;
                }
            }
        }
    }

    fn take(&mut self, event: Event<Listed>) {
        match event {
            Event::Init => {
                self.queue.listing_begins();
                self.synced.send_replace(false);
                // This event does not show that the API server answers.
                return;
            }
            Event::InitApply(object) => self.see(object, true),
            Event::Apply(object) => self.see(object, false),
            Event::Delete(object) => drop(self.queue.forget(&object.key())),
            Event::InitDone => self.listed(),
        }
        self.progress.answered();
    }

    fn see(&mut self, object: Listed, is_listed: bool) {
        let request = object.request();
        if request.identity.is_none() && !self.all {
            // It may have requested an identity before.
            self.queue.forget(&object.key());
            return;
        }
        if request.decision.is_none() {
            return self.queue.offer(Box::new(object));
        }
        let was_pending = self.queue.forget(&object.key());
        if !request.is_approved_by_another() {
            return;
        }
        if was_pending {
            self.approved_by_another(&object);
        } else if is_listed && !self.progress.was_synced {
            let (count, first) = &mut self.progress.found_approved;
            *count += 1;
            first.get_or_insert_with(|| Box::new(object));
        }
    }

    fn listed(&mut self) {
        self.queue.listing_ends();
        self.synced.send_replace(true);
        self.progress.was_synced = true;
        info!(pending = self.queue.len(), "all certificate requests have been listed");
        if let (count, Some(first)) = std::mem::take(&mut self.progress.found_approved) {
            let example = name(&first);
            warn!(count, example, "requests with a SPIFFE identity were approved by another approver in the past");
            self.notices.approved_by_another(&first);
        }
    }

    /// Handles a request that another approver decided before this one.
    fn approved_by_another(&self, object: &Listed) {
        self.metrics.approved_by_another.inc();
        if self.progress.once.is_new("approved by another") {
            warn!(
                request = name(object),
                "another approver approves requests with a SPIFFE identity, so the approver's rules have no effect: \
                 turn cert-manager's own approver off with --controllers=*,-certificaterequests-approver; logged once, \
                 the metric approved_by_another counts such requests"
            );
        }
        if self.leadership.is_leading() {
            self.notices.approved_by_another(object);
        }
    }

    fn log_failure(&mut self, failure: &watcher::Error) {
        let (is_expired, problem) = problem(failure);
        if is_expired {
            return debug!(error = problem, "restarting the watch of certificate requests");
        }
        self.metrics.watch_failures.inc();
        if self.progress.reported.is_new(problem.clone()) {
            warn!(error = problem, "cannot watch certificate requests; retrying every few seconds");
        }
    }
}

fn name(object: &Listed) -> String {
    let key = object.key();
    format!("{}/{}", shown(&key.namespace), shown(&key.name))
}

/// Whether the watch was merely too old, and a description of the problem.
fn problem(failure: &watcher::Error) -> (bool, String) {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    let (code, fix) = match failure {
        InitialListFailed(failed) | WatchStartFailed(failed) | WatchFailed(failed) => {
            let code = error::status(failed).map(|status| status.code);
            let fix = match code {
                Some(403) => "; grant the verbs list and watch on certificaterequests.cert-manager.io",
                Some(404) => "; is cert-manager installed?",
                _ => "",
            };
            (code, fix)
        }
        WatchError(status) => (Some(status.code), ""),
        NoResourceVersion => (None, ""),
    };
    (code == Some(GONE), format!("{}{fix}", describe(failure)))
}
