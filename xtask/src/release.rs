//! `cargo xtask release-check`: whether the checkout has the same version everywhere.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::say;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The published crates: those that the driver needs.
const CRATES: [&str; 2] = ["svid-csi-core", "svid-csi-proto"];

/// The fields of Chart.yaml that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chart {
    version: String,
    app_version: String,
}

/// Reads the manifest, the chart and the changelog.
pub fn check(repo: &Path) -> Result<()> {
    let read = |path: &str| fs::read_to_string(repo.join(path)).with_context(|| format!("cannot read {path}"));
    let mut wrong = crates(&read("Cargo.toml")?);
    wrong.extend(chart(&read("deploy/chart/Chart.yaml")?)?);
    wrong.extend(changelog(&read("CHANGELOG.md")?));
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    say(&format!("everything says {VERSION}"));
    Ok(())
}

/// The driver must depend on the current versions of its own crates.
fn crates(manifest: &str) -> Vec<String> {
    let asks =
        |name: &str| manifest.lines().any(|line| line.starts_with(&format!("{name} = ")) && line.contains(&wanted()));
    let wrong = CRATES.iter().filter(|name| !asks(name));
    wrong.map(|name| format!("Cargo.toml: [workspace.dependencies] {name} must have {}", wanted())).collect()
}

fn wanted() -> String {
    format!("version = \"{VERSION}\"")
}

fn chart(text: &str) -> Result<Vec<String>> {
    let chart: Chart = serde_saphyr::from_str(text).context("deploy/chart/Chart.yaml")?;
    let fields = [("version", chart.version), ("appVersion", chart.app_version)];
    let wrong = fields.into_iter().filter(|(_, found)| found != VERSION);
    Ok(wrong.map(|(name, found)| format!("deploy/chart/Chart.yaml: {name} is {found}, not {VERSION}")).collect())
}

/// A heading with version and day, and some text below it.
fn changelog(text: &str) -> Option<String> {
    let heading = format!("\n## [{VERSION}] - ");
    let entry = text.split_once(&heading).map(|(_, after)| after.split("\n## ").next().unwrap_or(after));
    match entry {
        Some(entry) if entry.lines().any(|line| line.starts_with("- ")) => None,
        Some(_) => Some(format!("CHANGELOG.md: nothing is said of {VERSION}")),
        None => Some(format!("CHANGELOG.md: there is no heading `## [{VERSION}] - <day>`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_asks_for_its_own_crates_as_they_are_now() {
        let manifest = fs::read_to_string(crate::repository().unwrap().join("Cargo.toml")).unwrap();
        assert_eq!(crates(&manifest), Vec::<String>::new());
        assert_eq!(crates(&manifest.replace(VERSION, "9.9.9")).len(), CRATES.len());
    }

    #[test]
    fn a_chart_of_another_version_is_reported() {
        let chart_of =
            |version: &str, app: &str| chart(&format!("version: {version}\nappVersion: \"{app}\"\n")).unwrap();
        assert_eq!(chart_of(VERSION, VERSION), Vec::<String>::new());
        assert_eq!(chart_of(VERSION, "9.9.9").len(), 1);
        assert_eq!(chart_of("9.9.9", "9.9.9").len(), 2);
    }

    #[test]
    fn a_release_needs_a_changelog_entry() {
        let of = |body: &str| {
            changelog(&format!("# Changelog\n\n## [{VERSION}] - 2026-01-01\n{body}\n## [0.0.1] - x\n\n- old\n"))
        };
        assert_eq!(of("\n- New.\n"), None);
        assert!(of("\n").is_some());
        assert!(changelog("# Changelog\n\n## [Unreleased]\n\n- New.\n").is_some());
    }
}
