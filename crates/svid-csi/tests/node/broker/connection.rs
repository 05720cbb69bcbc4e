//! One connection for all pods.

use futures::StreamExt;
use svid_csi_testkit::agent::Entry;

use super::scene::{SOCKET, WORKLOAD_API, id, scene_test};
use crate::fixture::{pod, until, volume};
use crate::workload_api::client::Svids;

const PODS: usize = 250;

#[test]
fn many_pods_share_one_connection() {
    scene_test(&[WORKLOAD_API, SOCKET], async |scene| {
        let names: Vec<_> = (0..PODS).map(|pod| format!("pod-{pod}")).collect();
        for name in &names {
            scene.agent.register(&pod(name), &[Entry::new(&id(name))]);
        }
        let volumes: Vec<_> = names.iter().map(|name| volume(name)).collect();
        let publishes = volumes.iter().map(|volume| scene.node.publish(volume));
        let targets: Vec<_> = futures::stream::iter(publishes).buffered(16).collect().await;
        assert_eq!((scene.agent.connections().ever, scene.agent.subscriptions().now), (1, 1 + PODS));
        assert_eq!(scene.metric("broker_subscriptions").await, PODS as f64);
        for index in [0, PODS / 2, PODS - 1] {
            let message = Svids::open(&targets[index].join("agent.sock")).await.unwrap().next().await.unwrap();
            assert_eq!(message, scene.agent.response(&pod(&names[index])));
        }

        scene.agent.rotate_all();
        until("every pod has its next one", async || scene.issued() == 2 * PODS).await;
        // The driver's own SVID was also rotated.
        let moved = || scene.agent.connections().now == 1 && scene.agent.subscriptions().now == 1 + PODS;
        scene.until("all have moved", || moved().then_some(())).await;
        assert_eq!(scene.agent.connections().ever, 2);

        scene.agent.restart();
        scene.until("all are back", || (scene.agent.subscriptions().now == 1 + PODS).then_some(())).await;
        assert_eq!((scene.agent.connections().ever, scene.issued()), (3, 2 * PODS));
        assert_eq!(scene.metric("broker_connections_total").await, 3.0);
    });
}
