//! The requests of this node, as reported by the watch, and the waiters for them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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
/// The same for one namespace, whatever the volumes.
const MOST_OF_A_NAMESPACE: usize = 4096;
/// The longest UID of a pod, in bytes: twice what Kubernetes uses. Its author chooses the UID in a request.
const LONGEST_UID: usize = 64;

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
    known: Known,
    listing: Option<Known>,
    lists: u64,
    waiting: HashMap<RequestName, Waiter>,
}

/// The requests that exist, each filed under its current purpose alone.
#[derive(Debug, Default)]
struct Known {
    by_purpose: HashMap<Purpose, HashMap<RequestName, RequestSummary>>,
    /// `None` for an awaited request that does not look like a volume's.
    purposes: HashMap<RequestName, Option<Purpose>>,
    of_namespace: HashMap<String, usize>,
}

/// The purpose of a request: the hash of the volume, the pod's namespace and its UID. The author of the request chooses
/// hash and UID, and may change both, but not the namespace.
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

    /// The number of requests that are remembered, after a check of the index.
    ///
    /// # Panics
    /// If these do not fit together.
    #[cfg(feature = "fuzzing")]
    pub fn held(&self) -> usize {
        let state = self.lock();
        let Known { by_purpose, purposes, of_namespace } = &state.known;
        let filed = purposes.iter().filter_map(|(name, purpose)| Some((purpose.as_ref()?, name)));
        assert!(filed.clone().all(|(purpose, name)| by_purpose[purpose].contains_key(name)));
        assert_eq!(by_purpose.values().map(HashMap::len).sum::<usize>(), filed.count());
        assert_eq!(of_namespace.values().sum::<usize>(), purposes.len());
        assert!(by_purpose.values().all(|of_volume| !of_volume.is_empty()) && !of_namespace.values().any(|n| *n == 0));
        purposes.len()
    }

    /// Processes a report of the watch.
    pub fn apply(&self, event: Event<CertificateRequest>) {
        let mut state = self.lock();
        match event {
            Event::Init => {
                state.lists += 1;
                state.listing = Some(Known::default());
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
        self.known.by_purpose.get(&purpose).into_iter().flatten()
    }

    fn show(&mut self, request: &CertificateRequest) {
        let Some(name) = name_of(request) else { return };
        let waiter = self.waiting.get(&name);
        if let Some(waiter) = waiter {
            waiter.seen.send_replace(WatchedRequest::Progress(Progress::read(request.status.as_ref())));
        }
        let known = self.listing.as_mut().unwrap_or(&mut self.known);
        known.file(name, RequestSummary::of(request), waiter.is_some());
    }

    fn remove(&mut self, request: &CertificateRequest) {
        let Some(name) = name_of(request) else { return };
        if let Some(waiter) = self.waiting.get(&name) {
            waiter.seen.send_replace(WatchedRequest::Deleted);
        }
        self.known.remove(&name);
    }

    /// Handles the end of a list: older requests that are not in it were deleted.
    fn listed(&mut self) {
        let Some(listed) = self.listing.take() else { return };
        self.known = listed;
        for (name, waiter) in &self.waiting {
            let must_be_listed = waiter.made_before.is_some_and(|lists| lists < self.lists);
            if must_be_listed && !self.known.purposes.contains_key(name) {
                waiter.seen.send_replace(WatchedRequest::Deleted);
            }
        }
    }
}

impl Known {
    /// Remembers a request, within the limits unless it is awaited.
    fn file(&mut self, name: RequestName, content: Option<(Purpose, RequestSummary)>, is_awaited: bool) {
        self.remove(&name);
        let of_namespace = self.of_namespace.get(&name.0).copied().unwrap_or_default();
        let is_welcome = is_awaited || of_namespace < MOST_OF_A_NAMESPACE;
        let purpose = match content {
            Some((purpose, summary)) if is_welcome => {
                let of_volume = self.by_purpose.get(&purpose).map_or(0, HashMap::len);
                if of_volume >= MOST_OF_A_VOLUME && !is_awaited {
                    return;
                }
                self.by_purpose.entry(purpose.clone()).or_default().insert(name.clone(), summary);
                Some(purpose)
            }
            None if is_awaited => None,
            _ => return,
        };
        *self.of_namespace.entry(name.0.clone()).or_default() += 1;
        self.purposes.insert(name, purpose);
    }

    fn remove(&mut self, name: &RequestName) {
        let Some(purpose) = self.purposes.remove(name) else { return };
        if let Some(Entry::Occupied(mut of_volume)) = purpose.map(|purpose| self.by_purpose.entry(purpose)) {
            of_volume.get_mut().remove(name);
            if of_volume.get().is_empty() {
                of_volume.remove();
            }
        }
        if let Entry::Occupied(mut of_namespace) = self.of_namespace.entry(name.0.clone()) {
            *of_namespace.get_mut() -= 1;
            if *of_namespace.get() == 0 {
                of_namespace.remove();
            }
        }
    }
}

fn name_of(request: &CertificateRequest) -> Option<RequestName> {
    Some((request.metadata.namespace.clone()?, request.metadata.name.clone()?))
}

impl RequestSummary {
    /// `None` unless the object is a request of a volume.
    fn of(request: &CertificateRequest) -> Option<(Purpose, Self)> {
        let metadata = &request.metadata;
        let volume = metadata.labels.as_ref()?.get(VOLUME_LABEL)?.clone();
        let owner =
            metadata.owner_references.as_ref().and_then(|owners| owners.iter().find(|owner| owner.kind == "Pod"));
        let attempt = metadata.annotations.as_ref().and_then(|annotations| annotations.get(ATTEMPT_ANNOTATION));
        let attempt = attempt.and_then(|attempt| attempt.parse::<u32>().ok()).map_or(1, |attempt| attempt.clamp(1, 16));
        let uid = owner.map(|owner| owner.uid.clone()).unwrap_or_default();
        if uid.len() > LONGEST_UID {
            return None;
        }
        let purpose = (volume, metadata.namespace.clone()?, uid);
        let known = RequestSummary {
            issued: matches!(Progress::read(request.status.as_ref()), Ok(Progress::Issued(_))),
            failure: request.status.as_ref().and_then(ended).map(|at| Failure { at, attempt }),
        };
        Some((purpose, known))
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
