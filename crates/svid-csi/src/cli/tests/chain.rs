//! Whether certificates must lead to the trust bundle.

use super::{CERT_MANAGER, good, mistakes};

const OWN: &str = "svid-csi driver --source cert-manager --driver-name d --node-id n --endpoint e --data-root r \
                   --trust-domain example.org --issuer-name i";

fn requires_chain(line: &str) -> bool {
    good(line).config.cert_manager.expect("it has the source").settings.requires_chain
}

#[test]
fn chains_are_required_except_in_the_predecessors_profile() {
    assert!(requires_chain(OWN) && !requires_chain(CERT_MANAGER));
    for (flag, required) in [("", true), ("=true", true), ("=1", true), ("=false", false)] {
        for line in [OWN, CERT_MANAGER] {
            assert_eq!(
                requires_chain(&format!("{line} --require-chain{flag} --trust-domain t")),
                required,
                "{line} {flag}"
            );
        }
    }
    let also = format!("{OWN} --also-profile spiffe.csi.cert-manager.io:csi-socket=unix:///o");
    assert!(!requires_chain(&also));
    let [wrong] = &mistakes(&format!("{OWN} --require-chain=maybe"))[..] else { panic!("one mistake") };
    assert!(wrong.starts_with("--require-chain"), "{wrong}");
}
