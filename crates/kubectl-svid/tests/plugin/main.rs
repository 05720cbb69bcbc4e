//! `kubectl svid` against a scripted API server.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::disallowed_methods, reason = "tests write files as others do")]
#![allow(unreachable_pub, reason = "nothing is reachable from outside a test program")]

mod api_server;
mod commands;
mod doctor;
mod report;
mod status;
mod trouble;

use std::process::{Command, Output};

use serde_json::{Value, json};

use self::api_server::ApiServer;

/// An exit code, stdout and stderr.
pub type Ran = (i32, String, String);

/// The plugin, with this kubeconfig and nothing else of this machine.
pub fn plugin(server: &ApiServer, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-svid"));
    command.env_clear().env("KUBECONFIG", server.kubeconfig()).args(args);
    command
}

/// Runs the plugin to its end.
pub fn run(server: &ApiServer, args: &[&str]) -> Ran {
    ran(plugin(server, args).output().unwrap())
}

/// The result of a run.
pub fn ran(Output { status, stdout, stderr }: Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A driver's pod as the chart creates it.
pub fn driver_pod(node: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("driver-{node}"), "namespace": "svid-csi",
            "labels": {"app.kubernetes.io/component": "driver"},
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {"name": "sidecar", "image": "x", "args": ["driver"]},
                {
                    "name": "main", "image": "x", "command": ["/bin/svid-csi"],
                    "args": ["driver", "--driver-name=csi.spiffe.io", "--data-root=/plugin/data"],
                    "securityContext": {"privileged": true},
                },
            ],
        },
        "status": {"phase": "Running"},
    })
}

/// A pod with a volume of that driver name.
pub fn user_pod(name: &str, node: &str, driver: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "app", "image": "x"}],
            "volumes": [{"name": "id", "csi": {"driver": driver}}, {"name": "tmp", "emptyDir": {}}],
        },
        "status": {"phase": "Running"},
    })
}
