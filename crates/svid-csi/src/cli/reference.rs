//! The parts of the reference pages that come from the running program.

use crate::approver;
use crate::telemetry::metrics::Metrics;

/// A page of metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The program they belong to.
    pub of: &'static str,
    /// All metrics, with every label, in the OpenMetrics text format.
    pub text: String,
}

/// Every metric of the driver and of the approver.
pub fn metrics() -> [Page; 2] {
    [Page { of: "driver", text: Metrics::specimen() }, Page { of: "approver", text: approver::specimen_of_metrics() }]
}
