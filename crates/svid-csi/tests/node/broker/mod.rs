//! broker -> files and workload-api: the driver against a scripted agent.

mod scene;

mod connection;
mod formats;
mod jwt;
mod outages;
mod publish;
mod refused;
mod servers;
mod updates;
mod withdrawal;
