//! Helm, used like users who install svid-csi.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::layout::Layout;
use crate::tools::Tools;

/// The name of every release.
const RELEASE: &str = "svid-csi";

/// Helm for the release of this checkout's chart in one namespace, installed or not.
pub struct Helm {
    layout: Layout,
    namespace: String,
}

impl Helm {
    /// For the release in that namespace.
    #[must_use]
    pub fn new(layout: &Layout, namespace: &str) -> Self {
        Self { layout: layout.clone(), namespace: namespace.to_owned() }
    }

    /// Installs it with a profile of the chart and further values. Its pods need not run yet.
    pub async fn install(&self, profile: &str, values: &Value) -> Result<String> {
        self.run(&["install", RELEASE, ".", "--values", &profile_file(profile), "--values", "-"], values).await
    }

    /// Lets the API server validate the objects of [`install`](Self::install), and returns them.
    pub async fn dry_run(&self, profile: &str, values: &Value) -> Result<String> {
        let profile = profile_file(profile);
        let words = ["install", RELEASE, ".", "--dry-run=server", "--values", &profile, "--values", "-"];
        self.run(&words, values).await
    }

    /// The objects of [`install`](Self::install), rendered without the API server, for a version of Kubernetes.
    pub async fn template(&self, profile: &str, kubernetes: &str, values: &Value) -> Result<String> {
        let profile = profile_file(profile);
        let words = ["template", RELEASE, ".", "--kube-version", kubernetes, "--values", &profile, "--values", "-"];
        self.run(&words, values).await
    }

    /// Upgrades it as documented: earlier values stay except for these.
    pub async fn upgrade(&self, values: &Value) -> Result<String> {
        self.run(&["upgrade", RELEASE, ".", "--reset-then-reuse-values", "--values", "-"], values).await
    }

    /// Reverts the last change.
    pub async fn rollback(&self) -> Result<String> {
        self.run(&["rollback", RELEASE], &Value::Null).await
    }

    /// Uninstalls it.
    pub async fn uninstall(&self) -> Result<String> {
        self.run(&["uninstall", RELEASE], &Value::Null).await
    }

    /// Runs Helm in the folder of the chart, with values on its standard input, and returns its output.
    async fn run(&self, words: &[&str], values: &Value) -> Result<String> {
        let said = format!("helm {}", words.join(" "));
        let (mut command, input) = (self.command(words), values.to_string());
        let run = move || {
            let mut child = command.spawn().context("cannot run helm")?;
            // If it fails before it reads, it reports the reason itself.
            let _ = child.stdin.take().context("no input")?.write_all(input.as_bytes());
            Ok::<_, anyhow::Error>(child.wait_with_output()?)
        };
        let output = tokio::task::spawn_blocking(run).await??;
        ensure!(output.status.success(), "{said}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(Tools::new(&self.layout).program("helm"));
        command
            .args(words)
            .args(["--namespace", &self.namespace, "--kubeconfig"])
            .arg(self.layout.kubeconfig())
            .current_dir(self.layout.repo.join("deploy/chart"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let own = self.layout.work.join("helm");
        for (variable, folder) in CACHES {
            command.env(variable, own.join(folder));
        }
        command
    }
}

/// The files that Helm otherwise keeps in the home folder of the user.
const CACHES: [(&str, &str); 4] = [
    ("HELM_CACHE_HOME", "cache"),
    ("HELM_CONFIG_HOME", "config"),
    ("HELM_DATA_HOME", "data"),
    ("KUBECACHEDIR", "kube"),
];

fn profile_file(profile: &str) -> String {
    format!("values-{profile}.yaml")
}
