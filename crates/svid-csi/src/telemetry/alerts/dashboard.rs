//! The queries of the dashboard.

use serde::Deserialize;

const DASHBOARD: &str = include_str!("../../../../../deploy/monitoring/dashboard.yaml");

#[derive(Deserialize)]
struct Dashboard {
    rows: Vec<DashboardRow>,
}

#[derive(Deserialize)]
struct DashboardRow {
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
struct Panel {
    title: String,
    queries: Vec<Query>,
}

#[derive(Deserialize)]
struct Query {
    expr: String,
    #[serde(default)]
    legend: String,
}

/// Each query with the title of its panel.
pub(super) fn queries() -> Vec<(String, String)> {
    let panels = panels();
    let queries = panels.into_iter().flat_map(|panel| {
        let title = panel.title;
        panel.queries.into_iter().map(move |query| (title.clone(), query.expr))
    });
    queries.collect()
}

fn panels() -> Vec<Panel> {
    serde_saphyr::from_str::<Dashboard>(DASHBOARD).unwrap().rows.into_iter().flat_map(|row| row.panels).collect()
}

#[test]
fn a_legend_has_the_labels_that_the_query_keeps() {
    for Panel { title, queries } in panels() {
        for Query { expr, legend } in queries {
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split_once("}}")).map(|(label, _)| label) {
                let kept = expr.contains("topk(") && label == "instance"
                    || super::expression::grouped(&expr).any(|grouped| grouped == label);
                assert!(kept, "{title}: {label} in the legend of {expr}");
            }
        }
    }
}
