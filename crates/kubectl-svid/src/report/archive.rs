//! The files of a report.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use svid_csi_core::quoted::one_line;
use svid_csi_core::redact::{Keep, MARK, Redacted};
use tar::{Builder, EntryType, Header};

/// The most that a log holds.
const MOST_OF_LOG: usize = 1024 * 1024;
/// The most that README.txt holds.
const MOST_OF_README: usize = 64 * 1024;
const FOLDER: &str = "svid-csi-report";

/// A file of the archive.
enum Content {
    /// An archive that the driver itself has redacted.
    Report(Vec<u8>),
    /// Text without secrets.
    Text(Redacted),
}

impl Content {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Report(bytes) => bytes,
            Self::Text(text) => text.text().as_bytes(),
        }
    }
}

/// The files, and what is missing.
pub(super) struct Contents {
    files: Vec<(String, Content)>,
    missing: Vec<(String, String)>,
}

impl Contents {
    pub(super) fn new() -> Self {
        Self { files: Vec::new(), missing: Vec::new() }
    }

    /// Adds what the driver of a node has packed.
    pub(super) fn add_report(&mut self, node: &str, pod: &str, report: Vec<u8>) {
        self.add(&format!("{}/{}.tar.gz", plain(node), plain(pod)), Content::Report(report));
    }

    /// Adds the end of a log.
    pub(super) fn add_log(&mut self, folder: &str, name: &str, log: &str) {
        let text = Redacted::of(log).cut(MOST_OF_LOG, Keep::End);
        self.add(&format!("{}/{}.log", plain(folder), plain(name)), Content::Text(text));
    }

    /// Says why something is missing.
    pub(super) fn leave_out(&mut self, what: &str, why: &str) {
        self.missing.push((what.to_owned(), why.to_owned()));
    }

    fn add(&mut self, name: &str, content: Content) {
        self.files.push((name.to_owned(), content));
    }

    fn readme(&self) -> Redacted {
        let mut text = format!(
            "A report of kubectl svid for people who look for the cause of a problem.\n\n\
             Each NODE/POD.tar.gz was packed by the driver of that node; its own README.txt says what is in it. Logs are beside\n\
             them, and the approver's are in approver/. They hold no keys, passwords or tokens: text that looks like one is\n\
             replaced by {MARK}. The names of pods, namespaces and nodes are in them. Please read the files before you send them\n\
             to others.\n\nFiles:\n"
        );
        for (name, content) in &self.files {
            let _ = writeln!(text, "  {name}: {} bytes", content.bytes().len());
        }
        text.push_str("\nLeft out:\n");
        for (what, why) in &self.missing {
            let _ = writeln!(text, "  {}: {}", one_line(what), one_line(why));
        }
        Redacted::of(&text).cut(MOST_OF_README, Keep::Start)
    }

    /// The archive, as `.tar.gz`.
    ///
    /// # Errors
    /// None that is expected: it is in memory.
    pub(super) fn packed(mut self) -> Result<Vec<u8>> {
        let readme = Content::Text(self.readme());
        self.files.insert(0, ("README.txt".to_owned(), readme));
        let mut names = BTreeSet::new();
        self.files.retain(|(name, _)| names.insert(name.clone()));
        self.pack().context("the report cannot be packed")
    }

    fn pack(&self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, content) in &self.files {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o600);
            header.set_size(content.bytes().len() as u64);
            header.set_mtime(0);
            archive.append_data(&mut header, format!("{FOLDER}/{name}"), content.bytes())?;
        }
        archive.into_inner()?.finish()
    }
}

/// A name that is one component of a path, whatever the API server says.
fn plain(name: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    let plain: String = name.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    if plain.starts_with('.') || plain.is_empty() { format!("_{plain}") } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_the_folder() {
        for (name, expected) in
            [("node-1.example", "node-1.example"), ("../etc", "_.._etc"), ("", "_"), ("a/b\n", "a_b_")]
        {
            assert_eq!(plain(name), expected);
        }
    }

    #[test]
    fn logs_hold_no_secrets() {
        let mut contents = Contents::new();
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZw";
        contents.add_log("node", "driver", &format!("before\nAuthorization: Bearer {token}\nafter\n"));
        let [(name, Content::Text(text))] = &contents.files[..] else { panic!("one text") };
        assert_eq!(name, "node/driver.log");
        assert!(!text.text().contains(token) && text.text().contains("after"), "{text}");
    }
}
