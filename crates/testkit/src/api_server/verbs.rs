//! The verbs.

mod patch;

use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::World;
use super::access::Access;
use super::admission;
use super::failure::Failure;
use super::objects::{List, Part};
use super::target::Target;
use super::watch_stream;

/// An allowed call.
pub(super) struct Allowed<'a> {
    pub(super) world: &'a Arc<World>,
    pub(super) access: &'a Access,
    pub(super) target: &'a Target,
    pub(super) content_type: &'a str,
    pub(super) body: Value,
}

impl Allowed<'_> {
    /// Executes the call.
    pub(super) fn answer(mut self) -> Result<Response, Failure> {
        let Target { kind, namespace, name, .. } = self.target;
        let objects = &self.world.objects;
        let body = self.body.take();
        match self.access.verb {
            "get" => Ok(Json(&*objects.find(kind, namespace, name)?).into_response()),
            "list" => self.list(),
            "watch" => watch_stream::start(self.world, self.target),
            "create" if kind.plural == "selfsubjectaccessreviews" => Ok(self.review(body)),
            "create" => {
                let object = admission::stamp(kind, body, &self.access.user);
                let created = objects.create(kind, namespace, object)?;
                self.world.cert_manager.created(kind, &created);
                Ok((StatusCode::CREATED, Json(&*created)).into_response())
            }
            "update" if kind.is_custom() && body["metadata"]["resourceVersion"].as_str().is_none_or(str::is_empty) => {
                let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
                Err(Failure::invalid(kind, name, why))
            }
            "update" => Ok(Json(self.update(body)?).into_response()),
            "patch" => self.patch(body),
            "delete" => {
                let deleted = objects.delete(kind, namespace, name, &body["preconditions"])?;
                let uid = &deleted["metadata"]["uid"];
                let details = json!({"name": name, "group": kind.group, "kind": kind.plural, "uid": uid});
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details});
                Ok(Json(status).into_response())
            }
            "deletecollection" => self.delete_all(),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn list(&self) -> Result<Response, Failure> {
        let limit = self.target.number("limit").and_then(|limit| usize::try_from(limit).ok()).unwrap_or_default();
        let (kind, selector) = (self.target.kind, self.target.selector()?);
        let List { version, items, next, remaining } =
            self.world.objects.list(kind, &selector, limit, self.target.text("continue"))?;
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if let Some(next) = next {
            metadata["continue"] = next.into();
            metadata["remainingItemCount"] = remaining.into();
        }
        let items: Vec<&Value> = items.iter().map(AsRef::as_ref).collect();
        let list_kind = format!("{}List", kind.kind);
        let list = json!({"kind": list_kind, "apiVersion": kind.api_version(), "metadata": metadata, "items": items});
        Ok(Json(list).into_response())
    }

    fn part(&self) -> Result<Part, Failure> {
        match &*self.target.subresource {
            "" => Ok(Part::Main),
            "status" if self.target.kind.has_status => Ok(Part::Status),
            _ => Err(Failure::unknown_path()),
        }
    }

    fn update(&self, object: Value) -> Result<Value, Failure> {
        let Target { kind, namespace, name, .. } = self.target;
        let part = self.part()?;
        admission::review(self.world, self.access, self.target, &object)?;
        Ok((*self.world.objects.update(kind, namespace, name, part, object)?).clone())
    }

    fn delete_all(&self) -> Result<Response, Failure> {
        let (kind, selector) = (self.target.kind, self.target.selector()?);
        let text = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        for object in self.world.objects.list(kind, &selector, 0, "")?.items {
            let (namespace, name) = (text(&object, "namespace"), text(&object, "name"));
            // An object that no longer exists need not be deleted.
            let _ = self.world.objects.delete(kind, &namespace, &name, &Value::Null);
        }
        self.list()
    }

    /// Whether the user may do the action in the review.
    fn review(&self, mut review: Value) -> Response {
        let asked = &review["spec"]["resourceAttributes"];
        let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
        let subresource = text("subresource");
        let resource = text("resource");
        let access = Access {
            user: self.access.user.clone(),
            verb: VERBS.into_iter().find(|verb| *verb == text("verb")).unwrap_or("get"),
            group: text("group"),
            resource: if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") },
            namespace: text("namespace"),
            name: text("name"),
        };
        review["status"] = json!({"allowed": self.world.permissions.allow(&access)});
        (StatusCode::CREATED, Json(review)).into_response()
    }
}

const VERBS: [&str; 9] = ["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection", "approve"];
