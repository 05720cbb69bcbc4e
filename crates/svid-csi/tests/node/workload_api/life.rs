//! Sockets during kills, restarts, reboots and changes of configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use svid_csi_testkit::kill_rounds;
use tonic::Code;

use super::client::Svids;
use super::{ROOT, SOCKETS, node};
use crate::endpoints::{get, renew_all};
use crate::fixture::{Node, run, test, until, volume};
use crate::hostile::unseal;
use crate::restart::{inside, lose_data_root, share_root, shared};

const NAMES: [&str; 4] = ["agent.sock", "api.sock", "socket", "spire-agent.sock"];

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The certificate served on a socket; empty if there is no answer or no identity.
async fn served(socket: PathBuf) -> Option<Vec<u8>> {
    let mut svids = Svids::open(&socket).await.ok()?;
    Some(svids.next().await.ok()?.svids.remove(0).x509_svid)
}

async fn until_served(socket: &Path) -> Vec<u8> {
    let mut certificate = None;
    until("the socket answers", async || {
        certificate = served(socket.to_owned()).await;
        certificate.is_some()
    })
    .await;
    certificate.unwrap()
}

/// Kills the driver at moments spread over its startup and renewals. A name that is missing once is a failure.
#[test]
fn no_name_is_ever_missing_even_if_the_driver_is_killed_often() {
    test(async || {
        let mut node = shared(&[SOCKETS, ROOT]).await;
        let target = node.publish(&volume("web")).await;
        let (stop, watched) = (Arc::new(AtomicBool::new(false)), target.clone());
        let watching = stop.clone();
        let watcher = std::thread::spawn(move || {
            let mut looks = 0_u64;
            while !watching.load(Ordering::Relaxed) {
                for name in NAMES {
                    fs::symlink_metadata(watched.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
                }
                looks += 1;
            }
            looks
        });
        let first = until_served(&target.join("agent.sock")).await;
        for round in kill_rounds(30) {
            node.kill();
            node.spawn();
            tokio::time::sleep(Duration::from_micros(round * 1700 % 30_000)).await;
            if round % 3 == 0 {
                node.kill();
                node.start().await;
                renew_all(&node).await;
                tokio::time::sleep(Duration::from_micros(round * 83 % 2000)).await;
            }
        }
        node.kill();
        node.start().await;
        renew_all(&node).await;
        until("the renewal is served", async || until_served(&target.join("agent.sock")).await != first).await;
        assert_eq!((names(&target), node.mounts(&target)), (NAMES.map(str::to_owned).to_vec(), 1));
        stop.store(true, Ordering::Relaxed);
        assert!(watcher.join().expect("no name was missing") > 100);
    });
}

#[test]
fn leftovers_of_a_kill_are_removed() {
    test(async || {
        let mut node = shared(&[SOCKETS, ROOT]).await;
        let target = node.publish(&volume("web")).await;
        node.kill();
        let folder = node.path(&format!("root/data/volumes/{}", volume("web").id()));
        unseal(&folder);
        let short = node.path("root/data/s");
        drop(std::os::unix::net::UnixListener::bind(&short).unwrap());
        fs::rename(short, folder.join("..next")).unwrap();
        fs::hard_link(folder.join("..next"), folder.join("..link")).unwrap();
        node.start().await;
        until_served(&target.join("agent.sock")).await;
        assert_eq!(names(&target), NAMES);
    });
}

#[test]
fn a_kill_at_any_moment_of_publish_or_unpublish_leaves_a_socket_or_nothing() {
    test(async || {
        let mut node = shared(&[SOCKETS, ROOT]).await;
        let kept = node.publish(&volume("kept")).await;
        for round in kill_rounds(30) {
            let one = volume(&format!("pod-{}", round % 3));
            let plugin = node.plugin().await;
            let killed = async {
                tokio::time::sleep(Duration::from_micros(round * 97 % 4000)).await;
                node.driver_kill();
            };
            let _ = if round % 2 == 0 {
                tokio::join!(node.kubelet.publish(&plugin, &one), killed).0.map(drop)
            } else {
                tokio::join!(node.kubelet.unpublish(&plugin, &one), killed).0
            };
            node.reap();
            node.start().await;
            until_served(&kept.join("agent.sock")).await;
            if round % 2 == 0 {
                let target = node.publish(&one).await;
                until_served(&target.join("spire-agent.sock")).await;
                assert_eq!((names(&target), node.mounts(&target)), (NAMES.map(str::to_owned).to_vec(), 1), "{round}");
            } else {
                node.unpublish(&one).await;
                assert!(!node.kubelet.target(&one).exists(), "{round}");
            }
        }
        for name in 0..3 {
            node.unpublish(&volume(&format!("pod-{name}"))).await;
        }
        assert_eq!(fs::read_dir(node.path("root/data/kept")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(node.path("root/data/volumes")).unwrap().count(), 1);
    });
}

#[test]
fn running_pods_are_served_again_if_the_data_root_disappeared_with_the_container() {
    test(async || {
        let mut node = node().await;
        let target = node.publish(&volume("web")).await;
        let inside = inside(&node, &target);
        let mut before = until_served(&inside.join("agent.sock")).await;
        for _ in 0..3 {
            node.kill();
            lose_data_root(&node);
            node.start().await;
            let after = until_served(&inside.join("agent.sock")).await;
            assert_ne!(after, before, "of the new CA");
            assert_eq!((names(&inside), node.mounts(&target)), (NAMES.map(str::to_owned).to_vec(), 1));
            before = after;
        }
        node.publish(&volume("web")).await;
        let mut open = Svids::open(&inside.join("agent.sock")).await.unwrap();
        open.next().await.unwrap();
        node.unpublish(&volume("web")).await;
        open.next().await.expect_err("the connection ends");
        assert!(!target.exists());
        assert_eq!(names(&inside), [""; 0], "nothing lingers behind the mount");
    });
}

#[test]
fn a_data_root_that_becomes_shared_keeps_the_socket() {
    test(async || {
        let mut node = node().await;
        let target = node.publish(&volume("web")).await;
        let inside = inside(&node, &target);
        node.kill();
        lose_data_root(&node);
        share_root(&node);
        for _ in 0..2 {
            node.start().await;
            until_served(&inside.join("agent.sock")).await;
            node.kill();
        }
        node.start().await;
        node.unpublish(&volume("web")).await;
        assert!(!target.exists());
    });
}

#[test]
fn a_reboot_ends_in_clean_unpublish_and_working_republish() {
    test(async || {
        let mut node = node().await;
        let (web, api) = (volume("web"), volume("api"));
        let targets = [node.publish(&web).await, node.publish(&api).await];
        node.kill();
        lose_data_root(&node);
        for target in &targets {
            run("umount", &[target.to_str().unwrap()]);
        }
        node.start().await;
        node.unpublish(&web).await;
        assert!(!targets[0].exists());
        node.publish(&api).await;
        until_served(&targets[1].join("agent.sock")).await;
        assert_eq!(node.mounts(&targets[1]), 1);
    });
}

#[test]
fn a_removed_socket_is_abnormal_until_a_republish_restores_it() {
    test(async || {
        let node = node().await;
        let target = node.publish(&volume("web")).await;
        assert_eq!(node.trouble(&volume("web")).await, None);
        let folder = node.path(&format!("root/data/volumes/{}", volume("web").id()));
        let removed = |name: &str| {
            unseal(&folder);
            fs::remove_file(folder.join(name)).unwrap();
        };
        let replaced = |name: &str| {
            removed(name);
            fs::write(folder.join(name), "").unwrap();
        };
        for harm in [&removed as &dyn Fn(&str), &replaced] {
            let mut open = Svids::open(&target.join("agent.sock")).await.unwrap();
            let before = open.next().await.unwrap();
            harm("agent.sock");
            let trouble = node.trouble(&volume("web")).await.expect("abnormal");
            assert!(trouble.contains("socket was removed or replaced"), "{trouble}");
            node.publish(&volume("web")).await;
            assert_eq!(node.trouble(&volume("web")).await, None);
            assert_eq!(until_served(&target.join("agent.sock")).await, before.svids[0].x509_svid);
            renew_all(&node).await;
            open.next().await.expect("open streams continue");
        }
    });
}

#[test]
fn a_regular_shutdown_is_quick_with_open_streams() {
    test(async || {
        let mut node = node().await;
        let target = node.publish(&volume("web")).await;
        let mut open = Vec::new();
        for _ in 0..20 {
            let mut svids = Svids::open(&target.join("agent.sock")).await.unwrap();
            svids.next().await.unwrap();
            open.push(svids);
        }
        node.terminate().await;
        assert!(!node.log().contains("still in progress"), "{}", node.log());
        for mut svids in open {
            svids.next().await.unwrap_err();
        }
        node.start().await;
        until_served(&target.join("agent.sock")).await;
    });
}

#[test]
fn an_unpublish_ends_open_connections_and_leaves_nothing() {
    test(async || {
        let node = node().await;
        for _ in 0..3 {
            let target = node.publish(&volume("web")).await;
            let mut open = Vec::new();
            for _ in 0..10 {
                let mut svids = Svids::open(&target.join("agent.sock")).await.unwrap();
                svids.next().await.unwrap();
                open.push(svids);
            }
            let usage = format!(r#""workload_api":{{"connections":{0},"streams":{0}}}"#, open.len());
            let status = get(&node, "/status").await;
            assert!(status.contains(&usage), "{status}");
            node.unpublish(&volume("web")).await;
            for mut svids in open {
                svids.next().await.unwrap_err();
            }
            assert!(!target.exists() && node.mounts(&target) == 0);
            for folder in ["root/data/volumes", "root/data/kept", "root/records"] {
                assert_eq!(names(&node.path(folder)), [""; 0], "{folder}");
            }
        }
    });
}

#[test]
fn a_volume_follows_its_driver_to_another_delivery_and_back() {
    test(async || {
        use std::os::unix::fs::PermissionsExt;
        let mut node = node().await;
        let target = node.publish(&volume("web")).await;
        let mode = || fs::metadata(&target).unwrap().permissions().mode() & 0o777;
        for _ in 0..2 {
            let mut open = Svids::open(&target.join("agent.sock")).await.unwrap();
            let first = open.next().await.unwrap().svids[0].x509_svid.clone();
            node.kill();
            node.add_args(&["--delivery=files"]);
            node.start().await;
            assert_eq!(until_served(&target.join("agent.sock")).await, first, "served until it is published again");
            node.publish(&volume("web")).await;
            crate::fixture::serial(&target);
            assert!(!target.join("agent.sock").exists() && mode() == 0o550);
            assert_eq!(names(&node.path("root/data/kept")), [""; 0]);
            node.kill();
            node.add_args(&["--delivery=workload-api"]);
            node.start().await;
            crate::fixture::serial(&target);
            node.publish(&volume("web")).await;
            until_served(&target.join("agent.sock")).await;
            assert_eq!((names(&target), mode(), node.mounts(&target)), (NAMES.map(str::to_owned).to_vec(), 0o755, 1));
        }
    });
}

#[test]
fn a_driver_on_a_read_only_root_serves_sockets() {
    test(async || {
        let mut node = Node::new(&[SOCKETS, ROOT]);
        let dir = node.dir.path().to_str().unwrap();
        run("mount", &["--bind", dir, dir]);
        run("mount", &["-o", "remount,bind,ro", "/"]);
        assert!(fs::create_dir("/this-cannot-be").is_err());
        node.start().await;
        let target = node.publish(&volume("web")).await;
        until_served(&target.join("agent.sock")).await;
        node.kill();
        node.start().await;
        until_served(&target.join("agent.sock")).await;
        node.unpublish(&volume("web")).await;
    });
}

#[test]
fn an_unpublished_volume_has_no_socket() {
    test(async || {
        let node = node().await;
        let filler = node.path("root/data/filler");
        let _ = fs::write(&filler, vec![0; 256 << 20]);
        let (code, _) = node.refused(&volume("web")).await;
        assert_eq!(code, Code::ResourceExhausted);
        fs::remove_file(filler).unwrap();
        let target = node.publish(&volume("web")).await;
        until_served(&target.join("agent.sock")).await;
    });
}
