//! Kills before and after each request with which an approver writes its Lease or a decision.

use std::time::Duration;

use futures::future::join_all;
use svid_csi_testkit::effects::{self, Act, At, Point, Scope, Watched};

use crate::cluster::Cluster;
use crate::process::{LIMIT, stopped};

const STATUS: &str = "certificaterequests/status";
/// More than it writes until it has decided: the Lease, and two decisions.
const MOST: usize = 6;

/// Kills the approver at its `n`-th write, and has another one continue. Returns whether there was such a write.
async fn killed(act: Act, n: usize) -> bool {
    let cluster = Cluster::start();
    cluster.good("shop", "good");
    cluster.request("shop", "bad", |request| request["spec"]["isCA"] = true.into());
    let scope = Scope::of("/nowhere").with_requests_to(cluster.server.address());
    let point = Point { at: At::Nth(n), act };
    let first = Watched::spawn(stopped(&cluster.kubeconfig()), scope, Some(Some(point).into())).unwrap();
    let are_decided = || ["good", "bad"].iter().all(|name| cluster.decision("shop", name).is_some());
    let over = async {
        while !first.has_fired() && !are_decided() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, over).await.expect("it decides, or is killed");
    let run = first.finish();
    if run.fired {
        let first = tokio::task::spawn_blocking(move || first.wait());
        first.await.unwrap();
    } else {
        first.kill();
    }
    let case = format!("{act:?} at {n} of {:?}", run.trace);
    let second = cluster.approver(&[]).await;
    cluster.approved("shop", "good").await;
    assert_eq!(cluster.decided("shop", "bad").await["type"], "Denied", "{case}");
    cluster.one_more().await;
    second.counted("pending_requests", 0.0).await;
    for name in ["good", "bad"] {
        let request = cluster.server.objects.get("certificaterequests", "shop", name).unwrap();
        assert_eq!(request["status"]["conditions"].as_array().unwrap().len(), 1, "{case}: {request}");
        let decisions = cluster.server.calls.of("update", STATUS);
        let decisions = decisions.iter().filter(|call| call.name == name && call.code == Some(200)).count();
        assert_eq!(decisions, 1, "{case}: {}", cluster.server.calls.log());
    }
    run.fired
}

#[tokio::test]
#[ignore = "waits for Leases to expire: just faults"]
async fn each_request_is_decided_once_whatever_an_approver_is_killed_at() {
    if let Some(error) = effects::forbidden() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "ptrace is not permitted here: {error}");
        println!("skipped: ptrace is not permitted here: {error}");
        return;
    }
    for act in [Act::KillBefore, Act::KillAfter] {
        let fired = join_all((1..=MOST).map(|n| killed(act, n))).await;
        let count = fired.iter().filter(|fired| **fired).count();
        println!("{act:?}: {count} writes tried");
        assert!((3..MOST).contains(&count) && fired.iter().take(count).all(|fired| *fired), "{act:?}: {fired:?}");
    }
}
