//! Every test named in the documents exists.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::path::{Path, PathBuf};

/// The tests that ARCHITECTURE.md names by their modules.
const NODE_TESTS: &str = "crates/svid-csi/tests/node";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(relative)
}

fn read(relative: &str) -> String {
    fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

/// The parts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim_start).collect();
    let begins = |line: &str| {
        let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    let marked = |at: usize| {
        let above = lines[..at].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        above.into_iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    (0..lines.len()).any(|at| begins(lines[at]) && marked(at))
}

/// Why `path/of/file.rs::name` does not name a test.
fn missing(test: &str) -> Option<String> {
    let (file, name) = test.split_once("::").unwrap();
    match fs::read_to_string(path(file)) {
        Err(_) => Some(format!("{test}: there is no such file")),
        Ok(source) if !has_test(&source, name) => Some(format!("{test}: there is no such test in the file")),
        Ok(_) => None,
    }
}

/// The cells of each row of the tables in a text, without the heads.
fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines: Vec<_> = text.lines().collect();
    let is_head = |at: usize| lines.get(at + 1).is_some_and(|next| next.starts_with("|---"));
    let rows = (0..lines.len()).filter(|at| lines[*at].starts_with("| ") && !is_head(*at)).map(|at| lines[at]);
    let cells = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect());
    cells.collect::<Vec<_>>().into_iter()
}

#[test]
fn every_rule_of_spiffe_names_its_tests() {
    let document = read("docs/spiffe-conformance.md");
    let sections: Vec<_> = document.split("\n## ").skip(1).collect();
    let numbered: Vec<_> =
        sections.iter().filter(|section| section.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert_eq!(numbered.len(), 7, "the parts of the standards");
    assert!(numbered.iter().all(|section| rows(section).count() > 1), "each has its rules");
    // The reasons of other programs are not rules; the tests that compare with them read those tables.
    let rules = sections.iter().filter_map(|section| section.split("\n### Where ").next());
    for row in rules.flat_map(rows) {
        let [_, source, tests] = row[..] else { panic!("not three cells: {row:?}") };
        assert!(!source.is_empty() && quoted(tests).any(|test| test.contains(".rs::")), "{row:?}");
    }
}

#[test]
fn every_named_test_exists() {
    let document = read("docs/spiffe-conformance.md");
    let named: Vec<_> = quoted(&document).filter(|text| text.contains(".rs::")).collect();
    assert!(named.len() > 100, "{}", named.len());
    let missing: Vec<_> = named.into_iter().filter_map(missing).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_invariant_names_existing_tests() {
    let document = read("ARCHITECTURE.md");
    let (_, invariants) = document.split_once("\n## Invariants\n").unwrap();
    let (invariants, _) = invariants.split_once("\n## ").unwrap();
    let named: Vec<_> = rows(invariants).flat_map(|row| quoted(row[1]).collect::<Vec<_>>()).collect();
    let named: Vec<_> = named.into_iter().filter(|text| text.contains("::")).collect();
    assert!(named.len() > 15, "{named:?}");
    let lost: Vec<_> = named.into_iter().filter(|name| !is_in_node_tests(name)).collect();
    assert!(lost.is_empty(), "neither a test nor a module of {NODE_TESTS}: {lost:?}");
}

/// Whether it is a module of the node's tests, or a test in one.
fn is_in_node_tests(name: &str) -> bool {
    let file = |module: &str| {
        let stem = format!("{NODE_TESTS}/{}", module.replace("::", "/"));
        [format!("{stem}.rs"), format!("{stem}/mod.rs")].into_iter().find(|file| fs::metadata(path(file)).is_ok())
    };
    let in_module = || {
        let (module, test) = name.rsplit_once("::")?;
        Some(has_test(&read(&file(module)?), test))
    };
    file(name).is_some() || in_module().unwrap_or(false)
}
