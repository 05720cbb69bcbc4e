//! The target of a request: its path and its query.

use std::collections::HashMap;

use axum::extract::Query;
use axum::http::{Method, Uri};

use super::failure::Failure;
use super::kinds::Kind;
use super::selector::Selector;

/// A resource, possibly with one object and one subresource.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) kind: &'static Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) subresource: String,
    query: HashMap<String, String>,
}

impl Target {
    pub(super) fn parse(uri: &Uri) -> Option<Self> {
        let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
        let (group, rest) = match parts.as_slice() {
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, _version, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return None,
        };
        let Query(query): Query<HashMap<String, String>> = Query::try_from_uri(uri).ok()?;
        let [namespace, name, subresource] = [namespace, name, subresource].map(str::to_owned);
        Some(Target { kind: Kind::at(group, plural)?, namespace, name, subresource, query })
    }

    /// The verb for that method, as in rules of RBAC.
    pub(super) fn verb(&self, method: &Method) -> Option<&'static str> {
        let one = !self.name.is_empty();
        match *method {
            Method::GET if one => Some("get"),
            Method::GET if self.is_set("watch") => Some("watch"),
            Method::GET => Some("list"),
            Method::POST if !one => Some("create"),
            Method::PUT if one => Some("update"),
            Method::PATCH if one => Some("patch"),
            Method::DELETE if one => Some("delete"),
            Method::DELETE => Some("deletecollection"),
            _ => None,
        }
    }

    /// `plural` or `plural/subresource`.
    pub(super) fn resource(&self) -> String {
        let plural = self.kind.plural;
        if self.subresource.is_empty() { plural.to_owned() } else { format!("{plural}/{}", self.subresource) }
    }

    /// The object that a rule of RBAC must name, if it names any; for lists and watches the one in their field selector
    /// (`k8s.io/apiserver`, `endpoints/request/requestinfo.go`).
    pub(super) fn asked_for(&self) -> &str {
        let selected = || self.text("fieldSelector").strip_prefix("metadata.name=").filter(|name| !name.contains(','));
        if self.name.is_empty() { selected().unwrap_or_default() } else { &self.name }
    }

    pub(super) fn selector(&self) -> Result<Selector, Failure> {
        Selector::parse(self.kind, &self.namespace, self.text("labelSelector"), self.text("fieldSelector"))
    }

    pub(super) fn text(&self, parameter: &str) -> &str {
        self.query.get(parameter).map_or("", String::as_str)
    }

    pub(super) fn number(&self, parameter: &str) -> Option<u64> {
        self.text(parameter).parse().ok()
    }

    pub(super) fn is_set(&self, parameter: &str) -> bool {
        matches!(self.text(parameter), "true" | "1")
    }
}
