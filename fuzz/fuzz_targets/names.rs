//! Names that others choose: ids of volumes, target paths, names of files, SPIFFE IDs, durations. An accepted name stays
//! in its folder, and is the same when written and read again.
#![no_main]

use std::path::{Component, Path};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use svid_csi_core::files::FileName;
use svid_csi_core::go_duration;
use svid_csi_core::spiffe_id::{SpiffeId, TrustDomain};
use svid_csi_core::target::TargetPath;
use svid_csi_core::volume_id::VolumeId;

fuzz_target!(|text: &str| {
    if let Ok(id) = VolumeId::parse(text) {
        assert!(is_plain(id.as_str()), "{id}");
        assert_eq!(id.as_str(), text);
    }
    if let Ok(name) = FileName::parse(text) {
        assert!(is_plain(name.as_str()) && name.as_str() == text, "{name}");
    }
    if let Ok(target) = TargetPath::parse(text) {
        let path = target.path();
        assert!(path.is_absolute() && is_plain(target.name()), "{path:?}");
        assert!(path.components().skip(1).all(|part| matches!(part, Component::Normal(_))), "{path:?}");
        assert_eq!(target.parent().join(target.name()), path);
        if let Some(place) = target.place() {
            assert!(path.starts_with(place.pods_dir) && is_plain(place.pod_uid) && is_plain(place.volume_name));
        }
    }
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.as_str(), text);
        assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
        assert!(text[9..].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/.-_".contains(&byte)), "{id}");
        TrustDomain::parse(id.trust_domain().as_str()).expect("its name");
    }
    if let Ok(duration) = go_duration::parse(text) {
        let whole = Duration::from_secs(duration.as_secs());
        assert_eq!(go_duration::parse(&go_duration::format(whole)), Ok(whole));
    }
});

/// One name that is neither a path nor hidden from `read_dir`.
fn is_plain(name: &str) -> bool {
    let is_one = matches!(Path::new(name).components().collect::<Vec<_>>()[..], [Component::Normal(_)]);
    is_one && !name.contains(['/', '\0']) && name.len() <= 255
}
