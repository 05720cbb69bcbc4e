//! The metadata that the API server writes, and the parts of an update that it accepts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use svid_csi::telemetry::report::rfc3339;

use super::Part;
use crate::api_server::failure::Failure;
use crate::api_server::kinds::Kind;

static CREATED: AtomicU64 = AtomicU64::new(1);

/// The fields that an object keeps from its creation on.
const KEPT: [&str; 4] = ["name", "namespace", "uid", "creationTimestamp"];

/// A field of the metadata; empty if missing.
pub(super) fn text(object: &Value, field: &str) -> String {
    object["metadata"][field].as_str().unwrap_or_default().to_owned()
}

/// Checks an object that is to be created, names it, and drops the fields that its creator must not set.
pub(super) fn prepare(kind: &Kind, namespace: &str, mut object: Value) -> Result<Value, Failure> {
    if !object["metadata"].is_object() {
        return Err(Failure::bad_request("the object has no metadata"));
    }
    let mut name = text(&object, "name");
    if name.is_empty() {
        let prefix = text(&object, "generateName");
        if prefix.is_empty() {
            return Err(Failure::invalid(kind, "", "metadata.name: Required value: name or generateName is required"));
        }
        name = format!("{prefix}{:05}", CREATED.fetch_add(1, Ordering::Relaxed));
    }
    let said = text(&object, "namespace");
    if kind.namespaced && !said.is_empty() && said != namespace {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(why));
    }
    let metadata = &mut object["metadata"];
    metadata["name"] = name.into();
    if kind.namespaced {
        metadata["namespace"] = namespace.into();
    }
    if let Some(fields) = object.as_object_mut().filter(|_| kind.has_status && kind.is_custom()) {
        fields.remove("status");
    }
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.kind.into();
    Ok(object)
}

/// Gives an object its UID and time of creation: those of the object it replaces, or new ones. A test may set its own.
pub(super) fn stamp(mut object: Value, replaced: Option<&Value>) -> Value {
    let number = CREATED.fetch_add(1, Ordering::Relaxed);
    let uid = format!("{:08x}-0000-4000-8000-{number:012x}", std::process::id());
    let new = json!({"uid": uid, "creationTimestamp": rfc3339(SystemTime::now()), "generation": 1});
    for (field, value) in new.as_object().into_iter().flatten() {
        if object["metadata"][field].is_null() {
            let kept = replaced.map(|replaced| replaced["metadata"][field].clone());
            object["metadata"][field] = kept.unwrap_or_else(|| value.clone());
        }
    }
    object
}

/// The object with its new version.
pub(super) fn at_version(mut object: Value, version: u64) -> Value {
    object["metadata"]["resourceVersion"] = version.to_string().into();
    object
}

/// The object after an update of one part of it.
pub(super) fn merge(kind: &Kind, current: &Value, mut update: Value, part: Part) -> Result<Value, Failure> {
    if !update["metadata"].is_object() {
        return Err(Failure::bad_request("the object has no metadata"));
    }
    let uid = text(&update, "uid");
    if !uid.is_empty() && uid != text(current, "uid") {
        let found = text(current, "uid");
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
        return Err(Failure::conflict(kind, &text(current, "name"), &why));
    }
    if part == Part::Status {
        let mut object = current.clone();
        object["status"] = update["status"].take();
        return Ok(object);
    }
    for field in KEPT {
        update["metadata"][field] = current["metadata"][field].clone();
    }
    if kind.has_status {
        copy(&mut update, current, "status");
    }
    update["apiVersion"] = kind.api_version().into();
    update["kind"] = kind.kind.into();
    Ok(update)
}

fn copy(to: &mut Value, from: &Value, field: &str) {
    let fields: &mut Map<String, Value> = to.as_object_mut().expect("an object with metadata");
    fields.remove(field);
    if let Some(value) = from.get(field) {
        fields.insert(field.to_owned(), value.clone());
    }
}
