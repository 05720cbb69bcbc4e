//! Archives of the OCI image layout, which registries accept (with `skopeo copy`, for example), for one machine or
//! several. containerd imports them too, under the images' own names.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Result;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use crate::arch::Arch;
use crate::archive::Archive;
use crate::image::Image;
use crate::sha256;

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The name of an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The name under which containerd imports an image; it would use the name in the layout otherwise.
const IMAGE_NAME: &str = "io.containerd.image.name";

/// The images of one archive, for one machine or several, by their names in the layout and for containerd.
#[derive(Default)]
pub struct Layout {
    blobs: BTreeMap<String, Vec<u8>>,
    images: BTreeMap<(String, String), Vec<Value>>,
}

impl Layout {
    /// Adds images that share this layer.
    pub fn add(&mut self, arch: Arch, layer: &[u8], images: &[Image]) -> Result<()> {
        let layer_hash = sha256(layer);
        let layer = self.blob(LAYER, compress(layer)?);
        for image in images {
            let config = self.blob(CONFIG, serde_json::to_vec(&image.config(arch, &layer_hash))?);
            let manifest = json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": config,
                "layers": [layer],
                "annotations": image.labels,
            });
            let mut manifest = self.blob(MANIFEST, serde_json::to_vec(&manifest)?);
            manifest["platform"] = json!({"architecture": arch.to_string(), "os": "linux"});
            let names = (image.base_name().to_owned(), image.full_name());
            self.images.entry(names).or_default().push(manifest);
        }
        Ok(())
    }

    /// The archive.
    pub fn archive(mut self) -> Result<Vec<u8>> {
        let mut manifests = Vec::new();
        for ((name, full_name), images) in std::mem::take(&mut self.images) {
            let mut named = match <[Value; 1]>::try_from(images) {
                Ok([only]) => only,
                Err(several) => {
                    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": several});
                    self.blob(INDEX, serde_json::to_vec(&index)?)
                }
            };
            named["annotations"] = json!({REF_NAME: name, IMAGE_NAME: full_name});
            manifests.push(named);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let mut archive = Archive::new();
        archive.folder("blobs", 0o755)?;
        archive.folder("blobs/sha256", 0o755)?;
        for (hash, blob) in &self.blobs {
            archive.file(&format!("blobs/sha256/{hash}"), 0o644, blob)?;
        }
        archive.file("index.json", 0o644, &serde_json::to_vec(&index)?)?;
        archive.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        archive.bytes()
    }

    /// Stores a blob and returns its descriptor.
    fn blob(&mut self, media_type: &str, blob: Vec<u8>) -> Value {
        let (hash, size) = (sha256(&blob), blob.len());
        self.blobs.insert(hash.clone(), blob);
        json!({"mediaType": media_type, "digest": format!("sha256:{hash}"), "size": size})
    }
}

fn compress(layer: &[u8]) -> Result<Vec<u8>> {
    let mut compressed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    compressed.write_all(layer)?;
    Ok(compressed.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            (entry.path().unwrap().display().to_string(), contents)
        };
        archive.entries().unwrap().map(read).collect()
    }

    fn image(name: &str) -> Image {
        Image { reference: format!("svid-csi/{name}:1"), entrypoint: vec![format!("/bin/{name}")], ..Image::default() }
    }

    fn layout(arches: &[Arch]) -> BTreeMap<String, Vec<u8>> {
        let mut layout = Layout::default();
        for arch in arches {
            layout.add(*arch, arch.to_string().as_bytes(), &[image("a"), image("b")]).unwrap();
        }
        files(&layout.archive().unwrap())
    }

    /// Checks every descriptor below this one: the blob exists and has that size and digest.
    fn check(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value, seen: &mut Vec<String>) {
        let hash = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let blob = &files[&format!("blobs/sha256/{hash}")];
        assert_eq!((sha256(blob).as_str(), Some(blob.len() as u64)), (hash, descriptor["size"].as_u64()));
        seen.push(descriptor["mediaType"].as_str().unwrap().to_owned());
        let Ok(inner) = serde_json::from_slice::<Value>(blob) else { return };
        let lists = ["manifests", "layers"].into_iter().filter_map(|list| inner[list].as_array());
        lists.flatten().chain(inner.get("config").filter(|_| seen.last().unwrap() == MANIFEST)).for_each(|below| {
            check(files, below, seen);
        });
    }

    #[test]
    fn every_blob_exists_and_is_named_by_its_digest() {
        for (arches, kinds) in [
            (&[Arch::Amd64][..], vec![MANIFEST, LAYER, CONFIG]),
            (&[Arch::Amd64, Arch::Arm64], { vec![INDEX, MANIFEST, LAYER, CONFIG, MANIFEST, LAYER, CONFIG] }),
        ] {
            let files = layout(arches);
            let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
            let named = index["manifests"].as_array().unwrap();
            let names = |kind: &str| named.iter().map(|image| image["annotations"][kind].clone()).collect::<Vec<_>>();
            assert_eq!(names(REF_NAME), ["a", "b"]);
            assert_eq!(names(IMAGE_NAME), ["docker.io/svid-csi/a:1", "docker.io/svid-csi/b:1"]);
            for image in named {
                let mut seen = Vec::new();
                check(&files, image, &mut seen);
                assert_eq!(seen, kinds);
            }
        }
    }

    #[test]
    fn the_same_layer_gives_the_same_archive_and_the_images_share_it() {
        let files = layout(&[Arch::Amd64]);
        assert_eq!(files, layout(&[Arch::Amd64]));
        let blobs = files.iter().filter(|(name, blob)| name.starts_with("blobs/") && !blob.is_empty());
        assert_eq!(blobs.count(), 5, "one layer, two configurations, two manifests");
    }
}
