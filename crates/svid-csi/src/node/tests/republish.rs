//! Republishes of volumes with another plan that fail or are interrupted.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::mount::UnmountFlags;
use svid_csi_core::error::Class;
use svid_csi_core::state::Record;
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::Content;

use super::faults::{DRIVER, Descriptors, RecordsFail, end, publish};
use super::*;
use crate::delivery::socket_dir::AgentDir;
use crate::host::mount::{MountPoint, MountState};
use crate::host::seal;
use crate::telemetry::metrics::Snapshot;

const FILES: &[(&str, &str)] = &[];
const OTHER_FILES: &[(&str, &str)] = &[("file-cert", "svid.pem"), ("file-key", "svid.key")];
const SOCKETS: &[(&str, &str)] = &[("delivery", "workload-api")];
const OTHER_SOCKETS: &[(&str, &str)] = &[("delivery", "workload-api"), ("socket-name", "other.sock")];
const NAMED_AS_SOCKET: &[(&str, &str)] = &[("file-cert", "agent.sock")];
const PASSTHROUGH: &[(&str, &str)] = &[("source", "socket"), ("delivery", "socket-dir")];

fn config_with_agent(dir: &TempDir) -> Config {
    let path = dir.path().join("agent");
    fs::create_dir_all(&path).unwrap();
    let mut config = config(dir);
    config.agent = Some(AgentDir { path, stable: None });
    config.kubelet.drivers[0].allowed_plans.extend([Plan::Passthrough, Plan::WorkloadApi(Issuer::LocalCa)]);
    config
}

/// A file that cannot be replaced in the volume's folder, nor stored for the next startup.
struct Obstacles {
    next: PathBuf,
    kept: PathBuf,
}

impl Obstacles {
    fn of(dir: &TempDir, spec: &VolumeSpec) -> Self {
        let next = folder(dir, spec).join("..data_tmp");
        let kept = dir.path().join(format!("root/data/kept/.{}.new", spec.id));
        let folder = fs::File::open(folder(dir, spec)).unwrap();
        seal::unseal(&folder).unwrap();
        fs::create_dir(&next).unwrap();
        seal::seal(&folder).unwrap();
        MountSource::open(dir.path()).unwrap().attach_at(&next).unwrap();
        fs::create_dir_all(kept.join("x")).unwrap();
        Self { next, kept }
    }
}

impl Drop for Obstacles {
    fn drop(&mut self) {
        mount::unmount(&self.next).unwrap();
        let folder = fs::File::open(self.next.parent().unwrap()).unwrap();
        seal::unseal(&folder).unwrap();
        fs::remove_dir(&self.next).unwrap();
        seal::seal(&folder).unwrap();
        fs::remove_dir_all(&self.kept).unwrap();
    }
}

/// The pod's view: the names, the target of each, and the mode of the folder.
#[derive(Debug, PartialEq, Eq)]
struct Sees {
    names: BTreeMap<String, LeadsTo>,
    mode: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum LeadsTo {
    Nothing,
    /// Another renewal of the same volume may have taken its place.
    Socket,
    File(u64),
}

impl LeadsTo {
    fn of(path: &Path) -> Self {
        match fs::metadata(path) {
            Err(_) => Self::Nothing,
            Ok(found) if found.file_type().is_socket() => Self::Socket,
            Ok(found) => Self::File(found.ino()),
        }
    }
}

impl Sees {
    fn of(spec: &VolumeSpec) -> Self {
        let target = spec.target.path();
        let names = fs::read_dir(target).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let visible = names.filter(|name| !name.starts_with(".."));
        let names = visible.map(|name| (name.clone(), LeadsTo::of(&target.join(name)))).collect();
        Self { names, mode: fs::metadata(target).unwrap().mode() }
    }

    fn is_whole(&self) -> bool {
        !self.names.is_empty() && self.names.values().all(|to| *to != LeadsTo::Nothing)
    }
}

/// Why the volume is not as expected, if it is not.
async fn trouble(node: &Node, spec: &VolumeSpec) -> Option<String> {
    let held = node.volumes.hold(&spec.id).await;
    let record = held.as_ref().unwrap().record();
    let identity = record.spec.subject().and(record.root);
    identity.and_then(|root| node.deliveries.trouble(record, root))
}

#[test]
fn a_failed_republish_changes_nothing_for_the_pod() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build_as(&config_with_agent(&dir));
        for (number, (before, after)) in [
            (FILES, OTHER_FILES),
            (FILES, SOCKETS),
            (SOCKETS, FILES),
            (SOCKETS, OTHER_SOCKETS),
            (NAMED_AS_SOCKET, SOCKETS),
            (SOCKETS, NAMED_AS_SOCKET),
        ]
        .into_iter()
        .enumerate()
        {
            let (before, after) = (spec_with(&dir, before), spec_with(&dir, after));
            publish(&node, &before).await.unwrap();
            let saw = Sees::of(&before);
            let obstacles = Obstacles::of(&dir, &before);
            publish(&node, &after).await.unwrap_err();
            drop(obstacles);
            assert!(saw.is_whole(), "{number}: {saw:?}");
            assert_eq!(Sees::of(&before), saw, "{number}");
            assert_eq!(trouble(&node, &before).await, None, "{number}");
            publish(&node, &after).await.unwrap();
            let sees = Sees::of(&after);
            assert!(sees.is_whole() && sees.names.keys().ne(saw.names.keys()), "{number}: {sees:?}");
            assert_eq!(trouble(&node, &after).await, None, "{number}");
            node.unpublish(DRIVER, after.id.clone(), after.target.clone()).await.unwrap();
        }
        let page = node.reports.metrics.encode(&Snapshot::default());
        assert!(page.contains("svid_csi_changed_volumes_seen_total 0"), "no pod has changed anything: {page}");
    });
}

#[test]
fn a_socket_that_cannot_be_recorded_changes_nothing_for_the_pod() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build_as(&config_with_agent(&dir));
        for before in [FILES, NAMED_AS_SOCKET, OTHER_SOCKETS] {
            let (before, after) = (spec_with(&dir, before), spec_with(&dir, SOCKETS));
            publish(&node, &before).await.unwrap();
            let saw = Sees::of(&before);
            let fails = RecordsFail::of(&dir, &before);
            publish(&node, &after).await.unwrap_err();
            drop(fails);
            assert_eq!((Sees::of(&before), trouble(&node, &before).await), (saw, None));
            let sees_later = next_serial(&node, &before).await;
            assert!(Sees::of(&before).is_whole(), "{sees_later}");
            publish(&node, &after).await.unwrap();
            assert_eq!((Sees::of(&after).names.len(), trouble(&node, &after).await), (4, None));
            node.unpublish(DRIVER, after.id.clone(), after.target.clone()).await.unwrap();
        }
        let page = node.reports.metrics.encode(&Snapshot::default());
        assert!(page.contains("svid_csi_changed_volumes_seen_total 0"), "no pod has changed anything: {page}");
    });
}

/// The pod has the files by then, which must be recorded. An unpublish does not forget what is left.
#[test]
fn the_identity_of_a_former_socket_that_cannot_be_removed_does_not_fail_a_delivery_of_files() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build_as(&config_with_agent(&dir));
        let spec = spec_with(&dir, FILES);
        let kept = dir.path().join(format!("root/data/kept/{}", spec.id));
        fs::create_dir(&kept).unwrap();
        publish(&node, &spec).await.unwrap();
        assert!(Sees::of(&spec).is_whole());
        node.unpublish(DRIVER, spec.id.clone(), spec.target.clone()).await.unwrap_err();
        fs::remove_dir(&kept).unwrap();
        node.unpublish(DRIVER, spec.id.clone(), spec.target.clone()).await.unwrap();
    });
}

/// Removes the data root, like the end of a container whose data root is not on a shared mount.
fn lose_data_root(dir: &TempDir) {
    rustix::mount::unmount(dir.path().join("root/data"), UnmountFlags::DETACH).unwrap();
}

fn count_of(folder: &fs::File) -> usize {
    fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd())).unwrap().count()
}

#[test]
fn an_interrupted_republish_as_a_passthrough_leaves_no_key() {
    test(async || {
        for detached in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let config = config_with_agent(&dir);
            let (files, passthrough) = (spec_with(&dir, FILES), Arc::new(spec_with(&dir, PASSTHROUGH)));
            let node = build_as(&config);
            publish(&node, &files).await.unwrap();
            end(node).await;
            lose_data_root(&dir);
            // The data behind the target is accessible through a clone of its mount.
            let node = build_as(&config);
            let keys = fs::File::open(folder(&dir, &files)).unwrap();
            assert!(count_of(&keys) > 0);
            {
                let mut held = node.volumes.hold(&files.id).await;
                let point = MountPoint::open(&files.target).unwrap();
                let agent = node.deliveries.socket_dir().unwrap().source(&files.id, false).unwrap();
                let volume = held.as_mut().unwrap();
                if detached {
                    node.mount(volume, &point, &agent, &passthrough).unwrap();
                } else {
                    let mounted = point.look().unwrap().mounted();
                    let show = |record: &mut Record| record.show(Some(agent.id()), passthrough.clone(), mounted);
                    node.record(volume, show).unwrap();
                }
                // The call is interrupted after this.
            }
            end(node).await;
            if !detached {
                lose_data_root(&dir);
            }
            let node = build_as(&config);
            assert_eq!(count_of(&keys), 0, "detached: {detached}");
            assert!(fs::symlink_metadata(folder(&dir, &files)).is_err());
            let agent = node.deliveries.socket_dir().unwrap().source(&files.id, false).unwrap();
            assert_eq!(MountPoint::open(&files.target).unwrap().look().unwrap(), MountState::Mounted(agent.id()));
            let held = node.volumes.hold(&files.id).await;
            let record = held.as_ref().unwrap().record();
            assert_eq!((record.formerly, record.issued.is_none()), (None, true));
            drop(held);
            node.unpublish(DRIVER, files.id.clone(), files.target.clone()).await.unwrap();
            end(node).await;
            lose_data_root(&dir);
        }
    });
}

fn issued(node: &Node) -> String {
    let page = node.reports.metrics.encode(&Snapshot::default());
    page.lines().find(|line| line.starts_with("svid_csi_identities_issued_total")).unwrap().to_owned()
}

#[test]
fn a_volume_in_use_stays_renewed_and_ends_when_it_becomes_a_passthrough() {
    test(async || {
        for is_cut_short in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let node = build_as(&config_with_agent(&dir));
            let (files, passthrough) = (spec_with(&dir, FILES), spec_with(&dir, PASSTHROUGH));
            publish(&node, &files).await.unwrap();
            let certificate = files.target.path().join("tls.crt");
            let busy = fs::File::open(&certificate).unwrap();
            let before = fs::read(&certificate).unwrap();
            publish(&node, &passthrough).await.unwrap_err();
            next_serial(&node, &files).await;
            assert_ne!(fs::read(&certificate).unwrap(), before, "the pod still sees its files");
            drop(busy);
            if is_cut_short {
                // As if the former spec could not be recorded again.
                let mut held = node.volumes.hold(&files.id).await;
                let agent = node.deliveries.socket_dir().unwrap().source(&files.id, false).unwrap().id();
                let shown = MountPoint::open(&files.target).unwrap().look().unwrap().mounted();
                let show = |record: &mut Record| record.show(Some(agent), passthrough.clone().into(), shown);
                node.record(held.as_mut().unwrap(), show).unwrap();
                node.withdraw(held.as_mut().unwrap()).unwrap();
                assert_eq!(fs::read_dir(folder(&dir, &files)).unwrap().count(), 0);
            }
            publish(&node, &passthrough).await.unwrap();
            let (issued_before, held) = (issued(&node), node.volumes.hold(&files.id).await);
            assert!(!held.as_ref().unwrap().is_renewed(), "cut short: {is_cut_short}");
            drop(held);
            tokio::time::sleep(HOUR * 2).await;
            assert_eq!(issued(&node), issued_before, "cut short: {is_cut_short}");
            node.unpublish(DRIVER, files.id.clone(), files.target.clone()).await.unwrap();
        }
    });
}

#[test]
fn a_mount_that_cannot_be_cloned_changes_nothing() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = Arc::new(spec(&dir));
        publish(&node, &spec).await.unwrap();
        let mut held = node.volumes.hold(&spec.id).await;
        let volume = held.as_mut().unwrap();
        let (point, other) = (MountPoint::open(&spec.target).unwrap(), MountSource::open(dir.path()).unwrap());
        let (shown, recorded) = (point.look().unwrap(), volume.record().clone());

        let few = Descriptors::left(0);
        node.mount(volume, &point, &other, &spec).unwrap_err();
        drop(few);
        assert_eq!((point.look().unwrap(), volume.record()), (shown, &recorded));

        let busy = fs::File::open(spec.target.path().join("tls.crt")).unwrap();
        node.mount(volume, &point, &other, &spec).unwrap_err();
        drop(busy);
        assert_eq!((point.look().unwrap(), volume.record()), (shown, &recorded), "it continues unchanged");
        // The two clones use the last descriptors, and no step after the unmount needs one.
        node.record(volume, |record| record.show(Some(other.id()), spec.clone(), shown.mounted())).unwrap();
        let few = Descriptors::left(2);
        let mounted = node.mount(volume, &point, &other, &spec);
        drop(few);
        mounted.unwrap();
        assert_eq!(point.look().unwrap(), MountState::Mounted(other.id()));
    });
}

#[test]
fn whichever_call_lacks_a_descriptor_the_next_publish_succeeds() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build_as(&config_with_agent(&dir));
        let plans = [
            (None, FILES),
            (None, PASSTHROUGH),
            (Some(FILES), PASSTHROUGH),
            (Some(PASSTHROUGH), FILES),
            (Some(FILES), OTHER_FILES),
        ];
        for (number, (before, after)) in plans.into_iter().enumerate() {
            let after = spec_with(&dir, after);
            let mut failures = 0;
            loop {
                if let Some(before) = before {
                    publish(&node, &spec_with(&dir, before)).await.unwrap();
                }
                let few = Descriptors::left(failures);
                let published = publish(&node, &after).await;
                drop(few);
                let point = MountPoint::open(&after.target).unwrap();
                if before.is_some() {
                    assert!(
                        matches!(point.look().unwrap(), MountState::Mounted(_)),
                        "{number}, {failures} left: {published:?}"
                    );
                }
                publish(&node, &after).await.unwrap();
                {
                    let held = node.volumes.hold(&after.id).await;
                    let record = held.as_ref().unwrap().record();
                    assert_eq!((&*record.spec, record.phase), (&after, svid_csi_core::state::Phase::Ready));
                    assert_eq!(record.formerly, None, "{number}, {failures} left");
                    assert_eq!(point.look().unwrap(), MountState::Mounted(record.root.unwrap()));
                }
                drop(point);
                node.unpublish(DRIVER, after.id.clone(), after.target.clone()).await.unwrap();
                assert!(fs::symlink_metadata(after.target.path()).is_err());
                assert!(fs::symlink_metadata(folder(&dir, &after)).is_err());
                if published.is_ok() {
                    break;
                }
                failures += 1;
            }
            assert!(failures > 2, "{number}: {failures}");
        }
    });
}

#[test]
fn what_cannot_be_mounted_leaves_the_former_mount() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = Arc::new(spec(&dir));
        publish(&node, &spec).await.unwrap();
        let mut held = node.volumes.hold(&spec.id).await;
        let volume = held.as_mut().unwrap();
        let (point, recorded) = (MountPoint::open(&spec.target).unwrap(), volume.record().clone());
        let (shown, saw) = (point.look().unwrap(), Sees::of(&spec));
        // It can be cloned, and no longer be mounted.
        let gone = tempfile::tempdir().unwrap();
        let other = MountSource::open(gone.path()).unwrap();
        drop(gone);
        node.mount(volume, &point, &other, &spec).unwrap_err();
        assert_eq!((point.look().unwrap(), Sees::of(&spec), volume.record()), (shown, saw, &recorded));
    });
}

#[test]
fn one_that_cannot_be_recorded_changes_nothing() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build_as(&config_with_agent(&dir));
        for (before, after) in [
            (FILES, OTHER_FILES),
            (FILES, SOCKETS),
            (SOCKETS, FILES),
            (SOCKETS, OTHER_SOCKETS),
            (PASSTHROUGH, FILES),
            (PASSTHROUGH, SOCKETS),
        ] {
            let (before, after) = (spec_with(&dir, before), spec_with(&dir, after));
            publish(&node, &before).await.unwrap();
            let (saw, held_before) = (Sees::of(&before), held_of_room(&node, &before));
            let fails = RecordsFail::of(&dir, &before);
            publish(&node, &after).await.unwrap_err();
            drop(fails);
            publish(&node, &before).await.unwrap();
            assert_eq!((Sees::of(&before), held_of_room(&node, &before)), (saw, held_before));
            assert_eq!(trouble(&node, &before).await, None);
            if before.content == Content::Passthrough {
                assert_eq!(fs::read_dir(folder(&dir, &before)).map_or(0, Iterator::count), 0, "no key is left");
            }
            node.unpublish(DRIVER, after.id.clone(), after.target.clone()).await.unwrap();
        }
    });
}

/// How many bytes of the tmpfs are accounted for the volume.
fn held_of_room(node: &Node, spec: &VolumeSpec) -> u64 {
    let record = Record::intended(DRIVER, spec.clone().into(), None);
    node.deliveries.with_bytes(record).bytes
}

#[test]
fn a_passthrough_again_after_another_try_leaves_no_key() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build_as(&config_with_agent(&dir));
        let passthrough = spec_with(&dir, PASSTHROUGH);
        for after in [FILES, SOCKETS] {
            let after = spec_with(&dir, after);
            publish(&node, &passthrough).await.unwrap();
            let held_before = held_of_room(&node, &passthrough);
            let busy = fs::File::open(passthrough.target.path()).unwrap();
            publish(&node, &after).await.unwrap_err();
            publish(&node, &passthrough).await.unwrap();
            drop(busy);
            assert!(fs::symlink_metadata(folder(&dir, &after)).is_err(), "{after:?}");
            assert_eq!(held_of_room(&node, &passthrough), held_before, "{after:?}");
            node.unpublish(DRIVER, after.id.clone(), after.target.clone()).await.unwrap();
        }
    });
}

/// Few threads for blocking work, as in the driver, and a clock that does not jump: the runtime waits for a thread that hangs.
fn test_with_threads<F: Future<Output = ()>>(threads: usize, body: impl FnOnce() -> F) {
    svid_csi_testkit::in_mount_ns_as(&TestName::of(&body), || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().max_blocking_threads(threads).build().unwrap().block_on(body());
    });
}

#[test]
fn an_agents_file_system_that_hangs_takes_up_one_thread() {
    test_with_threads(2, async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build_as(&config_with_agent(&dir));
        let (passthrough, mut other) = (spec_with(&dir, PASSTHROUGH), spec_with(&dir, PASSTHROUGH));
        publish(&node, &passthrough).await.unwrap();
        let target = dir.path().join("pods/u2/volumes/kubernetes.io~csi/spiffe/mount");
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        other.id = VolumeId::of_kubelet("u2", "spiffe");
        other.target = TargetPath::parse(target.to_str().unwrap()).unwrap();
        let hangs = node.deliveries.socket_dir().unwrap().hangs();
        let condition = || node.condition(passthrough.id.clone(), passthrough.target.clone());
        let soon = Duration::from_secs(1);
        let published = node.publish(DRIVER, other.clone().into(), Brought::default(), soon);
        let all = async { tokio::join!(condition(), condition(), condition(), published) };
        let (first, second, third, published) = tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        for condition in [first, second, third] {
            let condition = condition.unwrap().unwrap();
            // On a busy machine the first look begins too late for the others.
            assert!(["does not answer", "is busy"].iter().any(|why| condition.contains(why)), "{condition}");
        }
        assert_eq!(published.unwrap_err().class(), Class::NotYet);
        assert!(tokio::task::spawn_blocking(|| true).await.unwrap(), "a thread is free");
        drop(hangs);
        assert!(condition().await.unwrap().unwrap().contains("the agent is not running"));
        publish(&node, &other).await.unwrap();
    });
}
