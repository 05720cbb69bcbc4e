//! etcd, the API server, the controller manager and the scheduler.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::layout::Layout;
use crate::pki::Authority;
use crate::session::{NODE, Session};
use crate::tools::{self, Tools};
use crate::{kubeconfig, kubectl, process, service_route, wait};

/// The programs, in the order they start.
pub const PROGRAMS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const READY: Duration = Duration::from_secs(90);

/// Writes the certificates of every component and the kubeconfigs of those that call the API server.
pub fn write_credentials(layout: &Layout, session: &Session) -> Result<()> {
    let folder = layout.pki();
    fs::create_dir_all(&folder)?;
    let authority = Authority::create(&folder)?;
    authority.service_account_key()?;
    let local = [IpAddr::V4(Ipv4Addr::LOCALHOST), session.address, service_route::ADDRESS.into()];
    authority.sign("apiserver", "kube-apiserver", None, &local)?;
    authority.sign("cert-manager-webhook", "cert-manager-webhook", None, &local)?;
    let users = [
        ("admin", "admin".to_owned(), Some("system:masters")),
        ("controller-manager", "system:kube-controller-manager".to_owned(), None),
        ("scheduler", "system:kube-scheduler".to_owned(), None),
        ("kubelet", format!("system:node:{NODE}"), Some("system:nodes")),
    ];
    for (file, name, group) in users {
        let credentials = authority.sign(file, &name, group, &local)?;
        kubeconfig::write(&layout.work.join(format!("{file}.conf")), session.apiserver, &authority, &credentials)?;
    }
    Ok(())
}

/// Starts etcd and the API server, waits for it to be ready, then starts its clients.
pub fn start(layout: &Layout, tools: &Tools, session: &Session) -> Result<()> {
    let plane = ControlPlane { layout, tools, session };
    process::start(layout, PROGRAMS[0], &mut plane.etcd()?)?;
    process::start(layout, PROGRAMS[1], &mut plane.apiserver())?;
    wait::until("the API server to be ready", READY, || ready(layout, tools))?;
    process::start(layout, PROGRAMS[2], &mut plane.controller_manager())?;
    process::start(layout, PROGRAMS[3], &mut plane.scheduler())
}

/// Restarts the API server with the data in etcd.
pub fn restart_apiserver(layout: &Layout, tools: &Tools, session: &Session) -> Result<()> {
    process::stop(layout, PROGRAMS[1])?;
    process::start(layout, PROGRAMS[1], &mut ControlPlane { layout, tools, session }.apiserver())?;
    wait::until("the API server to be ready again", READY, || ready(layout, tools))
}

/// Whether the API server reports that it is ready.
pub fn ready(layout: &Layout, tools: &Tools) -> Result<()> {
    process::check(layout, PROGRAMS[0])?;
    process::check(layout, PROGRAMS[1])?;
    kubectl::ask(layout, tools, &["get", "--raw", "/readyz"]).map(drop).context("the API server is not ready")
}

/// What the tests need and what is off by default.
fn gates(kubernetes: &str) -> Vec<&'static str> {
    match kubernetes {
        "1.36" => vec![
            "--feature-gates=CSIVolumeHealth=true,ClusterTrustBundle=true",
            "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
        ],
        _ => vec!["--feature-gates=CSIVolumeHealth=true"],
    }
}

struct ControlPlane<'a> {
    layout: &'a Layout,
    tools: &'a Tools,
    session: &'a Session,
}

impl ControlPlane<'_> {
    fn etcd(&self) -> Result<Command> {
        let [clients, peers] = self.session.etcd.map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(tools::find("etcd")?);
        // A test cluster does not have to survive a power failure.
        command.arg("--unsafe-no-fsync").arg("--data-dir").arg(self.layout.work.join("etcd"));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &format!("default={peers}"), "--logger", "zap"]);
        Ok(command)
    }

    fn apiserver(&self) -> Command {
        let mut command = Command::new(self.tools.program("kube-apiserver"));
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.session.etcd[0]))
            .arg(format!("--secure-port={}", self.session.apiserver))
            .args(["--bind-address=0.0.0.0", "--endpoint-reconciler-type=none"])
            .args(["--service-cluster-ip-range=10.0.0.0/24", "--allow-privileged=true", "--v=1"])
            .args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"])
            .args(["--service-account-issuer=https://kubernetes.default.svc"])
            .args(["--kubelet-preferred-address-types=InternalIP"])
            .args(gates(self.layout.kubernetes));
        let files = [
            ("tls-cert-file", "apiserver.crt"),
            ("tls-private-key-file", "apiserver.key"),
            ("client-ca-file", "ca.crt"),
            ("service-account-key-file", "sa.pub"),
            ("service-account-signing-key-file", "sa.key"),
            ("kubelet-certificate-authority", "ca.crt"),
            ("kubelet-client-certificate", "admin.crt"),
            ("kubelet-client-key", "admin.key"),
        ];
        for (flag, file) in files {
            command.arg(format!("--{flag}={}", self.pki(file).display()));
        }
        command
    }

    fn controller_manager(&self) -> Command {
        let mut command = self.client("kube-controller-manager", "controller-manager.conf", self.session.health[0]);
        command
            .arg("--use-service-account-credentials")
            .arg(format!("--service-account-private-key-file={}", self.pki("sa.key").display()))
            .arg(format!("--root-ca-file={}", self.pki("ca.crt").display()));
        command
    }

    fn scheduler(&self) -> Command {
        self.client("kube-scheduler", "scheduler.conf", self.session.health[1])
    }

    fn client(&self, program: &str, config: &str, port: u16) -> Command {
        let mut command = Command::new(self.tools.program(program));
        command
            .arg(format!("--kubeconfig={}", self.layout.work.join(config).display()))
            .arg(format!("--secure-port={port}"))
            .args(["--bind-address=127.0.0.1", "--leader-elect=false"])
            .args(["--kube-api-qps=200", "--kube-api-burst=400"]);
        command
    }

    fn pki(&self, file: &str) -> PathBuf {
        self.layout.pki().join(file)
    }
}
