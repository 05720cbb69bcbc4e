//! Exactly the values of the chart are in the schema and in the README.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::helm;
use crate::objects::words;

fn read(name: &str) -> String {
    fs::read_to_string(helm::chart().join(name)).unwrap()
}

/// Values that are passed on unchanged, with everything below them.
const WHOLE: [&str; 3] = ["app.driver.affinity", "app.driver.updateStrategy", "nodeSelector"];

/// The paths of all leaf values.
fn leaves(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty() && !WHOLE.contains(&path)) {
        Some(map) => {
            for (key, value) in map {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        None => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn the_readme_has_every_value() {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let mut known = BTreeSet::new();
    leaves(&values, "", &mut known);
    let readme = read("README.md");
    let rows = readme.split_once("\n## Values\n").expect("a section of values").1.lines();
    let rows = rows.filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let documented: BTreeSet<_> = rows.map(|(path, _)| path.to_owned()).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_schema_allows_nothing_else() {
    fn check(schema: &Value, path: &str) {
        let Some(properties) = schema["properties"].as_object() else { return };
        assert_eq!(schema["additionalProperties"], false, "{path}");
        for (key, schema) in properties {
            check(schema, &format!("{path}/{key}"));
        }
    }
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    check(&schema, "");
    // Then Helm lists them. For nested objects it would report the wrong position.
    let named: BTreeSet<_> = words(&schema["propertyNames"]["enum"]).into_iter().collect();
    assert_eq!(named, schema["properties"].as_object().unwrap().keys().map(String::as_str).collect());
}

#[test]
fn the_version_is_that_of_the_workspace() {
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    for field in ["version", "appVersion"] {
        assert_eq!(chart[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
}
