//! The costs of looking at a driver: `just figures`, with the results in docs/performance.md.
//!
//! The program that is measured may be another build of the driver, by `SVID_CSI_MEASURED`.

use std::process::Command;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use svid_csi::demo::kubelet::{InlineVolume, Plugin};
use svid_csi_proto::csi_v1::NodeGetStorageHealthRequest;
use svid_csi_testkit::measure::{processor_seconds, settled_memory};
use tokio::time::{MissedTickBehavior, interval};

use crate::doctor::healthy;
use crate::endpoints::{get, tcp};
use crate::fixture::{Node, PASSTHROUGH, test, volume};

const AT_ONCE: usize = 8;

fn median<T: PartialOrd + Copy>(mut of: Vec<T>) -> T {
    of.sort_by(|one, other| one.partial_cmp(other).unwrap());
    of[of.len() / 2]
}

fn volumes(count: usize) -> Vec<InlineVolume> {
    (0..count).map(|number| volume(&format!("web-{number}"))).collect()
}

async fn publish_all(node: &Node, plugin: &Plugin, volumes: &[InlineVolume]) {
    let published = stream::iter(volumes).for_each_concurrent(AT_ONCE, async |volume| {
        node.kubelet.publish(plugin, volume).await.unwrap();
    });
    published.await;
}

async fn unpublish_all(node: &Node, plugin: &Plugin, volumes: &[InlineVolume]) {
    let unpublished = stream::iter(volumes).for_each_concurrent(AT_ONCE, async |volume| {
        node.kubelet.unpublish(plugin, volume).await.unwrap();
    });
    unpublished.await;
}

/// What a shell says of the commands that it has run.
fn processor_seconds_of_doctor(node: &Node) -> f64 {
    let script = "\"$0\" doctor --data-root \"$1\" > /dev/null; times";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(crate::fixture::program()).arg(node.path("root"));
    let output = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    let of_commands = output.lines().last().unwrap().split_whitespace();
    let seconds = of_commands.map(|time| {
        let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
        60.0 * minutes.parse::<f64>().unwrap() + seconds.parse::<f64>().unwrap()
    });
    seconds.sum()
}

#[test]
#[ignore = "it measures: just figures"]
fn doctor_of_250_volumes() {
    test(async || {
        let node = healthy(&[]).await;
        let plugin = node.plugin().await;
        publish_all(&node, &plugin, &volumes(250)).await;
        let looks = (0..7).map(|_| {
            let (begun, before) = (Instant::now(), processor_seconds(node.pid()).unwrap());
            let own = processor_seconds_of_doctor(&node);
            (own + processor_seconds(node.pid()).unwrap() - before, begun.elapsed().as_secs_f64())
        });
        let looks: Vec<_> = looks.collect();
        let median_of = |of: fn(&(f64, f64)) -> f64| median(looks.iter().map(of).collect());
        let (processor, time) = (median_of(|look| look.0), median_of(|look| look.1));
        println!(
            "doctor with 253 volumes: {time:.2} s, of which {processor:.2} s of processor time, the driver's included"
        );
        assert!(processor < 2.0, "{processor}");
    });
}

#[test]
#[ignore = "it measures: just figures"]
fn scrapes_and_pages_of_5000_volumes() {
    test(async || {
        let args = ["--metrics-address=127.0.0.1:0", "--admin-socket={dir}/admin.sock", "--data-size-limit=2Gi"];
        let node = Node::files(&args).await;
        let plugin = node.plugin().await;
        let before = settled_memory(node.pid()).unwrap().rss;
        publish_all(&node, &plugin, &volumes(5_000)).await;
        let scrapes = 50_u32;
        let (begun, spent, mut bytes) = (Instant::now(), processor_seconds(node.pid()).unwrap(), 0);
        for _ in 0..scrapes {
            bytes = tcp(&node, "/metrics").await.len();
        }
        let (time, spent) = (begun.elapsed() / scrapes, processor_seconds(node.pid()).unwrap() - spent);
        let processor = spent / f64::from(scrapes);
        println!("scrape with 5,000 volumes: {time:.2?}, of which {processor:.4} s of processor time, {bytes} bytes");
        let begun = Instant::now();
        let page = get(&node, "/").await.len();
        println!("the page: {:.2?}, {page} bytes", begun.elapsed());
        println!("RSS without volumes {before:.1} MB, then {:.1} MB", settled_memory(node.pid()).unwrap().rss);
        assert!(processor < 0.02 && bytes < 100_000, "{processor}, {bytes}");
    });
}

/// Everything that watches a driver of a cluster, ten times as often as it does there.
async fn look_on(node: &Node, plugin: &Plugin) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        second.tick().await;
        tcp(node, "/metrics").await;
        tcp(node, "/livez").await;
        tcp(node, "/readyz").await;
        plugin.node().await.unwrap().node_get_storage_health(NodeGetStorageHealthRequest {}).await.unwrap();
    }
}

#[test]
#[ignore = "it measures: just figures"]
fn publishes_while_someone_looks_and_while_no_one_does() {
    const VOLUMES: usize = 500;
    test(async || {
        let mut node = Node::new(&[PASSTHROUGH, &["--data-root={dir}/root", "--metrics-address=127.0.0.1:0"]]);
        let _agent = node.agent();
        node.start().await;
        let plugin = node.plugin().await;
        let volumes = volumes(VOLUMES);
        let round = async || {
            let (begun, before) = (Instant::now(), processor_seconds(node.pid()).unwrap());
            publish_all(&node, &plugin, &volumes).await;
            unpublish_all(&node, &plugin, &volumes).await;
            (processor_seconds(node.pid()).unwrap() - before, begun.elapsed().as_secs_f64())
        };
        round().await;
        let (mut alone, mut watched) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            alone.push(round().await);
            watched.push(tokio::select! {
                figures = round() => figures,
                () = look_on(&node, &plugin) => unreachable!("it does not end"),
            });
        }
        let ratio = |of: fn(&(f64, f64)) -> f64| {
            median(watched.iter().map(of).collect()) / median(alone.iter().map(of).collect())
        };
        let (processor, time) = (ratio(|figures| figures.0), ratio(|figures| figures.1));
        println!(
            "publish and unpublish while someone looks: {processor:.3} times the processor time, {time:.3} times the time"
        );
        assert!(processor < 1.03, "{processor}");
    });
}

#[test]
#[ignore = "it measures: just figures"]
fn memory_while_no_one_looks() {
    test(async || {
        let memory = async |args: &[&str]| {
            let mut node = Node::new(&[PASSTHROUGH, &["--data-root={dir}/root"], args]);
            let _agent = node.agent();
            node.start().await;
            settled_memory(node.pid()).unwrap().rss
        };
        let (mut off, mut on) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            off.push(memory(&["--metrics-address=0", "--admin-socket=0"]).await);
            on.push(memory(&["--metrics-address=127.0.0.1:0", "--otlp-endpoint=http://127.0.0.1:9"]).await);
        }
        let (off, on) = (median(off), median(on));
        println!("RSS with metrics, admin socket and traces: {on:.2} MB, without: {off:.2} MB");
        assert!(on - off < 1.0, "{on} {off}");
    });
}
