//! Bearer tokens and their users.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use svid_csi::demo::kubelet::Pod;

/// A user as known to the API server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The name, such as `system:serviceaccount:shop:cart`.
    pub name: String,
    /// The UID.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Extra attributes, such as `authentication.kubernetes.io/pod-uid`.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The valid tokens.
#[derive(Debug, Default)]
pub struct Users(Mutex<HashMap<String, User>>);

impl User {
    /// A service account, identified by a token without a pod.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"];
        User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: format!("uid-of-sa-{namespace}-{name}"),
            groups: groups.map(str::to_owned).to_vec(),
            extra: BTreeMap::new(),
        }
    }

    /// The service account of a pod, identified by a token that is bound to that pod on `node`.
    pub fn of_pod(pod: &Pod, node: &str) -> Self {
        let user = Self::service_account(&pod.namespace, &pod.service_account);
        user.with("pod-name", &pod.name).with("pod-uid", &pod.uid).with("node-name", node)
    }

    /// A copy with another `authentication.kubernetes.io/` attribute.
    #[must_use]
    pub fn with(mut self, fact: &str, value: &str) -> Self {
        self.extra.insert(format!("authentication.kubernetes.io/{fact}"), vec![value.to_owned()]);
        self
    }
}

impl Users {
    /// Accepts `token` for `user` from then on.
    pub fn accept(&self, token: &str, user: User) {
        self.tokens().insert(token.to_owned(), user);
    }

    /// Answers `token` with 401 from then on, as if it had expired.
    pub fn expire(&self, token: &str) {
        self.tokens().remove(token);
    }

    pub(super) fn of(&self, token: &str) -> Option<User> {
        self.tokens().get(token).cloned()
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<String, User>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
