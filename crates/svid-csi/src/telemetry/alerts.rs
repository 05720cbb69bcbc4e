//! The shipped alert rules, their tests and the dashboard: their metrics and labels exist, and their texts explain what to do.

mod dashboard;
mod expression;
mod rule_tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use self::expression::check;
use super::metrics::Metrics;

const RULES: &str = include_str!("../../../../deploy/monitoring/alerts.yaml");
const APPROVER: &str = "svid-csi-approver";

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

/// Checks that a page of metrics contains every metric and label that the rules of a group use, and the dashboard and the tests
/// of the rules.
pub(crate) fn check_against(group: &str, page: &str) {
    let groups = groups();
    let rules = groups.iter().find(|known| known.name == group).expect("the group exists");
    for Rule { alert, expr, .. } in &rules.rules {
        check(alert, expr, page);
    }
    let is_of_group = |expr: &str| expr.contains("svid_csi_approver_") == (group == APPROVER);
    let mut checked = 0;
    for (title, expr) in dashboard::queries().iter().filter(|(_, expr)| is_of_group(expr)) {
        check(title, expr, page);
        checked += 1;
    }
    for (name, series) in rule_tests::series().iter().filter(|(_, series)| is_of_group(series)) {
        check(name, series, page);
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
}

#[test]
fn the_driver_has_the_metrics_of_its_alerts() {
    check_against("svid-csi-driver", &Metrics::specimen());
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
fn each_rule_has_a_test() {
    let alerts: BTreeSet<_> = groups().into_iter().flat_map(|group| group.rules).map(|rule| rule.alert).collect();
    assert_eq!(alerts, rule_tests::fired());
}
