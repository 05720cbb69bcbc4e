//! Volumes mounted by csi-driver-spiffe whose pods continue to run under this driver.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use svid_csi::demo::kubelet::{InlineVolume, Plugin};
use svid_csi::spiffe::svid::Svid;
use svid_csi_testkit::kill_rounds;
use tonic::{Code, Status};

use crate::endpoints::{renew_all, status};
use crate::fixture::{Node, is_root_outside, pod, run, svid, test, until, volume};

pub(crate) const NAMES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// A volume as csi-driver-spiffe leaves it behind: a folder of its tmpfs, mounted read-only, after the tmpfs was
/// unmounted.
pub(crate) struct Left {
    target: PathBuf,
    /// The pod's own copy of the mount, which later mounts do not reach.
    pub(crate) in_pod: PathBuf,
}

/// A deviation of the volume.
#[derive(Default)]
pub(crate) struct Odd<'a> {
    names: Option<[&'a str; 3]>,
    group: u32,
    owner: u32,
    /// Whether the mount is also read-only on the host: csi-driver-spiffe makes it so only in its own namespace.
    read_only: bool,
    mode: Option<u32>,
    no_link: bool,
    link: Option<&'a str>,
    more: Option<&'a str>,
    below: Option<&'a str>,
    /// The driver that the kubelet has noted.
    driver: Option<&'a str>,
}

impl<'a> Odd<'a> {
    /// None, on a node whose driver has that name.
    pub(crate) fn none_of(driver: &'a str) -> Self {
        Odd { driver: Some(driver), ..Odd::default() }
    }
}

impl Left {
    /// Fills it with the certificate, key and bundle in `identity`.
    pub(crate) fn behind(node: &Node, volume: &InlineVolume, identity: &Path, odd: &Odd<'_>) -> Self {
        let old = node.path("old");
        fs::create_dir_all(&old).unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", text(&old)]);
        let data = old.join(volume.id().as_str()).join(odd.below.unwrap_or("data"));
        fs::create_dir_all(&data).unwrap();
        fill(&data, identity, odd);
        let target = node.kubelet.target(volume);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::DirBuilder::new().mode(0o440).create(&target).unwrap();
        let driver = odd.driver.unwrap_or("demo.svid-csi");
        let note = format!(r#"{{"driverName":"{driver}","volumeHandle":"{}"}}"#, volume.id());
        fs::write(target.parent().unwrap().join("vol_data.json"), note).unwrap();
        run("mount", &["--bind", text(&data), text(&target)]);
        if odd.read_only {
            run("mount", &["-o", "remount,bind,ro", text(&target)]);
        }
        let in_pod = node.path("in-pod").join(&volume.pod.name);
        fs::create_dir_all(&in_pod).unwrap();
        run("mount", &["--bind", text(&target), text(&in_pod)]);
        run("mount", &["-o", "remount,bind,ro", text(&in_pod)]);
        run("umount", &[text(&old)]);
        Left { target, in_pod }
    }
}

fn fill(data: &Path, identity: &Path, odd: &Odd<'_>) {
    let moment = data.join("..2026_01_01_00_00_00.1");
    fs::create_dir(&moment).unwrap();
    for (name, source) in odd.names.unwrap_or(NAMES).into_iter().zip(NAMES) {
        fs::copy(identity.join(source), moment.join(name)).unwrap();
        symlink(Path::new("..data").join(name), data.join(name)).unwrap();
    }
    if let Some(name) = odd.more {
        fs::write(moment.join(name), "something else").unwrap();
    }
    if !odd.no_link {
        symlink(odd.link.unwrap_or("..2026_01_01_00_00_00.1"), data.join("..data")).unwrap();
    }
    // Its library gives the group the volume's folder and the files, but not the timestamped folder between them.
    let names = odd.names.unwrap_or(NAMES);
    for file in names.iter().copied().chain(odd.more) {
        chown(moment.join(file), None, Some(odd.group)).unwrap();
        fs::set_permissions(moment.join(file), fs::Permissions::from_mode(0o440)).unwrap();
    }
    // As the kubelet's atomic writer creates it.
    let of_moment = odd.mode.unwrap_or(0o755);
    for (folder, group, mode) in [(data, odd.group, odd.mode.unwrap_or(0o550)), (moment.as_path(), 0, of_moment)] {
        chown(folder, Some(odd.owner), Some(group)).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A node, the volume of a pod that another driver has mounted on it, and the serial number of that pod's certificate.
async fn scene(odd: &Odd<'_>) -> (Node, InlineVolume, Left, String) {
    let node = Node::files(&["--admin-socket={dir}/admin.sock"]).await;
    let other = node.publish(&volume("other")).await;
    let left = Left::behind(&node, &volume("web"), &other, odd);
    let serial = svid(&other).leaf().unwrap().serial;
    (node, volume("web"), left, serial)
}

/// One call of a kubelet that published the volume long ago.
pub(crate) async fn republish(node: &Node, volume: &InlineVolume) -> Result<(), Status> {
    call(&node.plugin().await, node, volume).await
}

async fn call(plugin: &Plugin, node: &Node, volume: &InlineVolume) -> Result<(), Status> {
    let request = volume.publish_request(text(&node.kubelet.target(volume)), true);
    // The driver may be killed before the connection is established.
    let mut driver = plugin.node().await.map_err(|error| Status::unavailable(error.to_string()))?;
    driver.node_publish_volume(request).await.map(drop)
}

/// The serial number of the identity in a folder whose files have these names; reads again if it was replaced in the
/// meantime.
pub(crate) fn serial_in(folder: &Path, names: [&str; 3]) -> String {
    let read = || {
        let (current, copy) = (fs::canonicalize(folder.join("..data")).ok()?, tempfile::tempdir().unwrap());
        for (name, usual) in names.into_iter().zip(NAMES) {
            fs::copy(current.join(name), copy.path().join(usual)).ok()?;
        }
        Some(Svid::read(copy.path()).unwrap())
    };
    let svid = (0..50).find_map(|_| read()).expect("an identity");
    svid.check_key().unwrap();
    svid.check_chain().unwrap();
    svid.leaf().unwrap().serial
}

#[test]
fn a_running_pod_is_renewed_again() {
    test(async || {
        let (mut node, volume, left, first) = scene(&Odd::default()).await;
        republish(&node, &volume).await.unwrap();
        until("the pod sees a new identity", async || serial_in(&left.in_pod, NAMES) != first).await;
        assert_eq!(svid(&left.in_pod).leaf().unwrap().spiffe_id, "spiffe://example.org/ns/shop/sa/web");
        let second = serial_in(&left.in_pod, NAMES);
        republish(&node, &volume).await.unwrap();
        assert_eq!((node.mounts(&left.target), node.trouble(&volume).await), (1, None));
        let shown = status(&node).await["volumes"][volume.id().as_str()]["adopted"].clone();
        assert!(shown.as_str().unwrap().contains("may be swapped"), "{shown}");
        assert!(fs::write(left.in_pod.join("x"), "x").is_err(), "read-only in the pod");

        node.kill();
        node.start().await;
        renew_all(&node).await;
        until("it is renewed after a restart too", async || serial_in(&left.in_pod, NAMES) != second).await;
        assert_eq!(node.mounts(&left.target), 1);

        node.unpublish(&volume).await;
        assert!(!left.target.exists());
        assert_eq!(fs::read_dir(&left.in_pod).unwrap().count(), 0, "no key lingers");
        assert_eq!(node.mounts(&node.path("root/data/volumes")), 0);
    });
}

#[test]
fn the_pod_keeps_its_names_and_its_group() {
    test(async || {
        let names = ["svid.pem", "svid.key", "trusted.pem"];
        let group = if is_root_outside() { 2000 } else { 0 };
        let odd = Odd { names: Some(names), group, read_only: true, ..Odd::default() };
        let (mut node, volume, left, first) = scene(&odd).await;
        republish(&node, &volume).await.unwrap();
        until("the pod sees a new identity", async || serial_in(&left.in_pod, names) != first).await;
        node.kill();
        node.start().await;
        let second = serial_in(&left.in_pod, names);
        republish(&node, &volume).await.unwrap();
        renew_all(&node).await;
        until("and another one", async || serial_in(&left.in_pod, names) != second).await;
        for path in names.into_iter().chain([".", "..data/"]) {
            assert_eq!(fs::metadata(left.in_pod.join(path)).unwrap().gid(), group, "{path}");
        }
        let visible = fs::read_dir(&left.in_pod)
            .unwrap()
            .filter(|entry| !entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with(".."));
        assert_eq!(visible.count(), 3);
    });
}

/// Information that an earlier adoption lost returns with the request, which always contains the group.
#[test]
fn the_requested_group_takes_precedence() {
    test(async || {
        if !is_root_outside() {
            return;
        }
        let (mut node, volume, left, first) = scene(&Odd::default()).await;
        republish(&node, &volume).await.unwrap();
        until("the pod sees a new identity", async || serial_in(&left.in_pod, NAMES) != first).await;
        node.kill();
        node.start().await;
        let grouped = volume.attribute("svid-csi/fs-group", "2000");
        republish(&node, &grouped).await.unwrap();
        assert_eq!(fs::metadata(left.in_pod.join("tls.key")).unwrap().gid(), 2000);
        assert_eq!(node.mounts(&left.target), 1);
    });
}

#[test]
fn a_killed_driver_continues_an_adoption() {
    test(async || {
        for round in kill_rounds(12) {
            let (mut node, volume, left, first) = scene(&Odd::default()).await;
            let plugin = node.plugin().await;
            let killed = async {
                tokio::time::sleep(std::time::Duration::from_micros(round * 331)).await;
                node.driver_kill();
            };
            let (_, ()) = tokio::join!(call(&plugin, &node, &volume), killed);
            node.reap();
            serial_in(&left.in_pod, NAMES);
            node.start().await;
            republish(&node, &volume).await.unwrap();
            until("the pod sees a new identity", async || serial_in(&left.in_pod, NAMES) != first).await;
            assert_eq!(node.mounts(&left.target), 1, "round {round}");
        }
    });
}

#[test]
fn an_unexpected_layout_is_left_alone() {
    test(async || {
        let left_alone = "was not adopted; its pod keeps the current files until the pod is re-created: ";
        let cases = [
            (Odd { mode: Some(0o777), ..Odd::default() }, "users other than root may write into it"),
            (Odd { no_link: true, ..Odd::default() }, "it has no link ..data"),
            (Odd { link: Some("/etc"), ..Odd::default() }, "it has no link ..data"),
            (Odd { link: Some("tls.crt"), ..Odd::default() }, "its files cannot be read"),
            (Odd { more: Some("other"), ..Odd::default() }, "its files are not one certificate chain"),
            (Odd { driver: Some("another"), ..Odd::default() }, "something else is mounted at"),
        ];
        let of_another = Odd { owner: 1000, ..Odd::default() };
        let of_another = is_root_outside().then_some((of_another, "it belongs to the user 1000, not to root"));
        for (odd, why) in cases.into_iter().chain(of_another) {
            let (node, volume, left, _) = scene(&odd).await;
            let before = fs::read_dir(&left.in_pod).unwrap().count();
            let refused = republish(&node, &volume).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            assert!(refused.message().contains(why), "{}", refused.message());
            assert!(odd.driver.is_some() || refused.message().contains(left_alone), "{}", refused.message());
            assert_eq!((node.mounts(&left.target), fs::read_dir(&left.in_pod).unwrap().count()), (1, before));
        }
    });
}

#[test]
fn a_file_that_is_a_link_is_not_followed() {
    test(async || {
        let (node, volume, left, _) = scene(&Odd::default()).await;
        let key = left.target.join("..data/tls.key");
        fs::remove_file(&key).unwrap();
        symlink("/etc/hostname", &key).unwrap();
        let refused = republish(&node, &volume).await.unwrap_err();
        assert!(refused.message().contains("its files cannot be read"), "{}", refused.message());
        assert_eq!(fs::read_link(left.in_pod.join("..data/tls.key")).unwrap(), Path::new("/etc/hostname"));
    });
}

/// A tmpfs with another layout at the target belongs to an earlier run of this driver, so it is mounted again.
#[test]
fn other_mounts_are_not_adopted() {
    test(async || {
        let (node, volume, left, _) = scene(&Odd { below: Some("elsewhere"), ..Odd::default() }).await;
        republish(&node, &volume).await.unwrap();
        assert_eq!(node.mounts(&left.target), 1);
        assert!(status(&node).await["volumes"][volume.id().as_str()]["adopted"].is_null());
        let of_pod = pod("web");
        assert_eq!(
            svid(&left.target).leaf().unwrap().spiffe_id,
            format!("spiffe://example.org/ns/shop/sa/{}", of_pod.name)
        );
    });
}

#[test]
fn an_unpublish_before_any_republish_unmounts_it() {
    test(async || {
        let (node, volume, left, _) = scene(&Odd::default()).await;
        node.unpublish(&volume).await;
        assert!(!left.target.exists());
    });
}
