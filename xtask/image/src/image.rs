//! One image: a layer, possibly shared with others, and how it is run.

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
    /// The user if the pod does not set one: a number, or `None` for root.
    pub user: &'static str,
    /// The labels of the image.
    pub labels: BTreeMap<String, String>,
}

impl Image {
    /// The name without folders and tag.
    #[must_use]
    pub fn base_name(&self) -> &str {
        let name = self.reference.rsplit('/').next().unwrap_or(&self.reference);
        name.split(':').next().unwrap_or(name)
    }

    /// The whole name: container engines look for a name without a registry under `docker.io`.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.reference.split_once('/') {
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => self.reference.clone(),
            _ => format!("docker.io/{}", self.reference),
        }
    }

    /// The image's configuration, which is the same in both kinds of archive.
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

/// No time: the same programs result in the same image, and its revision names their source.
const CREATED: &str = "1970-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_registry_is_below_docker_io() {
        for (reference, full) in [
            ("svid-csi/svid-csi:1", "docker.io/svid-csi/svid-csi:1"),
            ("registry.example.org/svid-csi:1", "registry.example.org/svid-csi:1"),
            ("registry:5000/svid-csi:1", "registry:5000/svid-csi:1"),
            ("localhost/svid-csi:1", "localhost/svid-csi:1"),
        ] {
            let image = Image { reference: reference.to_owned(), ..Image::default() };
            assert_eq!(image.full_name(), full);
        }
    }
}
