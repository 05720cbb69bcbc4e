//! A real SPIRE on the host, for one test: a server with a database of its own, and an agent that attests the node with the token
//! of a pod (k8s_psat) and pods by the kubelet (k8s).

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::eventually::{SOON, eventually};
use crate::files;
use crate::layout::Layout;
use crate::program::{Program, free_address};
use crate::session::Session;
use crate::tools::Tools;

/// The trust domain of the server.
pub const TRUST_DOMAIN: &str = "example.org";
/// The service account whose token the agent attests with.
pub const AGENT_ACCOUNT: &str = "spire-agent";
/// The audience of that token.
pub const AGENT_AUDIENCE: &str = "spire-server";
/// The only client of the agent's Broker API.
pub const BROKER_ID: &str = "spiffe://example.org/driver";

/// The parent of all entries: every agent of the cluster.
const NODE_ALIAS: &str = "spiffe://example.org/node";
/// The name of the cluster in the configurations.
const CLUSTER: &str = "test";

/// A registration entry.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The SPIFFE ID.
    pub id: &'a str,
    /// The selectors, all of which must match.
    pub selectors: &'a [&'a str],
    /// More arguments of `spire-server entry create`, such as `-x509SVIDTTL` and `60`.
    pub more: &'a [&'a str],
}

/// Whether the agent asks Kubernetes if a broker may have a pod's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessPolicy {
    /// It does not.
    Permissive,
    /// It does.
    Enforced,
}

impl AccessPolicy {
    const fn word(self) -> &'static str {
        match self {
            Self::Permissive => "permissive",
            Self::Enforced => "enforced",
        }
    }
}

/// A server and an agent; both end with the value.
pub struct Spire {
    layout: Layout,
    tools: Tools,
    folder: PathBuf,
    policy: AccessPolicy,
    port: u16,
    server: RefCell<Option<Program>>,
    agent: RefCell<Option<Program>>,
}

impl Spire {
    /// Starts the server. `namespace` is that of the agent's service account.
    pub async fn start(layout: &Layout, folder: &Path, namespace: &str, policy: AccessPolicy) -> Result<Self> {
        let spire = Self {
            layout: layout.clone(),
            tools: Tools::new(layout),
            folder: folder.to_owned(),
            policy,
            port: free_address()?.port(),
            server: RefCell::default(),
            agent: RefCell::default(),
        };
        fs::create_dir_all(spire.own())?;
        files::write(&spire.own().join("server.conf"), spire.server_config(namespace))?;
        spire.start_server().await?;
        let selector = format!("k8s_psat:cluster:{CLUSTER}");
        spire.ask(&[
            "entry",
            "create",
            "-node",
            "-parentID",
            "spiffe://example.org/spire/server",
            "-spiffeID",
            NODE_ALIAS,
            "-selector",
            &selector,
        ])?;
        Ok(spire)
    }

    /// Starts the server, with the database that it had.
    pub async fn start_server(&self) -> Result<()> {
        self.server.replace(Some(self.run("spire-server", "server.conf")?));
        eventually("SPIRE's server to answer", SOON, async || {
            check(&self.server)?;
            self.ask(&["agent", "count"]).map(drop)
        })
        .await
    }

    /// Kills the server.
    pub fn kill_server(&self) {
        self.server.take();
    }

    /// Starts an agent, which attests with that token.
    pub async fn start_agent(&self, token: &str) -> Result<()> {
        files::write(&self.own().join("agent-token"), token)?;
        let bundle = self.output(&["bundle", "show", "-socketPath", &self.server_socket()])?;
        files::write(&self.own().join("bootstrap.pem"), bundle)?;
        files::write(&self.own().join("agent.conf"), self.agent_config()?)?;
        self.restart_agent().await
    }

    /// Starts the agent again.
    pub async fn restart_agent(&self) -> Result<()> {
        self.kill_agent();
        for socket in [self.agent_socket(), self.broker_socket()] {
            fs::create_dir_all(socket.parent().context("a socket lies in a folder")?)?;
            if socket.exists() {
                fs::remove_file(&socket)?;
            }
        }
        self.agent.replace(Some(self.run("spire-agent", "agent.conf")?));
        eventually("SPIRE's agent to listen", SOON, async || {
            check(&self.agent)?;
            ensure!(self.agent_socket().exists() && self.broker_socket().exists(), "it does not listen yet");
            Ok(())
        })
        .await
    }

    /// Kills the agent, which leaves its sockets behind.
    pub fn kill_agent(&self) {
        self.agent.take();
    }

    /// The agent's Workload API.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.folder.join("agent/sockets/agent.sock")
    }

    fn broker_socket(&self) -> PathBuf {
        self.folder.join("agent/broker/api.sock")
    }

    /// Creates an entry for pods, and returns its id.
    pub fn register(&self, entry: Entry<'_>) -> Result<String> {
        let mut words = vec!["entry", "create", "-parentID", NODE_ALIAS, "-spiffeID", entry.id];
        entry.selectors.iter().for_each(|selector| words.extend(["-selector", selector]));
        words.extend(entry.more);
        let made = self.ask(&words)?;
        let id = made["results"][0]["entry"]["id"].as_str();
        Ok(id.with_context(|| format!("no entry was created: {made}"))?.to_owned())
    }

    /// Deletes an entry.
    pub fn deregister(&self, entry: &str) -> Result<()> {
        self.ask(&["entry", "delete", "-entryID", entry]).map(drop)
    }

    /// Sets the bundle of another trust domain, in PEM.
    pub fn federate(&self, trust_domain: &str, pem: &str) -> Result<()> {
        let path = self.own().join("federated.pem");
        files::write(&path, pem)?;
        let (id, path) = (format!("spiffe://{trust_domain}"), path.display().to_string());
        self.ask(&["bundle", "set", "-id", &id, "-path", &path]).map(drop)
    }

    /// Replaces the authority of X.509-SVIDs: step by step, as an administrator would.
    pub async fn rotate_authority(&self, mut between: impl AsyncFnMut(&str) -> Result<()>) -> Result<()> {
        let prepared = self.ask(&["localauthority", "x509", "prepare"])?;
        let id = prepared["prepared_authority"]["authority_id"].as_str();
        let id = id.with_context(|| format!("no authority was prepared: {prepared}"))?.to_owned();
        between("prepared").await?;
        self.ask(&["localauthority", "x509", "activate", "-authorityID", &id])?;
        between("activated").await?;
        let shown = self.ask(&["localauthority", "x509", "show"])?;
        let old = shown["old"]["authority_id"].as_str();
        let old = old.with_context(|| format!("there is no old authority: {shown}"))?.to_owned();
        self.ask(&["localauthority", "x509", "taint", "-authorityID", &old])?;
        between("tainted").await?;
        self.ask(&["localauthority", "x509", "revoke", "-authorityID", &old])?;
        between("revoked").await
    }

    /// Runs a command of the server's command line, and returns its JSON.
    pub fn ask(&self, words: &[&str]) -> Result<Value> {
        let socket = self.server_socket();
        let output = self.output(&[words, &["-socketPath", &socket, "-output", "json"]].concat())?;
        serde_json::from_str(&output).with_context(|| format!("spire-server {words:?} prints {output:?}"))
    }

    fn output(&self, words: &[&str]) -> Result<String> {
        let output = Command::new(self.tools.program("spire-server")).args(words).output();
        let output = output.context("cannot run spire-server")?;
        let [said, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        ensure!(output.status.success(), "spire-server {words:?}: {said} {errors}");
        Ok(said)
    }

    fn run(&self, program: &str, config: &str) -> Result<Program> {
        let config = self.own().join(config);
        let mut command = Command::new(self.tools.program(program));
        // For the agent's access policy.
        command.args(["run", "-config"]).arg(config).env("KUBECONFIG", self.layout.kubeconfig());
        Program::spawn(&mut command, &self.log(program))
    }

    fn log(&self, program: &str) -> PathBuf {
        self.folder.join(format!("{program}.log"))
    }

    fn own(&self) -> PathBuf {
        self.folder.join("spire")
    }

    fn server_socket(&self) -> String {
        self.own().join("server.sock").display().to_string()
    }

    fn server_config(&self, namespace: &str) -> String {
        format!(
            r#"server {{
  bind_address = "127.0.0.1"
  bind_port = {port}
  socket_path = "{socket}"
  trust_domain = "{TRUST_DOMAIN}"
  data_dir = "{own}"
  log_level = "DEBUG"
}}
plugins {{
  DataStore "sql" {{
    plugin_data {{
      database_type = "sqlite3"
      connection_string = "{own}/entries.sqlite3"
    }}
  }}
  KeyManager "disk" {{
    plugin_data {{ keys_path = "{own}/keys.json" }}
  }}
  NodeAttestor "k8s_psat" {{
    plugin_data {{
      clusters = {{
        "{CLUSTER}" = {{
          service_account_allow_list = ["{namespace}:{AGENT_ACCOUNT}"]
          kube_config_file = "{kubeconfig}"
        }}
      }}
    }}
  }}
}}
"#,
            port = self.port,
            socket = self.server_socket(),
            own = self.own().display(),
            kubeconfig = self.layout.kubeconfig().display(),
        )
    }

    fn agent_config(&self) -> Result<String> {
        let session = Session::load(&self.layout)?;
        Ok(format!(
            r#"agent {{
  data_dir = "{own}/agent"
  log_level = "DEBUG"
  server_address = "127.0.0.1"
  server_port = {port}
  socket_path = "{socket}"
  trust_bundle_path = "{own}/bootstrap.pem"
  trust_domain = "{TRUST_DOMAIN}"
  experimental {{
    sync_interval = "1s"
    broker {{
      socket_path = "{broker}"
      brokers = [{{
        id = "{BROKER_ID}"
        allowed_reference_types = [{{ type_url = "type.googleapis.com/spiffe.broker.KubernetesObjectReference" }}]
      }}]
    }}
  }}
}}
plugins {{
  KeyManager "memory" {{ plugin_data {{}} }}
  NodeAttestor "k8s_psat" {{
    plugin_data {{
      cluster = "{CLUSTER}"
      token_path = "{own}/agent-token"
    }}
  }}
  WorkloadAttestor "k8s" {{
    plugin_data {{
      node_name = "{address}"
      kubelet_secure_port = {kubelet}
      kubelet_ca_path = "{pki}/ca.crt"
      certificate_path = "{pki}/admin.crt"
      private_key_path = "{pki}/admin.key"
      experimental {{
        broker {{
          access_policy = "{policy}"
          brokers = [{{ id = "{BROKER_ID}" }}]
        }}
      }}
    }}
  }}
}}
"#,
            own = self.own().display(),
            port = self.port,
            socket = self.agent_socket().display(),
            broker = self.broker_socket().display(),
            address = session.address,
            kubelet = session.kubelet[0],
            pki = self.layout.pki().display(),
            policy = self.policy.word(),
        ))
    }
}

fn check(program: &RefCell<Option<Program>>) -> Result<()> {
    program.borrow_mut().as_mut().context("it was not started")?.check()
}
