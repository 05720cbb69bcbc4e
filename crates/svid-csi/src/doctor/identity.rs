//! `svid-csi identity`: the certificates that a pod really has, beside what the driver has recorded.

mod certificate;
mod print;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use svid_csi_core::findings::facts::{DriverFacts, IdentityFacts, NoDriver, VolumeFacts};
use svid_csi_core::unix_time::{at, rfc3339};

use self::certificate::CertificateFields;
use super::paths::Paths;
use super::{delivered, gather};
use crate::spiffe::svid::Svid;
use crate::telemetry::report;

/// The pod, and how its identity is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityOptions {
    /// The driver's admin socket.
    pub socket: PathBuf,
    /// `namespace/name`.
    pub pod: String,
    /// How it is shown.
    pub form: IdentityForm,
}

/// How an identity is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityForm {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
    /// The certificates, and nothing else.
    Pem,
}

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The driver does not answer.
    #[error("{0}")]
    Driver(String),
    /// It has no volume of the pod.
    #[error("the driver on this node has no volume for the pod {0}: does the pod run on this node?")]
    NoVolume(String),
    /// It cannot be printed.
    #[error("cannot write to stdout")]
    Print(#[from] io::Error),
}

/// The whole answer.
#[derive(Debug, Serialize)]
struct IdentityAnswer<'a> {
    node: &'a str,
    driver_version: &'a str,
    pod: &'a str,
    volumes: Vec<ComparedVolume<'a>>,
}

/// A volume: what its pod has, and what the driver has recorded.
#[derive(Debug, Serialize)]
struct ComparedVolume<'a> {
    id: &'a str,
    driver: &'a str,
    plan: &'a str,
    recorded: Option<Recorded<'a>>,
    delivered: Option<DeliveredIdentity>,
    /// Why the identity cannot be read.
    unreadable: Option<String>,
    /// The fields in which the two differ.
    differences: Vec<&'static str>,
}

/// The identity according to the driver.
#[derive(Debug, Serialize)]
struct Recorded<'a> {
    spiffe_id: Option<&'a str>,
    serial: &'a str,
    not_after: Option<String>,
    /// Why its chain does not lead to the volume's trust bundle.
    untrusted: Option<&'a str>,
}

/// The identity in the pod.
#[derive(Debug, Serialize)]
struct DeliveredIdentity {
    /// The file or socket that it was read from.
    from: String,
    spiffe_id: Option<String>,
    chain: Vec<CertificateFields>,
    bundle: Vec<CertificateFields>,
    /// Why the key is not that of the certificate.
    key_problem: Option<String>,
    /// Why the chain does not lead to the bundle, or why TLS refuses it.
    chain_problem: Option<String>,
    #[serde(skip)]
    pem: String,
}

impl DeliveredIdentity {
    fn of(svid: &Svid, from: String) -> Result<Self, String> {
        let problem = |checked: Result<(), _>| checked.err().map(|error| report::chain(&error));
        let fields = |certificates: &[_]| certificates.iter().map(CertificateFields::of).collect::<Result<_, _>>();
        let leaf = svid.leaf();
        Ok(Self {
            from,
            chain: fields(&svid.chain)?,
            bundle: fields(&svid.bundle)?,
            key_problem: problem(svid.check_key()),
            chain_problem: leaf.as_ref().err().map(|error| report::chain(error)).or(problem(svid.check_chain())),
            spiffe_id: leaf.ok().map(|leaf| leaf.spiffe_id),
            pem: svid.chain.iter().map(certificate::pem).collect(),
        })
    }
}

impl ComparedVolume<'_> {
    /// Whether the pod has a working identity, the recorded one.
    fn is_as_recorded(&self) -> bool {
        let works =
            |delivered: &DeliveredIdentity| delivered.key_problem.is_none() && delivered.chain_problem.is_none();
        self.differences.is_empty() && self.delivered.as_ref().is_some_and(works)
    }
}

/// Prints the identity of each volume of the pod. The exit code is that of diff: 0 if it is as recorded and works, 1 if
/// not, 2 if a volume's identity cannot be read.
///
/// # Errors
/// [`IdentityError`].
pub async fn run(options: IdentityOptions) -> Result<ExitCode, IdentityError> {
    let paths = Paths::of(&options.socket).await;
    let driver = gather::ask(&options.socket).await.map_err(|error| match error {
        NoDriver::Unreachable(why) | NoDriver::OtherVersion(why) => IdentityError::Driver(why),
    })?;
    let answer = compare(&driver, &paths, &options.pod).await;
    if answer.volumes.is_empty() {
        return Err(IdentityError::NoVolume(options.pod));
    }
    super::write(&print::answer(options.form, &answer))?;
    let is_readable = |volume: &ComparedVolume<'_>| volume.delivered.is_some();
    Ok(match () {
        () if !answer.volumes.iter().all(is_readable) => ExitCode::from(2),
        () if !answer.volumes.iter().all(ComparedVolume::is_as_recorded) => ExitCode::from(1),
        () => ExitCode::SUCCESS,
    })
}

async fn compare<'a>(driver: &'a DriverFacts, paths: &Paths, pod: &'a str) -> IdentityAnswer<'a> {
    let mut volumes = Vec::new();
    for (id, volume) in driver.volumes.iter().filter(|(_, volume)| volume.pod.as_deref() == Some(pod)) {
        let seen = look(volume, paths).await;
        let recorded = volume.identity.as_ref().map(|identity| recorded(volume, identity));
        let (delivered, unreadable) = match seen {
            Ok(delivered) => (Some(delivered), None),
            Err(why) => (None, Some(why)),
        };
        let differences = delivered.as_ref().map_or_else(Vec::new, |seen| differences(seen, recorded.as_ref()));
        let (driver, plan) = (volume.driver.as_str(), volume.plan.as_str());
        volumes.push(ComparedVolume { id, driver, plan, recorded, delivered, unreadable, differences });
    }
    IdentityAnswer { node: &driver.node, driver_version: &driver.version, pod, volumes }
}

async fn look(volume: &VolumeFacts, paths: &Paths) -> Result<DeliveredIdentity, String> {
    let svid = delivered::svid(volume, paths).await?;
    let from = match (&volume.files, volume.sockets.first()) {
        (Some(files), _) => &files.certificate,
        (None, socket) => socket.map_or("", String::as_str),
    };
    DeliveredIdentity::of(&svid, from.to_owned())
}

fn recorded<'a>(volume: &'a VolumeFacts, identity: &'a IdentityFacts) -> Recorded<'a> {
    Recorded {
        spiffe_id: volume.spiffe_id.as_deref(),
        serial: &identity.serial,
        not_after: at(identity.not_after).map(rfc3339),
        untrusted: identity.untrusted.as_deref(),
    }
}

fn differences(delivered: &DeliveredIdentity, recorded: Option<&Recorded<'_>>) -> Vec<&'static str> {
    let (Some(recorded), Some(leaf)) = (recorded, delivered.chain.first()) else { return vec!["recorded"] };
    let other_id = recorded.spiffe_id.is_some() && recorded.spiffe_id != delivered.spiffe_id.as_deref();
    let other_end = recorded.not_after.as_ref() != Some(&leaf.not_after);
    [("spiffe_id", other_id), ("serial", recorded.serial != leaf.serial), ("not_after", other_end)]
        .into_iter()
        .filter_map(|(field, differs)| differs.then_some(field))
        .collect()
}
