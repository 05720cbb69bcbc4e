//! The facts of the configuration, for `/facts` on the admin socket.

use std::path::Path;

use svid_csi_core::findings::facts::{BrokerFacts, CertManagerFacts, DriverFacts, IssuerFacts, NameFacts};

use super::config::Config;
use super::kubelet::config::{DriverName, KubeletConfig};
use crate::source::broker::config::BrokerConfig;
use crate::source::cert_manager::config::CertManagerConfig;

/// The facts that do not change while the driver runs.
pub(super) fn facts(config: &Config) -> DriverFacts {
    let kubelet = &config.kubelet;
    DriverFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: kubelet.node_id.clone(),
        pid: std::process::id(),
        names: kubelet.drivers.iter().map(|driver| name(kubelet, driver)).collect(),
        pods_dir: kubelet.pods_dir().as_deref().map_or_else(|| "/var/lib/kubelet/pods".to_owned(), text),
        data_root: config.data.as_ref().map(|data| text(&data.root)),
        kubeconfig: config.client.kubeconfig.as_deref().map(text),
        cert_manager: config.cert_manager.as_ref().map(cert_manager),
        broker: config.broker.as_ref().map(broker),
        ..DriverFacts::default()
    }
}

fn name(kubelet: &KubeletConfig, driver: &DriverName) -> NameFacts {
    let registration = kubelet.registration_dir.as_ref().map(|dir| dir.join(driver.registration_socket()));
    NameFacts {
        name: driver.name.clone(),
        csi_socket: text(&driver.socket),
        registration_path: driver.registration_path.as_deref().map(text),
        registration_socket: registration.as_deref().map(text),
        registered: false,
        plans: driver.allowed_plans.iter().map(ToString::to_string).collect(),
    }
}

fn cert_manager(config: &CertManagerConfig) -> CertManagerFacts {
    let issuer = config.issuer.as_ref().filter(|_| config.runtime_issuer.is_none());
    let issuer = issuer.map(|issuer| IssuerFacts {
        name: issuer.name.clone(),
        kind: issuer.kind().to_owned(),
        group: issuer.group().to_owned(),
    });
    CertManagerFacts { up: false, pods_ask: config.settings.pods_ask, issuer }
}

fn broker(config: &BrokerConfig) -> BrokerFacts {
    BrokerFacts { endpoint: config.endpoint.to_string(), up: false }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
