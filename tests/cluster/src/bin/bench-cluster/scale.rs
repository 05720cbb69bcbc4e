//! What many nodes cost the API server, cert-manager and the approver.
//!
//! The nodes, their pods and the driver's pods are objects without a kubelet. Each node has a client of its own, with the
//! token of its driver's pod, that watches the requests of its node as a driver does, and renews at the rate at which
//! a driver would. All of it runs as `node-bound`, in which the approver reads two pods for each request.

mod cost;
mod fleet;
mod server;

use std::time::{Duration, Instant};

use anyhow::Result;
use svid_csi_cluster::requests::Terms;
use svid_csi_cluster::{control_plane, objects, predecessor};
use svid_csi_testkit::measure::{Figure, Sample, peak_memory, resident_memory};

use self::cost::Programs;
use self::fleet::Fleet;
use self::server::Calls;
use crate::world::{NAME, World};

/// The lifetime of the certificates, of which two thirds pass before a renewal.
const LIFETIME: Duration = Duration::from_secs(3600);

/// A simulated cluster.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub(crate) nodes: u32,
    pub(crate) pods_per_node: u32,
}

impl Size {
    fn pods(self) -> u32 {
        self.nodes * self.pods_per_node
    }

    /// Renewals per second in the whole cluster.
    fn rate(self) -> f64 {
        f64::from(self.pods()) / (LIFETIME.as_secs_f64() * 2.0 / 3.0)
    }
}

pub(crate) async fn measure(world: &World, size: Size, lasts: Duration) -> Result<Vec<Figure>> {
    let terms = world.terms(LIFETIME);
    let rules = [predecessor::rule("", "pods", &["get"])];
    let approver = format!("{NAME}-approver");
    objects::apply(&world.client, &predecessor::cluster_role(&format!("{NAME}-pods"), (NAME, &approver), &rules))
        .await?;
    let api_server = world.pid(control_plane::PROGRAMS[1])?;

    let mut fleet = Fleet::settle(world, size).await?;
    let account = format!("--driver-service-account=system:serviceaccount:{NAME}:{NAME}");
    let approver = world.approver_with(&terms, &["--request-mode=node-bound", &account]).await?;
    let without = resident_memory(api_server)?;

    fleet.watch(size.nodes / 10).await?;
    let programs = Programs::at_rest(world, &approver).await?;
    let few = renew(world, &fleet, &programs, size.rate(), lasts, &terms).await?;
    fleet.watch(size.nodes).await?;
    let with = resident_memory(api_server)?;
    let programs = Programs::at_rest(world, &approver).await?;
    let many = renew(world, &fleet, &programs, size.rate(), lasts, &terms).await?;

    let cluster = format!("{} nodes, {} pods", size.nodes, size.pods());
    let mut figures = vec![
        Figure::new(format!("API server's RSS, {cluster}, no driver"), without, "MB"),
        Figure::new("the same with a watch for each node", with, "MB").floor(without),
        Figure::new("its peak during the renewals", peak_memory(api_server)?, "MB").floor(without),
        Figure::new("the approver's peak RSS", peak_memory(approver.pid())?, "MB"),
    ];
    figures.extend(
        many.calls
            .per(many.renewals)
            .into_iter()
            .map(|(call, count)| Figure::new(format!("API calls per renewal: {call}"), count, "")),
    );
    for (watches, run) in [(size.nodes / 10, &few), (size.nodes, &many)] {
        figures.extend(run.figures(watches));
    }
    Ok(figures)
}

/// Renewals at a given rate.
struct Run {
    renewals: f64,
    rate: f64,
    latency: Sample,
    processor: Vec<(&'static str, f64)>,
    calls: Calls,
}

async fn renew(
    world: &World,
    fleet: &Fleet,
    programs: &Programs,
    rate: f64,
    lasts: Duration,
    terms: &Terms,
) -> Result<Run> {
    let (calls, used) = (Calls::so_far(&world.client).await?, programs.used()?);
    let begun = Instant::now();
    let latencies = fleet.renew(terms, rate, lasts).await?;
    let took = begun.elapsed().as_secs_f64();
    let renewals = f64::from(u32::try_from(latencies.len())?);
    Ok(Run {
        renewals,
        rate: renewals / took,
        latency: Sample::new(latencies),
        processor: programs.beyond_rest(used, took)?,
        calls: Calls::so_far(&world.client).await?.since(&calls),
    })
}

impl Run {
    fn figures(&self, watches: u32) -> Vec<Figure> {
        let what = format!("{watches} watches");
        let mut figures = vec![
            Figure::new(format!("{what}: renewals"), self.rate, "/s"),
            Figure::new(format!("{what}: request to certificate p50"), self.latency.p50(), "ms"),
            Figure::new(format!("{what}: request to certificate p99"), self.latency.p99(), "ms"),
        ];
        figures.extend(self.processor.iter().map(|(program, seconds)| {
            Figure::new(format!("{what}: CPU per renewal, {program}"), seconds / self.renewals * 1e3, "ms")
        }));
        figures
    }
}
