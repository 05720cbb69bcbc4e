//! Pods.

use svid_csi::demo::kubelet::Pod;

/// A pod in the namespace `shop`, whose service account has its name.
pub fn pod(name: &str) -> Pod {
    Pod {
        uid: format!("uid-of-{name}"),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: name.to_owned(),
        fs_group: None,
    }
}
