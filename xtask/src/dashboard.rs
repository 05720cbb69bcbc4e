//! `cargo xtask dashboard`: Grafana's JSON, generated from a short table of rows and panels.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use svid_csi_image::write;

use crate::say;

const SOURCE: &str = "deploy/monitoring/dashboard.yaml";
/// The second one is packaged with the chart.
const TARGETS: [&str; 2] = ["deploy/monitoring/dashboard.json", "deploy/chart/files/dashboard.json"];

/// The columns of Grafana's grid.
const COLUMNS: usize = 24;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dashboard {
    title: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    title: String,
    panels: Vec<Panel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Panel {
    title: String,
    help: String,
    #[serde(rename = "type", default)]
    kind: Kind,
    unit: String,
    red_below: Option<f64>,
    red_from: Option<f64>,
    queries: Vec<Query>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Graph,
    Stat,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query {
    expr: String,
    legend: Option<String>,
}

/// Writes it.
pub fn generate(repo: &Path) -> Result<()> {
    let text = json_text(&read(repo)?)?;
    for target in TARGETS {
        write(&repo.join(target), text.as_bytes())?;
        say(target);
    }
    Ok(())
}

fn read(repo: &Path) -> Result<Dashboard> {
    let text = std::fs::read_to_string(repo.join(SOURCE)).with_context(|| format!("cannot read {SOURCE}"))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{SOURCE} is not as expected"))
}

fn json_text(dashboard: &Dashboard) -> Result<String> {
    Ok(serde_json::to_string_pretty(&dashboard.json())? + "\n")
}

impl Dashboard {
    fn json(&self) -> Value {
        json!({
            "uid": "svid-csi",
            "title": self.title,
            "tags": ["svid-csi", "spiffe"],
            "schemaVersion": 39,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "1m",
            "time": {"from": "now-6h", "to": "now"},
            "templating": {"list": variables()},
            "panels": self.panels(),
        })
    }

    /// The panels from left to right, below the title of their row.
    fn panels(&self) -> Vec<Value> {
        let (mut panels, mut y) = (Vec::new(), 0);
        for row in &self.rows {
            let id = panels.len() + 1;
            let at = json!({"x": 0, "y": y, "w": COLUMNS, "h": 1});
            panels.push(
                json!({"id": id, "type": "row", "title": row.title, "collapsed": false, "gridPos": at, "panels": []}),
            );
            y += 1;
            let mut x = 0;
            let mut height = 0;
            for panel in &row.panels {
                let (width, of_panel) = panel.kind.size();
                if x + width > COLUMNS {
                    (x, y) = (0, y + height);
                }
                height = of_panel;
                let at = json!({"x": x, "y": y, "w": width, "h": height});
                panels.push(panel.json(panels.len() + 1, &at));
                x += width;
            }
            y += height;
        }
        panels
    }
}

impl Kind {
    fn size(self) -> (usize, usize) {
        match self {
            Kind::Graph => (8, 8),
            Kind::Stat => (4, 4),
        }
    }
}

impl Panel {
    fn json(&self, id: usize, at: &Value) -> Value {
        let (kind, options) = match self.kind {
            Kind::Graph => (
                "timeseries",
                json!({
                    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true},
                    "tooltip": {"mode": "multi", "sort": "desc"},
                }),
            ),
            Kind::Stat => (
                "stat",
                json!({
                    "colorMode": "value", "graphMode": "area", "textMode": "auto",
                    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": false},
                }),
            ),
        };
        let targets = self.queries.iter().zip('A'..='Z').map(|(query, name)| query.json(name));
        let defaults = json!({"unit": self.unit, "thresholds": self.thresholds()});
        json!({
            "id": id, "type": kind, "title": self.title, "description": self.help,
            "datasource": datasource(), "gridPos": at, "options": options,
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "targets": targets.collect::<Vec<_>>(),
        })
    }

    fn thresholds(&self) -> Value {
        let steps = match (self.red_below, self.red_from) {
            (Some(limit), _) => json!([{"color": "red", "value": null}, {"color": "green", "value": limit}]),
            (None, Some(limit)) => json!([{"color": "green", "value": null}, {"color": "red", "value": limit}]),
            (None, None) => json!([{"color": "green", "value": null}]),
        };
        json!({"mode": "absolute", "steps": steps})
    }
}

impl Query {
    fn json(&self, name: char) -> Value {
        json!({
            "refId": name, "datasource": datasource(), "expr": self.expr, "range": true,
            "legendFormat": self.legend.as_deref().unwrap_or("__auto"),
        })
    }
}

fn datasource() -> Value {
    json!({"type": "prometheus", "uid": "${datasource}"})
}

/// The choices above the panels.
fn variables() -> Value {
    let instances = "label_values(svid_csi_build_info, instance)";
    json!([
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1},
        {
            "name": "instance", "label": "Driver", "type": "query", "datasource": datasource(), "definition": instances,
            "query": {"query": instances, "refId": "instance"}, "refresh": 2, "sort": 1,
            "multi": true, "includeAll": true, "allValue": ".*", "current": {"text": "All", "value": "$__all"},
        },
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn dashboard() -> Dashboard {
        read(&crate::repository().unwrap()).unwrap()
    }

    #[test]
    fn the_committed_dashboard_is_up_to_date() {
        let repo = crate::repository().unwrap();
        let text = json_text(&dashboard()).unwrap();
        for target in TARGETS {
            let committed = std::fs::read_to_string(repo.join(target)).unwrap_or_default();
            assert!(committed == text, "{target} is out of date: run `cargo xtask dashboard`");
        }
    }

    #[test]
    fn no_panel_covers_another() {
        let mut taken = BTreeSet::new();
        for panel in dashboard().panels() {
            let at = |key: &str| usize::try_from(panel["gridPos"][key].as_u64().unwrap()).unwrap();
            for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(x < COLUMNS && taken.insert((x, y)), "{} at {x}, {y}", panel["title"]);
            }
        }
    }

    #[test]
    fn every_panel_is_explained_and_has_a_name_of_its_own() {
        let mut titles = BTreeSet::new();
        let dashboard = dashboard();
        for panel in dashboard.rows.iter().flat_map(|row| &row.panels) {
            assert!(titles.insert(&panel.title) && panel.title.len() <= 40, "{}", panel.title);
            assert!(panel.help.ends_with('.') && !panel.queries.is_empty(), "{}", panel.title);
            let legends: BTreeSet<_> = panel.queries.iter().map(|query| &query.legend).collect();
            assert!(legends.len() == panel.queries.len(), "{}: queries that look the same", panel.title);
        }
        let page = std::fs::read_to_string(crate::repository().unwrap().join("docs/monitoring.md")).unwrap();
        for row in &dashboard.rows {
            assert!(page.contains(&format!("| **{}** |", row.title)), "docs/monitoring.md lacks the row {}", row.title);
        }
    }
}
