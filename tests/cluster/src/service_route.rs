//! The only Service that pods need: `kubernetes`, through which programs in pods find the API server. Instead of a
//! kube-proxy, one rule redirects connections from the addresses of this cluster's pods; other clusters on this machine
//! have other addresses.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

use crate::layout::Layout;
use crate::node;
use crate::session::Session;
use crate::tools;

/// The first address of the range of services, which the API server uses for itself.
pub const ADDRESS: [u8; 4] = [10, 0, 0, 1];
const PORT: &str = "443";

/// Redirects connections of pods to the API server.
pub fn add(layout: &Layout, session: &Session) -> Result<()> {
    remove(layout)?;
    let subnet = node::subnet(layout)?;
    let service = std::net::Ipv4Addr::from(ADDRESS).to_string();
    let server = format!("{}:{}", session.address, session.apiserver);
    let rule = ["-A", "PREROUTING", "-s", &subnet, "-d", &service, "-p", "tcp", "--dport", PORT];
    iptables(&[&rule[..], &["-j", "DNAT", "--to-destination", &server]].concat()).map(drop)
}

/// Removes the rule of [`add`], even that of a killed run.
pub fn remove(layout: &Layout) -> Result<()> {
    let source = format!("-s {} ", node::subnet(layout)?);
    let rules = String::from_utf8_lossy(&iptables(&["-S", "PREROUTING"])?.stdout).into_owned();
    for rule in rules.lines().filter(|rule| rule.contains(&source)) {
        let words: Vec<_> = rule.split_whitespace().skip(1).collect();
        iptables(&[&["-D"], &words[..]].concat())?;
    }
    Ok(())
}

fn iptables(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(tools::find("iptables")?);
    let output = command.args(["-w", "-t", "nat"]).args(arguments).output().context("cannot run iptables")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "iptables {}: {}", arguments.join(" "), errors.trim());
    Ok(output)
}
