//! The shipped alert rules: their metrics exist, and their texts explain what to do.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tonic::Code;

use super::metrics::{Metrics, Snapshot, SourceState};

const RULES: &str = include_str!("../../../../deploy/monitoring/alerts.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    #[serde(rename = "for", default)]
    lasting: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn groups() -> Vec<Group> {
    serde_saphyr::from_str::<File>(RULES).unwrap().groups
}

/// A metric in an expression, with the labels that the expression uses.
fn metrics(expr: &str) -> Vec<(&str, Vec<&str>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let starts = expr.match_indices("svid_csi_").map(|(at, _)| at);
    let starts = starts.filter(|at| !expr[..*at].ends_with(is_name));
    let metric = |at: usize| {
        let end = expr[at..].find(|c| !is_name(c)).map_or(expr.len(), |length| at + length);
        let selector =
            expr[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let label = |matcher: &'_ str| matcher.find(['=', '!']).unwrap_or(matcher.len());
        let labels = selector.split(',').map(str::trim).filter(|matcher| !matcher.is_empty());
        (&expr[at..end], labels.map(|matcher| &matcher[..label(matcher)]).collect())
    };
    starts.map(metric).collect()
}

/// Checks that a page of metrics contains every metric and label that the rules of a group use.
pub(crate) fn check_against(group: &str, page: &str) {
    let groups = groups();
    let group = groups.iter().find(|known| known.name == group).expect("the group exists");
    for Rule { alert, expr, .. } in &group.rules {
        let asked = metrics(expr);
        assert!(!asked.is_empty(), "{alert} asks for no metric: {expr}");
        for (metric, labels) in asked {
            let is_it = |line: &&str| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let line = page.lines().find(is_it).unwrap_or_else(|| panic!("{alert}: there is no {metric} in\n{page}"));
            for label in labels {
                assert!(line.contains(&format!("{label}=\"")), "{alert}: {metric} has no label {label}: {line}");
            }
        }
    }
}

#[test]
fn the_driver_has_the_metrics_of_its_alerts() {
    let metrics = Metrics::default();
    metrics.called("NodePublishVolume", Code::Ok);
    metrics.registered("spiffe.csi.cert-manager.io", true);
    metrics.request_ended("denied");
    let cert_manager = Some(SourceState { up: true, pending: 0, waiting_for_token: 0 });
    check_against("svid-csi-driver", &metrics.encode(&Snapshot { cert_manager, ..Snapshot::default() }));
}

#[test]
fn each_rule_has_a_severity_and_a_fix() {
    let mut names = BTreeSet::new();
    for Rule { alert, expr, lasting, labels, annotations } in groups().into_iter().flat_map(|group| group.rules) {
        assert!(alert.starts_with("SvidCsi") && names.insert(alert.clone()), "{alert}: a name of its own");
        assert!(["critical", "warning"].contains(&&*labels["severity"]), "{alert}: {labels:?}");
        let keys: Vec<_> = annotations.keys().map(String::as_str).collect();
        assert_eq!(keys, ["description", "summary"], "{alert}");
        let (summary, description) = (&annotations["summary"], &annotations["description"]);
        assert!(summary.len() <= 120 && !summary.contains('\n') && summary.ends_with('.'), "{alert}: {summary}");
        assert!(description.len() >= 150 && !description.contains("{{"), "{alert}: what is to be done? {description}");
        let minutes = lasting.as_deref().map(|lasting| lasting.strip_suffix('m').and_then(|n| n.parse::<u32>().ok()));
        assert!(minutes.is_none_or(|minutes| minutes.is_some()), "{alert}: for {lasting:?}");
        let count = |c: char| expr.matches(c).count();
        assert!(count('(') == count(')') && count('{') == count('}') && count('[') == count(']'), "{alert}: {expr}");
    }
}

#[test]
fn metrics_are_found_in_expressions() {
    assert_eq!(metrics("increase(svid_csi_a_total[5m]) > 0"), [("svid_csi_a_total", vec![])]);
    let expr = r#"sum by (x) (svid_csi_a{b="c", d!="e",f=~"g"}) / on(x) svid_csi_h == my_svid_csi_i"#;
    assert_eq!(metrics(expr), [("svid_csi_a", vec!["b", "d", "f"]), ("svid_csi_h", vec![])]);
}
