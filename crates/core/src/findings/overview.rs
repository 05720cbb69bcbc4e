//! A node in a few lines: its sources, and how long its pods keep their identities without them.

use std::time::{Duration, SystemTime};

use super::facts::DriverFacts;
use super::identity::outage_horizon;

/// A source, or something that sources share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceHealth<'a> {
    /// Its name.
    pub name: &'static str,
    /// Why it is not as it should be.
    pub trouble: Option<&'a str>,
}

impl DriverFacts {
    /// The sources that depend on a connection.
    pub fn sources(&self) -> Vec<SourceHealth<'_>> {
        let connection = |name, is_up: bool| SourceHealth { name, trouble: (!is_up).then_some("not connected") };
        let broker = self.broker.as_ref().map(|broker| connection("broker", broker.up));
        let cert_manager = self.cert_manager.as_ref().map(|source| connection("cert-manager", source.up));
        let roots = self.roots.as_ref();
        let roots = roots.map(|roots| SourceHealth { name: "roots of all nodes", trouble: roots.trouble.as_deref() });
        [broker, cert_manager, roots].into_iter().flatten().collect()
    }

    /// When the first pod, and half of them, would be without an identity if no more are issued from `now`.
    pub fn horizon(&self, now: SystemTime) -> Option<(Duration, Duration)> {
        let ready = self.volumes.values().filter(|volume| volume.is_ready());
        outage_horizon(ready.filter_map(|volume| Some(volume.identity.as_ref()?.not_after)), now)
    }
}
