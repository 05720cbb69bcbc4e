//! The clock of the machine is set while the driver runs.

use std::path::Path;
use std::time::{Duration, SystemTime};

use svid_csi::spiffe::svid::Svid;
use svid_csi::telemetry::report::rfc3339;

use crate::cert_manager::cluster::{BUNDLE, Cluster};
use crate::effects;
use crate::fixture::{FILES, Node, serial, test, until, volume};

const TWO_HOURS: i64 = 7200;

fn not_after(target: &Path) -> String {
    Svid::read(target).unwrap().leaf().unwrap().not_after
}

/// RFC 3339.
fn in_hours(hours: u64) -> String {
    rfc3339(SystemTime::now() + Duration::from_secs(hours * 3600))
}

#[test]
fn an_identity_is_renewed_when_the_clock_is_set() {
    test(async || {
        if !effects::is_possible("setting the clock") {
            return;
        }
        let mut node = Node::new(&[FILES, &["--data-root={dir}/root", "--trust-domain=example.org"]]);
        node.spawn_watched(None, |scope| scope.with_clock(0));
        node.answers().await.unwrap_or_else(|ended| panic!("the driver ended: {ended}: {}", node.log()));
        let target = node.publish(&volume("web")).await;
        let first = serial(&target);
        assert!(not_after(&target) < in_hours(2));
        node.watched().set_clock(TWO_HOURS).unwrap();
        until("it is renewed for the later time", async || not_after(&target) > in_hours(2)).await;
        let second = serial(&target);
        node.watched().set_clock(0).unwrap();
        until("it is renewed for the earlier time", async || not_after(&target) < in_hours(2)).await;
        assert!(![first, second].contains(&serial(&target)));
        assert!(node.log().contains("the clock jumped; renewing what is due now"), "{}", node.log());
    });
}

/// Certificates of cert-manager, whose clock stays right, are refused meanwhile.
#[test]
fn an_identity_of_another_machine_is_renewed_when_the_clock_is_right_again() {
    test(async || {
        if !effects::is_possible("setting the clock") {
            return;
        }
        let mut cluster = Cluster::prepared(&[BUNDLE, &["--certificate-request-duration=40s"]]);
        cluster.node.spawn_watched(None, |scope| scope.with_clock(0));
        cluster.node.answers().await.unwrap();
        cluster.is_watching().await;
        let target = cluster.node.publish(&cluster.volume("web")).await;
        let clock = |ahead| cluster.node.watched().set_clock(ahead).unwrap();
        clock(-TWO_HOURS);
        let log = |text: &str| cluster.node.log().contains(text);
        until("a certificate is refused", async || log("renewal failed")).await;
        clock(TWO_HOURS);
        until("the alarm is raised", async || log("the identity is about to expire")).await;
        clock(0);
        let expired = serial(&target);
        cluster.node.publish(&cluster.volume("web")).await;
        until("it is renewed", async || serial(&target) != expired).await;
        assert!(not_after(&target) > rfc3339(SystemTime::now()));
    });
}
