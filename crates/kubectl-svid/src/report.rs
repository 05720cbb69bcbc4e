//! `kubectl svid report`: one archive about some nodes, with the logs, which the drivers themselves cannot read.

mod archive;
mod logs;
mod output;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use futures::future::join;
use futures::{StreamExt, stream};
use svid_csi_core::quoted::one_line;

use self::archive::Contents;
use crate::arguments::ReportArguments;
use crate::cluster::Cluster;
use crate::drivers::{self, DriverPod};
use crate::exec::{self, Ended};
use crate::{pods, printing};

/// The most nodes in one report.
const MOST_NODES: usize = 20;
/// How many are asked at a time: each answers with megabytes.
const AT_ONCE: usize = 4;
/// How gzip begins (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Writes a report, also if a driver does not answer: then its log is what matters.
pub(crate) async fn run(cluster: &Cluster, options: &ReportArguments) -> Result<ExitCode> {
    output::check(options)?;
    let drivers = find(cluster, options).await?;
    let mut words = vec!["report"];
    words.extend(options.anonymize.then_some("--anonymize"));
    if options.dry_run {
        words.push("--dry-run");
    } else {
        words.extend(["--output", "-"]);
    }
    let asked = drivers.iter().map(async |driver| exec::run(cluster, driver, &words).await.and_then(succeeded));
    let asking = stream::iter(asked).buffered(AT_ONCE).collect::<Vec<_>>();
    if options.dry_run {
        return list(&drivers, asking.await);
    }
    // Nodes that hang do not take the time that their logs need.
    let wants_logs = !options.anonymize;
    let logging = async {
        if wants_logs { logs::collect(cluster, &drivers, &options.approver_selector).await } else { Default::default() }
    };
    let (answers, (logs, missing)) = join(asking, logging).await;
    let mut contents = Contents::new();
    let mut is_complete = true;
    for (driver, answer) in drivers.iter().zip(answers) {
        match answer.and_then(packed) {
            Ok(report) => contents.add_report(&driver.node, &driver.name, report),
            Err(why) => {
                printing::note(&format!(
                    "error: node {}, driver pod {}/{}: {why}",
                    driver.node, driver.namespace, driver.name
                ));
                contents.leave_out(&format!("the report of the driver on node {}", driver.node), &why);
                is_complete = false;
            }
        }
    }
    logs.into_iter().for_each(|log| log.add_to(&mut contents));
    missing.iter().for_each(|(what, why)| contents.leave_out(what, why));
    if !wants_logs {
        contents.leave_out("logs", "they are full of names (--anonymize)");
    }
    let written = output::write(options, &contents.packed()?)?;
    printing::note(&format!("{written}: read README.txt in it before you send it to others"));
    Ok(ExitCode::from(if is_complete { 0 } else { 2 }))
}

async fn find(cluster: &Cluster, options: &ReportArguments) -> Result<Vec<DriverPod>> {
    if let Some(pod) = &options.pod {
        return Ok(pods::find(cluster, pod).await?.drivers);
    }
    let nodes: BTreeSet<_> = options.node.iter().collect();
    ensure!(nodes.len() <= MOST_NODES, "a report is about at most {MOST_NODES} nodes, not {}", nodes.len());
    let mut found = Vec::new();
    for node in nodes {
        found.extend(drivers::find(cluster, Some(node)).await?);
    }
    Ok(found)
}

fn succeeded(ended: Ended) -> Result<Vec<u8>, String> {
    if ended.code == 0 { Ok(ended.stdout) } else { Err(ended.complaint()) }
}

fn packed(report: Vec<u8>) -> Result<Vec<u8>, String> {
    if report.starts_with(&GZIP) { Ok(report) } else { Err("its answer is not an archive".to_owned()) }
}

/// Prints which files the drivers would send.
fn list(drivers: &[DriverPod], answers: Vec<Result<Vec<u8>, String>>) -> Result<ExitCode> {
    let mut code = 0;
    for (driver, answer) in drivers.iter().zip(answers) {
        printing::write(&format!("node {}:\n", one_line(&driver.node)))?;
        match answer {
            Ok(files) => printing::foreign(printing::Stream::Stdout, &files)?,
            Err(why) => {
                printing::write(&format!("  no report: {}\n", one_line(&why)))?;
                code = 2;
            }
        }
    }
    printing::write("and the logs of these drivers and of the approvers, without what looks like a secret\n")?;
    Ok(ExitCode::from(code))
}
