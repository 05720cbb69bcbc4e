//! Failures and interruptions, and the guarantees that must hold nevertheless.

use std::os::fd::AsRawFd;
use std::time::SystemTime;

use rustix::process::Rlimit;
use svid_csi_core::error::Class;
use svid_csi_core::state::Record;
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume::Content;

use super::*;
use crate::host::clock;
use crate::host::mount::{self, MountPoint, MountSource, MountState};
use crate::host::seal;
use crate::host::simulated::{self, Machine, Random};
use crate::node::admin::status;
use crate::node::volume::error::VolumeError;
use crate::telemetry::metrics::Snapshot;

pub(super) const DRIVER: &str = "demo.svid-csi";

pub(super) async fn publish(node: &Arc<Node>, spec: &VolumeSpec) -> Result<(), VolumeError> {
    node.publish(DRIVER, spec.clone().into(), Brought::default(), patience::MOST).await.map(drop)
}

/// Ends a driver like SIGTERM and starts the next one with its files.
async fn restart(node: Arc<Node>, dir: &TempDir) -> Arc<Node> {
    end(node).await;
    build(dir)
}

pub(super) async fn end(node: Arc<Node>) {
    node.tasks.stop();
    node.tasks.ended().await;
    // Work on another thread releases the node shortly after its task has ended.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while Arc::strong_count(&node) > 1 {
        assert!(std::time::Instant::now() < deadline, "a part of it continues");
        std::thread::sleep(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
}

/// Makes every write of a volume's record fail until it is dropped.
pub(super) struct RecordsFail(PathBuf);

impl RecordsFail {
    pub(super) fn of(dir: &TempDir, spec: &VolumeSpec) -> Self {
        let obstacle = dir.path().join(format!("root/records/.{}.json.new", spec.id));
        fs::create_dir_all(obstacle.join("x")).unwrap();
        Self(obstacle)
    }
}

impl Drop for RecordsFail {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Limits the free file descriptors until it is dropped.
pub(super) struct Descriptors(Rlimit);

impl Descriptors {
    pub(super) fn left(count: u64) -> Self {
        let before = getrlimit(Resource::Nofile);
        let free = fs::File::open("/dev/null").unwrap().as_raw_fd();
        let current = Some(u64::try_from(free).unwrap() + count);
        setrlimit(Resource::Nofile, Rlimit { current, ..before }).unwrap();
        Self(before)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).unwrap();
    }
}

fn certificate_name(spec: &VolumeSpec) -> String {
    match &spec.content {
        Content::Files(files) => files.names.cert.as_ref().unwrap().as_str().to_owned(),
        _ => panic!("no files"),
    }
}

#[test]
fn a_publish_that_is_not_on_disk_is_not_answered_with_ok() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let (first, other) = (spec(&dir), spec_with(&dir, &[("file-cert", "svid.pem")]));
        publish(&node, &first).await.unwrap();
        let fails = RecordsFail::of(&dir, &first);
        for again in 0..3 {
            let class = publish(&node, &other).await.map_err(|error| error.class());
            assert_eq!(class, Err(Class::NotYet), "call {again}: the kubelet has to ask again");
        }
        let recorded = node.store.load().unwrap().remove(0).1.unwrap();
        assert_eq!(certificate_name(&recorded.spec), "tls.crt");
        drop(fails);
        publish(&node, &other).await.unwrap();
        let node = restart(node, &dir).await;
        let held = node.volumes.hold(&other.id).await;
        assert_eq!(certificate_name(&held.as_ref().unwrap().record().spec), "svid.pem");
    });
}

#[test]
fn a_mount_is_not_removed_before_the_next_is_recorded() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        let point = MountPoint::open(&spec.target).unwrap();
        let before = point.look().unwrap();
        let _fails = RecordsFail::of(&dir, &spec);
        let mut held = node.volumes.hold(&spec.id).await;
        let other = MountSource::open(dir.path()).unwrap();
        node.mount(held.as_mut().unwrap(), &point, &other, &spec.clone().into()).unwrap_err();
        assert!(matches!(before, MountState::Mounted(_)));
        assert_eq!(point.look().unwrap(), before);
    });
}

#[test]
fn an_orphan_that_cannot_be_removed_is_removed_later() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let orphan = dir.path().join("root/data/volumes/csi-orphan");
        let busy = orphan.join("busy");
        fs::create_dir_all(&busy).unwrap();
        let mounted = tempfile::tempdir().unwrap();
        MountSource::open(mounted.path()).unwrap().attach_at(&busy).unwrap();
        let node = restart(node, &dir).await;
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        mount::unmount(&busy).unwrap();
        tokio::time::sleep(HOUR / 4).await;
        assert!(fs::symlink_metadata(&orphan).is_err());
        assert!(fs::symlink_metadata(folder(&dir, &spec)).is_ok());
    });
}

#[test]
fn former_files_that_cannot_be_removed_are_removed_later() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let (node, spec) = (build(&dir), spec(&dir));
        publish(&node, &spec).await.unwrap();
        let folder = folder(&dir, &spec);
        seal::unseal(fs::File::open(&folder).unwrap()).unwrap();
        let busy = folder.join("..1.1");
        fs::create_dir(&busy).unwrap();
        let mounted = tempfile::tempdir().unwrap();
        MountSource::open(mounted.path()).unwrap().attach_at(&busy).unwrap();
        let republished = spec_with(&dir, &[("file-cert", "svid.pem")]);
        publish(&node, &republished).await.unwrap();
        assert!(fs::symlink_metadata(&busy).is_ok() && node.later.counts().retry == 1);
        mount::unmount(&busy).unwrap();
        let issued = issued_of(&node, &spec).await;
        tokio::time::sleep(HOUR / 12).await;
        assert!(fs::symlink_metadata(&busy).is_err(), "long before the next delivery");
        assert_eq!((node.later.counts().retry, issued_of(&node, &spec).await), (0, issued));
        assert!(fs::symlink_metadata(folder.join("svid.pem")).is_ok());
    });
}

async fn issued_of(node: &Node, spec: &VolumeSpec) -> Option<svid_csi_core::state::Issued> {
    node.volumes.hold(&spec.id).await.as_ref().unwrap().record().issued.clone()
}

/// The queue has pauses of its own, and so has the renewal: neither ends those of the other.
#[test]
fn a_trust_bundle_that_cannot_be_written_wakes_the_renewal_once() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let (node, spec) = (build(&dir), spec(&dir));
        publish(&node, &spec).await.unwrap();
        let mut held = node.volumes.hold(&spec.id).await;
        let volume = held.as_mut().unwrap();
        volume.stop_renewing();
        node.record(volume, |record| record.issued.as_mut().unwrap().bundle_digest.clear()).unwrap();
        let woken = volume.renew_now.clone();
        let fails = RecordsFail::of(&dir, &spec);
        let mut wakes = 0;
        for _ in 0..5 {
            node.try_to_update_bundle(volume).unwrap_err();
            wakes += usize::from(tokio::time::timeout(HOUR, woken.notified()).await.is_ok());
        }
        assert_eq!(wakes, 1);
        drop(fails);
        node.try_to_update_bundle(volume).unwrap();
        node.record(volume, |record| record.issued.as_mut().unwrap().bundle_digest.clear()).unwrap();
        let _fails = RecordsFail::of(&dir, &spec);
        node.try_to_update_bundle(volume).unwrap_err();
        assert!(tokio::time::timeout(HOUR, woken.notified()).await.is_ok(), "it is behind again");
    });
}

/// Its files cannot be read: the disk fails.
#[test]
fn a_local_ca_whose_files_cannot_be_read_is_loaded_later() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        let ca = dir.path().join("ca");
        config.local_ca.as_mut().unwrap().dir = Some(ca.clone());
        let (node, spec) = (build_as(&config), spec(&dir));
        publish(&node, &spec).await.unwrap();
        let root = fs::read(ca.join("ca.crt")).unwrap();
        end(node).await;
        let (key, away) = (ca.join("ca.key"), ca.join("away"));
        fs::rename(&key, &away).unwrap();
        fs::create_dir(&key).unwrap();

        let node = build_as(&config);
        let delivered = || fs::read(spec.target.path().join("tls.crt")).unwrap();
        let before = delivered();
        let trouble = status::status(&node).await.local_ca_trouble.expect("it is reported");
        assert!(trouble.contains("ca.key"), "{trouble}");
        assert!(!node.sources.local_ca.as_ref().unwrap().can_sign());
        let mut other = spec.clone();
        other.id = VolumeId::of_kubelet("u2", "spiffe");
        let target = dir.path().join("pods/u2/volumes/kubernetes.io~csi/spiffe/mount");
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        other.target = TargetPath::parse(target.to_str().unwrap()).unwrap();
        assert_eq!(publish(&node, &other).await.unwrap_err().class(), Class::NotYet);
        publish(&node, &spec).await.unwrap();
        assert_eq!(delivered(), before, "pods keep what they have");

        fs::remove_dir(&key).unwrap();
        fs::rename(&away, &key).unwrap();
        tokio::time::sleep(HOUR / 12).await;
        assert_eq!(status::status(&node).await.local_ca_trouble, None);
        publish(&node, &other).await.unwrap();
        assert_eq!(fs::read(ca.join("ca.crt")).unwrap(), root, "it is the same CA");
        assert_eq!(fs::read(target.join("ca.crt")).unwrap(), fs::read(spec.target.path().join("ca.crt")).unwrap());
    });
}

#[test]
fn a_removal_that_fails_at_startup_is_retried() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        let folder = folder(&dir, &spec);
        seal::unseal(fs::File::open(&folder).unwrap()).unwrap();
        let busy = folder.join("busy");
        fs::create_dir(&busy).unwrap();
        let mounted = tempfile::tempdir().unwrap();
        MountSource::open(mounted.path()).unwrap().attach_at(&busy).unwrap();
        node.unpublish(DRIVER, spec.id.clone(), spec.target.clone()).await.unwrap_err();
        let node = restart(node, &dir).await;
        mount::unmount(&busy).unwrap();
        tokio::time::sleep(HOUR / 4).await;
        assert!(node.volumes.all().is_empty());
        assert_eq!(node.store.load().unwrap().len(), 0);
        assert!(fs::symlink_metadata(folder).is_err());
    });
}

#[test]
fn a_volume_that_could_not_be_checked_is_recovered_later() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        let (pod, away) = (dir.path().join("pods/u1"), dir.path().join("pods/away"));
        fs::rename(&pod, &away).unwrap();
        std::os::unix::fs::symlink(&away, &pod).unwrap();
        let node = restart(node, &dir).await;
        assert!(!node.volumes.hold(&spec.id).await.as_ref().unwrap().is_kept_fresh());
        fs::remove_file(&pod).unwrap();
        fs::rename(&away, &pod).unwrap();
        tokio::time::sleep(HOUR / 4).await;
        assert!(node.volumes.hold(&spec.id).await.as_ref().unwrap().is_kept_fresh());
    });
}

#[test]
fn a_kill_while_the_tmpfs_is_marked_is_harmless() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("root/data");
        fs::create_dir_all(&data).unwrap();
        rustix::mount::mount("svid-csi", &data, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        fs::File::create(data.join("..svid-csi.new")).unwrap();
        publish(&build(&dir), &spec(&dir)).await.unwrap();
    });
}

#[test]
fn failed_calls_leave_no_slot() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        fs::remove_dir_all(dir.path().join("pods")).unwrap();
        publish(&node, &spec).await.unwrap_err();
        assert!(node.volumes.all().is_empty(), "after a refusal");
        let held = node.volumes.hold(&spec.id).await;
        assert!(tokio::time::timeout(HOUR, node.volumes.hold(&spec.id)).await.is_err());
        drop(held);
        assert!(node.volumes.all().is_empty(), "after a wait that was given up");
    });
}

#[test]
fn an_interrupted_withdrawal_continues_at_the_next_startup() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        let withdrawn = |record: &mut Record| (record.issued, record.withdrawn) = (None, true);
        node.record(node.volumes.hold(&spec.id).await.as_mut().unwrap(), withdrawn).unwrap();
        let _node = restart(node, &dir).await;
        assert_eq!(fs::read_dir(folder(&dir, &spec)).unwrap().count(), 0);
    });
}

#[test]
fn a_record_that_cannot_be_written_does_not_delay_a_withdrawal() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        let folder = folder(&dir, &spec);
        let fails = RecordsFail::of(&dir, &spec);
        node.withdraw(node.volumes.hold(&spec.id).await.as_mut().unwrap()).unwrap_err();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        drop(fails);
        let node = restart(node, &dir).await;
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        let held = node.volumes.hold(&spec.id).await;
        assert_eq!(held.as_ref().unwrap().record().issued, None, "a renewal brings what it has now");
    });
}

#[test]
fn a_publish_of_a_published_volume_that_fails_is_to_be_repeated() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        for left in 0.. {
            let few = Descriptors::left(left);
            let published = publish(&node, &spec).await;
            drop(few);
            match published {
                // The response to the first publish may not have reached the kubelet, which unpublishes only what it knows of.
                Err(error) => assert_eq!(error.class(), Class::NotYet, "{left} descriptors: {error}"),
                Ok(()) => return assert!(left > 0),
            }
        }
    });
}

/// Makes the record of a volume unreadable until it is dropped.
struct RecordUnreadable {
    path: PathBuf,
    away: PathBuf,
}

impl RecordUnreadable {
    fn of(dir: &TempDir, spec: &VolumeSpec) -> Self {
        let path = dir.path().join(format!("root/records/{}.json", spec.id));
        let away = dir.path().join("record");
        fs::rename(&path, &away).unwrap();
        fs::create_dir(&path).unwrap();
        Self { path, away }
    }
}

impl Drop for RecordUnreadable {
    fn drop(&mut self) {
        fs::remove_dir(&self.path).unwrap();
        fs::rename(&self.away, &self.path).unwrap();
    }
}

#[test]
fn a_record_that_startup_could_not_read_is_read_by_the_next_call() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        let serial_before = serial(&node, &spec).await;
        let files = || fs::read_dir(folder(&dir, &spec)).unwrap().count();
        let count = files();
        end(node).await;
        let unreadable = RecordUnreadable::of(&dir, &spec);
        let node = build(&dir);
        let class = publish(&node, &spec).await.map_err(|error| error.class());
        assert_eq!((class, files()), (Err(Class::NotYet), count), "it is not taken for a new volume");
        node.unpublish(DRIVER, spec.id.clone(), spec.target.clone()).await.unwrap_err();
        assert_eq!(files(), count, "a part of what is to be removed is not known");
        drop(unreadable);
        let fails = RecordsFail::of(&dir, &spec);
        publish(&node, &spec).await.unwrap();
        drop(fails);
        assert_eq!((serial(&node, &spec).await, files()), (serial_before, count));
        let held = node.volumes.hold(&spec.id).await;
        let volume = held.as_ref().unwrap();
        assert!(volume.is_kept_fresh() && !volume.unfinished);
    });
}

#[test]
fn a_withdrawal_that_was_neither_recorded_nor_finished_continues_at_the_next_start() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let spec = spec(&dir);
        publish(&node, &spec).await.unwrap();
        let folder = folder(&dir, &spec);
        // As if the record could not be written, and a kill came after the first name.
        seal::unseal(fs::File::open(&folder).unwrap()).unwrap();
        fs::remove_file(folder.join("..data")).unwrap();
        let node = restart(node, &dir).await;
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        next_serial(&node, &spec).await;
    });
}

fn left_alone(node: &Node) -> String {
    let page = node.reports.metrics.encode(&Snapshot::default());
    let is_it = |line: &&str| line.starts_with("svid_csi_volumes_left_alone");
    page.lines().find(is_it).unwrap().rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn a_volume_with_a_damaged_record_is_left_alone_until_it_is_published_or_unpublished() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let (mut node, spec) = (build(&dir), spec(&dir));
        for publishes in [true, false] {
            publish(&node, &spec).await.unwrap();
            end(node).await;
            fsx::write_atomic(&dir.path().join(format!("root/records/{}.json", spec.id)), b"damaged", 0o600).unwrap();
            node = build(&dir);
            assert_eq!(left_alone(&node), "1");
            if publishes {
                publish(&node, &spec).await.unwrap();
            } else {
                node.unpublish(DRIVER, spec.id.clone(), spec.target.clone()).await.unwrap();
            }
            assert_eq!(left_alone(&node), "0", "{publishes}");
        }
    });
}

#[test]
fn a_volume_whose_identity_is_missing_can_be_renewed() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let (node, spec) = (build(&dir), spec(&dir));
        publish(&node, &spec).await.unwrap();
        node.withdraw(node.volumes.hold(&spec.id).await.as_mut().unwrap()).unwrap();
        assert_eq!(serial(&node, &spec).await, None);
        assert_eq!(status::renew(&node, Some("shop/web-0")).await, 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(serial(&node, &spec).await.is_some());
    });
}

/// Simulates a machine with that wall clock on this thread.
fn set_clock(wall: SystemTime) -> simulated::Guard {
    simulated::begin(Machine { wall, booted: Duration::ZERO, random: Random::new(1) })
}

/// The serial number of the identity that a pod receives on its socket.
fn on_socket(node: &Node, spec: &VolumeSpec) -> Option<String> {
    let given = node.deliveries.workload_api().unwrap().given(&spec.id);
    given.map(|given| given.default_svid().serial().to_owned())
}

#[test]
fn a_local_ca_of_a_clock_that_was_ahead_stops_nothing_but_new_identities() {
    test(async || {
        let (dir, right) = (tempfile::tempdir().unwrap(), clock::now());
        let _simulated = set_clock(right + HOUR * 2);
        let (node, spec) = (build(&dir), spec(&dir));
        publish(&node, &spec).await.unwrap();
        let first = serial(&node, &spec).await;
        simulated::change(|machine| machine.wall = right);
        let node = restart(node, &dir).await;
        assert_eq!(serial(&node, &spec).await, first);
        node.unpublish(DRIVER, spec.id.clone(), spec.target.clone()).await.unwrap();
        let early = publish(&node, &spec).await.unwrap_err();
        let why = report::chain(&early);
        assert!(
            why.contains("the CA certificate, or one above it, is valid only from") && why.contains("check the clock"),
            "{why}"
        );
        assert!(!node.sources.local_ca.as_ref().unwrap().can_sign());
        simulated::change(|machine| machine.wall = right + HOUR * 3);
        publish(&node, &spec).await.unwrap();
    });
}

#[test]
fn an_identity_of_a_clock_that_was_ahead_is_served_again() {
    test(async || {
        let (dir, right) = (tempfile::tempdir().unwrap(), clock::now());
        let _simulated = set_clock(right + HOUR * 2);
        let (node, spec) = (build(&dir), spec_with(&dir, &[("delivery", "workload-api")]));
        publish(&node, &spec).await.unwrap();
        let first = on_socket(&node, &spec);
        simulated::change(|machine| machine.wall = right);
        let node = restart(node, &dir).await;
        assert_eq!((on_socket(&node, &spec), serial(&node, &spec).await), (first.clone(), first));
    });
}

#[test]
fn an_expired_identity_is_served_until_it_is_renewed_at_once() {
    test(async || {
        let (dir, start) = (tempfile::tempdir().unwrap(), clock::now());
        let _simulated = set_clock(start);
        let (node, spec) = (build(&dir), spec_with(&dir, &[("delivery", "workload-api")]));
        publish(&node, &spec).await.unwrap();
        let first = on_socket(&node, &spec);
        simulated::change(|machine| machine.wall = start + HOUR * 2);
        let node = restart(node, &dir).await;
        assert_eq!((on_socket(&node, &spec), serial(&node, &spec).await), (first.clone(), first.clone()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_ne!(on_socket(&node, &spec), first);
    });
}
