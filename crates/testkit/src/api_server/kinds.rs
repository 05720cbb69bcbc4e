//! The resources the server knows.

/// One resource.
#[derive(Debug)]
pub(super) struct Kind {
    /// The API group; empty for the core.
    pub(super) group: &'static str,
    /// The version of stored objects.
    pub(super) version: &'static str,
    /// Its name in paths.
    pub(super) plural: &'static str,
    /// Its kind in objects.
    pub(super) kind: &'static str,
    /// Whether it is namespaced.
    pub(super) namespaced: bool,
    /// Whether it has a status subresource.
    pub(super) has_status: bool,
}

const fn kind(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Kind {
    Kind { group, version, plural, kind, namespaced: true, has_status: false }
}

const fn cluster(kind: Kind) -> Kind {
    Kind { namespaced: false, ..kind }
}

const fn with_status(kind: Kind) -> Kind {
    Kind { has_status: true, ..kind }
}

static KINDS: [Kind; 16] = [
    with_status(kind("cert-manager.io", "v1", "certificaterequests", "CertificateRequest")),
    with_status(kind("cert-manager.io", "v1", "issuers", "Issuer")),
    with_status(cluster(kind("cert-manager.io", "v1", "clusterissuers", "ClusterIssuer"))),
    kind("", "v1", "configmaps", "ConfigMap"),
    kind("", "v1", "secrets", "Secret"),
    kind("", "v1", "serviceaccounts", "ServiceAccount"),
    kind("", "v1", "events", "Event"),
    with_status(kind("", "v1", "pods", "Pod")),
    with_status(cluster(kind("", "v1", "nodes", "Node"))),
    with_status(cluster(kind("", "v1", "namespaces", "Namespace"))),
    kind("events.k8s.io", "v1", "events", "Event"),
    kind("coordination.k8s.io", "v1", "leases", "Lease"),
    cluster(kind("storage.k8s.io", "v1", "csidrivers", "CSIDriver")),
    cluster(kind("storage.k8s.io", "v1", "csinodes", "CSINode")),
    cluster(kind("certificates.k8s.io", "v1beta1", "clustertrustbundles", "ClusterTrustBundle")),
    cluster(kind("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview")),
];

impl Kind {
    /// The resource at that path of the API, in any version.
    pub(super) fn at(group: &str, plural: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.group == group && kind.plural == plural)
    }

    /// The resource of an object.
    pub(super) fn of(api_version: &str, name: &str) -> Option<&'static Kind> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        KINDS.iter().find(|kind| kind.group == group && kind.kind == name)
    }

    /// The only resource with that name, or the one in the core group.
    pub(super) fn named(plural: &str) -> &'static Kind {
        let found = Kind::at("", plural).or_else(|| KINDS.iter().find(|kind| kind.plural == plural));
        found.unwrap_or_else(|| panic!("the scripted API server does not know the resource {plural}"))
    }

    /// `plural.group`, its form in messages.
    pub(super) fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `group/version`, its form in objects.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Whether it is defined by a CustomResourceDefinition.
    pub(super) fn is_custom(&self) -> bool {
        self.group == "cert-manager.io"
    }
}
