//! A full data tmpfs: an issued certificate is not requested again, and what could not be written is written later.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use svid_csi_testkit::TestCa;
use svid_csi_testkit::api_server::Mode;
use tonic::Code;

use super::cluster::{Cluster, cluster_test};
use crate::endpoints::renew_all;
use crate::fixture::{serial, svid, until};

const SMALL: &str = "--data-size-limit=1Mi";

/// Fills the data tmpfs. Removing the file frees the space again.
fn fill(cluster: &Cluster) -> PathBuf {
    let filler = cluster.node.path("root/data/filler");
    let full = fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    filler
}

fn bundle_of(cluster: &Cluster, more: &TestCa) -> String {
    cluster.ca.bundle_pem() + &more.bundle_pem()
}

/// Replaces the bundle, and waits until the driver has failed to write it into a volume.
async fn change_bundle_in_vain(cluster: &Cluster, pem: &str) {
    let (file, new) = (cluster.node.path("ca.crt"), cluster.node.path("ca.new"));
    fs::write(&new, pem).unwrap();
    fs::rename(new, file).unwrap();
    until_refused(cluster).await;
}

async fn until_refused(cluster: &Cluster) {
    until("the failure is reported", async || cluster.node.log().contains("cannot write the new trust bundle")).await;
}

fn cas(target: &std::path::Path) -> usize {
    fs::read_to_string(target.join("ca.crt")).unwrap().matches("BEGIN").count()
}

#[test]
fn a_certificate_that_could_not_be_installed_is_not_requested_again() {
    cluster_test(&[SMALL], async |cluster| {
        let manager = &cluster.server.cert_manager;
        manager.mode(Mode::ByHand);
        let volume = cluster.volume("web");
        let sign = async {
            let (name, _) = cluster.pending("web").await;
            let filler = fill(&cluster);
            assert!(manager.sign(&name, &cluster.issuing()));
            (filler, name)
        };
        let ((code, message), (filler, name)) = tokio::join!(cluster.node.refused(&volume), sign);
        assert_eq!(code, Code::ResourceExhausted, "{message}");
        for _ in 0..2 {
            let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
            assert_eq!(code, Code::ResourceExhausted, "{message}");
        }
        assert_eq!(cluster.creates(), 1, "{}", cluster.server.calls.log());
        fs::remove_file(filler).unwrap();
        let target = cluster.node.publish(&cluster.volume("web")).await;
        svid(&target).check_chain().unwrap();
        let left: Vec<_> = manager.requests().into_iter().map(|request| request.metadata.name).collect();
        assert_eq!((cluster.creates(), left), (1, vec![name]), "{}", cluster.server.calls.log());
        manager.mode(Mode::Issue(cluster.issuing()));
        let first = serial(&target);
        renew_all(&cluster.node).await;
        until("it is renewed as any other", async || serial(&target) != first).await;
    });
}

#[test]
fn a_bundle_that_could_not_be_written_is_delivered_with_the_next_publish() {
    cluster_test(&[SMALL], async |cluster| {
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let (first, next) = (serial(&target), TestCa::new("next"));
        let filler = fill(&cluster);
        change_bundle_in_vain(&cluster, &bundle_of(&cluster, &next)).await;
        cluster.node.publish(&cluster.volume("web")).await;
        svid(&target).check_chain().unwrap();
        assert_eq!((cas(&target), serial(&target)), (1, first.clone()), "a healthy volume stays as it is");
        fs::remove_file(filler).unwrap();
        cluster.node.publish(&cluster.volume("web")).await;
        assert_eq!((cas(&target), serial(&target)), (2, first.clone()), "{}", cluster.node.log());
        renew_all(&cluster.node).await;
        until("it is renewed", async || serial(&target) != first).await;
        assert_eq!(cas(&target), 2);
    });
}

#[test]
fn a_bundle_that_could_not_be_written_is_delivered_without_any_call() {
    cluster_test(&[SMALL], async |cluster| {
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let (first, filler) = (serial(&target), fill(&cluster));
        change_bundle_in_vain(&cluster, &bundle_of(&cluster, &TestCa::new("next"))).await;
        assert_eq!(cas(&target), 1, "a healthy volume stays as it is");
        fs::remove_file(filler).unwrap();
        let freed = Instant::now();
        until("it is written", async || cas(&target) == 2).await;
        assert!(freed.elapsed() < Duration::from_secs(60), "{:?}", freed.elapsed());
        assert_eq!(serial(&target), first, "nothing was renewed");
    });
}

#[test]
fn a_bundle_that_could_not_be_written_at_startup_stops_no_renewal() {
    cluster_test(&[SMALL, "--request-mode=own"], async |mut cluster| {
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let (first, next) = (serial(&target), TestCa::new("next"));
        cluster.node.kill();
        let filler = fill(&cluster);
        fs::write(cluster.node.path("ca.crt"), bundle_of(&cluster, &next)).unwrap();
        cluster.start().await;
        until_refused(&cluster).await;
        svid(&target).check_chain().unwrap();
        assert_eq!(serial(&target), first);
        fs::remove_file(filler).unwrap();
        renew_all(&cluster.node).await;
        until("it is renewed without a publish", async || serial(&target) != first).await;
        assert_eq!((cas(&target), cluster.node.mounts(&target)), (2, 1), "{}", cluster.node.log());
        svid(&target).check_chain().unwrap();
    });
}
