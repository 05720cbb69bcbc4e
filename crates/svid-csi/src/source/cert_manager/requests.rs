//! The requests of this node, as reported by the watch, and the waiters for them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use kube::runtime::watcher::Event;
use svid_csi_core::cert_request::{ATTEMPT_ANNOTATION, Progress, StatusError, VOLUME_LABEL, ended};
use svid_csi_core::pod::PodRef;
use tokio::sync::watch;

use crate::kube::cert_request::CertificateRequest;

/// The number of requests of one volume that are remembered, besides the awaited ones: a client that may create
/// requests can make them look like a volume's.
const MOST_OF_A_VOLUME: usize = 32;

/// A request by namespace and name.
pub type RequestName = (String, String);

/// The observed state of an awaited request.
#[derive(Debug, Clone)]
pub enum WatchedRequest {
    /// Nothing yet.
    Nothing,
    /// Its progress.
    Progress(Result<Progress, StatusError>),
    /// It was deleted.
    Deleted,
}

/// Whether the watch is up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// All requests of the node are known, and changes arrive.
    Up,
    /// It is not, for that reason.
    Down(String),
}

/// The known requests of this node.
#[derive(Debug)]
pub struct Requests {
    state: Mutex<Index>,
    link: watch::Sender<Link>,
}

#[derive(Debug, Default)]
struct Index {
    by_volume: ByVolume,
    listing: Option<ByVolume>,
    lists: u64,
    waiting: HashMap<RequestName, Waiter>,
}

/// The requests by their purpose.
type ByVolume = HashMap<Purpose, HashMap<RequestName, RequestSummary>>;

/// The purpose of a request: the hash of the volume, the pod's namespace and its UID. The author of the request chooses
/// hash and UID, but not the namespace.
type Purpose = (String, String, String);

/// The fields of a request that its volume needs.
#[derive(Debug, Clone)]
struct RequestSummary {
    issued: bool,
    failure: Option<Failure>,
}

/// A failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// When it failed.
    pub at: SystemTime,
    /// The number of consecutive failures, this one included.
    pub attempt: u32,
}

#[derive(Debug)]
struct Waiter {
    seen: watch::Sender<WatchedRequest>,
    /// The number of lists that had begun when the API server confirmed the creation: each later list must contain the
    /// request.
    made_before: Option<u64>,
}

/// A waiter for a request, removed when dropped.
#[derive(Debug)]
pub struct AwaitedRequest {
    requests: Arc<Requests>,
    key: RequestName,
    seen: watch::Receiver<WatchedRequest>,
}

impl Default for Requests {
    fn default() -> Self {
        let link = watch::Sender::new(Link::Down("the API server has not answered yet".to_owned()));
        Self { state: Mutex::default(), link }
    }
}

impl Requests {
    /// Whether the watch is up to date, and changes of that.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Records that all is listed and the API server has accepted the watch. Returns whether that is new.
    pub fn found(&self) -> bool {
        self.link.send_if_modified(|link| std::mem::replace(link, Link::Up) != Link::Up)
    }

    /// Records that the watch failed and is being restarted. Known requests stay known.
    pub fn lost(&self, reason: String) {
        self.link.send_replace(Link::Down(reason));
    }

    /// Waits for a request with that name, which is about to be created.
    pub fn expect(self: &Arc<Self>, key: RequestName) -> AwaitedRequest {
        let (sender, seen) = watch::channel(WatchedRequest::Nothing);
        self.lock().waiting.insert(key.clone(), Waiter { seen: sender, made_before: None });
        AwaitedRequest { requests: self.clone(), key, seen }
    }

    /// The requests of a volume of that pod, and whether each is issued.
    pub fn of_volume(&self, volume_hash: &str, pod: &PodRef) -> Vec<(RequestName, bool)> {
        self.lock().known(volume_hash, pod).map(|(key, known)| (key.clone(), known.issued)).collect()
    }

    /// The last request of a volume of that pod, if it failed.
    pub fn last_failure(&self, volume_hash: &str, pod: &PodRef) -> Option<Failure> {
        self.lock().known(volume_hash, pod).filter_map(|(_, known)| known.failure).max()
    }

    /// Processes a report of the watch.
    pub fn apply(&self, event: Event<CertificateRequest>) {
        let mut state = self.lock();
        match event {
            Event::Init => {
                state.lists += 1;
                state.listing = Some(HashMap::new());
            }
            Event::InitApply(request) | Event::Apply(request) => state.show(&request),
            Event::Delete(request) => state.remove(&request),
            Event::InitDone => state.listed(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn known(&self, volume_hash: &str, pod: &PodRef) -> impl Iterator<Item = (&RequestName, &RequestSummary)> {
        let purpose = (volume_hash.to_owned(), pod.namespace.clone(), pod.uid.clone());
        self.by_volume.get(&purpose).into_iter().flatten()
    }

    fn show(&mut self, request: &CertificateRequest) {
        let Some((purpose, key, known)) = RequestSummary::of(request) else { return };
        let waiter = self.waiting.get(&key);
        if let Some(waiter) = waiter {
            waiter.seen.send_replace(WatchedRequest::Progress(Progress::read(request.status.as_ref())));
        }
        let by_volume = self.listing.as_mut().unwrap_or(&mut self.by_volume);
        let of_volume = by_volume.entry(purpose).or_default();
        if of_volume.len() < MOST_OF_A_VOLUME || of_volume.contains_key(&key) || waiter.is_some() {
            of_volume.insert(key, known);
        }
    }

    fn remove(&mut self, request: &CertificateRequest) {
        let Some((purpose, key, _)) = RequestSummary::of(request) else { return };
        if let Some(waiter) = self.waiting.get(&key) {
            waiter.seen.send_replace(WatchedRequest::Deleted);
        }
        if let Some(of_volume) = self.by_volume.get_mut(&purpose) {
            of_volume.remove(&key);
            if of_volume.is_empty() {
                self.by_volume.remove(&purpose);
            }
        }
    }

    /// Handles the end of a list: older requests that are not in it were deleted.
    fn listed(&mut self) {
        let Some(listed) = self.listing.take() else { return };
        self.by_volume = listed;
        let there: HashSet<&RequestName> = self.by_volume.values().flat_map(HashMap::keys).collect();
        for (key, waiter) in &self.waiting {
            if waiter.made_before.is_some_and(|lists| lists < self.lists) && !there.contains(key) {
                waiter.seen.send_replace(WatchedRequest::Deleted);
            }
        }
    }
}

impl RequestSummary {
    /// `None` for an object without the labels of a volume's request.
    fn of(request: &CertificateRequest) -> Option<(Purpose, RequestName, Self)> {
        let metadata = &request.metadata;
        let volume = metadata.labels.as_ref()?.get(VOLUME_LABEL)?.clone();
        let owner =
            metadata.owner_references.as_ref().and_then(|owners| owners.iter().find(|owner| owner.kind == "Pod"));
        let attempt = metadata.annotations.as_ref().and_then(|annotations| annotations.get(ATTEMPT_ANNOTATION));
        let attempt = attempt.and_then(|attempt| attempt.parse::<u32>().ok()).map_or(1, |attempt| attempt.clamp(1, 16));
        let key = (metadata.namespace.clone()?, metadata.name.clone()?);
        let purpose = (volume, key.0.clone(), owner.map(|owner| owner.uid.clone()).unwrap_or_default());
        let known = RequestSummary {
            issued: matches!(Progress::read(request.status.as_ref()), Ok(Progress::Issued(_))),
            failure: request.status.as_ref().and_then(ended).map(|at| Failure { at, attempt }),
        };
        Some((purpose, key, known))
    }
}

impl AwaitedRequest {
    /// Records that the API server created the request.
    pub fn made(&self) {
        let mut state = self.requests.lock();
        let lists = state.lists;
        if let Some(waiter) = state.waiting.get_mut(&self.key) {
            waiter.made_before = Some(lists);
        }
    }

    /// Its observed state and its changes.
    pub fn seen(&self) -> watch::Receiver<WatchedRequest> {
        self.seen.clone()
    }
}

impl Drop for AwaitedRequest {
    fn drop(&mut self) {
        self.requests.lock().waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests;
