//! cert-manager, as its two processes: the controllers and the admission webhook, which can be stopped and started
//! separately.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::layout::Layout;
use crate::session::Session;
use crate::tools::{CERT_MANAGER, Tools};
use crate::{issuers, kubectl, process, wait};

/// The processes, in the order they start.
pub const PROGRAMS: [&str; 2] = ["cert-manager-webhook", "cert-manager-controller"];
/// The name of the program of both.
pub const PROGRAM: &str = CERT_MANAGER;
/// The namespace of the secrets of ClusterIssuers.
pub const NAMESPACE: &str = "cert-manager";
/// The controller that approves every request, which must be off for an approver with rules.
pub const DEFAULT_APPROVER: &str = "certificaterequests-approver";

const READY: Duration = Duration::from_secs(60);
const DEFINITIONS: [&str; 4] = ["certificaterequests", "certificates", "clusterissuers", "issuers"];

/// Whether cert-manager itself approves every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultApprover {
    /// By default.
    On,
    /// With `--controllers=*,-certificaterequests-approver`.
    Off,
}

/// cert-manager on the cluster of this checkout.
pub struct CertManager {
    layout: Layout,
    tools: Tools,
    session: Session,
}

impl CertManager {
    /// cert-manager on the running cluster, as it was left.
    pub fn on(layout: &Layout) -> Result<Self> {
        Ok(Self { layout: layout.clone(), tools: Tools::new(layout), session: Session::load(layout)? })
    }

    /// Starts all of it. Parts that already run with the requested settings are not restarted.
    pub fn start(&self, approver: DefaultApprover) -> Result<()> {
        if !process::runs(&self.layout, PROGRAMS[0]) {
            self.define()?;
        }
        self.start_webhook()?;
        self.start_controllers(approver)
    }

    /// Ends both processes.
    pub fn stop(&self) -> Result<()> {
        stop(&self.layout)
    }

    /// Starts the controllers; restarts them if they run with the other setting.
    pub fn start_controllers(&self, approver: DefaultApprover) -> Result<()> {
        let controllers = match approver {
            DefaultApprover::On => "*".to_owned(),
            DefaultApprover::Off => format!("*,-{DEFAULT_APPROVER}"),
        };
        let mut command = self.command("controller");
        command.arg(format!("-controllers={controllers}")).arg(format!("-cluster-resource-namespace={NAMESPACE}"));
        process::keep(&self.layout, PROGRAMS[1], &mut command)
    }

    /// Ends the controllers: nothing is signed any more, but requests can still be created.
    pub fn stop_controllers(&self) -> Result<()> {
        process::stop(&self.layout, PROGRAMS[1])
    }

    /// Starts the webhook, and waits until the API server reaches it.
    pub fn start_webhook(&self) -> Result<()> {
        let [port, health] = self.session.cert_manager;
        let pki = self.layout.pki();
        let mut command = self.command("webhook");
        command
            .arg(format!("-secure-port={port}"))
            .arg(format!("-healthz-port={health}"))
            .arg(format!("-tls-cert-file={}", pki.join("cert-manager-webhook.crt").display()))
            .arg(format!("-tls-private-key-file={}", pki.join("cert-manager-webhook.key").display()));
        process::keep(&self.layout, PROGRAMS[0], &mut command)?;
        wait::until("cert-manager's webhook to be asked", READY, || {
            process::check(&self.layout, PROGRAMS[0])?;
            self.ensure_asked()
        })
    }

    /// Ends the webhook: requests can no longer be created, because the API server cannot call it.
    pub fn stop_webhook(&self) -> Result<()> {
        process::stop(&self.layout, PROGRAMS[0])
    }

    /// The kinds of objects, the namespace, and the webhook configuration of the API server.
    fn define(&self) -> Result<()> {
        let folder = self.tools.folder(CERT_MANAGER).join("crds").display().to_string();
        kubectl::ask(&self.layout, &self.tools, &["apply", "--server-side", "--force-conflicts", "-f", &folder])?;
        wait::until("cert-manager's kinds of objects", READY, || self.ensure_defined())?;
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let mut objects = self.webhooks()?.to_vec();
        objects.push(namespace);
        kubectl::apply(&self.layout, &self.tools, &objects)
    }

    fn ensure_defined(&self) -> Result<()> {
        DEFINITIONS.iter().try_for_each(|kind| {
            let path = format!("/apis/cert-manager.io/v1/{kind}?limit=1");
            kubectl::ask(&self.layout, &self.tools, &["get", "--raw", &path]).map(drop)
        })
    }

    /// An object that only the webhook refuses.
    fn ensure_asked(&self) -> Result<()> {
        let mut wrong = issuers::ca_cluster_issuer("nobody", "nothing");
        wrong["spec"]["selfSigned"] = json!({});
        let input = serde_json::to_string(&wrong)?;
        let arguments = ["create", "--dry-run=server", "-f", "-"];
        let answer = kubectl::feed(&self.layout, &self.tools, &arguments, &input);
        let refusal = answer.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(refusal.contains("may not specify more than one issuer type"), "the API server says {refusal:?}");
        Ok(())
    }

    fn webhooks(&self) -> Result<[Value; 2]> {
        let authority = self.layout.pki().join("ca.crt");
        let authority = fs::read(&authority).with_context(|| format!("cannot read {}", authority.display()))?;
        let authority = base64::engine::general_purpose::STANDARD.encode(authority);
        let webhook = |path: &str, rule: Value| {
            json!([{
                "name": "webhook.cert-manager.io",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "matchPolicy": "Equivalent",
                "timeoutSeconds": 10,
                "failurePolicy": "Fail",
                "rules": [rule],
                "clientConfig": {
                    "url": format!("https://127.0.0.1:{}/{path}", self.session.cert_manager[0]),
                    "caBundle": authority,
                },
            }])
        };
        let mutated = rule("CREATE", &["cert-manager.io"], "certificaterequests");
        let validated = rule("CREATE UPDATE", &["cert-manager.io", "acme.cert-manager.io"], "*/*");
        Ok([
            configuration("MutatingWebhookConfiguration", webhook("mutate", mutated)),
            configuration("ValidatingWebhookConfiguration", webhook("validate", validated)),
        ])
    }

    fn command(&self, role: &str) -> Command {
        let mut command = Command::new(self.tools.program(PROGRAM));
        command.arg(role).arg(format!("-kubeconfig={}", self.layout.kubeconfig().display()));
        command
    }
}

/// Ends both processes, if they run.
pub fn stop(layout: &Layout) -> Result<()> {
    PROGRAMS.iter().rev().try_for_each(|program| process::stop(layout, program))
}

/// The rules of the webhooks, as in cert-manager's own manifests.
fn rule(operations: &str, groups: &[&str], resources: &str) -> Value {
    json!({
        "apiGroups": groups,
        "apiVersions": ["v1"],
        "operations": operations.split(' ').collect::<Vec<_>>(),
        "resources": [resources],
    })
}

fn configuration(kind: &str, webhooks: Value) -> Value {
    let api_version = "admissionregistration.k8s.io/v1";
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "cert-manager-webhook"}, "webhooks": webhooks})
}
