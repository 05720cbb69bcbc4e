//! Checks identity files with other code than the code that wrote them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use svid_csi::spiffe::svid::{Leaf, Svid, SvidError};
use svid_csi_testkit::JsonLines;

/// The interval at which `--watch` checks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Verdict {
    #[serde(flatten)]
    leaf: Leaf,
    key_matches: bool,
    chain_ok: bool,
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

/// Checks the files once. Returns whether they are an identity.
pub(crate) fn once(folder: &Path, out: &JsonLines) -> bool {
    match verdict(folder) {
        Ok(verdict) => {
            out.write(&verdict);
            verdict.key_matches && verdict.chain_ok
        }
        Err(error) => {
            let message = Failure { error: error.to_string() };
            out.write(&message);
            false
        }
    }
}

/// Checks the files now and after each swap.
pub(crate) async fn forever(folder: &Path, out: &JsonLines) -> ! {
    let mut checked = None;
    loop {
        let now = version(folder);
        if checked.as_ref() != Some(&now) {
            once(folder, out);
            checked = Some(now);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The target of `..data`, which changes when the files are swapped as a whole (kubelet, `AtomicWriter`).
fn version(folder: &Path) -> Option<PathBuf> {
    fs::read_link(folder.join("..data")).ok()
}

fn verdict(folder: &Path) -> Result<Verdict, SvidError> {
    let svid = Svid::read(folder)?;
    let (key_matches, chain_ok) = (svid.check_key().is_ok(), svid.check_chain().is_ok());
    Ok(Verdict { leaf: svid.leaf()?, key_matches, chain_ok })
}
