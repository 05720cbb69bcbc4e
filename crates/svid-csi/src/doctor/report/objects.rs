//! Objects of the API server, read with the driver's own rights. Of each, only the fields that help.

use std::collections::BTreeSet;
use std::fs;

use http::Request;
use kube::Client;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use svid_csi_core::cert_request::{NODE_LABEL, hash_identifier};
use svid_csi_core::findings::facts::{DriverFacts, Look, NameFacts};
use svid_csi_core::redact::Keep;

use super::archive::{Contents, MOST_OF_FILE};
use super::{ReportOptions, bounded_json, process};
use crate::doctor::cluster;
use crate::doctor::paths::Paths;

/// How many objects of a kind are read.
const MOST: usize = 500;
/// How many are in memory at once: each may have as many bytes as the API server stores.
const PAGE: usize = 20;
/// What a part of a path or a query may not hold as it is.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Reads objects into a report.
struct Reader<'a> {
    client: Client,
    contents: &'a mut Contents,
}

/// Adds the objects, and returns the kubelet's version.
pub(super) async fn add(
    contents: &mut Contents,
    options: &ReportOptions,
    driver: Option<&DriverFacts>,
    paths: &Paths,
) -> Option<String> {
    let Some(driver) = driver else {
        contents.leave_out("objects", "only the driver knows its node and its names");
        return None;
    };
    let client = match cluster::connect(driver, paths, options.kubeconfig.clone()).await {
        Ok(client) => client,
        Err(why) => {
            contents.leave_out("objects", &format!("the API server cannot be asked: {why}"));
            return None;
        }
    };
    if let Err(why) = cluster::ask(&client, Request::get("/version").body(Vec::new())).await {
        contents.leave_out("objects", &format!("the API server does not answer: {why}"));
        return None;
    }
    let mut reader = Reader { client, contents };
    reader.csi_drivers(driver).await;
    let kubelet = reader.node(driver).await;
    if driver.cert_manager.is_some() {
        reader.requests(driver).await;
    }
    if options.anonymize {
        reader.contents.leave_out("objects/pods.json, objects/events.json", super::ANONYMOUS);
    } else {
        reader.pods(driver, paths, &options.open_flags).await;
        reader.events().await;
    }
    kubelet
}

/// A part of a path or of a query.
fn word(text: &str) -> String {
    utf8_percent_encode(text, &ESCAPED).to_string()
}

impl Reader<'_> {
    async fn csi_drivers(&mut self, driver: &DriverFacts) {
        for NameFacts { name, .. } in &driver.names {
            let file = format!("objects/csidriver-{}.json", super::plain(name));
            let path = format!("/apis/storage.k8s.io/v1/csidrivers/{}", word(name));
            self.one(&file, "a CSIDriver object", &path, csi_driver).await;
        }
        let names: BTreeSet<&str> = driver.names.iter().map(|name| name.name.as_str()).collect();
        let path = format!("/apis/storage.k8s.io/v1/csinodes/{}", word(&driver.node));
        let about = "what the kubelet knows of the driver's names";
        self.one("objects/csinode.json", about, &path, |found| csi_node(found, &names)).await;
    }

    /// Returns the kubelet's version.
    async fn node(&mut self, driver: &DriverFacts) -> Option<String> {
        let path = format!("/api/v1/nodes/{}", word(&driver.node));
        let about = "the node's versions, conditions and taints";
        let node = self.one("objects/node.json", about, &path, of_node).await?;
        Some(node["version"]["kubeletVersion"].as_str()?.to_owned())
    }

    async fn requests(&mut self, driver: &DriverFacts) {
        let selector = word(&format!("{NODE_LABEL}={}", hash_identifier(&driver.node)));
        let path = format!("/apis/cert-manager.io/v1/certificaterequests?labelSelector={selector}");
        let about = "the certificate requests of this node, without their bodies";
        self.several("objects/certificaterequests.json", about, &path, request).await;
    }

    async fn pods(&mut self, driver: &DriverFacts, paths: &Paths, open_flags: &BTreeSet<&'static str>) {
        const FILE: &str = "objects/pods.json";
        let Ok(namespace) = fs::read_to_string(paths.of_driver(NAMESPACE)) else {
            self.contents.leave_out(FILE, "the driver does not run in a pod, or has no service account");
            return;
        };
        let selector = word(&format!("spec.nodeName={}", driver.node));
        let path = format!("/api/v1/namespaces/{}/pods?fieldSelector={selector}", word(namespace.trim()));
        let about = "the pods in the driver's namespace on this node";
        self.several(FILE, about, &path, |found| pod(found, open_flags)).await;
    }

    async fn events(&mut self) {
        let path = "/api/v1/events?fieldSelector=reportingComponent%3Dsvid-csi-driver";
        self.several("objects/events.json", "events that drivers have sent, of all nodes", path, event).await;
    }

    async fn one(
        &mut self,
        file: &str,
        about: &'static str,
        path: &str,
        shown: impl Fn(&Value) -> Value,
    ) -> Option<Value> {
        let found = self.ask(file, path).await?;
        let object = shown(&found);
        let text = serde_json::to_string_pretty(&object).unwrap_or_default() + "\n";
        self.contents.add(file, about, &text, Keep::Start);
        Some(object)
    }

    async fn several(&mut self, file: &str, about: &'static str, path: &str, shown: impl Fn(&Value) -> Value) {
        let (mut items, mut bytes, mut page) = (Vec::new(), 0, format!("{path}&limit={PAGE}"));
        let has_more = loop {
            let Some(found) = self.ask(file, &page).await else { return };
            for item in found["items"].as_array().into_iter().flatten() {
                let metadata = &item["metadata"];
                let names = [&metadata["namespace"], &metadata["name"]].into_iter().filter_map(Value::as_str);
                names.for_each(|name| self.contents.hide(name));
                let item = shown(item);
                bytes += item.to_string().len();
                items.push(item);
            }
            let Some(more) = found["metadata"]["continue"].as_str().filter(|more| !more.is_empty()) else {
                break false;
            };
            if items.len() >= MOST || bytes > MOST_OF_FILE {
                break true;
            }
            page = format!("{path}&limit={PAGE}&continue={}", utf8_percent_encode(more, &ESCAPED));
        };
        let text = bounded_json::with_list(&json!({"has_more": has_more}), "items", items);
        self.contents.add(file, about, &text, Keep::Start);
    }

    async fn ask(&mut self, file: &str, path: &str) -> Option<Value> {
        let found: Look<Option<Value>> = cluster::ask(&self.client, Request::get(path).body(Vec::new())).await;
        match found {
            Ok(Some(found)) => return Some(found),
            Ok(None) => self.contents.leave_out(file, "it does not exist"),
            Err(why) => self.contents.leave_out(file, &why),
        }
        None
    }
}

fn metadata(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({"namespace": metadata["namespace"], "name": metadata["name"], "created": metadata["creationTimestamp"]})
}

fn csi_driver(found: &Value) -> Value {
    json!({"metadata": metadata(found), "spec": found["spec"]})
}

fn csi_node(found: &Value, names: &BTreeSet<&str>) -> Value {
    let drivers = found["spec"]["drivers"].as_array().into_iter().flatten();
    let own = drivers.filter(|driver| driver["name"].as_str().is_some_and(|name| names.contains(name)));
    json!({"metadata": metadata(found), "drivers": own.collect::<Vec<_>>()})
}

fn of_node(found: &Value) -> Value {
    const VERSIONS: [&str; 5] =
        ["kubeletVersion", "containerRuntimeVersion", "kernelVersion", "osImage", "architecture"];
    let info = &found["status"]["nodeInfo"];
    let versions: serde_json::Map<_, _> =
        VERSIONS.into_iter().map(|name| (name.to_owned(), info[name].clone())).collect();
    json!({
        "metadata": metadata(found), "version": versions, "taints": found["spec"]["taints"],
        "conditions": found["status"]["conditions"],
    })
}

fn request(found: &Value) -> Value {
    let spec = &found["spec"];
    json!({
        "metadata": metadata(found), "issuer": spec["issuerRef"], "duration": spec["duration"],
        "conditions": found["status"]["conditions"], "failed": found["status"]["failureTime"],
        "is_issued": found["status"]["certificate"].is_string(),
    })
}

/// The containers' own statuses say why they restart. Environment variables are shown by name.
fn pod(found: &Value, open_flags: &BTreeSet<&'static str>) -> Value {
    let spec = &found["spec"];
    let containers = spec["containers"].as_array().into_iter().flatten().map(|container| {
        let words = ["command", "args"].into_iter().flat_map(|field| container[field].as_array()).flatten();
        let words: Vec<_> = words.filter_map(Value::as_str).collect();
        let variables = container["env"].as_array().into_iter().flatten().map(|variable| &variable["name"]);
        json!({
            "name": container["name"], "image": container["image"],
            "command": process::shown(&words, open_flags).lines().collect::<Vec<_>>(),
            "variables": variables.collect::<Vec<_>>(), "mounts": container["volumeMounts"],
            "resources": container["resources"], "security": container["securityContext"],
        })
    });
    json!({
        "metadata": metadata(found), "containers": containers.collect::<Vec<_>>(), "host_network": spec["hostNetwork"],
        "priority": spec["priorityClassName"], "security": spec["securityContext"], "phase": found["status"]["phase"],
        "conditions": found["status"]["conditions"], "statuses": found["status"]["containerStatuses"],
    })
}

fn event(found: &Value) -> Value {
    let about = &found["involvedObject"];
    json!({
        "time": found["lastTimestamp"], "about": [about["kind"], about["namespace"], about["name"]],
        "reason": found["reason"], "message": found["message"], "count": found["count"],
        "node": found["reportingInstance"],
    })
}
