//! How the kubelet discovers a driver: the driver creates a socket in the registration folder, the kubelet requests the
//! driver's name there, and reports the result.

use std::path::{Path, PathBuf};
use std::time::Duration;

use svid_csi_proto::pluginregistration_v1::registration_client::RegistrationClient;
use svid_csi_proto::pluginregistration_v1::{InfoRequest, PluginInfo, RegistrationStatus};
use tokio::time::{Instant, sleep};

use super::error::KubeletError;
use super::plugin::{Plugin, dial};

/// The interval at which the kubelet looks for the socket. A real kubelet uses inotify.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Registers the driver that has its registration socket at `socket`, which may take up to `within` to appear.
pub(super) async fn register(socket: &Path, within: Duration) -> Result<Plugin, KubeletError> {
    let mut registration = RegistrationClient::new(await_socket(socket, within).await?);
    let info = registration.get_info(InfoRequest {}).await.map_err(KubeletError::of("GetInfo"))?.into_inner();
    let outcome = accept(socket, &info).await;
    let status = RegistrationStatus {
        plugin_registered: outcome.is_ok(),
        error: outcome.as_ref().err().map(ToString::to_string).unwrap_or_default(),
    };
    let response = registration.notify_registration_status(status).await;
    response.map_err(KubeletError::of("NotifyRegistrationStatus"))?;
    outcome
}

/// A socket that refuses connections belongs to a driver that has ended; its successor replaces it.
async fn await_socket(socket: &Path, within: Duration) -> Result<tonic::transport::Channel, KubeletError> {
    let deadline = Instant::now() + within;
    loop {
        if let Ok(channel) = dial(socket).await {
            return Ok(channel);
        }
        if Instant::now() >= deadline {
            return Err(KubeletError::NoSocket { socket: socket.to_owned(), waited: within });
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn accept(socket: &Path, info: &PluginInfo) -> Result<Plugin, KubeletError> {
    let refused = |reason| KubeletError::NotRegistered { socket: socket.to_owned(), reason };
    check(info).map_err(refused)?;
    let endpoint = match info.endpoint.as_str() {
        "" => socket.to_owned(),
        endpoint => PathBuf::from(endpoint),
    };
    let plugin = Plugin::connect(&endpoint).await?;
    if plugin.name != info.name {
        return Err(refused(format!("it registers as {:?} and answers as {:?}", info.name, plugin.name)));
    }
    Ok(plugin)
}

/// Any 1.x driver is fine, even if it also supports other versions (kubelet, `HighestSupportedVersion`).
fn check(info: &PluginInfo) -> Result<(), String> {
    let is_version_one = |version: &String| version.trim_start_matches('v').split('.').next() == Some("1");
    if info.r#type != "CSIPlugin" {
        return Err(format!("type {:?} is not CSIPlugin", info.r#type));
    }
    if !info.supported_versions.iter().any(is_version_one) {
        return Err(format!("none of the versions {:?} is 1.x", info.supported_versions));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(r#type: &str, versions: &[&str]) -> PluginInfo {
        let supported_versions = versions.iter().map(|&version| version.to_owned()).collect();
        PluginInfo { r#type: r#type.to_owned(), supported_versions, ..Default::default() }
    }

    #[test]
    fn only_csi_drivers_of_version_one_are_accepted() {
        check(&info("CSIPlugin", &["1.0.0"])).unwrap();
        check(&info("CSIPlugin", &["2.0.0", "v1.9.0"])).unwrap();
        check(&info("DevicePlugin", &["1.0.0"])).unwrap_err();
        for versions in [&[][..], &["0.3.0"], &["10.0.0"]] {
            check(&info("CSIPlugin", versions)).unwrap_err();
        }
    }
}
