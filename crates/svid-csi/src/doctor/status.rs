//! `svid-csi status`: the volumes of this node, its sources, and how long pods keep their identities without them.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use svid_csi_core::findings::facts::{DriverFacts, NoDriver, VolumeFacts};
use svid_csi_core::findings::overview::SourceHealth;
use svid_csi_core::findings::volume_state::VolumeState;
use svid_csi_core::go_duration::short;
use svid_csi_core::quoted::ascii_json;
use svid_csi_core::unix_time::{at, rfc3339, seconds};

use super::gather;
use crate::host::clock;
use crate::telemetry::report::one_line;

/// The time between two looks of `--watch`.
const PAUSE: Duration = Duration::from_secs(2);
/// Narrower output has a paragraph for each volume in place of a row.
const NARROW: usize = 100;
const CLEAR: &str = "\x1b[H\x1b[J";

/// Which volumes are shown, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusOptions {
    /// The driver's admin socket.
    pub socket: PathBuf,
    /// The volumes of this pod (`namespace/name`) only.
    pub pod: Option<String>,
    /// The volumes of this namespace only.
    pub namespace: Option<String>,
    /// The volumes in one of these states only; all without any.
    pub states: Vec<VolumeState>,
    /// The order.
    pub sort: Sort,
    /// Whether the answer is one JSON object.
    pub json: bool,
    /// Whether it is shown again and again.
    pub watch: bool,
    /// How many characters a line may have.
    pub width: usize,
}

/// The order of volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// By namespace and pod.
    #[default]
    Pod,
    /// What expires first comes first.
    Expiry,
    /// The worst comes first.
    State,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The driver does not answer.
    #[error("{0}")]
    Driver(String),
    /// It cannot be printed.
    #[error("cannot write to stdout")]
    Print(#[from] io::Error),
}

/// A volume, and how it is.
struct Row<'a> {
    id: &'a str,
    volume: &'a VolumeFacts,
    state: VolumeState,
    why: Option<&'a str>,
    left: Option<i64>,
    renewal: Option<i64>,
}

/// Prints the status once, or again and again until the reader goes away.
///
/// # Errors
/// [`StatusError`].
pub async fn run(options: StatusOptions) -> Result<(), StatusError> {
    let is_terminal = io::stdout().is_terminal();
    loop {
        let driver = gather::ask(&options.socket).await.map_err(|error| match error {
            NoDriver::Unreachable(why) | NoDriver::OtherVersion(why) => StatusError::Driver(why),
        })?;
        let text = page(&options, &driver, clock::now(), super::is_coloured());
        let clear = if options.watch && is_terminal { CLEAR } else { "" };
        let is_read = super::write(&format!("{clear}{text}"))?;
        if !options.watch || !is_read {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn page(options: &StatusOptions, driver: &DriverFacts, now: SystemTime, is_coloured: bool) -> String {
    let rows = rows(options, driver, now);
    if options.json {
        return ascii_json(&json(driver, &rows, now).to_string()) + "\n";
    }
    let mut text = summary(driver, now);
    text.push('\n');
    match options.width < NARROW {
        true => rows.iter().for_each(|row| paragraph(&mut text, row, is_coloured)),
        false => table(&mut text, &rows, is_coloured),
    }
    text
}

/// All volumes as JSON, the worst first.
pub(super) fn all(driver: &DriverFacts, now: SystemTime) -> Value {
    let options = StatusOptions {
        socket: PathBuf::new(),
        pod: None,
        namespace: None,
        states: Vec::new(),
        sort: Sort::State,
        json: true,
        watch: false,
        width: NARROW,
    };
    json(driver, &rows(&options, driver, now), now)
}

fn rows<'a>(options: &StatusOptions, driver: &'a DriverFacts, now: SystemTime) -> Vec<Row<'a>> {
    let of_now = seconds(now);
    let row = |(id, volume): (&'a String, &'a VolumeFacts)| {
        let (state, why) = VolumeState::of(volume, now);
        let until = |end: i64| end.saturating_sub(of_now);
        let identity = volume.identity.as_ref();
        let (left, renewal) =
            (identity.map(|identity| until(identity.not_after)), identity.map(|identity| until(identity.renewal)));
        Row { id, volume, state, why, left, renewal }
    };
    let is_wanted = |row: &Row<'_>| {
        let pod = row.volume.pod.as_deref().unwrap_or_default();
        let namespace = pod.split_once('/').map_or("", |(namespace, _)| namespace);
        options.pod.as_deref().is_none_or(|wanted| wanted == pod)
            && options.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && (options.states.is_empty() || options.states.contains(&row.state))
    };
    let mut rows: Vec<_> = driver.volumes.iter().map(row).filter(is_wanted).collect();
    rows.sort_by(|one, other| one.volume.pod.cmp(&other.volume.pod).then(one.id.cmp(other.id)));
    match options.sort {
        Sort::Pod => {}
        Sort::Expiry => rows.sort_by_key(|row| row.left.unwrap_or(i64::MAX)),
        Sort::State => rows.sort_by_key(|row| row.state),
    }
    rows
}

fn summary(driver: &DriverFacts, now: SystemTime) -> String {
    let mut text = format!("node {}, driver {}", one_line(&driver.node), one_line(&driver.version));
    let _ = writeln!(text, ", {} volumes", driver.volumes.len() + driver.busy);
    for name in &driver.names {
        let how = match (&name.registration_socket, name.registered) {
            (None, _) => "registered by another program",
            (Some(_), true) => "registered",
            (Some(_), false) => "not registered",
        };
        let _ = writeln!(text, "{}: {how}", one_line(&name.name));
    }
    for SourceHealth { name, trouble } in driver.sources() {
        let _ = writeln!(text, "source {name}: {}", if trouble.is_none() { "connected" } else { "not connected" });
    }
    if let Some((first, half)) = driver.horizon(now) {
        let (first, half) = (short(first.as_secs()), short(half.as_secs()));
        let _ = writeln!(
            text,
            "if the source failed now: first pod without an identity in {first}, half of them in {half}"
        );
    }
    text
}

fn table(text: &mut String, rows: &[Row<'_>], is_coloured: bool) {
    const HEADS: [&str; 8] = ["POD", "PLAN", "STATE", "LEFT", "RENEWAL", "CONNECTIONS", "SERIAL", "SPIFFE ID"];
    let cells: Vec<[String; 8]> = rows.iter().map(cells).collect();
    let width =
        |column: usize| cells.iter().map(|row| row[column].len()).chain([HEADS[column].len()]).max().unwrap_or(0);
    let widths: Vec<_> = (0..HEADS.len()).map(width).collect();
    let mut line = |cells: [&str; 8], state: Option<VolumeState>| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let padded = format!("{cell:width$}  ");
            match state.filter(|_| column == 2) {
                Some(state) => line += &painted(&padded, state, is_coloured),
                None => line += &padded,
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(HEADS, None);
    for (row, cells) in rows.iter().zip(&cells) {
        line(cells.each_ref().map(String::as_str), Some(row.state));
    }
    for row in rows {
        if let Some(why) = row.why {
            let _ = writeln!(text, "{}: {}", one_line(row.volume.about(row.id)), one_line(why));
        }
    }
}

fn cells(row: &Row<'_>) -> [String; 8] {
    let Row { id, volume, state, left, renewal, .. } = row;
    let identity = volume.identity.as_ref();
    [
        one_line(volume.about(id)),
        one_line(&volume.plan),
        state.name().to_owned(),
        left.map_or_else(|| "-".to_owned(), until),
        renewal.map_or_else(|| "-".to_owned(), until),
        volume.connections.map_or_else(|| "-".to_owned(), |number| number.to_string()),
        identity.map_or_else(|| "-".to_owned(), |identity| one_line(&identity.serial)),
        volume.spiffe_id.as_deref().map_or_else(|| "-".to_owned(), one_line),
    ]
}

fn paragraph(text: &mut String, row: &Row<'_>, is_coloured: bool) {
    let [pod, plan, state, left, renewal, _, _, spiffe_id] = cells(row);
    let state = painted(&state, row.state, is_coloured);
    let _ = writeln!(text, "{pod}\n  {state}, {left} left\n  renewal in {renewal}\n  {plan}\n  {spiffe_id}");
    if let Some(why) = row.why {
        let _ = writeln!(text, "  {}", one_line(why));
    }
}

fn painted(text: &str, state: VolumeState, is_coloured: bool) -> String {
    let colour = match state {
        _ if !is_coloured => return text.to_owned(),
        VolumeState::Expired | VolumeState::Missing | VolumeState::Untrusted => 31,
        VolumeState::Starting | VolumeState::Renewing | VolumeState::Removing => 33,
        VolumeState::Ok => 32,
    };
    format!("\x1b[{colour}m{text}\x1b[0m")
}

fn until(seconds: i64) -> String {
    u64::try_from(seconds).map_or_else(|_| "over".to_owned(), short)
}

fn json(driver: &DriverFacts, rows: &[Row<'_>], now: SystemTime) -> Value {
    let time = |seconds: i64| at(seconds).map(rfc3339);
    let volumes = rows.iter().map(|row| {
        let identity = row.volume.identity.as_ref();
        json!({
            "id": row.id, "pod": row.volume.pod, "driver": row.volume.driver, "plan": row.volume.plan,
            "state": row.state.name(), "why": row.why, "spiffe_id": row.volume.spiffe_id,
            "serial": identity.map(|identity| &identity.serial),
            "not_after": identity.and_then(|identity| time(identity.not_after)),
            "renewal": identity.and_then(|identity| time(identity.renewal)),
            "seconds_left": row.left, "connections": row.volume.connections,
        })
    });
    let names = driver.names.iter().map(|name| json!({"name": name.name, "registered": name.registered}));
    let sources = driver.sources().into_iter();
    let sources = sources.map(|source| json!({"source": source.name, "connected": source.trouble.is_none()}));
    let horizon = driver
        .horizon(now)
        .map(|(first, half)| json!({"first_seconds": first.as_secs(), "half_seconds": half.as_secs()}));
    let recent = driver.recent.iter().map(|event| {
        json!({
            "time": time(event.at), "about": event.about, "what": event.what, "why": event.why, "times": event.times,
        })
    });
    json!({
        "node": driver.node, "driver_version": driver.version, "busy": driver.busy,
        "names": names.collect::<Vec<_>>(), "sources": sources.collect::<Vec<_>>(),
        "outage_horizon": horizon, "recent": recent.collect::<Vec<_>>(), "volumes": volumes.collect::<Vec<_>>(),
    })
}
