//! One image: a layer that others may share, and how it is run.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::arch::Arch;

/// One of the images of an archive: they share its layer and differ in name and entry point.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Name and tag.
    pub reference: String,
    /// The program to run, with fixed arguments.
    pub entrypoint: Vec<String>,
    /// Whom it runs as where the pod does not say: a number, or nothing for root.
    pub user: &'static str,
    /// What the image says of itself.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// The name without folders and tag.
    #[must_use]
    pub fn base_name(&self) -> &str {
        let name = self.reference.rsplit('/').next().unwrap_or(&self.reference);
        name.split(':').next().unwrap_or(name)
    }

    /// The image's configuration, which both kinds of archive have in common.
    pub(crate) fn config(&self, arch: Arch, layer_hash: &str) -> Value {
        json!({
            "architecture": arch.to_string(),
            "os": "linux",
            "created": CREATED,
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/bin"],
                "WorkingDir": "/",
                "User": self.user,
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_hash}")]},
            "history": [{"created": CREATED, "created_by": "cargo xtask image"}],
        })
    }
}

/// No time: the same programs give the same image, and its revision says what they were built from.
const CREATED: &str = "1970-01-01T00:00:00Z";
