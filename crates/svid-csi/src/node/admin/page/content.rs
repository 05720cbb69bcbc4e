//! The data of the status page. Text of others is on one line of printable ASCII, as `svid-csi status` shows it: no mark in
//! it can turn the direction of a text or imitate another pod's name.

use std::time::SystemTime;

use serde::Serialize;
use svid_csi_core::findings::facts::{DriverFacts, EventFacts, NameFacts, VolumeFacts};
use svid_csi_core::findings::volume_state::VolumeState;
use svid_csi_core::findings::{Finding, NotChecked, Report, Severity, check};
use svid_csi_core::unix_time::seconds;

use crate::telemetry::report::one_line;

/// How many findings of one check are shown.
const MOST: usize = 50;

/// Everything on the page. Times are in seconds since 1970.
#[derive(Serialize)]
pub(super) struct Content {
    made: i64,
    program: &'static str,
    node: String,
    version: String,
    busy: usize,
    names: Vec<Registration>,
    sources: Vec<Source>,
    horizon: Option<Horizon>,
    /// All states, the worst first.
    states: [&'static str; VolumeState::ALL.len()],
    volumes: Vec<VolumeLine>,
    recent: Vec<EventFacts>,
    findings: Option<Vec<FindingGroup>>,
    not_checked: Vec<NotChecked>,
}

#[derive(Serialize)]
struct Registration {
    name: String,
    registration: &'static str,
}

#[derive(Serialize)]
struct Source {
    name: &'static str,
    trouble: Option<String>,
}

/// In seconds from now.
#[derive(Serialize)]
struct Horizon {
    first: u64,
    half: u64,
}

#[derive(Serialize)]
struct VolumeLine {
    id: String,
    pod: Option<String>,
    state: &'static str,
    why: Option<String>,
    plan: String,
    spiffe_id: Option<String>,
    serial: Option<String>,
    begin: Option<i64>,
    end: Option<i64>,
    renewal: Option<i64>,
    connections: Option<usize>,
}

/// The findings of one check.
#[derive(Serialize)]
struct FindingGroup {
    id: &'static str,
    severity: Severity,
    title: &'static str,
    explanation: &'static str,
    fix: String,
    found: Vec<Evidence>,
    more: usize,
}

#[derive(Serialize)]
struct Evidence {
    about: String,
    cause: String,
}

impl Content {
    pub(super) fn of(driver: &DriverFacts, report: Option<&Report>, now: SystemTime) -> Self {
        let sources = driver.sources().into_iter();
        let not_checked = report.map_or(&[][..], |report| &report.not_checked).iter();
        Content {
            made: seconds(now),
            program: env!("CARGO_PKG_VERSION"),
            node: one_line(&driver.node),
            version: one_line(&driver.version),
            busy: driver.busy,
            names: driver.names.iter().map(Registration::of).collect(),
            sources: sources
                .map(|source| Source { name: source.name, trouble: source.trouble.map(one_line) })
                .collect(),
            horizon: driver.horizon(now).map(|(first, half)| Horizon { first: first.as_secs(), half: half.as_secs() }),
            states: VolumeState::ALL.map(VolumeState::name),
            volumes: driver.volumes.iter().map(|(id, volume)| VolumeLine::of(id, volume, now)).collect(),
            recent: driver.recent.iter().map(shown).collect(),
            findings: report
                .map(|report| report.by_check().iter().filter_map(|group| FindingGroup::of(group)).collect()),
            not_checked: not_checked
                .map(|NotChecked { category, what, why }| NotChecked {
                    category: *category,
                    what: one_line(what),
                    why: one_line(why),
                })
                .collect(),
        }
    }
}

impl Registration {
    fn of(name: &NameFacts) -> Self {
        let registration = match (&name.registration_socket, name.registered) {
            (None, _) => "registered by another program",
            (Some(_), true) => "registered",
            (Some(_), false) => "not registered",
        };
        Self { name: one_line(&name.name), registration }
    }
}

impl VolumeLine {
    fn of(id: &str, volume: &VolumeFacts, now: SystemTime) -> Self {
        let (state, why) = VolumeState::of(volume, now);
        let identity = volume.identity.as_ref();
        Self {
            id: one_line(id),
            pod: volume.pod.as_deref().map(one_line),
            state: state.name(),
            why: why.map(one_line),
            plan: one_line(&volume.plan),
            spiffe_id: volume.spiffe_id.as_deref().map(one_line),
            serial: identity.map(|identity| one_line(&identity.serial)),
            begin: identity.map(|identity| identity.not_before),
            end: identity.map(|identity| identity.not_after),
            renewal: identity.map(|identity| identity.renewal),
            connections: volume.connections,
        }
    }
}

impl FindingGroup {
    fn of(findings: &[&Finding]) -> Option<Self> {
        let first = findings.first()?;
        let check = check(first.id)?;
        let found = findings.iter().take(MOST);
        Some(Self {
            id: check.id,
            severity: first.severity,
            title: check.title,
            explanation: check.explanation,
            fix: one_line(&first.fix),
            found: found
                .map(|finding| Evidence { about: one_line(&finding.about), cause: one_line(&finding.cause) })
                .collect(),
            more: findings.len().saturating_sub(MOST),
        })
    }
}

fn shown(event: &EventFacts) -> EventFacts {
    EventFacts {
        about: one_line(&event.about),
        what: one_line(&event.what),
        why: event.why.as_deref().map(one_line),
        ..event.clone()
    }
}
