//! `svid-csi report`: one archive with all that a bug report needs, and no key.

mod archive;
mod bounded_json;
mod driver;
mod journal;
mod kernel;
mod objects;
mod output;
mod process;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use aws_lc_rs::rand;
use svid_csi_core::findings::facts::{DriverFacts, NoDriver};
use svid_csi_core::redact::{Keep, Pseudonyms};
use svid_csi_core::unix_time::rfc3339;

use self::archive::Contents;
pub use self::output::{Destination, ReportError};
use super::gather;
use crate::telemetry::report::one_line;

/// Why text is left out that may name pods which the driver does not know.
const ANONYMOUS: &str = "left out because of --anonymize";

/// Where the report goes, and how its facts are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportOptions {
    /// The driver's admin socket.
    pub socket: PathBuf,
    /// Where the archive goes; by default a file with a name of its own in the current folder.
    pub destination: Destination,
    /// Whether an existing file is replaced.
    pub force: bool,
    /// Whether the files are only listed.
    pub dry_run: bool,
    /// Whether names of pods, namespaces and in SPIFFE IDs are replaced by hashes.
    pub anonymize: bool,
    /// A kubeconfig in place of the driver's own access to the API server.
    pub kubeconfig: Option<PathBuf>,
    /// The flags of the driver whose values hold no secret.
    pub open_flags: BTreeSet<&'static str>,
}

/// Writes the report. It is also written without a driver: then it says what is wrong with that.
///
/// # Errors
/// [`ReportError`]; nothing is left behind.
pub async fn run(options: ReportOptions) -> Result<(), ReportError> {
    if !options.dry_run {
        output::check(&options)?;
    }
    let contents = collected(&options).await?;
    if options.dry_run {
        return print(&contents.list());
    }
    let (name, summary) = (contents.name().to_owned(), contents.summary());
    let path = output::write(&options, &name, &contents.packed().map_err(ReportError::Pack)?)?;
    if let Some(path) = path {
        print(&format!("{}\n", path.display()))?;
    }
    say(&summary);
    Ok(())
}

async fn collected(options: &ReportOptions) -> Result<Contents, ReportError> {
    let (facts, paths) = gather::of_driver(&options.socket).await;
    let facts = gather::look_around(facts, &paths, &options.socket, options.kubeconfig.clone()).await;
    if let Err(NoDriver::Unreachable(why) | NoDriver::OtherVersion(why)) = &facts.driver {
        say(&format!("the report has little about the driver: {}", one_line(why)));
    }
    let driver = facts.driver.as_ref().ok();
    let node = driver.map_or_else(kernel::host_name, |driver| driver.node.clone());
    let mut contents = Contents::new(format!("svid-csi-report-{}-{}", plain(&node), compact(facts.now)));
    if options.anonymize {
        contents.anonymize(pseudonyms(driver)?);
        contents.leave_out("journal.txt", ANONYMOUS);
    } else {
        journal::add(&mut contents).await;
    }
    driver::add(&mut contents, options, &facts).await;
    process::add(&mut contents, &paths, &options.open_flags);
    kernel::add(&mut contents, driver, &paths, facts.data.as_ref());
    let kubelet = objects::add(&mut contents, options, driver, &paths).await;
    let versions = versions(driver, kubelet.as_deref(), facts.now);
    contents.add("versions.txt", "the program, the driver, the kernel and the kubelet", &versions, Keep::Start);
    Ok(contents)
}

fn pseudonyms(driver: Option<&DriverFacts>) -> Result<Pseudonyms, ReportError> {
    let mut salt = [0; 16];
    rand::fill(&mut salt).map_err(|_| ReportError::Random)?;
    let mut names = Pseudonyms::new(salt);
    let pods = driver.iter().flat_map(|driver| driver.volumes.values()).filter_map(|volume| volume.pod.as_deref());
    // Of pods that are gone, too.
    let recent = driver.iter().flat_map(|driver| &driver.recent).map(|event| event.about.as_str());
    pods.chain(recent).for_each(|pod| names.add(pod));
    Ok(names)
}

fn versions(driver: Option<&DriverFacts>, kubelet: Option<&str>, now: SystemTime) -> String {
    let unknown = "unknown";
    let lines = [
        ("report", env!("CARGO_PKG_VERSION").to_owned()),
        ("driver", driver.map_or(unknown, |driver| driver.version.as_str()).to_owned()),
        ("kernel", kernel::release()),
        ("architecture", std::env::consts::ARCH.to_owned()),
        ("kubelet", kubelet.unwrap_or(unknown).to_owned()),
        ("node", driver.map_or(unknown, |driver| driver.node.as_str()).to_owned()),
        ("time", rfc3339(now)),
    ];
    lines.into_iter().map(|(what, value)| format!("{what}: {value}\n")).collect()
}

/// A note for people, beside the archive that may be on stdout.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn print(text: &str) -> Result<(), ReportError> {
    super::write(text).map(drop).map_err(ReportError::Print)
}

/// A part of a file name.
fn plain(text: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-.".contains(*c);
    let name: String = text.chars().filter(is_plain).take(64).collect();
    match name.trim_start_matches('.') {
        "" => "node".to_owned(),
        name => name.to_owned(),
    }
}

/// `20260131T120000Z`.
fn compact(time: SystemTime) -> String {
    let time = rfc3339(time);
    let seconds = time.split(['.', 'Z']).next().unwrap_or_default();
    seconds.chars().filter(|c| c.is_ascii_digit() || *c == 'T').chain(['Z']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_are_plain() {
        for (node, name) in
            [("n1", "n1"), ("../../x", "x"), ("", "node"), ("a b/c\n", "abc"), ("ip-10.local", "ip-10.local")]
        {
            assert_eq!(plain(node), name);
        }
        assert_eq!(compact(SystemTime::UNIX_EPOCH), "19700101T000000Z");
    }
}
