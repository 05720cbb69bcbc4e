//! A further driver name served by the same process: `NAME:csi-socket=SOCKET[,registration-path=PATH]`.

use std::path::PathBuf;
use std::str::FromStr;

use super::profile::Profile;
use super::values;

/// A driver name besides the main one, with its profile's defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AlsoProfile {
    pub(super) profile: Profile,
    pub(super) csi_socket: PathBuf,
    pub(super) registration_path: Option<PathBuf>,
}

impl FromStr for AlsoProfile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let profile: Profile = name.parse()?;
        let (mut csi_socket, mut registration_path) = (None, None);
        for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
            match setting.split_once('=').unwrap_or((setting, "")) {
                ("csi-socket" | "registration-path", "") => {}
                ("csi-socket", socket) => csi_socket = Some(values::socket(socket)?),
                ("registration-path", path) => registration_path = Some(values::socket(path)?),
                (other, _) => {
                    return Err(format!(
                        "{name}: {other:?} is not a setting; use csi-socket=SOCKET, registration-path=PATH"
                    ));
                }
            }
        }
        match csi_socket {
            Some(csi_socket) => Ok(Self { profile, csi_socket, registration_path }),
            None => Err(format!("{name}: the socket is missing; write {name}:csi-socket=SOCKET")),
        }
    }
}
