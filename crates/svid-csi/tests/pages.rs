//! Every test exists that the pages of the book name.
//!
//! A cell in the last column of a table names tests if the column is "shown by": files, folders, or a function in one of
//! them after `::`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

/// The folders that the first part of a name abbreviates. Other names are relative to the folder of this file.
const FOLDERS: [(&str, &str); 4] = [
    ("e2e", "tests/cluster/tests/e2e"),
    ("chart", "tests/cluster/tests/chart"),
    ("core", "crates/core"),
    ("crates", "crates"),
];
/// Those who guarantee the rows of docs/security.md that no test of ours covers.
const OF_OTHERS: [&str; 2] = ["Kubernetes", "SPIRE"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The rows of all tables of a page whose last column is "shown by".
fn rows(page: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
    let (mut rows, mut is_shown) = (Vec::new(), false);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.starts_with('|') {
            is_shown = false;
        } else if lines.peek().is_some_and(|next| next.starts_with("|---")) {
            is_shown = last_cell(line) == "shown by";
            lines.next();
        } else if is_shown {
            rows.push(line.to_owned());
        }
    }
    rows
}

fn last_cell(row: &str) -> &str {
    row.trim_end().trim_end_matches('|').rsplit(" | ").next().unwrap().trim().trim_start_matches("| ").trim()
}

fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2).filter(|name| !name.starts_with("just "))
}

/// Why a name leads to no test, if it does not.
fn trouble(name: &str) -> Option<String> {
    let (path, function) = name.split_once("::").map_or((name, None), |(path, function)| (path, Some(function)));
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let folder = FOLDERS.iter().find(|(stands, _)| *stands == first);
    let found = match folder {
        Some((_, folder)) => root().join(folder).join(rest),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path),
    };
    if fs::metadata(&found).is_err() {
        return Some(format!("{name}: there is no {}", found.display()));
    }
    let function = function?;
    let text = fs::read_to_string(&found).unwrap_or_default();
    let mut before = "";
    for line in text.lines().map(str::trim) {
        if line.contains(&format!("fn {function}(")) && before.starts_with("#[") {
            return None;
        }
        before = line;
    }
    Some(format!("{name}: that file has no such test"))
}

#[test]
fn every_test_that_a_page_names_exists() {
    for (page, at_least) in [("evidence.md", 30), ("security.md", 20)] {
        let rows = rows(page);
        assert!(rows.len() >= at_least, "{page}: {} rows are found", rows.len());
        let troubles: Vec<_> = rows.iter().flat_map(|row| names(last_cell(row))).filter_map(trouble).collect();
        assert!(troubles.is_empty(), "docs/{page}: {troubles:#?}");
    }
}

#[test]
fn every_threat_has_a_test_or_is_prevented_by_others() {
    for row in rows("security.md") {
        let shown = last_cell(&row);
        let is_shown = names(shown).any(|name| name.contains("::"));
        assert!(is_shown || OF_OTHERS.iter().any(|others| shown.contains(others)), "no test is named: {row}");
    }
}

#[test]
fn what_is_not_there_is_noticed() {
    for (name, says) in [
        ("node/hostile.rs", None),
        ("node", None),
        ("node/hostile.rs::no_container_changes_its_volume", None),
        ("node/hostile.rs::attacks", Some("no such test")),
        ("node/hostile.rs::gone", Some("no such test")),
        ("node/gone.rs::test", Some("there is no")),
        ("e2e/gone", Some("there is no")),
    ] {
        let trouble = trouble(name);
        let is_right = says.map_or(trouble.is_none(), |says| trouble.as_ref().is_some_and(|text| text.contains(says)));
        assert!(is_right, "{name}: {trouble:?}");
    }
    assert_eq!(last_cell("| a | `b` | `c`, `d` |"), "`c`, `d`");
}
