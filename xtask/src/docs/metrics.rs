//! Every metric, from pages in the OpenMetrics text format.

use svid_csi::cli::{self, MetricsPage};

use super::{head, row};

const FIRST: &str = "\
# Metrics

This page is generated from the program (`cargo xtask docs`). The driver serves `/metrics` on `--metrics-address`, the
approver on `--metrics-bind-address`, in the OpenMetrics text format if the scraper accepts it, otherwise in that of Prometheus. No
label carries a volume or a pod. The rules in
[deploy/monitoring](https://github.com/svid-csi/svid-csi/tree/main/deploy/monitoring) raise alerts on them, and
[Monitoring](../monitoring.md#dashboard) describes the dashboard.
";

pub(super) fn page() -> String {
    let sections = cli::metrics().iter().map(section).collect::<String>();
    FIRST.to_owned() + &sections
}

fn section(page: &MetricsPage) -> String {
    let table: String =
        page.text.lines().filter_map(|line| metric(line.strip_prefix("# HELP ")?, &page.text)).collect();
    format!("\n## svid-csi {}\n\n{}{table}", page.of, head(&["metric", "type", "labels", ""]))
}

/// A metric, from its line of help.
fn metric(described: &str, page: &str) -> Option<String> {
    let (name, help) = described.split_once(' ')?;
    let kind = page.lines().find_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' '))?;
    // Only counters are exposed under another name than their family; histograms are known by that of the family.
    let suffix = if kind == "counter" { "_total" } else { "" };
    // Their other samples have the label of the buckets too.
    let sampled = if kind == "histogram" { "_count" } else { suffix };
    let sample = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(sampled)?.strip_prefix('{'));
    let labels = sample.and_then(|sample| sample.split_once('}'));
    let labels = labels.map(|(labels, _)| labels.split(',').filter_map(|label| label.split_once('=')));
    let labels = labels.map(|labels| labels.map(|(label, _)| format!("`{label}`")).collect::<Vec<_>>().join(", "));
    let help = help.trim_end_matches('.');
    Some(row(&[&format!("`{name}{suffix}`"), kind, &labels.unwrap_or_default(), help]))
}
