//! Readers of single flag values. Each error names the value and the fix.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use svid_csi_core::files::FileName;
use svid_csi_core::go_duration;
use svid_csi_core::runtime_issuer::ConfigMapPlace;
use svid_csi_core::spiffe_id::TrustDomain;
use tracing::Level;

use crate::approver::Listen;
use crate::telemetry::log::LogFormat;

/// A value such as an address, or `0` for off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Switch<T> {
    Off,
    On(T),
}

/// A path; a relative one is relative to the working directory, which is `/` in the images.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text)
        .map_err(|error| format!("{text:?} is relative to a working directory that no longer exists: {error}"))
}

/// A Unix socket: a path, or `unix://` and a path from `/`, whose first slash is missing in the manifests of both
/// predecessors.
pub(super) fn socket(text: &str) -> Result<PathBuf, String> {
    let name = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    if name.contains("://") {
        return Err(format!("{text:?} is not a Unix socket; write unix:///path/to.sock or the bare path"));
    }
    if name.is_empty() || name.ends_with('/') {
        return Err(format!("{text:?} names no socket; write unix:///path/to.sock or the bare path"));
    }
    let socket = if text.starts_with("unix://") { Path::new("/").join(name) } else { path(name)? };
    match too_long(&socket) {
        Some(problem) => Err(problem),
        None => Ok(socket),
    }
}

/// Why this path is too long for a Unix socket, if it is: see unix(7).
pub(super) fn too_long(socket: &Path) -> Option<String> {
    const MOST: usize = 107;
    let bytes = socket.as_os_str().len();
    (bytes > MOST).then(|| format!("{} has {bytes} bytes; a socket's path has at most {MOST}", socket.display()))
}

/// A socket that can be disabled.
pub(super) fn socket_or_off(text: &str) -> Result<Switch<PathBuf>, String> {
    if text == "0" { Ok(Switch::Off) } else { socket(text).map(Switch::On) }
}

/// A TCP address that can be disabled.
pub(super) fn address_or_off(text: &str) -> Result<Switch<SocketAddr>, String> {
    if text == "0" {
        return Ok(Switch::Off);
    }
    let fix = match text.strip_prefix(':') {
        Some(port) => format!("write 0.0.0.0:{port} for every interface, 127.0.0.1:{port} for this node only"),
        None => "write it like 127.0.0.1:9809 or [::1]:9809, or 0 for off".to_owned(),
    };
    text.parse().map(Switch::On).map_err(|_| format!("{text:?} is not an IP address with a port; {fix}"))
}

/// A TCP address in Go's form that can be disabled: `:6060` means every interface.
pub(super) fn listen_or_off(text: &str) -> Result<Switch<Listen>, String> {
    let usual = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address = usual.as_deref().unwrap_or(text);
    match address.strip_prefix(':').filter(|port| !port.starts_with('+')).map(str::parse) {
        _ if text == "0" => Ok(Switch::Off),
        Some(Ok(port)) => Ok(Switch::On(Listen::Everywhere(port))),
        _ => address.parse().map(|address| Switch::On(Listen::At(address))).map_err(|_| {
            format!("{text:?} is not an address to listen on; write it like :6060 or 127.0.0.1:6060, or 0 for off")
        }),
    }
}

/// A number of bytes, plain or with the suffix Ki, Mi or Gi.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 16 * 1024;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match &text[digits.len()..] {
        "" => Some(1),
        "Ki" => Some(1 << 10),
        "Mi" => Some(1 << 20),
        "Gi" => Some(1_u64 << 30),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|_| !digits.starts_with('+'));
    let size = scale.and_then(|scale| number?.checked_mul(scale));
    let size = size.ok_or_else(|| format!("{text:?} is not a number of bytes; write it like 134217728 or 128Mi"))?;
    if size < LEAST { Err(format!("{text} is too small for a volume; give at least 16Ki")) } else { Ok(size) }
}

/// A number of at least 1.
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text:?} is not a whole number of at least 1")),
    }
}

/// The lifetime of certificates.
pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(10);
    const MOST: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
    match go_duration::parse(text)? {
        short if short < LEAST => Err(format!("{text} is too short to be renewed in time; give at least 10s")),
        long if long > MOST => Err(format!("{text} is longer than ten years; give at most 87600h")),
        sensible => Ok(sensible),
    }
}

/// The lifetime of JWT-SVIDs: a stolen one is usable until it expires.
pub(super) fn jwt_lifetime(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(30);
    const MOST: Duration = Duration::from_secs(24 * 3_600);
    match go_duration::parse(text)? {
        short if short < LEAST => Err(format!("{text} is too short for a token to be used in time; give at least 30s")),
        long if long > MOST => Err(format!("{text} is too long for a bearer token; give at most 24h")),
        sensible => Ok(sensible),
    }
}

/// A trust domain.
pub(super) fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    TrustDomain::parse(text).map_err(|error| format!("{text:?}: {error}; write a name like example.org"))
}

/// The name of a file in a volume.
pub(super) fn file_name(text: &str) -> Result<FileName, String> {
    FileName::parse(text).map_err(|error| format!("{text:?}: {error}; write a plain name like tls.crt"))
}

/// The name of a CSIDriver object: at most 63 bytes of lower case DNS labels.
pub(super) fn driver_name(text: &str) -> Result<String, String> {
    let valid = text.len() <= 63 && is_subdomain(text);
    let rule = "use at most 63 of a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit";
    if valid { Ok(text.to_owned()) } else { Err(format!("{text:?} cannot name a CSIDriver; {rule}")) }
}

/// The namespace and name of a ConfigMap.
pub(super) fn config_map(text: &str) -> Result<ConfigMapPlace, String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_subdomain(namespace) && !namespace.contains('.') && is_subdomain(name) => {
            Ok(ConfigMapPlace { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err(format!("{text:?} names no ConfigMap; write NAMESPACE/NAME, such as svid-csi/local-ca-roots")),
    }
}

/// The key of a taint: a qualified name of Kubernetes, a name of at most 63 bytes, optionally after a DNS subdomain and
/// a slash.
pub(super) fn taint_key(text: &str) -> Result<String, String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends_well = |name: &str| {
        let (first, last) = (name.bytes().next(), name.bytes().last());
        [first, last].iter().flatten().filter(|b| b.is_ascii_alphanumeric()).count() == 2
    };
    let named = name.len() <= 63 && ends_well(name) && name.bytes().all(inner);
    if named && prefix.is_none_or(is_subdomain) {
        return Ok(text.to_owned());
    }
    let fix = match text.split_once([':', '=']) {
        Some((key, _)) => format!("give only the key, {key:?}: the taint is removed whatever its value and effect"),
        None => "write it like svid-csi/not-ready".to_owned(),
    };
    Err(format!("{text:?} cannot be the key of a taint; {fix}"))
}

/// At most 253 bytes of lower case DNS labels (RFC 1123).
fn is_subdomain(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// A log level as numbered by the predecessors: 1 to 3 for information, 4 for debugging, 5 for everything.
pub(super) fn log_level(text: &str) -> Result<Level, String> {
    match text.parse::<u8>() {
        Ok(0..=3) => Ok(Level::INFO),
        Ok(4) => Ok(Level::DEBUG),
        Ok(5..=10) => Ok(Level::TRACE),
        _ => Err(format!("{text:?} is not a log level; use 1 to 5")),
    }
}

/// The form of log lines.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is not a log format; use text or json")),
    }
}

/// A boolean in Go's form.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false; write =true or =false, or the flag alone for true")),
    }
}

#[cfg(test)]
mod tests;
