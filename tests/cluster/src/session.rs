//! The known facts about the running cluster: written by `up`, read by `down` and by the tests.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::files;
use crate::layout::Layout;

/// The name of the only node.
pub const NODE: &str = "node1";

/// The addresses of one cluster.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Session {
    /// The addresses of etcd for its clients and its peers.
    pub etcd: [u16; 2],
    /// The port of the API server on the loopback address.
    pub apiserver: u16,
    /// The health ports of the controller manager and the scheduler.
    pub health: [u16; 2],
    /// The ports of the kubelet for logs and exec, and for health.
    pub kubelet: [u16; 2],
    /// The ports of cert-manager's webhook, and of its health page.
    pub cert_manager: [u16; 2],
    /// The address of the node.
    pub address: IpAddr,
}

impl Session {
    /// Picks ports that are currently free.
    pub fn pick() -> Result<Self> {
        // All are held until the last is picked, so that no port is returned twice.
        let listeners: Vec<_> =
            (0..9).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
        let ports: Vec<_> = listeners.iter().map(|one| Ok(one.local_addr()?.port())).collect::<Result<_>>()?;
        Ok(Self {
            etcd: [ports[0], ports[1]],
            apiserver: ports[2],
            health: [ports[3], ports[4]],
            kubelet: [ports[5], ports[6]],
            cert_manager: [ports[7], ports[8]],
            address: own_address()?,
        })
    }

    /// The session of the running cluster.
    pub fn load(layout: &Layout) -> Result<Self> {
        let path = layout.work.join("session.json");
        let bytes = fs::read(&path).with_context(|| format!("no cluster is up ({} is missing)", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Writes the session to the path from which [`Session::load`] reads it.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        files::write(&layout.work.join("session.json"), serde_json::to_vec_pretty(self)?)
    }
}

/// The address from which this machine would reach the internet; nothing is sent.
fn own_address() -> Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket
        .connect((Ipv4Addr::new(192, 0, 2, 1), 9))
        .context("this machine has no route, and a node needs an address")?;
    Ok(socket.local_addr()?.ip())
}
