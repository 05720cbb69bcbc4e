//! Service account tokens: which one is used, which are refused, and that none is stored.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_core::pod::TOKENS;
use svid_csi_testkit::api_server::Fault;
use svid_csi_testkit::{pod_token, tokens_json};
use tonic::{Code, Status};

use super::cluster::{Cluster, DRIVER_TOKEN, REQUESTS, cluster_test, with_tokens};
use crate::endpoints::{get, tcp};
use crate::fixture::{pod, serial, until, volume};

/// Publishes with tokens in `secrets` as well, which Kubernetes supports since 1.35.
async fn publish_with_secret(cluster: &Cluster, volume: &InlineVolume, tokens: &str) -> Result<(), Status> {
    let target = cluster.node.kubelet.target(volume);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let mut request = volume.publish_request(target.to_str().unwrap(), true);
    request.secrets.insert(TOKENS.to_owned(), tokens.to_owned());
    let mut kubelet = cluster.node.plugin().await.node().await.unwrap();
    kubelet.node_publish_volume(request).await.map(drop)
}

#[test]
fn tokens_in_secrets_win() {
    cluster_test(&[], async |cluster| {
        let hour = SystemTime::now() + Duration::from_secs(3600);
        let unknown = pod_token(&pod("web"), "n1", "", hour);
        let known = cluster.server.token_of(&pod("web"), "n1");
        let mut posing = volume("web");
        posing.tokens = Some(tokens_json(&[("", &unknown, hour)]));
        publish_with_secret(&cluster, &posing, &tokens_json(&[("", &known, hour)])).await.unwrap();
        assert_eq!(cluster.server.cert_manager.requests()[0].spec.username, "system:serviceaccount:shop:web");

        let posing = cluster.volume("api");
        let unknown = pod_token(&pod("api"), "n1", "", hour);
        let refused = publish_with_secret(&cluster, &posing, &tokens_json(&[("", &unknown, hour)])).await.unwrap_err();
        assert!(refused.message().contains("401"), "the volume context is not looked at: {refused}");
    });
}

#[test]
fn a_missing_token_names_what_the_csi_driver_object_lacks() {
    cluster_test(&[], async |cluster| {
        let vault = with_tokens("web", &[("vault", &cluster.server.token_of(&pod("web"), "n1"))]);
        for without in [volume("web"), vault] {
            let (code, message) = cluster.node.refused(&without).await;
            assert_eq!(code, Code::FailedPrecondition, "{message}");
            assert!(message.contains("tokenRequests") && message.contains("requiresRepublish"), "{message}");
        }
        assert_eq!(cluster.creates(), 0);
        cluster.node.publish(&cluster.volume("web")).await;
    });
}

#[test]
fn tokens_of_other_pods_are_refused_unused() {
    cluster_test(&[], async |cluster| {
        let (hour, stranger) =
            (SystemTime::now() + Duration::from_secs(3600), cluster.server.token_of(&pod("api"), "n1"));
        let mut other_uid = pod("web");
        other_uid.uid = "uid-of-an-earlier-web".to_owned();
        let earlier = cluster.server.token_of(&other_uid, "n1");
        for (tokens, expected) in [
            ("{\"\": s3cr3t-text}".to_owned(), "JSON"),
            ("[\"s3cr3t-text\"]".to_owned(), "JSON"),
            ("{\"\": {\"token\": \"s3cr3t-text\"}}".to_owned(), "expirationTimestamp"),
            (tokens_json(&[("", "s3cr3t-text", hour)]), "JWT"),
            (tokens_json(&[("", &stranger, hour)]), "kubernetes.io.pod.uid"),
            (tokens_json(&[("", &earlier, hour)]), "kubernetes.io.pod.uid"),
        ] {
            let mut volume = volume("web");
            volume.tokens = Some(tokens.clone());
            let (code, message) = cluster.node.refused(&volume).await;
            assert_eq!(code, Code::InvalidArgument, "{message}");
            assert!(message.contains(TOKENS) && message.contains(expected), "{expected} in {message}");
            assert!(!message.contains("s3cr3t") && !message.contains(&stranger), "{message}");
        }
        assert_eq!(cluster.creates(), 0, "{}", cluster.server.calls.log());
        assert!(!cluster.node.log().contains("s3cr3t"), "{}", cluster.node.log());
    });
}

#[test]
fn a_token_that_the_api_server_refuses_is_not_kept() {
    cluster_test(&[], async |cluster| {
        let token = cluster.server.token_of(&pod("web"), "n1");
        cluster.server.users.expire(&token);
        let (code, message) = cluster.node.refused(&with_tokens("web", &[("", &token)])).await;
        assert_eq!(code, Code::PermissionDenied, "{message}");
        assert!(message.contains("401 Unauthorized"), "{message}");
        cluster.node.publish(&cluster.volume("web")).await;
        assert_eq!(cluster.creates(), 2, "the next one is used at once: {}", cluster.server.calls.log());
    });
}

#[test]
fn a_refused_token_does_not_discard_a_newer_one() {
    cluster_test(&[], async |cluster| {
        let (old, new) = (cluster.server.token_of(&pod("web"), "n1"), cluster.server.token_of(&pod("web"), "n1"));
        let target = cluster.node.publish(&with_tokens("web", &[("", &old)])).await;
        let first = serial(&target);
        cluster.server.users.expire(&old);
        cluster.server.faults.next(1, "create", REQUESTS, Fault::Hang);
        crate::endpoints::renew_all(&cluster.node).await;
        cluster.until("the old one is on its way", || (cluster.creates() == 2).then_some(())).await;
        cluster.node.publish(&with_tokens("web", &[("", &new)])).await;
        cluster.server.faults.clear();
        until("it is renewed with the new one", async || serial(&target) != first).await;
        let codes: Vec<_> = cluster.server.calls.of("create", REQUESTS).iter().map(|call| call.code).collect();
        assert_eq!(codes, [Some(201), Some(401), Some(201)], "{}", cluster.server.calls.log());
        let log = cluster.node.log();
        let line = log.lines().find(|line| line.contains("does not accept the pod's token"));
        assert!(line.is_some_and(|line| line.contains("WARN") && line.contains("shop/web")), "{log}");
        assert!(parts(&[&old, &new]).all(|part| !log.contains(part)), "{log}");
    });
}

/// Tokens, and their unique parts.
fn parts<'a>(tokens: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    tokens.iter().flat_map(|token| token.split('.').skip(1).chain([*token])).filter(|part| part.len() > 10)
}

#[test]
fn an_expiring_token_is_not_sent() {
    cluster_test(&[], async |cluster| {
        let token = cluster.server.token_of(&pod("web"), "n1");
        let mut volume = volume("web");
        volume.tokens = Some(tokens_json(&[("", &token, SystemTime::now() - Duration::from_secs(1))]));
        let (code, message) = cluster.node.refused(&volume).await;
        assert_eq!((code, cluster.creates()), (Code::FailedPrecondition, 0), "{message}");
    });
}

#[test]
fn tokens_are_written_nowhere() {
    cluster_test(&["-v=5"], async |cluster| {
        let token = cluster.server.token_of(&pod("web"), "n1");
        let target = cluster.node.publish(&with_tokens("web", &[("", &token)])).await;
        let expired = cluster.server.token_of(&pod("api"), "n1");
        cluster.server.users.expire(&expired);
        let (_, refusal) = cluster.node.refused(&with_tokens("api", &[("", &expired)])).await;
        let fresh = cluster.volume("web");
        let first = serial(&target);
        crate::endpoints::renew_all(&cluster.node).await;
        cluster.node.publish(&fresh).await;
        until("it is renewed", async || serial(&target) != first).await;

        let secrets = [token.as_str(), &expired, DRIVER_TOKEN, fresh.tokens.as_ref().unwrap()];
        let pages = [get(&cluster.node, "/status").await, tcp(&cluster.node, "/metrics").await, refusal];
        for part in parts(&secrets) {
            assert!(pages.iter().all(|page| !page.contains(part)), "{pages:?}");
            for place in ["root", "kubelet", "log"] {
                assert_eq!(
                    found_below(&cluster.node.path(place), part),
                    None,
                    "the token, or a part of it, was written"
                );
            }
        }
        let bodies = cluster.server.calls.all().iter().map(|call| call.body.to_string()).collect::<String>();
        assert!(!bodies.contains(&token), "nor sent anywhere but in a header");
    });
}

/// The first file at or below a path that contains a text.
fn found_below(path: &Path, text: &str) -> Option<std::path::PathBuf> {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().find_map(|entry| found_below(&entry.unwrap().path(), text));
    }
    let bytes = fs::read(path).unwrap_or_default();
    let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
    found.then(|| path.to_owned())
}
