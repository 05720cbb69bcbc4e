//! Events minutes and hours later, with a clock that jumps; and failures.

mod faults;
mod leaks;
mod republish;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use svid_csi_core::files::{FileName, FileNames, Layout};
use svid_csi_core::identity::KeyType;
use svid_csi_core::plan::Issuer;
use svid_csi_core::spiffe_id::TrustDomain;
use svid_csi_core::volume::{Access, Capability, PublishRequest, Rules, VolumeSpec};
use svid_csi_core::volume_id::VolumeId;
use svid_csi_testkit::TestName;
use tempfile::TempDir;
use tokio::time::Instant;

use super::admin::AdminConfig;
use super::kubelet::config::{DriverName, KubeletConfig};
use super::kubelet::patience;
use super::volume::later::FORGOTTEN_AFTER;
use super::volume::publish::Brought;
use super::*;
use crate::host::data_root::DataConfig;
use crate::host::mount::{self, MountSource};
use crate::kube::client::ClientOptions;
use crate::source::local_ca::{JWT_LIFETIME, LocalCaConfig};

const HOUR: Duration = Duration::from_secs(3600);

/// Runs a test in a mount namespace of its own, with a clock that jumps whenever all tasks are idle.
fn test<F: Future<Output = ()>>(body: impl FnOnce() -> F) {
    svid_csi_testkit::in_mount_ns_as(&TestName::of(&body), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(body());
    });
}

fn names() -> FileNames {
    let name = |name| FileName::parse(name).unwrap();
    FileNames { cert: Some(name("tls.crt")), key: Some(name("tls.key")), bundle: Some(name("ca.crt")) }
}

fn config(dir: &TempDir) -> Config {
    let plan = Plan::Files(Issuer::LocalCa);
    Config {
        kubelet: KubeletConfig {
            drivers: vec![DriverName {
                name: "demo.svid-csi".to_owned(),
                socket: dir.path().join("csi.sock"),
                registration_path: None,
                default_plan: plan,
                allowed_plans: [plan].into(),
                layout: Layout::default(),
                file_names: names(),
            }],
            node_id: "n1".to_owned(),
            root_dir: None,
            registration_dir: None,
            startup_taint: None,
            allow_missing_read_only: false,
        },
        data: Some(DataConfig { root: dir.path().join("root"), size_limit: 1 << 20 }),
        agent: None,
        broker: None,
        cert_manager: None,
        client: ClientOptions::default(),
        local_ca: Some(LocalCaConfig {
            trust_domain: TrustDomain::parse("example.org").unwrap(),
            lifetime: HOUR,
            key_type: KeyType::default(),
            jwt_lifetime: JWT_LIFETIME,
            dir: None,
            roots: None,
        }),
        admin: AdminConfig::default(),
    }
}

fn build(dir: &TempDir) -> Arc<Node> {
    build_as(&config(dir))
}

fn build_as(config: &Config) -> Arc<Node> {
    Node::build(config, Clients::default(), Arc::default(), Tasks::default()).unwrap()
}

fn spec(dir: &TempDir) -> VolumeSpec {
    spec_with(dir, &[])
}

fn spec_with(dir: &TempDir, attributes: &[(&str, &str)]) -> VolumeSpec {
    let target = dir.path().join("pods/u1/volumes/kubernetes.io~csi/spiffe/mount");
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let context = [
        ("ephemeral", "true"),
        ("pod.uid", "u1"),
        ("pod.name", "web-0"),
        ("pod.namespace", "shop"),
        ("serviceAccount.name", "web"),
    ];
    let request = PublishRequest {
        volume_id: VolumeId::of_kubelet("u1", "spiffe").to_string(),
        target_path: target.to_str().unwrap().to_owned(),
        capability: Some(Capability {
            access: Access::Mount { particular: false, group: String::new() },
            has_mode: true,
            reader_only: false,
        }),
        read_only: true,
        context: context
            .iter()
            .map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), (*value).to_owned()))
            .chain(attributes.iter().map(|(name, value)| (format!("svid-csi/{name}"), (*value).to_owned())))
            .collect::<HashMap<_, _>>(),
        tokens: None,
        pkcs12_password: None,
    };
    let plan = Plan::Files(Issuer::LocalCa);
    let rules = Rules {
        default_plan: plan,
        allowed_plans: BTreeSet::from([plan, Plan::WorkloadApi(Issuer::LocalCa), Plan::Passthrough]),
        layout: Layout::default(),
        file_names: names(),
        trust_domain: TrustDomain::parse("example.org").ok(),
        allow_missing_read_only: false,
        pods_dir: None,
    };
    VolumeSpec::parse(&request, &rules).unwrap()
}

/// The folder of the volume's files.
fn folder(dir: &TempDir, spec: &VolumeSpec) -> PathBuf {
    dir.path().join("root/data/volumes").join(spec.id.as_str())
}

async fn serial(node: &Node, spec: &VolumeSpec) -> Option<String> {
    let held = node.volumes.hold(&spec.id).await;
    held.as_ref().and_then(|volume| volume.record().issued.as_ref()).map(|issued| issued.serial.clone())
}

async fn next_serial(node: &Node, spec: &VolumeSpec) -> String {
    let before = serial(node, spec).await;
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        match serial(node, spec).await {
            after if after == before => {}
            after => return after.expect("a ready volume has an identity"),
        }
    }
}

fn fill(tmpfs: &Path) {
    let _ =
        fs::File::create(tmpfs.join("filler")).and_then(|mut file| std::io::Write::write_all(&mut file, &[0; 2 << 20]));
}

#[test]
fn renewal_comes_at_two_thirds_of_the_lifetime_with_jitter() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        node.publish("demo.svid-csi", spec.clone().into(), Brought::default(), patience::MOST).await.unwrap();
        let before = Instant::now();
        next_serial(&node, &spec).await;
        let share = before.elapsed().as_secs_f64() / HOUR.as_secs_f64();
        assert!((0.59..0.75).contains(&share), "renewed after {share} of the lifetime");
        node.unpublish("demo.svid-csi", spec.id.clone(), spec.target.clone()).await.unwrap();
    });
}

#[test]
fn a_failed_renewal_is_retried_until_it_succeeds() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        node.publish("demo.svid-csi", spec.clone().into(), Brought::default(), patience::MOST).await.unwrap();
        let tmpfs = node.data.as_ref().unwrap().tmpfs();
        fill(&tmpfs);
        let first = serial(&node, &spec).await;
        tokio::time::sleep(HOUR * 3 / 4).await;
        assert_eq!(serial(&node, &spec).await, first, "the last identity is kept");
        fs::remove_file(tmpfs.join("filler")).unwrap();
        let freed = Instant::now();
        next_serial(&node, &spec).await;
        assert!(freed.elapsed() < Duration::from_secs(370), "tried again within the longest delay");
        node.unpublish("demo.svid-csi", spec.id.clone(), spec.target.clone()).await.unwrap();
    });
}

#[test]
fn a_volume_that_never_became_ready_is_dropped_if_it_is_not_requested_again() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        // A folder in place of the link that is swapped, which cannot be removed.
        let (obstacle, mounted) = (folder(&dir, &spec).join("..data_tmp"), tempfile::tempdir().unwrap());
        fs::create_dir_all(&obstacle).unwrap();
        MountSource::open(mounted.path()).unwrap().attach_at(&obstacle).unwrap();
        let published = node.publish("demo.svid-csi", spec.clone().into(), Brought::default(), patience::MOST).await;
        assert_eq!(published.unwrap_err().class(), svid_csi_core::error::Class::NotYet);
        tokio::time::sleep(FORGOTTEN_AFTER - Duration::from_secs(60)).await;
        node.publish("demo.svid-csi", spec.clone().into(), Brought::default(), patience::MOST).await.unwrap_err();
        tokio::time::sleep(FORGOTTEN_AFTER - Duration::from_secs(60)).await;
        assert!(node.volumes.hold(&spec.id).await.is_some(), "it was asked for in time");
        mount::unmount(&obstacle).unwrap();
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert!(node.volumes.hold(&spec.id).await.is_none());
        assert_eq!(node.store.load().unwrap().len(), 0);
        assert!(!spec.target.path().exists());
    });
}

/// Waits until the content of the first token's file has changed.
async fn next_token(spec: &VolumeSpec) -> String {
    let path = spec.target.path().join("jwt_svid_0.token");
    let before = fs::read_to_string(&path).unwrap();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The folder may be swapped while it is read.
        match fs::read_to_string(&path) {
            Ok(token) if token != before => return token,
            _ => {}
        }
    }
}

#[test]
fn tokens_have_a_renewal_schedule_of_their_own() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec_with(&dir, &[("audience", "vault,db")]);
        node.publish("demo.svid-csi", spec.clone().into(), Brought::default(), patience::MOST).await.unwrap();
        let (first, mut before) = (serial(&node, &spec).await, Instant::now());
        for _ in 0..3 {
            next_token(&spec).await;
            let share = before.elapsed().as_secs_f64() / JWT_LIFETIME.as_secs_f64();
            assert!((0.58..0.76).contains(&share), "renewed after {share} of the lifetime");
            before = Instant::now();
        }
        assert_eq!(serial(&node, &spec).await, first, "the certificate is not due yet");
        node.unpublish("demo.svid-csi", spec.id.clone(), spec.target.clone()).await.unwrap();
    });
}

#[test]
fn a_token_that_could_not_be_renewed_is_kept_and_retried() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec_with(&dir, &[("audience", "vault")]);
        node.publish("demo.svid-csi", spec.clone().into(), Brought::default(), patience::MOST).await.unwrap();
        let tmpfs = node.data.as_ref().unwrap().tmpfs();
        fill(&tmpfs);
        let path = spec.target.path().join("jwt_svid_0.token");
        let first = fs::read_to_string(&path).unwrap();
        tokio::time::sleep(JWT_LIFETIME * 9 / 10).await;
        assert_eq!(fs::read_to_string(&path).unwrap(), first, "the last token is kept");
        fs::remove_file(tmpfs.join("filler")).unwrap();
        let freed = Instant::now();
        next_token(&spec).await;
        assert!(freed.elapsed() < JWT_LIFETIME / 3, "tried again within a quarter of what is left of it");
        node.unpublish("demo.svid-csi", spec.id.clone(), spec.target.clone()).await.unwrap();
    });
}

#[test]
fn new_tokens_do_not_bring_anything_else_from_the_authority() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec_with(&dir, &[("audience", "vault")]);
        node.publish("demo.svid-csi", spec.clone().into(), Brought::default(), patience::MOST).await.unwrap();
        let folder = node.data.as_ref().unwrap().volumes().join(spec.id.as_str());
        let first = serial(&node, &spec).await;
        let volume = node.deliveries.folders().unwrap().open_volume(&spec.id, None).unwrap();
        volume.seen().unseal().unwrap();
        fs::remove_file(folder.join("..data")).unwrap();
        std::os::unix::fs::symlink("../../ca/example.org", folder.join("..data")).unwrap();
        tokio::time::sleep(JWT_LIFETIME).await;
        assert_ne!(serial(&node, &spec).await, first, "what was changed is not delivered again");
        assert!(folder.join("..data/tls.key").exists() && folder.join("..data/jwt_svid_0.token").exists());
        for name in ["ca.key", "jwt.key"] {
            assert!(!folder.join("..data").join(name).exists(), "{name}");
        }
        node.unpublish("demo.svid-csi", spec.id.clone(), spec.target.clone()).await.unwrap();
    });
}
