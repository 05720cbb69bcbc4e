//! cert-manager -> files: the driver against the scripted API server, cert-manager played by the test.

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
mod restart;
mod reuse;
mod tokens;
mod turns;
mod watch;
mod wrong_certificates;
