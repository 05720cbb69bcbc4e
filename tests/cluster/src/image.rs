//! Container images without a container engine: an archive with one layer of static programs, as `docker save` writes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aws_lc_rs::digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::files;

/// A file of a layer.
pub enum Entry {
    /// A folder with these permissions.
    Folder(u32),
    /// An executable, copied from the host.
    Program(PathBuf),
    /// A symbolic link to this target.
    Link(String),
    /// A small file.
    Text(String),
}

/// A layer: paths without a leading slash, in order.
pub type Layer = Vec<(String, Entry)>;

/// One of the images of an archive: they share its layer and differ in name and entry point.
pub struct Image {
    /// Name and tag.
    pub reference: String,
    /// The program to run, with fixed arguments.
    pub entrypoint: Vec<String>,
    /// Whom it runs as where the pod does not say: a number, or nothing for root.
    pub user: &'static str,
}

/// Writes the archive and returns the size of its layer in bytes.
pub fn write_archive(path: &Path, layer: &Layer, images: &[Image]) -> Result<u64> {
    let layer = pack(layer)?;
    let layer_hash = sha256(&layer);
    let layer_name = format!("{layer_hash}/layer.tar");
    let mut archive = Builder::new(Vec::new());
    append(&mut archive, &layer_name, EntryType::Regular, 0o644, &layer)?;
    let mut manifest = Vec::new();
    for image in images {
        let config = serde_json::to_vec(&config(image, &layer_hash))?;
        let config_name = format!("{}.json", sha256(&config));
        append(&mut archive, &config_name, EntryType::Regular, 0o644, &config)?;
        manifest.push(json!({"Config": config_name, "RepoTags": [image.reference], "Layers": [layer_name]}));
    }
    append(&mut archive, "manifest.json", EntryType::Regular, 0o644, &serde_json::to_vec(&manifest)?)?;
    files::write(path, archive.into_inner()?)?;
    Ok(layer.len() as u64)
}

fn config(image: &Image, layer_hash: &str) -> Value {
    json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Entrypoint": image.entrypoint, "Env": ["PATH=/bin"], "WorkingDir": "/", "User": image.user},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_hash}")]},
    })
}

fn pack(layer: &Layer) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (name, entry) in layer {
        match entry {
            Entry::Folder(mode) => append(&mut archive, name, EntryType::Directory, *mode, &[])?,
            Entry::Text(text) => append(&mut archive, name, EntryType::Regular, 0o644, text.as_bytes())?,
            Entry::Link(target) => append_link(&mut archive, name, target)?,
            Entry::Program(source) => {
                let program = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
                append(&mut archive, name, EntryType::Regular, 0o755, &program)?;
            }
        }
    }
    archive.into_inner().context("cannot pack a layer")
}

fn append(archive: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, mode: u32, data: &[u8]) -> Result<()> {
    let mut header = header(kind, mode);
    header.set_size(data.len() as u64);
    archive.append_data(&mut header, name, data).with_context(|| format!("cannot pack {name}"))
}

fn append_link(archive: &mut Builder<Vec<u8>>, name: &str, target: &str) -> Result<()> {
    let mut header = header(EntryType::Symlink, 0o777);
    header.set_size(0);
    archive.append_link(&mut header, name, target).with_context(|| format!("cannot pack {name}"))
}

/// No owner but root and no time: the same programs give the same image.
fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn sha256(data: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, data);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash of a file's contents, to tell whether it changed.
pub fn fingerprint(path: &Path) -> Result<String> {
    Ok(sha256(&fs::read(path).with_context(|| format!("cannot read {}", path.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> Image {
        Image { reference: format!("{name}:e2e"), entrypoint: vec![format!("/bin/{name}")], user: "" }
    }

    #[test]
    fn images_of_an_archive_share_their_layer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image.tar");
        let layer = vec![("bin".into(), Entry::Folder(0o755)), ("bin/b".into(), Entry::Link("a".into()))];
        write_archive(&path, &layer, &[image("a"), image("b")]).unwrap();

        let mut archive = tar::Archive::new(fs::File::open(&path).unwrap());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        let layers = names.iter().filter(|name| name.ends_with("layer.tar")).count();
        assert_eq!((names.len(), layers), (4, 1), "{names:?}");
    }

    #[test]
    fn the_same_layer_gives_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let layer = vec![("etc".into(), Entry::Folder(0o755)), ("etc/x".into(), Entry::Text("x".into()))];
        let prints = ["1.tar", "2.tar"].map(|name| {
            let path = folder.path().join(name);
            write_archive(&path, &layer, &[image("a")]).unwrap();
            fingerprint(&path).unwrap()
        });
        assert_eq!(prints[0], prints[1]);
    }
}
