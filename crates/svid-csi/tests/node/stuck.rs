//! System calls of the driver that do not return.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use svid_csi::demo::kubelet::InlineVolume;
use tokio::time::timeout;

use crate::endpoints::tcp;
use crate::fixture::{FILES, Node, run, test, until, volume};

/// As many as the driver has threads for system calls.
const THREADS: usize = 4;

/// The record of a volume that nothing can read.
pub(crate) struct Unreadable {
    volume: InlineVolume,
    record: PathBuf,
}

impl Unreadable {
    /// A folder in place of the record, which the driver finds when it starts.
    pub(crate) fn folder(node: &Node, pod: &str) -> Self {
        let volume = volume(pod);
        let record = node.path("root/records").join(format!("{}.json", volume.id()));
        fs::create_dir_all(&record).unwrap();
        Self { volume, record }
    }

    pub(crate) fn id(&self) -> String {
        self.volume.id().to_string()
    }

    /// From now on its record is a pipe, which a call waits to read from, holding the volume and a thread.
    pub(crate) async fn hang(&self, node: &Node) {
        fs::remove_dir(&self.record).unwrap();
        run("mkfifo", &[self.record.to_str().unwrap()]);
        let plugin = node.plugin().await;
        let unpublished = timeout(Duration::from_millis(500), node.kubelet.unpublish(&plugin, &self.volume)).await;
        assert!(unpublished.is_err(), "the call hangs");
    }

    /// The call ends, and the next one finds no record.
    pub(crate) fn release(&self) {
        let writer = fs::OpenOptions::new().write(true).open(&self.record).unwrap();
        fs::remove_file(&self.record).unwrap();
        drop(writer);
    }
}

async fn livez(node: &Node) -> String {
    tcp(node, "/livez").await
}

#[test]
fn a_driver_whose_threads_all_hang_is_not_alive() {
    test(async || {
        let mut node = Node::new(&[
            FILES,
            &["--data-root={dir}/root", "--trust-domain=example.org", "--metrics-address=127.0.0.1:0"],
        ]);
        let records: Vec<_> = (0..THREADS).map(|number| Unreadable::folder(&node, &format!("web-{number}"))).collect();
        node.start().await;
        assert!(livez(&node).await.starts_with("HTTP/1.1 200"));
        for record in &records {
            record.hang(&node).await;
        }
        let begun = Instant::now();
        until("it is noticed", async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            !livez(&node).await.starts_with("HTTP/1.1 200")
        })
        .await;
        assert!(begun.elapsed() > Duration::from_secs(50), "after {:?}", begun.elapsed());
        let answer = livez(&node).await;
        assert!(answer.contains("503") && answer.contains("no thread for system calls"), "{answer}");
        records.iter().for_each(Unreadable::release);
        until("it is alive again", async || livez(&node).await.starts_with("HTTP/1.1 200")).await;
        node.publish(&volume("new")).await;
    });
}

#[test]
fn a_driver_with_one_thread_that_hangs_is_alive() {
    test(async || {
        let mut node = Node::new(&[
            FILES,
            &["--data-root={dir}/root", "--trust-domain=example.org", "--metrics-address=127.0.0.1:0"],
        ]);
        let record = Unreadable::folder(&node, "web");
        node.start().await;
        record.hang(&node).await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(70) {
            let answer = livez(&node).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "after {:?}: {answer}", begun.elapsed());
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        record.release();
    });
}
