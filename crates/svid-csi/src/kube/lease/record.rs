//! The contents of a Lease, in the form of client-go (`tools/leaderelection`).

use std::time::{Duration, SystemTime};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

/// The Lease as it was last seen, and when it last changed.
#[derive(Debug, Default)]
pub(super) struct Observed(Option<(LeaseSpec, Instant)>);

impl Observed {
    /// Records a Lease. One that has changed was renewed at this moment at the latest.
    pub(super) fn look(&mut self, lease: &Lease, now: Instant) {
        let spec = lease.spec.clone().unwrap_or_default();
        if self.0.as_ref().is_none_or(|(last, _)| *last != spec) {
            self.0 = Some((spec, now));
        }
    }

    /// Whether it is free: it was released, or has not changed for its stated duration.
    pub(super) fn is_over(&self, usual: Duration, now: Instant) -> bool {
        let Some((spec, since)) = &self.0 else { return false };
        let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let lasts = lasts.map_or(usual, Duration::from_secs);
        spec.holder_identity.as_deref().is_none_or(str::is_empty) || now >= *since + lasts
    }
}

pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref()
}

/// A Lease without an earlier holder.
pub(super) fn new(name: &str, identity: &str, lasts: Duration, now: SystemTime) -> Lease {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let mut lease = claim(Lease { metadata, spec: None }, identity, lasts, now);
    lease.spec.get_or_insert_default().lease_transitions = Some(0);
    lease
}

/// The Lease with the holder `identity`.
pub(super) fn claim(mut lease: Lease, identity: &str, lasts: Duration, now: SystemTime) -> Lease {
    let is_mine = holder(&lease) == Some(identity);
    let spec = lease.spec.get_or_insert_default();
    if !is_mine {
        spec.holder_identity = Some(identity.to_owned());
        spec.acquire_time = micro_time(now);
        spec.lease_transitions = Some(spec.lease_transitions.unwrap_or_default().saturating_add(1));
    }
    spec.lease_duration_seconds = Some(i32::try_from(lasts.as_secs()).unwrap_or(i32::MAX));
    spec.renew_time = micro_time(now);
    lease
}

/// The released Lease (client-go, `ReleaseOnCancel`).
pub(super) fn release(mut lease: Lease, now: SystemTime) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = None;
    spec.lease_duration_seconds = Some(1);
    (spec.acquire_time, spec.renew_time) = (micro_time(now), micro_time(now));
    lease
}

fn micro_time(now: SystemTime) -> Option<MicroTime> {
    Timestamp::try_from(now).ok().map(MicroTime)
}
