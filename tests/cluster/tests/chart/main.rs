//! The Helm chart, the manifests rendered from it and the examples. Needs Go and Python, and no cluster: `just chart-test`.

mod documented;
mod examples;
mod helm;
mod images;
mod manifests;
mod mistakes;
mod network;
mod objects;
mod permissions;
mod predecessor;
mod profiles;
mod renderings;
mod schemas;
