//! Missing permissions are named, and unnecessary ones are not used.

use std::time::Duration;

use svid_csi_testkit::api_server::Access;
use tonic::Code;

use super::cluster::{Cluster, DRIVER, REQUESTS, cluster_test, predecessors_rbac, prepared_test};

fn without(action: &'static str) -> impl Fn(&Access) -> bool + Send + 'static {
    move |access| predecessors_rbac(access) && access.action() != format!("{action} {REQUESTS}")
}

#[test]
fn a_missing_permission_of_a_pod_is_named_exactly() {
    cluster_test(&[], async |cluster| {
        cluster.server.permissions.only(without("create"));
        let (code, message) = cluster.node.refused(&cluster.volume("web")).await;
        assert_eq!(code, Code::PermissionDenied, "{message}");
        let sentence = "certificaterequests.cert-manager.io is forbidden: User \"system:serviceaccount:shop:web\" \
                        cannot create resource \"certificaterequests\" in API group \"cert-manager.io\" in the \
                        namespace \"shop\"";
        assert!(message.contains(sentence), "{message}");
        cluster.server.permissions.only(predecessors_rbac);
        cluster.node.publish(&cluster.volume("web")).await;
    });
}

#[test]
fn a_driver_that_may_not_watch_reports_it_and_continues_once_it_may() {
    prepared_test(&[], async |mut cluster| {
        for verb in ["list", "watch"] {
            cluster.server.permissions.only(without(verb));
            cluster.node.start().await;
            let sentence = format!("User \"{DRIVER}\" cannot {verb} resource \"certificaterequests\"");
            let web = cluster.volume("web");
            // The pod is given the reason once the driver has waited ten seconds; before that, only what it waits for.
            let ((code, message), reason) = match verb {
                "list" => (cluster.node.refused(&web).await, &*sentence),
                _ => (cluster.node.refused_within(&web, Duration::from_secs(2)).await, "are not watched yet"),
            };
            assert_eq!(code, Code::Unavailable, "{message}");
            assert!(message.contains(reason), "{message}");
            let is_logged = async || cluster.node.log().replace('\\', "").contains(&sentence);
            crate::fixture::until("the log names the verb", is_logged).await;
            assert_eq!(cluster.creates(), 0, "the driver would not see it issued");
            cluster.node.kill();
        }
        cluster.node.start().await;
        cluster.server.permissions.only(predecessors_rbac);
        cluster.is_watching().await;
        cluster.node.publish(&cluster.volume("web")).await;
    });
}

#[test]
fn without_delete_everything_works_and_the_log_names_it() {
    cluster_test(&[], async |cluster| {
        cluster.server.permissions.only(without("delete"));
        cluster.server.permissions.only(without("delete"));
        for pod in ["web", "api"] {
            let volume = cluster.volume(pod);
            cluster.node.publish(&volume).await;
            cluster.node.unpublish(&volume).await;
        }
        let tried = || (cluster.server.calls.count("delete", REQUESTS) == 2).then_some(());
        cluster.until("both are tried to remove", tried).await;
        crate::fixture::until("the log names the verb", async || cluster.node.log().contains("cannot delete")).await;
        cluster.node.publish(&cluster.volume("db")).await;
        assert_eq!(cluster.node.log().matches("cannot delete").count(), 1, "once: {}", cluster.node.log());
        assert_eq!(cluster.server.cert_manager.requests().len(), 3, "they go with their pods");
    });
}

#[test]
fn nothing_beyond_the_predecessors_permissions_is_needed() {
    cluster_test(&[], async |cluster: Cluster| {
        let volume = cluster.volume("web");
        let target = cluster.node.publish(&volume).await;
        let first = crate::fixture::serial(&target);
        crate::endpoints::renew_all(&cluster.node).await;
        crate::fixture::until("renewed", async || crate::fixture::serial(&target) != first).await;
        cluster.node.unpublish(&volume).await;
        cluster.until("all is removed", || cluster.server.cert_manager.requests().is_empty().then_some(())).await;
        let log = cluster.node.log();
        assert!(!log.contains("ERROR") && !log.contains("WARN") || only_known_warnings(&log), "{log}");
    });
}

/// In a mount namespace of its own, no mount is shared.
fn only_known_warnings(log: &str) -> bool {
    let trouble = log.lines().filter(|line| line.contains("ERROR") || line.contains("WARN"));
    trouble.into_iter().all(|line| line.contains("mount") || line.contains("noswap"))
}
