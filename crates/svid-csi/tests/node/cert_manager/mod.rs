//! cert-manager -> files: the driver with the scripted API server, on which the test acts as cert-manager.

pub(crate) mod cluster;

mod bundles;
mod chain;
mod cleanup;
mod endings;
mod forged;
mod full_disk;
mod hostile;
mod issuer;
mod modes;
mod outage;
mod permissions;
mod publish;
mod renewal;
mod request_watch;
mod restart;
mod reuse;
mod tokens;
mod turns;
mod wrong_certificates;
