//! Patches: JSON merge patches (RFC 7396), which strategic ones of the objects here amount to, and server-side apply.

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
            let message = "the scripted API server takes no JSON patches";
            return Err(Failure::new(415, "UnsupportedMediaType", message));
        }
        match self.world.objects.find(kind, namespace, name) {
            Ok(current) => {
                let mut object = (*current).clone();
                let read = patch["metadata"]["resourceVersion"].clone();
                merge(&mut object, &patch);
                // Without a version in the patch, a patch is of whatever is there.
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
