//! CSI calls: how many are open, and how long they take.

use std::sync::Arc;
use std::time::Instant;

use svid_csi_core::plan::Plan;
use tonic::Code;

use super::Metrics;
use super::labels::{CallLabels, CsiCallLabels, DurationLabels};

/// A measured call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsiCall {
    /// Publishes a volume.
    Publish,
    /// Unpublishes a volume.
    Unpublish,
    /// Checks a volume.
    VolumeStats,
    /// Checks the sources of a driver name.
    StorageHealth,
}

/// The result of a call: who has to act on it, if it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// It has done what was requested.
    Ok,
    /// Nothing had to be done.
    Unchanged,
    /// The request is wrong: the author of the pod, or the kubelet.
    Caller,
    /// The source is not reachable, is slow, or has refused.
    Source,
    /// The node, the driver, or its configuration.
    Node,
}

/// A call that has not ended. It counts as open until it is dropped, because the kubelet may cancel it.
#[derive(Debug)]
pub struct OpenCall {
    metrics: Arc<Metrics>,
    call: CsiCall,
    begun: Instant,
    plan: Option<Plan>,
    unchanged: bool,
}

impl CsiCall {
    /// Its name in the CSI specification.
    pub fn name(self) -> &'static str {
        match self {
            CsiCall::Publish => "NodePublishVolume",
            CsiCall::Unpublish => "NodeUnpublishVolume",
            CsiCall::VolumeStats => "NodeGetVolumeStats",
            CsiCall::StorageHealth => "NodeGetStorageHealth",
        }
    }

    fn labels(self) -> CallLabels {
        CallLabels { call: self.name() }
    }
}

impl CallResult {
    fn name(self) -> &'static str {
        match self {
            CallResult::Ok => "ok",
            CallResult::Unchanged => "unchanged",
            CallResult::Caller => "caller",
            CallResult::Source => "source",
            CallResult::Node => "node",
        }
    }
}

impl Metrics {
    /// A call begins.
    pub fn begin(self: &Arc<Self>, call: CsiCall) -> OpenCall {
        self.calls_in_flight.get_or_create(&call.labels()).inc();
        OpenCall { metrics: self.clone(), call, begun: Instant::now(), plan: None, unchanged: false }
    }
}

impl OpenCall {
    /// Its name in the CSI specification.
    pub fn name(&self) -> &'static str {
        self.call.name()
    }

    /// The plan of its volume is this one.
    pub fn concerns(&mut self, plan: Option<Plan>) {
        self.plan = plan;
    }

    /// Its volume is already as requested.
    pub fn changes_nothing(&mut self) {
        self.unchanged = true;
    }

    /// It is answered with that code.
    pub fn end(self, result: CallResult, code: Code) {
        let metrics = &self.metrics;
        metrics.calls.get_or_create(&CsiCallLabels { call: self.name(), code: format!("{code:?}") }).inc();
        let durations = match self.call {
            CsiCall::Publish => &metrics.publish_duration,
            CsiCall::Unpublish => &metrics.unpublish_duration,
            CsiCall::VolumeStats | CsiCall::StorageHealth => return,
        };
        let plan = self.plan.map_or_else(|| "unknown".to_owned(), |plan| plan.to_string());
        let result = if self.unchanged { CallResult::Unchanged } else { result };
        let labels = DurationLabels { plan, result: result.name() };
        durations.get_or_create(&labels).observe(self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.metrics.calls_in_flight.get_or_create(&self.call.labels()).dec();
    }
}
