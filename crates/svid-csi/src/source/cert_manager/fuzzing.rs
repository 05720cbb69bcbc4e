//! The requests of a node as its watch reports them, for the fuzz targets.

use std::sync::Arc;

use kube::runtime::watcher::Event;
use svid_csi_core::approve;
use svid_csi_core::pod::PodRef;

use super::requests::{AwaitedRequest, Requests};
pub use super::requests::{Failure, RequestName, WatchedRequest};
use crate::kube::cert_request::CertificateRequest;

/// What the watch reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchReport {
    /// An object of a list.
    Listed,
    /// A new or changed object.
    Changed,
    /// A deleted object.
    Deleted,
}

/// The known requests of a node.
#[derive(Debug, Default)]
pub struct KnownRequests(Arc<Requests>);

impl KnownRequests {
    /// A list begins.
    pub fn listing_begins(&self) {
        self.0.apply(Event::Init);
    }

    /// A list is complete.
    pub fn listing_ends(&self) {
        self.0.apply(Event::InitDone);
    }

    /// An object.
    pub fn take(&self, report: WatchReport, object: &CertificateRequest) {
        let object = object.clone();
        self.0.apply(match report {
            WatchReport::Listed => Event::InitApply(object),
            WatchReport::Changed => Event::Apply(object),
            WatchReport::Deleted => Event::Delete(object),
        });
    }

    /// The number of requests that are remembered.
    pub fn held(&self) -> usize {
        self.0.held()
    }

    /// The requests of a volume of that pod, and whether each is issued.
    pub fn of_volume(&self, volume_hash: &str, pod: &PodRef) -> Vec<(RequestName, bool)> {
        self.0.of_volume(volume_hash, pod)
    }

    /// The last failure of a request of a volume of that pod.
    pub fn last_failure(&self, volume_hash: &str, pod: &PodRef) -> Option<Failure> {
        self.0.last_failure(volume_hash, pod)
    }

    /// Waits for a request with that name.
    pub fn expect(&self, name: RequestName) -> ExpectedRequest {
        ExpectedRequest(self.0.expect(name))
    }
}

/// A request that is waited for, until it is dropped.
#[derive(Debug)]
pub struct ExpectedRequest(AwaitedRequest);

impl ExpectedRequest {
    /// Its observed state.
    pub fn seen(&self) -> WatchedRequest {
        self.0.seen().borrow().clone()
    }
}

/// The object as an approver would judge it.
pub fn judged(object: &CertificateRequest) -> approve::Request {
    approve::Request::from(&object.into())
}
