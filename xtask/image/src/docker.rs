//! Archives in the form of `docker save`, which container engines, containerd and k3s import under the images' own
//! names.

use anyhow::Result;
use serde_json::json;

use crate::arch::Arch;
use crate::archive::Archive;
use crate::image::Image;
use crate::sha256;

/// The archive of images that share this layer.
pub fn archive(arch: Arch, layer: &[u8], images: &[Image]) -> Result<Vec<u8>> {
    let layer_hash = sha256(layer);
    let layer_name = format!("{layer_hash}/layer.tar");
    let mut archive = Archive::new();
    archive.file(&layer_name, 0o644, layer)?;
    let mut manifest = Vec::new();
    for image in images {
        let config = serde_json::to_vec(&image.config(arch, &layer_hash))?;
        let config_name = format!("{}.json", sha256(&config));
        archive.file(&config_name, 0o644, &config)?;
        manifest.push(json!({"Config": config_name, "RepoTags": [image.reference], "Layers": [layer_name]}));
    }
    archive.file("manifest.json", 0o644, &serde_json::to_vec(&manifest)?)?;
    archive.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Entry, pack};

    fn image(name: &str) -> Image {
        Image {
            reference: format!("registry/{name}:e2e"),
            entrypoint: vec![format!("/bin/{name}")],
            ..Image::default()
        }
    }

    #[test]
    fn images_of_an_archive_share_their_layer() {
        let layer = vec![("bin".into(), Entry::Folder(0o755)), ("bin/b".into(), Entry::Link("a".into()))];
        let archive = archive(Arch::Amd64, &pack(&layer).unwrap(), &[image("a"), image("b")]).unwrap();

        let mut archive = tar::Archive::new(&archive[..]);
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        let layers = names.iter().filter(|name| name.ends_with("layer.tar")).count();
        assert_eq!((names.len(), layers), (4, 1), "{names:?}");
    }
}
