//! The driver's log on a host where systemd runs it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use svid_csi_core::redact::Keep;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::archive::Contents;
use crate::host::fsx;

const NAME: &str = "journal.txt";
const LINES: &str = "2000";
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: u64 = 8 * 1024 * 1024;

pub(super) async fn add(contents: &mut Contents) {
    match read().await {
        Ok(log) => contents.add(NAME, "the last 2,000 lines of `journalctl -u svid-csi`", &log, Keep::End),
        Err(why) => contents.leave_out(NAME, &why),
    }
}

async fn read() -> Result<String, String> {
    if !fsx::exists(Path::new("/run/systemd/system")).unwrap_or(false) {
        return Err("systemd does not run here; of a pod, add the output of `kubectl logs`".to_owned());
    }
    let arguments = ["--unit=svid-csi", "--lines", LINES, "--no-pager", "--quiet", "--output=short-iso"];
    let mut command = Command::new("journalctl");
    let command = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| format!("journalctl cannot be run: {error}"))?;
    let output = child.stdout.take().ok_or("journalctl has no output")?;
    let mut log = Vec::new();
    let read = tokio::time::timeout(PATIENCE, output.take(MOST_BYTES).read_to_end(&mut log)).await;
    read.map_err(|_| "journalctl does not end".to_owned())?
        .map_err(|error| format!("journalctl cannot be read: {error}"))?;
    if log.is_empty() {
        Err("the journal has nothing of svid-csi".to_owned())
    } else {
        Ok(String::from_utf8_lossy(&log).into_owned())
    }
}
