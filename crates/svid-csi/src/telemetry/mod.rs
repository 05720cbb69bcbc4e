//! The log, errors on one line, metrics.

#[cfg(test)]
pub(crate) mod alerts;
#[cfg(test)]
pub(crate) mod captured_log;
pub mod log;
pub(crate) mod metrics;
pub mod report;
pub(crate) mod reported;
