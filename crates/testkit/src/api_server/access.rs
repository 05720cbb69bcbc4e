//! Authorization.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::kinds::Kind;
use super::users::User;

/// An attempted action.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who.
    pub user: User,
    /// `create`, `get`, `list`, `watch`, `update`, `patch`, `delete`, `deletecollection`; `approve` for signers.
    pub verb: &'static str,
    /// The API group; empty for the core.
    pub group: String,
    /// The resource, with its subresource after a slash.
    pub resource: String,
    /// The namespace; empty for all namespaces.
    pub namespace: String,
    /// The object, if one is named.
    pub name: String,
}

type Rule = Box<dyn Fn(&Access) -> bool + Send>;

/// The authorizer, which allows everything until a test sets a rule.
pub struct Permissions(Mutex<Rule>);

impl Access {
    pub(super) fn kind(&self) -> &'static Kind {
        let plural = self.resource.split('/').next().unwrap_or_default();
        Kind::at(&self.group, plural).unwrap_or_else(|| Kind::named(plural))
    }

    /// `verb resource`, such as `create certificaterequests` or `update certificaterequests/status`.
    pub fn action(&self) -> String {
        format!("{} {}", self.verb, self.resource)
    }
}

impl Permissions {
    /// Allows only actions for which `rule` returns `true`.
    pub fn only(&self, rule: impl Fn(&Access) -> bool + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// Allows everything again.
    pub fn everything(&self) {
        self.only(|_| true);
    }

    pub(super) fn allow(&self, access: &Access) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)(access)
    }
}

impl Default for Permissions {
    fn default() -> Self {
        Permissions(Mutex::new(Box::new(|_| true)))
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permissions")
    }
}
