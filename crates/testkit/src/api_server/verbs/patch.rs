//! Patches: JSON patches (RFC 6902), JSON merge patches (RFC 7396), to which strategic ones are equivalent for the
//! objects here, and server-side apply.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Allowed;
use crate::api_server::failure::Failure;
use crate::api_server::target::Target;

impl Allowed<'_> {
    pub(super) fn patch(&self, patch: Value) -> Result<Response, Failure> {
        let Target { kind, namespace, name, .. } = self.target;
        let applies = self.content_type.starts_with("application/apply-patch");
        if self.content_type.starts_with("application/json-patch") {
            return self.json_patch(patch);
        }
        match self.world.objects.find(kind, namespace, name) {
            Ok(current) => {
                let mut object = (*current).clone();
                let read = patch["metadata"]["resourceVersion"].clone();
                merge(&mut object, &patch);
                // Without a version, a patch applies to any version.
                object["metadata"]["resourceVersion"] = if read.is_string() { read } else { Value::Null };
                Ok(Json(self.update(object)?).into_response())
            }
            Err(_) if applies => {
                let created = self.world.objects.create(kind, namespace, patch)?;
                Ok((StatusCode::CREATED, Json(&*created)).into_response())
            }
            Err(failure) => Err(failure),
        }
    }

    /// Applies to any version, as long as all its tests pass.
    fn json_patch(&self, patch: Value) -> Result<Response, Failure> {
        let Target { kind, namespace, name, .. } = self.target;
        let patch: json_patch::Patch =
            serde_json::from_value(patch).map_err(|error| Failure::bad_request(error.to_string()))?;
        let mut object = (*self.world.objects.find(kind, namespace, name)?).clone();
        json_patch::patch(&mut object, &patch).map_err(|error| Failure::invalid(kind, name, &error.to_string()))?;
        Ok(Json(self.update(object)?).into_response())
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}
