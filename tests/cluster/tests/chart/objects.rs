//! Kubernetes objects in YAML, and ways into them.

use serde_json::Value;

use crate::helm;

/// Objects, rendered or committed.
pub struct Objects(pub Vec<Value>);

impl Objects {
    /// The objects of the chart for the newest Kubernetes.
    pub fn rendered(arguments: &str) -> Self {
        Self::rendered_for("1.37", arguments)
    }

    /// The objects of the chart.
    pub fn rendered_for(kubernetes: &str, arguments: &str) -> Self {
        Self::parse(&helm::template(kubernetes, arguments).unwrap_or_else(|error| panic!("{arguments}: {error}")))
    }

    /// The objects in a file of several documents.
    pub fn parse(text: &str) -> Self {
        let parsed: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        Self(parsed.into_iter().filter(|object| !object.is_null()).collect())
    }

    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        self.of_kind(kind).find(|object| object["metadata"]["name"] == name)
    }

    /// The object of this kind and name, which must exist.
    pub fn one(&self, kind: &str, name: &str) -> &Value {
        self.get(kind, name).unwrap_or_else(|| panic!("no {kind} {name} in {:?}", self.names()))
    }

    /// Kind and name of each object.
    pub fn names(&self) -> Vec<String> {
        let name = |object: &Value| format!("{} {}", word(&object["kind"]), word(&object["metadata"]["name"]));
        self.0.iter().map(name).collect()
    }

    pub fn pods(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().filter_map(|object| match object["kind"].as_str()? {
            "Pod" => Some(&object["spec"]),
            "DaemonSet" | "Deployment" | "StatefulSet" => Some(&object["spec"]["template"]["spec"]),
            _ => None,
        })
    }

    /// The arguments of the driver.
    pub fn driver_args(&self) -> Vec<&str> {
        self.args_of("driver")
    }

    /// The arguments of the approver.
    pub fn approver_args(&self) -> Vec<&str> {
        self.args_of("approver")
    }

    fn args_of(&self, container: &str) -> Vec<&str> {
        let found = self.pods().flat_map(containers).find(|found| found["name"] == container);
        found.map_or_else(Vec::new, |found| words(&found["args"]))
    }
}

pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["containers"].as_array().into_iter().flatten()
}

/// A text; empty if missing.
pub fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list of texts.
pub fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(word).collect()
}
