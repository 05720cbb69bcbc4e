//! The source of the image.

use std::fs;

use crate::helm;
use crate::objects::{Objects, containers, word};

/// The images of driver and approver.
fn images(arguments: &str) -> [String; 2] {
    let objects = Objects::rendered(arguments);
    let images: Vec<_> = objects.pods().flat_map(containers).map(|found| word(&found["image"]).to_owned()).collect();
    images.try_into().unwrap()
}

#[test]
fn one_image_for_both_unless_set_otherwise() {
    let version = env!("CARGO_PKG_VERSION");
    let own_tag = format!("--set image.tag=v{version}");
    for (arguments, expected) in [
        ("", format!("svid-csi/svid-csi:{version}")),
        ("--set imageRegistry=mirror.example.org", format!("mirror.example.org/svid-csi/svid-csi:{version}")),
        ("--set imageRegistry=a.example,imageNamespace=b", format!("a.example/b/svid-csi:{version}")),
        ("--set image.repository=a.example/b/c,image.tag=v1", "a.example/b/c:v1".to_owned()),
        ("--set image.registry=a.example,image.digest=sha256:1", "a.example/svid-csi/svid-csi@sha256:1".to_owned()),
        ("--set image.tag=v1,image.digest=sha256:1", "svid-csi/svid-csi:v1@sha256:1".to_owned()),
        (own_tag.as_str(), format!("svid-csi/svid-csi:v{version}")),
        ("--set imageRegistry=a.example,image.tag=v0.13.0", "a.example/svid-csi/svid-csi:v0.13.0".to_owned()),
    ] {
        assert_eq!(images(arguments), [expected.clone(), expected], "{arguments}");
    }
}

#[test]
fn each_its_own_as_with_the_predecessor() {
    let own = "--set driverImage.repository=a/driver,driverImage.tag=v1,approverImage.repository=a/approver,\
               approverImage.tag=v2";
    assert_eq!(images(own), ["a/driver:v1", "a/approver:v2"]);
    let older = "--set image.repository.driver=a/driver,image.repository.approver=a/approver,image.tag=v3,\
                 image.digest.driver=sha256:1";
    assert_eq!(images(older), ["a/driver:v3@sha256:1", "a/approver:v3"]);
    let name = "mirror.example.org/mirror/cert-manager-csi-driver-spiffe";
    let mirrored = "--set imageRegistry=mirror.example.org,imageNamespace=mirror,\
                    driverImage.name=cert-manager-csi-driver-spiffe,driverImage.tag=v1,\
                    approverImage.name=cert-manager-csi-driver-spiffe-approver,approverImage.tag=v1";
    assert_eq!(images(mirrored), [format!("{name}:v1"), format!("{name}-approver:v1")]);
}

/// Values copied from the predecessor's chart name its own image, which has different flags.
#[test]
fn the_predecessors_image_does_not_run() {
    let copied = "--set imageRegistry=quay.io,imageNamespace=jetstack,driverImage.name=cert-manager-csi-driver-spiffe,\
                  driverImage.tag=v0.13.0,image.repository.approver=quay.io/jetstack/cert-manager-csi-driver-spiffe-approver";
    let ours = format!("svid-csi/svid-csi:{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(images(copied), [ours.clone(), ours.clone()]);
    let notes = notes(copied);
    let used = format!("is that of csi-driver-spiffe's driver. {ours} runs in its place");
    assert!(notes.contains(&used), "{notes}");
}

#[test]
fn values_without_effect_are_reported() {
    let notes = notes("-f ../../tests/cluster/tests/chart/values/predecessor.yaml");
    for said in ["app.driver.nodeDriverRegistrarImage and app.driver.livenessProbeImage", "Not used: global"] {
        assert!(notes.contains(said), "{notes}");
    }
    assert!(!self::notes("").contains("Not used"));
}

#[test]
fn entry_points_do_not_matter() {
    for container in Objects::rendered("").pods().flat_map(containers) {
        assert_eq!(container["command"], serde_json::json!(["/bin/svid-csi"]));
    }
}

#[test]
fn a_priority_class_that_needs_a_quota_is_reported() {
    let hint = "set\nresourceQuota.enabled=true";
    assert!(notes("").contains(hint), "{}", notes(""));
    for arguments in
        ["-n kube-system", "--set resourceQuota.enabled=true", "--set app.driver.priorityClassName=important"]
    {
        assert!(!notes(arguments).contains(hint), "{arguments}");
    }
}

/// The text that is shown after an installation. Helm renders it only for a cluster, so a copy of the chart contains it
/// as an object.
fn notes(arguments: &str) -> String {
    let copy = tempfile::tempdir().unwrap();
    helm::copy(&helm::chart(), copy.path());
    let object = r#"notes: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}"#;
    fs::write(copy.path().join("templates/notes.yaml"), object).unwrap();
    let path = copy.path().display().to_string();
    let usual =
        ["template", "svid-csi", &path, "-n", "svid-csi", "--kube-version", "1.37.0", "-s", "templates/notes.yaml"];
    let output = helm::run(&usual, arguments);
    assert!(output.status.success(), "{}", helm::text(output.stderr));
    word(&Objects::parse(&helm::text(output.stdout)).0[0]["notes"]).to_owned()
}
