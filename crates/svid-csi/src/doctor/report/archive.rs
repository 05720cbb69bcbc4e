//! The files of a report. Each is redacted as the last step before it becomes part of the archive.

use std::fmt::Write as _;
use std::io;

use flate2::{Compression, GzBuilder};
use svid_csi_core::redact::{Keep, MARK, Pseudonyms, Redacted};
use tar::{Builder, EntryType, Header};

/// The most that a file holds.
pub(super) const MOST_OF_FILE: usize = 1024 * 1024;
/// The most that all files hold together.
const MOST_OF_ALL: usize = 16 * 1024 * 1024;
/// Room in [`MOST_OF_ALL`] for README.txt.
const MOST_OF_README: usize = 64 * 1024;

/// The files of a report, and what is missing.
#[derive(Debug)]
pub(super) struct Contents {
    name: String,
    files: Vec<ReportFile>,
    missing: Vec<(String, String)>,
    names: Option<Pseudonyms>,
}

/// A file of a report. Only redacted text can be in it.
#[derive(Debug)]
struct ReportFile {
    name: String,
    about: &'static str,
    text: Redacted,
}

impl Contents {
    /// Nothing, in a folder of this name.
    pub(super) fn new(name: String) -> Self {
        Self { name, files: Vec::new(), missing: Vec::new(), names: None }
    }

    /// The name of the folder, and of the archive without its extension.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Replaces these names in everything that is added from now on.
    pub(super) fn anonymize(&mut self, names: Pseudonyms) {
        self.names = Some(names);
    }

    /// Replaces one more name, if names are replaced.
    pub(super) fn hide(&mut self, name: &str) {
        if let Some(names) = &mut self.names {
            names.add(name);
        }
    }

    fn redacted(&self, text: &str) -> Redacted {
        match &self.names {
            Some(names) => Redacted::anonymous(text, names),
            None => Redacted::of(text),
        }
    }

    /// Adds a file as far as there is room; which end of it stays is up to `keep`.
    pub(super) fn add(&mut self, name: impl Into<String>, about: &'static str, text: &str, keep: Keep) {
        let used: usize = self.files.iter().map(|file| file.text.text().len()).sum();
        let room = (MOST_OF_ALL - MOST_OF_README).saturating_sub(used).min(MOST_OF_FILE);
        let text = self.redacted(text).cut(room, keep);
        self.files.push(ReportFile { name: name.into(), about, text });
    }

    /// Adds a file, or says why there is none.
    pub(super) fn add_found(&mut self, name: &str, about: &'static str, found: Result<String, String>) {
        match found {
            Ok(text) => self.add(name, about, &text, Keep::Start),
            Err(why) => self.leave_out(name, &why),
        }
    }

    /// Says why something is missing.
    pub(super) fn leave_out(&mut self, what: impl Into<String>, why: &str) {
        self.missing.push((what.into(), why.to_owned()));
    }

    /// Each file with its size.
    pub(super) fn list(&self) -> String {
        let readme = self.readme();
        let readme = std::iter::once(("README.txt", readme.text().len()));
        let files = self.files.iter().map(|file| (file.name.as_str(), file.text.text().len()));
        readme.chain(files).map(|(name, bytes)| format!("{bytes:>9}  {name}\n")).collect()
    }

    /// A line about the whole.
    pub(super) fn summary(&self) -> String {
        let bytes: usize = self.files.iter().map(|file| file.text.text().len()).sum();
        let names = if self.names.is_some() { "" } else { "; the names of pods are in them" };
        let (files, kilobytes) = (self.files.len() + 1, bytes.div_ceil(1024));
        format!("{files} files with {kilobytes} KiB{names}: read README.txt before you send the report")
    }

    fn readme(&self) -> Redacted {
        let places: usize = self.files.iter().map(|file| file.text.places()).sum();
        let names = match self.names {
            Some(_) => {
                "Hashes stand for the names of pods and namespaces, and for the parts of SPIFFE IDs. The names of nodes and files,"
            }
            None => "The names of pods, namespaces, nodes and files, SPIFFE IDs",
        };
        let mut text = format!(
            "A report of svid-csi for people who look for the cause of a problem.\n\n\
             It holds no keys, passwords or tokens. Text that looks like one is replaced by {MARK} ({places} times here).\n\
             {names} and addresses are in it. Please read the files before you send them to others.\n\nFiles:\n"
        );
        for ReportFile { name, about, .. } in &self.files {
            let _ = writeln!(text, "  {name}: {about}");
        }
        text.push_str("\nLeft out:\n");
        text.push_str(
            "  environment variables, except for their names and for flags; values of flags that are not known to be harmless\n",
        );
        text.push_str("  the bodies of certificate requests and certificates; objects of other projects\n");
        for (what, why) in &self.missing {
            let _ = writeln!(text, "  {what}: {why}");
        }
        self.redacted(&text).cut(MOST_OF_README, Keep::Start)
    }

    /// The archive, as `.tar.gz`.
    pub(super) fn packed(self) -> io::Result<Vec<u8>> {
        let mut archive = Builder::new(GzBuilder::new().write(Vec::new(), Compression::default()));
        let readme = self.readme();
        append(&mut archive, &self.name, "README.txt", &readme)?;
        for file in &self.files {
            append(&mut archive, &self.name, &file.name, &file.text)?;
        }
        archive.into_inner()?.finish()
    }
}

fn append(archive: &mut Builder<impl io::Write>, folder: &str, name: &str, text: &Redacted) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(text.text().len() as u64);
    header.set_mtime(0);
    archive.append_data(&mut header, format!("{folder}/{name}"), text.text().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn files_and_the_whole_are_bounded() {
        let mut contents = Contents::new("report".to_owned());
        let text = "a line of twenty le\n".repeat(100_000);
        for number in 0..20 {
            contents.add(format!("{number}.txt"), "lines", &text, Keep::End);
        }
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&contents.packed().unwrap()[..]).read_to_end(&mut unpacked).unwrap();
        let mut archive = tar::Archive::new(&unpacked[..]);
        let sizes: Vec<u64> = archive.entries().unwrap().map(|entry| entry.unwrap().size()).collect();
        assert_eq!(sizes.len(), 21);
        assert!(sizes.iter().all(|size| *size <= MOST_OF_FILE as u64), "{sizes:?}");
        assert!(sizes.iter().sum::<u64>() <= MOST_OF_ALL as u64, "{sizes:?}");
    }

    #[test]
    fn a_pod_cannot_hide_a_secret_by_its_name() {
        let mut names = Pseudonyms::new([1; 16]);
        names.add("password/token");
        let mut contents = Contents::new("report".to_owned());
        contents.anonymize(names);
        contents.add(
            "log.txt",
            "a log",
            "password/token: password=hunter2 spiffe://x/Bearer Bearer hunter2-0123456789abcdef0123\n",
            Keep::End,
        );
        let mut text = String::new();
        flate2::read::GzDecoder::new(&contents.packed().unwrap()[..]).read_to_string(&mut text).unwrap();
        assert!(!text.contains("hunter2") && text.contains("n-"), "{text}");
    }

    #[test]
    fn each_file_and_the_readme_are_redacted() {
        let mut contents = Contents::new("report".to_owned());
        contents.add("log.txt", "a log", "password=hunter2\n", Keep::End);
        contents.leave_out("a page", "the server said token=hunter2");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&contents.packed().unwrap()[..]).read_to_string(&mut text).unwrap();
        assert!(
            text.contains("password=[redacted]") && text.contains("token=[redacted]") && !text.contains("hunter2"),
            "{text}"
        );
        assert!(text.contains("(1 times here)"), "{text}");
    }
}
