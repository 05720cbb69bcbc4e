//! No entry is left in memory of volumes that have come and gone.

use super::*;

const TURNS: usize = 200;

#[derive(Debug, PartialEq, Eq)]
struct Entries {
    volumes: usize,
    pods: usize,
    to_check: usize,
    tasks: usize,
    waiting: usize,
    used: Option<u64>,
}

fn entries(node: &Node) -> Entries {
    let ((volumes, pods), queue) = (node.volumes.entries(), node.later.counts());
    Entries {
        volumes,
        pods,
        to_check: queue.retry + queue.unpublished,
        tasks: node.tasks.number(),
        waiting: node.sources.waiting().len(),
        used: node.deliveries.room.as_ref().and_then(|room| room.state()).map(|room| room.used),
    }
}

/// The volume of another pod.
fn spec_of(dir: &TempDir, number: usize) -> Arc<VolumeSpec> {
    let uid = format!("pod-{number}");
    let target = dir.path().join("pods").join(&uid).join("volumes/kubernetes.io~csi/spiffe/mount");
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let mut spec = spec(dir);
    spec.id = VolumeId::of_kubelet(&uid, "spiffe");
    spec.target = svid_csi_core::target::TargetPath::parse(target.to_str().unwrap()).unwrap();
    spec.pod.as_mut().unwrap().uid = uid;
    spec.into()
}

/// Drops a call after that many turns of the runtime, unless it has ended by then.
async fn cancelled_after(turns: usize, call: impl Future) {
    tokio::select! {
        biased;
        _ = call => {}
        () = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
                std::thread::sleep(Duration::from_micros(50));
            }
        } => {}
    }
}

async fn turn(node: &Arc<Node>, dir: &TempDir, number: usize) {
    let spec = spec_of(dir, number);
    let publish = node.publish("demo.svid-csi", spec.clone(), Brought::default(), patience::MOST);
    if number.is_multiple_of(10) {
        cancelled_after(number % 97, publish).await;
    } else {
        publish.await.unwrap();
    }
    node.unpublish("demo.svid-csi", spec.id.clone(), spec.target.clone()).await.unwrap();
}

#[test]
fn no_entry_is_left_of_volumes_that_come_and_go() {
    test(async || {
        let dir = tempfile::tempdir().unwrap();
        let node = build(&dir);
        let stays = spec(&dir);
        node.publish("demo.svid-csi", stays.into(), Brought::default(), patience::MOST).await.unwrap();
        let before = entries(&node);
        for number in 0..TURNS {
            turn(&node, &dir, number).await;
        }
        // Calls that were cancelled may be checked once more.
        tokio::time::sleep(2 * FORGOTTEN_AFTER).await;
        assert_eq!(entries(&node), before);
    });
}
