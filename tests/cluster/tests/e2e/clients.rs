//! Programs on the host that use the socket in a pod's volume, with client libraries for their languages.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;
use svid_csi_cluster::program::Program;
use svid_csi_cluster::tools::Tools;

use crate::eventually::{SOON, eventually};
use crate::mountpoints::target;
use crate::pods::{TestPod, json_lines};
use crate::scene::Scene;

/// A program that prints its observations as JSON lines.
pub struct Client {
    name: &'static str,
    program: Program,
}

impl Client {
    /// A program in Go that follows X.509-SVIDs, and tokens for that audience.
    pub fn go(scene: &Scene, pod: &TestPod<'_>, audience: &str) -> Result<Self> {
        let program = Tools::new(&scene.layout).program("gospiffe");
        let words = ["watch".into(), "--socket".into(), socket(scene, pod)?.into_os_string(), audience.into()];
        Self::start(scene, "go", program, words.into())
    }

    /// The same in Python.
    pub fn python(scene: &Scene, pod: &TestPod<'_>, audience: &str) -> Result<Self> {
        let [python, program] = Tools::new(&scene.layout).python();
        let words = [program.into_os_string(), socket(scene, pod)?.into_os_string(), audience.into()];
        Self::start(scene, "python", python, words.into())
    }

    /// A program in Go that requests secrets like Envoy.
    pub fn envoy(scene: &Scene, pod: &TestPod<'_>, secrets: &[&str]) -> Result<Self> {
        let program = Tools::new(&scene.layout).program("gospiffe");
        let mut words = vec!["sds".into(), "--socket".into(), socket(scene, pod)?.into_os_string()];
        words.extend(secrets.iter().map(OsString::from));
        Self::start(scene, "envoy", program, words)
    }

    fn start(scene: &Scene, name: &'static str, program: PathBuf, words: Vec<OsString>) -> Result<Self> {
        let log = scene.folder.join(format!("{name}.log"));
        Ok(Self { name, program: Program::start(&program, words, &log)? })
    }

    /// The number of printed lines.
    pub fn lines(&self) -> Result<usize> {
        Ok(json_lines(&self.program.log()?).len())
    }

    /// Waits for a line after the first `seen` ones that satisfies `wanted`, and returns it.
    pub async fn wait_line(&mut self, what: &str, seen: usize, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually(&format!("the client in {} to print {what}", self.name), SOON, async || {
            self.program.check()?;
            let lines = json_lines(&self.program.log()?);
            let found = lines.iter().skip(seen).find(|line| wanted(line)).cloned();
            found.with_context(|| format!("{} lines, the last is {:?}", lines.len(), lines.last()))
        })
        .await
    }
}

/// A path of the socket that is short enough (unix(7)).
pub fn socket(scene: &Scene, pod: &TestPod<'_>) -> Result<PathBuf> {
    let link = scene.folder.join(&pod.name);
    if fs::symlink_metadata(&link).is_err() {
        symlink(target(scene, pod), &link)?;
    }
    Ok(link.join("agent.sock"))
}
