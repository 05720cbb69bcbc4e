//! The predecessor's documented example: its issuer, its release rendered with the values of its tutorial, and its two
//! applications. Only the images, the folder of this cluster's kubelet, and the replacements for the sidecars are ours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use svid_csi::kube::cert_request::CertificateRequest;
use svid_csi::spiffe::svid::Svid;
use svid_csi_cluster::cert_manager::NAMESPACE;
use svid_csi_cluster::predecessor::{DRIVER, RELEASE};
use svid_csi_cluster::{files, images, issuers, objects, predecessor, requests};

use super::other_approvers::ca_certificate;
use super::stage::{Stage, play_with};
use crate::eventually::{SOON, eventually};
use crate::pods::TestPod;
use crate::scene::{DRIVER_LABEL, OWNER, Scene};

const CA: &str = "csi-driver-spiffe-ca";
const TRUST_DOMAIN: &str = "my.trust.domain";
const BUNDLES: &str = "/var/run/secrets/cert-manager-csi-driver-spiffe";
const VOLUME: &str = "/var/run/secrets/spiffe.io";

#[tokio::test]
async fn the_documented_example_runs_with_our_images() {
    play_with("sandbox", Duration::from_secs(3600), async |stage: &Stage<'_>| {
        let scene = stage.scene;
        make_issuer(stage).await?;
        install(stage).await?;
        let socket = scene.kubelet().join("plugins").join(RELEASE).join("csi.sock");
        scene.register(DRIVER, &socket).await?;
        let plain = application("my-csi-app", "example-app", json!({}), json!({}));
        let security = json!({"runAsUser": 123, "runAsGroup": 456});
        let attributes = json!({"spiffe.csi.cert-manager.io/fs-group": "456"});
        let grouped = application("my-csi-app-fs-group", "fs-group-app", security, attributes);
        for (account, object) in [("example-app", plain), ("fs-group-app", grouped)] {
            stage.put(&predecessor::requester(&scene.name, account)).await?;
            stage.put(&[object]).await?;
        }
        let plain = wait_replicas(scene, "my-csi-app").await?;
        let grouped = wait_replicas(scene, "my-csi-app-fs-group").await?;
        for (pods, account, owner) in [(&plain, "example-app", "0 0"), (&grouped, "fs-group-app", "0 456")] {
            for pod in pods {
                ensure_files(pod, account, owner).await.with_context(|| format!("in {}", pod.name))?;
            }
        }
        let pairs = plain.iter().zip(&grouped);
        for (one, other) in pairs {
            ensure_trusts(scene, one, other).await?;
            ensure_trusts(scene, other, one).await?;
        }
        Ok(())
    })
    .await;
}

/// In the tutorial the CA's own request is approved manually, because the default approver is off.
async fn make_issuer(stage: &Stage<'_>) -> Result<()> {
    let client = &stage.scene.client;
    stage.put_issuer(&issuers::self_signed_cluster_issuer("selfsigned")).await?;
    stage.put(&[ca_certificate(CA, "selfsigned"), secret()]).await.context("the CA")?;
    let requests: Api<CertificateRequest> = Api::namespaced(client.clone(), NAMESPACE);
    eventually("the CA's request", SOON, async || {
        let all = requests.list(&ListParams::default()).await?.items;
        let own = all.iter().find(|one| one.owner_references().iter().any(|owner| owner.name == CA));
        let own = own.context("there is none")?.name_any();
        requests::approve(&requests, &own).await
    })
    .await?;
    eventually("the CA's secret", SOON, async || {
        let seen = objects::get(client, &secret()).await?;
        ensure!(seen["data"]["tls.key"].is_string(), "it has no key");
        Ok(())
    })
    .await?;
    stage.put_issuer(&issuers::ca_cluster_issuer(CA, CA)).await
}

fn secret() -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CA, "namespace": NAMESPACE}})
}

async fn install(stage: &Stage<'_>) -> Result<()> {
    let mut driver = predecessor::csi_driver(DRIVER);
    driver["metadata"]["labels"] = json!({OWNER: stage.scene.name});
    let mut objects = predecessor::rbac(NAMESPACE, RELEASE, None);
    objects.extend([driver, daemon_set(stage.scene), deployment()]);
    stage.put(&objects).await
}

fn common_args() -> Vec<String> {
    let words = [
        "--log-level=1",
        "--csi-driver-name=spiffe.csi.cert-manager.io",
        "--certificate-request-duration=1h",
        "--issuer-name=csi-driver-spiffe-ca",
        "--issuer-kind=ClusterIssuer",
        "--issuer-group=cert-manager.io",
        "--trust-domain=my.trust.domain",
        "--runtime-issuance-config-map-name=",
        "--runtime-issuance-config-map-namespace=cert-manager",
    ];
    words.map(str::to_owned).into()
}

fn daemon_set(scene: &Scene) -> Value {
    let kubelet = scene.kubelet().display().to_string();
    let mut args = common_args();
    let own = [
        "--file-name-certificate=tls.crt",
        "--file-name-key=tls.key",
        "--file-name-ca=ca.crt",
        "--source-ca-bundle=/var/run/secrets/cert-manager-csi-driver-spiffe/ca.crt",
        "--node-id=$(NODE_ID)",
        "--endpoint=$(CSI_ENDPOINT)",
        "--data-root=csi-data-dir",
    ];
    args.extend(own.map(str::to_owned));
    let main = json!({
        "name": RELEASE,
        "image": images::CSI_DRIVER_SPIFFE,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "runAsUser": 0,
            "privileged": true,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "args": args,
        "env": [
            {"name": "NODE_ID", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "CSI_ENDPOINT", "value": "unix://plugin/csi.sock"},
        ],
        "volumeMounts": [
            {"name": "plugin-dir", "mountPath": "/plugin"},
            {"name": "pods-mount-dir", "mountPath": format!("{kubelet}/pods"), "mountPropagation": "Bidirectional"},
            {"name": "csi-data-dir", "mountPath": "/csi-data-dir"},
            {"name": "root-cas", "mountPath": BUNDLES},
        ],
    });
    let host = |path: String, kind: &str| json!({"path": path, "type": kind});
    let volumes = json!([
        {"name": "plugin-dir", "hostPath": host(format!("{kubelet}/plugins/{RELEASE}"), "DirectoryOrCreate")},
        {"name": "pods-mount-dir", "hostPath": host(format!("{kubelet}/pods"), "Directory")},
        {"name": "registration-dir", "hostPath": host(format!("{kubelet}/plugins_registry"), "Directory")},
        {"name": "csi-data-dir", "hostPath": host(format!("{}/csi-data", scene.folder.display()), "DirectoryOrCreate")},
        {"name": "root-cas", "secret": {"secretName": CA}},
    ]);
    let spec = json!({
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "serviceAccountName": RELEASE,
        "containers": [sidecar("node-driver-registrar"), sidecar("liveness-probe"), main],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "volumes": volumes,
    });
    workload("apps/v1", "DaemonSet", &format!("{RELEASE}-driver"), RELEASE, spec)
}

/// Neither is available here; the test itself registers the driver.
fn sidecar(name: &str) -> Value {
    json!({"name": name, "image": images::BUSYBOX, "imagePullPolicy": "Never"})
}

fn deployment() -> Value {
    let mut args = common_args();
    let own = [
        "--leader-election-namespace=$(POD_NAMESPACE)",
        "--metrics-bind-address=:9402",
        "--readiness-probe-bind-address=:6060",
    ];
    args.extend(own.map(str::to_owned));
    let name = format!("{RELEASE}-approver");
    let main = json!({
        "name": name,
        "image": images::APPROVER,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 9402}],
        "readinessProbe": {"httpGet": {"port": 6060, "path": "/readyz"}, "initialDelaySeconds": 3, "periodSeconds": 7},
        "args": args,
        "env": [{"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
    });
    let spec = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "serviceAccountName": name,
        "containers": [main],
        "nodeSelector": {"kubernetes.io/os": "linux"},
    });
    let mut deployment = workload("apps/v1", "Deployment", &name, &name, spec);
    deployment["spec"]["replicas"] = json!(1);
    deployment
}

fn workload(version: &str, kind: &str, name: &str, app: &str, spec: Value) -> Value {
    json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": app}},
            "template": {"metadata": {"labels": {"app": app, DRIVER_LABEL: "true"}}, "spec": spec},
        },
    })
}

/// One of the two example applications; the image is ours, which has a shell like theirs.
fn application(name: &str, account: &str, security: Value, attributes: Value) -> Value {
    let container = json!({
        "name": "main",
        "image": images::WORKLOAD,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "1000000"],
        "volumeMounts": [{"mountPath": VOLUME, "name": "spiffe"}],
    });
    let volume = json!({"driver": DRIVER, "readOnly": true, "volumeAttributes": attributes});
    let spec = json!({
        "serviceAccountName": account,
        "terminationGracePeriodSeconds": 1,
        "securityContext": security,
        "containers": [container],
        "volumes": [{"name": "spiffe", "csi": volume}],
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "sandbox", "labels": {"app": name}},
        "spec": {
            "replicas": 5,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    })
}

async fn wait_replicas<'a>(scene: &'a Scene, app: &str) -> Result<Vec<TestPod<'a>>> {
    let own = ListParams::default().labels(&format!("app={app}"));
    let pods = eventually(&format!("five pods of {app}"), SOON, async || {
        let pods = scene.api::<Pod>().list(&own).await?.items;
        ensure!(pods.len() == 5, "there are {}", pods.len());
        Ok(pods)
    })
    .await?;
    let mut known = Vec::new();
    for pod in pods {
        let pod = scene.known(&pod.name_any(), &pod.uid().context("a pod has a UID")?);
        pod.wait_running().await?;
        known.push(pod);
    }
    Ok(known)
}

/// Names, modes and owners of the files, and their identity.
async fn ensure_files(pod: &TestPod<'_>, account: &str, owner: &str) -> Result<()> {
    for file in ["tls.crt", "tls.key", "ca.crt"] {
        let seen = pod.exec(&["stat", "-L", "-c", "%u %g %a", &format!("{VOLUME}/{file}")]).await?;
        ensure!(seen.trim() == format!("{owner} 440"), "{file} has owner, group and mode {seen}");
    }
    let output = pod.exec(&["/bin/workload", "verify", "--files", VOLUME]).await?;
    let line: Value = serde_json::from_str(output.trim())?;
    let identity = format!("spiffe://{TRUST_DOMAIN}/ns/sandbox/sa/{account}");
    ensure!(line["spiffe_id"] == identity, "{line} is not for {identity}");
    ensure!(line["key_matches"] == true && line["chain_ok"] == true, "{line} does not verify");
    Ok(())
}

/// One pod can verify the certificate of another, using only its own files.
async fn ensure_trusts(scene: &Scene, verifier: &TestPod<'_>, presenter: &TestPod<'_>) -> Result<()> {
    let folder = scene.folder.join("seen");
    std::fs::create_dir_all(&folder)?;
    for (pod, name) in [(presenter, "tls.crt"), (presenter, "tls.key"), (verifier, "ca.crt")] {
        files::write(&folder.join(name), pod.exec(&["cat", &format!("{VOLUME}/{name}")]).await?)?;
    }
    let checked = Svid::read(&folder)?.check_chain();
    checked.with_context(|| format!("{} does not trust {}", verifier.name, presenter.name))
}
