//! The permissions that the chart of csi-driver-spiffe grants its driver and its approver, and its CSIDriver object.

use serde_json::{Value, json};

/// The name of the driver, of its service account and of its release, unless values of the chart say otherwise.
pub const RELEASE: &str = "cert-manager-csi-driver-spiffe";
/// The name of the CSI driver.
pub const DRIVER: &str = "spiffe.csi.cert-manager.io";

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// The service accounts of both and their permissions. `config_map` is the one that overrides the issuer at runtime.
#[must_use]
pub fn rbac(namespace: &str, release: &str, config_map: Option<&str>) -> Vec<Value> {
    let approver = format!("{release}-approver");
    let requests = |verbs: &[&str]| rule("cert-manager.io", "certificaterequests", verbs);
    let of_driver = [requests(&["watch", "create", "delete", "list"])];
    let of_approver = [
        requests(&["list", "watch"]),
        rule("cert-manager.io", "certificaterequests/status", &["update"]),
        rule("cert-manager.io", "signers", &["approve"]),
        rule("", "events", &["create", "patch"]),
    ];
    let issuer = config_map.map(|name| {
        let mut issuer = rule("", "configmaps", &["get", "list", "watch"]);
        issuer["resourceNames"] = json!([name]);
        issuer
    });
    let leases = rule("coordination.k8s.io", "leases", &["get", "update", "create"]);
    let mut objects = Vec::new();
    for (account, cluster, local) in [
        (release, of_driver.to_vec(), issuer.iter().cloned().collect::<Vec<_>>()),
        (&approver, of_approver.to_vec(), issuer.iter().cloned().chain([leases]).collect()),
    ] {
        objects.push(account_of(namespace, account));
        objects.extend(cluster_role(account, (namespace, account), &cluster));
        objects.extend(role(namespace, account, (namespace, account), &local));
    }
    objects
}

/// The CSIDriver object of the chart.
#[must_use]
pub fn csi_driver(name: &str) -> Value {
    let spec = json!({
        "podInfoOnMount": true,
        "volumeLifecycleModes": ["Ephemeral"],
        "tokenRequests": [{"audience": "", "expirationSeconds": 3600}],
        "requiresRepublish": true,
    });
    json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": spec})
}

/// A service account whose pods may request certificates, which every user of the predecessor needs.
#[must_use]
pub fn requester(namespace: &str, account: &str) -> Vec<Value> {
    let rules = [rule("cert-manager.io", "certificaterequests", &["create"])];
    let mut objects = vec![account_of(namespace, account)];
    objects.extend(role(namespace, account, (namespace, account), &rules));
    objects
}

/// A rule about one kind of resource.
#[must_use]
pub fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
}

/// A service account.
#[must_use]
pub fn account_of(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

/// A ClusterRole for a service account of some namespace.
#[must_use]
pub fn cluster_role(name: &str, account: (&str, &str), rules: &[Value]) -> [Value; 2] {
    let role = json!({"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "apiVersion": RBAC,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account.1, "namespace": account.0}],
    });
    [role, binding]
}

/// A Role in a namespace for a service account of some namespace.
#[must_use]
pub fn role(namespace: &str, name: &str, account: (&str, &str), rules: &[Value]) -> [Value; 2] {
    let metadata = json!({"name": name, "namespace": namespace});
    let role = json!({"apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": rules});
    let binding = json!({
        "apiVersion": RBAC,
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account.1, "namespace": account.0}],
    });
    [role, binding]
}
