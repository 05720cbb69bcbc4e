//! broker -> files and workload-api: the driver against a scripted agent.

pub(crate) mod scene;

mod connection;
mod formats;
mod jwt;
mod layouts;
mod outages;
mod publish;
mod refused;
mod servers;
mod updates;
mod withdrawal;
