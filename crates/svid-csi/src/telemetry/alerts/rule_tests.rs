//! The tests of the rules, which promtool runs (`just promtool`).

use std::collections::BTreeSet;

use serde::Deserialize;

const TESTS: &str = include_str!("../../../../../deploy/monitoring/alerts_test.yaml");

#[derive(Deserialize)]
struct RuleTests {
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    name: String,
    input_series: Vec<Series>,
    promql_expr_test: Vec<Expectation>,
}

#[derive(Deserialize)]
struct Series {
    series: String,
}

#[derive(Deserialize)]
struct Expectation {
    expr: String,
    exp_samples: Vec<serde_json::Value>,
}

fn tests() -> Vec<Test> {
    serde_saphyr::from_str::<RuleTests>(TESTS).unwrap().tests
}

/// Each series with the name of its test.
pub(super) fn series() -> Vec<(String, String)> {
    let tests = tests().into_iter();
    tests.flat_map(|test| test.input_series.into_iter().map(move |series| (test.name.clone(), series.series))).collect()
}

/// The alerts that are quiet at one time of their test, and fire at another.
pub(super) fn fired() -> BTreeSet<String> {
    let is_tested = |test: &Test| {
        let firing = format!("count(ALERTS{{alertname=\"{}\", alertstate=\"firing\"}})", test.name);
        let mut asked = test.promql_expr_test.iter().filter(|expected| expected.expr == firing);
        asked.clone().any(|expected| expected.exp_samples.is_empty())
            && asked.any(|expected| !expected.exp_samples.is_empty())
    };
    tests().into_iter().filter(is_tested).map(|test| test.name).collect()
}
