//! The permissions of the roles: exactly those that the sources need, and none on secrets.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::objects::{Objects, word, words};
use crate::renderings::{ALL, named};

/// Rules as `verb group/resource`, with the names they are limited to.
fn allowed(objects: &Objects, account: &str) -> BTreeSet<String> {
    let bindings = objects.of_kind("RoleBinding").chain(objects.of_kind("ClusterRoleBinding"));
    let mut allowed = BTreeSet::new();
    for binding in bindings.filter(|binding| binding["subjects"][0]["name"] == account) {
        let kind = word(&binding["roleRef"]["kind"]);
        for rule in rules(objects.one(kind, word(&binding["roleRef"]["name"]))) {
            let names = words(&rule["resourceNames"]).join(",");
            let suffix = if names.is_empty() { names } else { format!(" {names}") };
            for resource in words(&rule["resources"]) {
                allowed.extend(words(&rule["verbs"]).iter().map(|verb| format!("{verb} {resource}{suffix}")));
            }
        }
    }
    allowed
}

fn rules(role: &Value) -> impl Iterator<Item = &Value> {
    role["rules"].as_array().into_iter().flatten()
}

fn set(rules: &[&str]) -> BTreeSet<String> {
    rules.iter().map(|rule| (*rule).to_owned()).collect()
}

#[test]
fn no_role_reads_secrets_or_everything() {
    for (name, arguments) in ALL {
        let objects = Objects::rendered(arguments);
        for role in objects.of_kind("Role").chain(objects.of_kind("ClusterRole")) {
            for rule in rules(role) {
                let resources = words(&rule["resources"]);
                assert!(!resources.is_empty(), "{name}: {rule}");
                let forbidden = |resource: &&str| resource.contains("secret") || resource.contains('*');
                assert!(!resources.iter().any(forbidden), "{name}: {rule}");
                for field in ["verbs", "apiGroups"] {
                    assert!(!words(&rule[field]).contains(&"*"), "{name}: {rule}");
                }
                // ConfigMaps can be read only by name.
                assert!(!resources.contains(&"configmaps") || !words(&rule["resourceNames"]).is_empty(), "{name}");
            }
        }
    }
}

#[test]
fn bindings_bind_existing_roles_and_accounts() {
    for (name, arguments) in ALL {
        let objects = Objects::rendered(arguments);
        for binding in objects.of_kind("RoleBinding").chain(objects.of_kind("ClusterRoleBinding")) {
            let place = |object: &Value| (object["metadata"]["name"].clone(), object["metadata"]["namespace"].clone());
            let wanted = (binding["roleRef"]["name"].clone(), binding["metadata"]["namespace"].clone());
            let mut roles = objects.of_kind(word(&binding["roleRef"]["kind"]));
            assert!(roles.any(|role| place(role) == wanted), "{name}: {binding}");
            let subject = &binding["subjects"][0];
            let account = objects.one("ServiceAccount", word(&subject["name"]));
            assert_eq!(account["metadata"]["namespace"], subject["namespace"], "{name}");
        }
        for pod in objects.pods().filter(|pod| !pod["serviceAccountName"].is_null()) {
            objects.one("ServiceAccount", word(&pod["serviceAccountName"]));
        }
    }
}

#[test]
fn the_agents_socket_needs_no_permission_and_gets_no_token() {
    let objects = Objects::rendered(named("spire"));
    assert!(allowed(&objects, "svid-csi").is_empty());
    assert_eq!(objects.pods().next().unwrap()["automountServiceAccountToken"], false);
}

#[test]
fn the_broker_needs_only_events() {
    assert_eq!(allowed(&Objects::rendered(named("broker")), "svid-csi"), set(&["create events"]));
}

#[test]
fn standalone_needs_its_one_config_map() {
    let verbs = ["get", "list", "watch", "patch"].map(|verb| format!("{verb} configmaps svid-csi-roots"));
    let expected = verbs.into_iter().chain(["get nodes".to_owned()]).collect();
    assert_eq!(allowed(&Objects::rendered(named("standalone")), "svid-csi"), expected);
}

#[test]
fn with_cert_manager_each_request_mode_has_its_own() {
    let common = [
        "list certificaterequests",
        "watch certificaterequests",
        "delete certificaterequests",
        "create events",
        "get csidrivers spiffe.csi.cert-manager.io",
        "get clusterissuers spiffe-ca",
    ];
    let create = "create certificaterequests";
    let name = "cert-manager-csi-driver-spiffe";
    assert_eq!(allowed(&Objects::rendered(""), name), set(&common));
    for mode in ["own", "node-bound"] {
        let objects = Objects::rendered(&format!("--set requestMode={mode}"));
        assert_eq!(allowed(&objects, name), set(&[&common[..], &[create]].concat()), "{mode}");
    }
}

#[test]
fn the_approver_may_approve_for_its_issuer() {
    let common = [
        "list certificaterequests",
        "watch certificaterequests",
        "update certificaterequests/status",
        "create events",
        "create leases",
        "get leases spiffe.csi.cert-manager.io",
        "update leases spiffe.csi.cert-manager.io",
    ];
    for (arguments, further) in [
        ("", &["approve signers clusterissuers.cert-manager.io/spiffe-ca"][..]),
        ("--set app.issuer.kind=Issuer", &["approve signers issuers.cert-manager.io/*"]),
        ("--set app.approver.signerName=issuers.example.org/a", &["approve signers issuers.example.org/a"]),
        ("--set app.approver.autoApproveNonSPIFFE=true", &["approve signers"]),
        ("--set requestMode=node-bound", &["approve signers clusterissuers.cert-manager.io/spiffe-ca", "get pods"]),
    ] {
        let allowed = allowed(&Objects::rendered(arguments), "cert-manager-csi-driver-spiffe-approver");
        assert_eq!(allowed, set(&[&common[..], further].concat()), "{arguments}");
    }
}

#[test]
fn the_startup_taint_needs_nodes() {
    let objects = Objects::rendered("-f values-spire.yaml --set startupTaint.enabled=true");
    assert_eq!(allowed(&objects, "svid-csi"), set(&["get nodes", "patch nodes"]));
    assert_eq!(objects.pods().next().unwrap()["automountServiceAccountToken"], true);
    assert!(objects.driver_args().contains(&"--startup-taint=svid-csi/not-ready"));
}

#[test]
fn a_bundle_in_another_namespace_is_read_there() {
    let objects = Objects::rendered(named("issuers of others"));
    let roles: Vec<_> = objects.of_kind("Role").filter(|role| role["metadata"]["namespace"] == "elsewhere").collect();
    assert_eq!(roles.len(), 1);
    assert_eq!(words(&roles[0]["rules"][0]["resourceNames"]), ["bundle"]);
    let bundle = Objects::rendered(named("own"));
    let name = "list clustertrustbundles example.org:spiffe:roots";
    assert!(allowed(&bundle, "cert-manager-csi-driver-spiffe").contains(name));
}
