//! The servers that the driver accepts and refuses.

use std::time::Duration;

use futures::future::join_all;
use svid_csi_testkit::Flaw;
use svid_csi_testkit::agent::{Answer, Entry, Server};

use super::scene::{FILES, SOCKET, Scene, files_test, prepared_test};
use crate::fixture::{svid, test, until, volume};

const AGENT: &str = "spiffe://example.org/spire/agent/test/node";

/// Servers other than the agent, and the driver's message about each.
const IMPOSTORS: [(Server, &str); 7] = [
    (Server::OtherTrustDomain, "no trust bundle of the leaf certificate's trust domain, other.example"),
    (
        Server::Workload,
        "the peer is spiffe://example.org/ns/shop/sa/cart, but spiffe://example.org/spire/agent/... is expected",
    ),
    (Server::Flawed(Flaw::UnknownCa), "does not lead to the trust bundle"),
    (Server::Flawed(Flaw::Expired), "expired"),
    (Server::Flawed(Flaw::TwoUris), "2 URI names"),
    (Server::Flawed(Flaw::IsCa), "CA certificate"),
    (Server::Garbage, "the connection broke"),
];

/// Waits for the driver's message, and checks that it has sent no call.
async fn is_mistrusted(scene: &Scene, says: &str) {
    until(says, async || scene.node.log().contains(says)).await;
    assert_eq!(scene.status().await["broker_up"], false, "{}", scene.node.log());
}

/// Starts a driver with that server, and checks that it reports the reason and gives the server no pod.
async fn is_not_accepted(server: Server, says: &str) {
    let mut scene = Scene::prepared(&[FILES, SOCKET]);
    scene.agent.server(server);
    scene.agent.resume();
    scene.register("web");
    scene.node.start().await;
    until(says, async || scene.node.log().contains(says)).await;
    let refused = scene.node.publish_within(&volume("web"), Duration::from_secs(1)).await.unwrap_err();
    assert!(refused.message().contains("the agent"), "{server:?}: {}", refused.message());
    assert_eq!(scene.subscriptions("web").len(), 0, "{server:?}: nothing is asked");
}

#[test]
fn no_other_server_is_accepted_as_the_agent() {
    test(async || {
        join_all(IMPOSTORS.map(|(server, says)| is_not_accepted(server, says))).await;
    });
}

#[test]
fn the_agent_is_found_once_it_exists() {
    prepared_test(&[FILES, SOCKET], async |mut scene| {
        scene.agent.server(Server::Workload);
        scene.agent.resume();
        scene.node.start().await;
        is_mistrusted(&scene, "is expected").await;
        scene.agent.server(Server::Proper);
        let target = scene.registered("web").await;
        svid(&target).check_chain().unwrap();
    });
}

#[test]
fn a_silent_server_is_given_up() {
    prepared_test(&[FILES, SOCKET], async |mut scene| {
        scene.agent.server(Server::Hangs);
        scene.agent.resume();
        scene.node.start().await;
        is_mistrusted(&scene, "does not answer within 10 seconds").await;
        scene.agent.server(Server::Proper);
        scene.registered("web").await;
    });
}

#[test]
fn the_expected_server_can_be_named() {
    prepared_test(&[FILES, SOCKET], async |mut scene| {
        scene.agent.resume();
        scene.node.add_args(&["--broker-server-id=spiffe://example.org/spire/agent/test/other"]);
        scene.node.start().await;
        is_mistrusted(
            &scene,
            &format!("the peer is {AGENT}, but spiffe://example.org/spire/agent/test/other is expected"),
        )
        .await;
        scene.node.kill();
        scene.node.drop_arg("--broker-server-id");
        scene.node.add_args(&[&format!("--broker-server-id={AGENT}")]);
        scene.node.start().await;
        scene.registered("web").await;
    });
}

#[test]
fn a_named_workload_is_accepted_as_the_server() {
    prepared_test(&[FILES, SOCKET], async |mut scene| {
        scene.agent.server(Server::Workload);
        scene.agent.resume();
        scene.node.add_args(&["--broker-server-id=spiffe://example.org/ns/shop/sa/cart"]);
        scene.node.start().await;
        scene.registered("web").await;
    });
}

#[test]
fn a_server_of_a_federated_trust_domain_is_verified_by_its_own_bundle() {
    prepared_test(&[FILES, SOCKET], async |mut scene| {
        scene.agent.server(Server::OtherTrustDomain);
        scene.agent.resume();
        scene.node.add_args(&["--broker-server-id=spiffe://other.example/spire/agent/test/node"]);
        scene.node.start().await;
        is_mistrusted(&scene, "no trust bundle of the leaf certificate's trust domain, other.example").await;
        let own = scene.agent.own_response();
        let federated = |bundle: Vec<u8>| {
            let mut response = own.clone();
            response.federated_bundles = [("spiffe://other.example".to_owned(), bundle)].into();
            Answer::Svids(response)
        };
        scene.agent.respond_to_driver(federated(svid_csi_testkit::TestCa::new("other").bundle_der()));
        is_mistrusted(&scene, "does not lead to the trust bundle").await;
        scene.agent.respond_to_driver(federated(own.svids[0].bundle.clone()));
        scene.registered("web").await;
    });
}

#[test]
fn an_invalid_identity_of_the_driver_is_not_presented() {
    files_test(async |scene| {
        for (flaw, says) in
            [(Flaw::Expired, "expired"), (Flaw::UnknownCa, "does not lead"), (Flaw::IsCa, "CA certificate")]
        {
            scene.agent.own(&[Entry::new(svid_csi_testkit::agent::DRIVER).flaw(flaw)]);
            until(says, async || {
                scene.node.log().lines().any(|line| line.contains("own identity") && line.contains(says))
            })
            .await;
        }
        assert_eq!(scene.agent.connections().ever, 1, "the last good one stays in use");
        scene.registered("web").await;
        scene.agent.own(&[Entry::new(svid_csi_testkit::agent::DRIVER)]);
        scene.until("the next good one is shown", || (scene.agent.connections().ever == 2).then_some(())).await;
    });
}
