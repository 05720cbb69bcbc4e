//! Errors in the form of Kubernetes: a `Status` object (`k8s.io/apimachinery`, `pkg/api/errors`).

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::access::Access;
use super::kinds::Kind;

/// A failed call.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: u16,
    reason: &'static str,
    message: String,
    details: Value,
}

impl Failure {
    pub(super) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: json!({}) }
    }

    pub(super) fn of_object(
        kind: &Kind,
        name: &str,
        code: u16,
        reason: &'static str,
        what: impl std::fmt::Display,
    ) -> Self {
        let details = json!({"name": name, "group": kind.group, "kind": kind.plural});
        Self { details, ..Self::new(code, reason, format!("{} {name:?} {what}", kind.qualified())) }
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn unknown_path() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::of_object(kind, name, 404, "NotFound", "not found")
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::of_object(kind, name, 409, "AlreadyExists", "already exists")
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", kind.qualified());
        Self { message, ..Self::of_object(kind, name, 409, "Conflict", "") }
    }

    pub(super) fn modified(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(kind, name, why)
    }

    pub(super) fn invalid(kind: &Kind, name: &str, why: &str) -> Self {
        Self {
            message: format!("{}.{} {name:?} is invalid: {why}", kind.kind, kind.group),
            ..Self::of_object(kind, name, 422, "Invalid", "")
        }
    }

    pub(super) fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message)
    }

    pub(super) fn expired(version: u64, oldest: u64) -> Self {
        Self::new(410, "Expired", format!("too old resource version: {version} ({oldest})"))
    }

    pub(super) fn continue_expired() -> Self {
        let message = "The provided continue parameter is too old to display a consistent list result. You can start a \
                       new list without the continue parameter.";
        Self::new(410, "Expired", message)
    }

    pub(super) fn too_many(retry_after: u64) -> Self {
        let details = json!({ "retryAfterSeconds": retry_after });
        let message = "Too many requests, please try again later.";
        Self { details, ..Self::new(429, "TooManyRequests", message) }
    }

    /// The message that names the missing permission (`k8s.io/apiserver`, `endpoints/handlers/responsewriters`).
    pub(super) fn forbidden(access: &Access) -> Self {
        let of = access.kind();
        let named = if access.name.is_empty() { String::new() } else { format!(" {:?}", access.name) };
        let place = match &*access.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        let message = format!(
            "{}{named} is forbidden: User {:?} cannot {} resource {:?} in API group {:?} {place}",
            of.qualified(),
            access.user.name,
            access.verb,
            access.resource,
            access.group,
        );
        let details = json!({"name": access.name, "group": of.group, "kind": of.plural});
        Self { details, ..Self::new(403, "Forbidden", message) }
    }

    /// The `Status` object.
    pub(super) fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "details": self.details, "code": self.code,
        })
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (code, Json(self.status())).into_response();
        if let Some(seconds) = self.details["retryAfterSeconds"].as_u64() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
