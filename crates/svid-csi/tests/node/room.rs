//! The space on the tmpfs that all volumes of a node share.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use svid_csi::demo::kubelet::InlineVolume;
use tonic::Code;

use crate::endpoints::{metric, renew_all};
use crate::fixture::{Node, pod, serial, test, until};

pub(crate) const SMALL: &[&str] =
    &["--data-size-limit=2Mi", "--admin-socket={dir}/admin.sock", "--metrics-address=127.0.0.1:0"];

fn volume_in(namespace: &str, number: usize) -> InlineVolume {
    let mut pod = pod(&format!("{namespace}-{number}"));
    namespace.clone_into(&mut pod.namespace);
    InlineVolume::new(&pod, "spiffe")
}

/// Publishes volumes of new pods, with the namespace of each by its number, until one is refused.
pub(crate) async fn fill(node: &Node, namespace: impl Fn(usize) -> String) -> (Vec<PathBuf>, String) {
    let plugin = node.plugin().await;
    let mut targets = Vec::new();
    loop {
        match node.kubelet.publish(&plugin, &volume_in(&namespace(targets.len()), targets.len())).await {
            Ok(target) => targets.push(target),
            Err(error) => {
                assert_eq!(error.code(), Some(Code::ResourceExhausted), "{error}");
                return (targets, error.to_string());
            }
        }
    }
}

async fn all_are_renewed(node: &Node, targets: &[PathBuf]) {
    let before: Vec<_> = targets.iter().map(|target| serial(target)).collect();
    renew_all(node).await;
    let failed = async || metric(node, "renewal_failures_total").await != Some(0.0);
    until("all are renewed, or one fails", async || {
        failed().await || targets.iter().zip(&before).all(|(target, before)| serial(target) != *before)
    })
    .await;
    assert!(!failed().await, "a renewal failed: {}", node.log());
}

#[test]
fn new_pods_cannot_use_the_space_reserved_for_renewals() {
    test(async || {
        let mut node = Node::files(SMALL).await;
        let (targets, message) = fill(&node, |number| format!("team-{number}")).await;
        assert!(targets.len() > 20, "{} volumes", targets.len());
        all_are_renewed(&node, &targets).await;
        assert!(message.contains("--data-size-limit") && message.contains("bytes"), "{message}");
        assert_eq!(metric(&node, "publishes_refused_for_room_total").await, Some(1.0));
        let figure = async |name: &str| metric(&node, &format!("volume_data_{name}_bytes")).await.unwrap();
        assert!(
            figure("size").await - figure("used").await >= figure("reserve").await && figure("reserve").await > 0.0
        );
        let left = std::fs::read_dir(node.path("root/records")).unwrap().count();
        assert_eq!(left, targets.len(), "the refused publish has left no record");

        node.kill();
        node.start().await;
        let (code, _) = node.refused(&volume_in("later", 999)).await;
        assert_eq!(code, Code::ResourceExhausted);
        all_are_renewed(&node, &targets).await;
        node.unpublish(&volume_in("team-0", 0)).await;
        node.unpublish(&volume_in("team-1", 1)).await;
        node.publish(&volume_in("later", 999)).await;
    });
}

#[test]
fn no_namespace_can_use_all_of_it() {
    test(async || {
        let mut node = Node::files(SMALL).await;
        let (greedy, message) = fill(&node, |_| "greedy".to_owned()).await;
        assert!(message.contains("namespace"), "{message}");
        node.publish(&volume_in("modest", 1000)).await;
        node.kill();
        node.start().await;
        assert_eq!(node.refused(&volume_in("greedy", greedy.len())).await.0, Code::ResourceExhausted);
        node.publish(&volume_in("modest", 1001)).await;
    });
}

/// A process that opens the files of each certificate and keeps them needs their space until it closes them.
#[test]
fn a_pod_that_keeps_replaced_files_open_cannot_prevent_the_renewal_of_others() {
    test(async || {
        let node = Node::files(&["--data-size-limit=1Mi", SMALL[1], SMALL[2]]).await;
        let keeper = node.publish(&volume_in("evil", 0)).await;
        let honest = node.publish(&volume_in("shop", 1)).await;
        let mut kept = Vec::new();
        let refused = "the pod keeps files open that were replaced";
        let mut rounds = 0;
        while !node.log().contains(refused) {
            let folder = std::fs::read_dir(keeper.join("..data")).unwrap();
            kept.extend(folder.map(|file| std::fs::File::open(file.unwrap().path()).unwrap()));
            let before = [&keeper, &honest].map(|target| serial(target));
            renew_all(&node).await;
            until("both are renewed, or one fails", async || {
                let is_new = |at: usize, target: &Path| serial(target) != before[at];
                (is_new(0, &keeper) && is_new(1, &honest)) || node.log().contains(refused)
            })
            .await;
            rounds += 1;
            assert!(rounds < 1000, "{}", node.log());
        }
        assert!(rounds > 20, "it may keep some: {rounds}");
        let stat = rustix::fs::statvfs(node.path("root/data")).unwrap();
        assert!(stat.f_bavail > stat.f_blocks / 16, "of the reserve, an eighth: {} pages", stat.f_bavail);
        for _ in 0..3 {
            let before = serial(&honest);
            renew_all(&node).await;
            until("the other pod is renewed", async || serial(&honest) != before).await;
        }
        let before = serial(&keeper);
        kept.clear();
        renew_all(&node).await;
        until("it is renewed after it has closed them", async || serial(&keeper) != before).await;
    });
}

/// Each of them keeps less than one that is refused, and a restart forgets what they keep.
#[test]
fn pods_of_one_namespace_that_keep_replaced_files_open_cannot_either() {
    test(async || {
        let mut node = Node::files(SMALL).await;
        let mut keepers = Vec::new();
        for number in 0..6 {
            keepers.push(node.publish(&volume_in("evil", number)).await);
        }
        let honest = node.publish(&volume_in("shop", 100)).await;
        let mut kept = Vec::new();
        for is_restarted in [false, true] {
            if is_restarted {
                node.kill();
                node.start().await;
            }
            let mut refused = 0;
            while refused < keepers.len() {
                for keeper in &keepers {
                    let folder = std::fs::read_dir(keeper.join("..data")).unwrap();
                    kept.extend(folder.map(|file| std::fs::File::open(file.unwrap().path()).unwrap()));
                }
                let failures = async || metric(&node, "renewal_failures_total").await.unwrap_or_default() as usize;
                let earlier = failures().await;
                let before: Vec<_> = keepers.iter().chain([&honest]).map(|target| serial(target)).collect();
                renew_all(&node).await;
                until("each is renewed, or fails", async || {
                    let targets = keepers.iter().chain([&honest]).zip(&before);
                    let renewed = targets.filter(|(target, before)| serial(target) != **before).count();
                    refused = failures().await - earlier;
                    renewed + refused >= before.len()
                })
                .await;
                assert_ne!(serial(&honest), before[keepers.len()], "{}", node.log());
            }
        }
        let refusal = "pods of the namespace keep files open that were replaced";
        assert!(node.log().contains(refusal), "{}", node.log());
    });
}

/// Without MS_BIND, this changes the file system and not the mount.
fn remount(target: &Path, flags: MountFlags, options: &CStr) {
    rustix::mount::mount_remount(target, flags, options).unwrap();
}

#[test]
fn a_tmpfs_that_a_container_remounts_is_restored() {
    test(async || {
        let mut node = Node::files(&SMALL[1..]).await;
        let volume = crate::fixture::volume("web");
        let target = node.publish(&volume).await;
        let limits = |node: &Node| {
            let stat = rustix::fs::statvfs(node.path("root/data")).unwrap();
            (stat.f_blocks, stat.f_files)
        };
        let whole = limits(&node);
        for (options, is_restored) in [
            (c"", true),
            (c"size=512k,nr_inodes=100", true),
            // The kernel does not limit a tmpfs again that was unlimited once, so there is space.
            (c"nr_inodes=0", false),
            (c"size=0", false),
        ] {
            remount(&target, MountFlags::empty(), options);
            remount(&target, MountFlags::RDONLY, c"");
            assert!(std::fs::write(node.path("root/data/x"), "").is_err());
            all_are_renewed(&node, std::slice::from_ref(&target)).await;
            assert_eq!(limits(&node) == whole, is_restored, "{options:?}");
        }
        let restored = "restored the data tmpfs, which was remounted read-only or smaller";
        assert_eq!(node.log().matches(restored).count(), 4, "{}", node.log());

        remount(&target, MountFlags::RDONLY, c"");
        node.kill();
        node.start().await;
        all_are_renewed(&node, std::slice::from_ref(&target)).await;
        let other = crate::fixture::volume("another");
        remount(&target, MountFlags::RDONLY, c"");
        node.publish(&other).await;
        for volume in [&other, &volume] {
            remount(&target, MountFlags::RDONLY, c"");
            node.unpublish(volume).await;
        }
    });
}
