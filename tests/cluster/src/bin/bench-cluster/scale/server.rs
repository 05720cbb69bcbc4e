//! The API server's own count of the calls that it has answered.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use kube::Client;

/// The kinds of objects that driver, approver and cert-manager use for a renewal.
const RESOURCES: [&str; 4] = ["certificaterequests", "pods", "events", "clusterissuers"];

/// The number of calls, by verb and resource.
pub(super) struct Calls(BTreeMap<String, f64>);

impl Calls {
    pub(super) async fn so_far(client: &Client) -> Result<Self> {
        let text = client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let mut calls = BTreeMap::<_, f64>::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
            if RESOURCES.contains(&resource) {
                let below = label("subresource").filter(|name| !name.is_empty()).map(|name| format!("/{name}"));
                let count: f64 = line.rsplit(' ').next().context("a metric has a value")?.parse()?;
                *calls.entry(format!("{verb} {resource}{}", below.unwrap_or_default())).or_default() += count;
            }
        }
        Ok(Self(calls))
    }

    pub(super) fn since(mut self, earlier: &Self) -> Self {
        for (call, count) in &mut self.0 {
            *count -= earlier.0.get(call).copied().unwrap_or_default();
        }
        self
    }

    /// The calls that are made at least once in a hundred renewals, per renewal.
    pub(super) fn per(&self, renewals: f64) -> Vec<(String, f64)> {
        let each = self.0.iter().map(|(call, count)| (call.clone(), count / renewals));
        each.filter(|(_, each)| *each >= 0.01).collect()
    }
}
