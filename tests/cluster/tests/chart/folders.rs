//! Folders of the node: which ones are mounted, and the flags with their paths.

use serde_json::Value;

use crate::objects::{Objects, containers, word};
use crate::renderings::named;

/// The folders of the node that the driver mounts, with their paths and options.
fn mounted(objects: &Objects) -> Vec<(String, String, String)> {
    let pod = objects.pods().next().unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mounts = list(&containers(pod).next().unwrap()["volumeMounts"]);
    let folder = |mount: &Value| {
        let volume = list(&pod["volumes"]).into_iter().find(|volume| volume["name"] == mount["name"]).unwrap();
        let (path, at) = (word(&volume["hostPath"]["path"]).to_owned(), word(&mount["mountPath"]).to_owned());
        (path, at, word(&mount["mountPropagation"]).to_owned())
    };
    mounts.iter().map(folder).collect()
}

fn assert_mounted(objects: &Objects, expected: &[(&str, &str, &str)]) {
    let mounted = mounted(objects);
    let mounted: Vec<_> = mounted.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    assert_eq!(mounted, expected);
}

fn assert_flags(objects: &Objects, flags: &[&str]) {
    for flag in flags {
        assert!(objects.driver_args().contains(flag), "{flag} is not in {:?}", objects.driver_args());
    }
}

#[test]
fn volume_data_reaches_the_host_and_pods_are_in_the_kubelets_folder() {
    for (name, kubelet) in [
        ("bare", "/var/lib/kubelet"),
        ("k0s", "/var/lib/k0s/kubelet"),
        ("MicroK8s", "/var/snap/microk8s/common/var/lib/kubelet"),
    ] {
        let objects = Objects::rendered(named(name));
        let driver = word(&objects.of_kind("CSIDriver").next().unwrap()["metadata"]["name"]);
        let (plugin, pods) = (format!("{kubelet}/plugins/{driver}"), format!("{kubelet}/pods"));
        let registry = format!("{kubelet}/plugins_registry");
        let found = mounted(&objects);
        let expected = [
            (plugin.as_str(), "/plugin", "Bidirectional"),
            (&registry, "/registration", ""),
            (&pods, &pods, "Bidirectional"),
        ];
        assert_eq!(found[..3], expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())), "{name}");
        let registered = format!("--kubelet-registration-path={plugin}/csi.sock");
        let kubelet = format!("--kubelet-dir={kubelet}");
        assert_flags(
            &objects,
            &[&registered, &kubelet, "--endpoint=unix:///plugin/csi.sock", "--data-root=/plugin/data"],
        );
    }
}

#[test]
fn the_agents_folder_is_reached_through_its_parent() {
    let objects = Objects::rendered(named("spire"));
    assert_eq!(mounted(&objects)[3..], [("/run/spire".into(), "/agent".into(), "HostToContainer".into())]);
    assert_flags(&objects, &["--workload-api-socket-dir=/agent/agent-sockets"]);
    let alone = Objects::rendered(named("agent alone"));
    assert_eq!(mounted(&alone)[3..], [("/run/spire/agent-sockets".into(), "/agent".into(), "HostToContainer".into())]);
    assert_flags(&alone, &["--workload-api-socket-dir=/agent", "--allow-missing-read-only"]);
}

#[test]
fn the_brokers_socket_beside_the_agents_or_elsewhere() {
    let beside = Objects::rendered(named("broker"));
    assert_eq!(mounted(&beside).len(), 4);
    assert_flags(
        &beside,
        &["--broker-socket=/agent/broker/api.sock", "--workload-api-socket-dir=/agent/agent-sockets"],
    );
    let elsewhere = Objects::rendered(named("broker elsewhere"));
    assert_eq!(mounted(&elsewhere)[4], ("/var/lib/broker".into(), "/broker".into(), "HostToContainer".into()));
    assert_flags(&elsewhere, &["--broker-socket=/broker/public/api.sock"]);
}

#[test]
fn a_second_name_has_a_socket_of_its_own() {
    let objects = Objects::rendered(named("both names, the other way"));
    let plugins = "/var/lib/kubelet/plugins";
    assert_mounted(
        &objects,
        &[
            (&format!("{plugins}/spiffe.csi.cert-manager.io"), "/plugin", "Bidirectional"),
            (&format!("{plugins}/csi.spiffe.io"), "/also-plugin", ""),
            ("/var/lib/kubelet/plugins_registry", "/registration", ""),
            ("/var/lib/kubelet/pods", "/var/lib/kubelet/pods", "Bidirectional"),
            ("/run/spire", "/agent", "HostToContainer"),
        ],
    );
    let also = "--also-profile=csi.spiffe.io:csi-socket=/also-plugin/csi.sock,\
                registration-path=/var/lib/kubelet/plugins/csi.spiffe.io/csi.sock";
    assert_flags(&objects, &[also]);
}

#[test]
fn keys_are_on_disk_only_if_requested() {
    assert!(!mounted(&Objects::rendered(named("standalone"))).iter().any(|(_, at, _)| at == "/local-ca"));
    let objects = Objects::rendered(named("everything on"));
    assert!(mounted(&objects).contains(&("/var/lib/svid-csi-ca".into(), "/local-ca".into(), String::new())));
    assert_flags(&objects, &["--local-ca-dir=/local-ca", "--jwt-svid-ttl=10m"]);
}
