//! Label and field selectors.

use serde_json::Value;

use super::failure::Failure;
use super::kinds::Kind;

/// The selectors of a list or watch.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    pub(super) namespace: String,
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Debug, Clone)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl Selector {
    pub(super) fn parse(kind: &Kind, namespace: &str, labels: &str, fields: &str) -> Result<Self, Failure> {
        let labels = requirements(labels);
        let fields = requirements(fields);
        let known = |key: &str| matches!(key, "metadata.name" | "metadata.namespace");
        match fields.iter().find(|field| kind.is_custom() && !known(&field.key)) {
            Some(field) => Err(Failure::bad_request(format!("field label not supported: {}", field.key))),
            None => Ok(Selector { namespace: namespace.to_owned(), labels, fields }),
        }
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let labels = self.labels.iter().all(|label| label.holds(metadata["labels"][&label.key].as_str()));
        // A missing field counts as empty, a missing label does not.
        let field = |path: &str| path.split('.').fold(object, |value, part| &value[part]).as_str().unwrap_or_default();
        let fields = self.fields.iter().all(|requirement| requirement.holds(Some(field(&requirement.key))));
        let inside = self.namespace.is_empty() || metadata["namespace"] == self.namespace;
        labels && fields && inside
    }
}

impl Requirement {
    fn holds(&self, found: Option<&str>) -> bool {
        let one_of = |values: &[String]| found.is_some_and(|found| values.iter().any(|value| value == found));
        match &self.test {
            Test::In(values) => one_of(values),
            Test::NotIn(values) => !one_of(values),
            Test::Exists => found.is_some(),
            Test::Missing => found.is_none(),
        }
    }
}

/// `a=b,c!=d,e in (f,g),h,!i`: commas in parentheses do not separate.
fn requirements(text: &str) -> Vec<Requirement> {
    let mut depth = 0;
    let parts = text.split(|character| {
        depth += i32::from(character == '(') - i32::from(character == ')');
        character == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).map(requirement).collect()
}

fn requirement(text: &str) -> Requirement {
    let of = |key: &str, test| Requirement { key: key.trim().to_owned(), test };
    let one = |value: &str| vec![value.trim().to_owned()];
    let set = |list: &str| {
        let list = list.trim().trim_start_matches('(').trim_end_matches(')');
        list.split(',').map(|value| value.trim().to_owned()).collect::<Vec<_>>()
    };
    if let Some((key, value)) = text.split_once("!=") {
        return of(key, Test::NotIn(one(value)));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return of(key, Test::In(one(value)));
    }
    if let Some((key, list)) = text.split_once(" notin ") {
        return of(key, Test::NotIn(set(list)));
    }
    if let Some((key, list)) = text.split_once(" in ") {
        return of(key, Test::In(set(list)));
    }
    match text.strip_prefix('!') {
        Some(key) => of(key, Test::Missing),
        None => of(text, Test::Exists),
    }
}
