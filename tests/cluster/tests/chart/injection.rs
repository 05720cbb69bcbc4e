//! The policy that adds the volume to pods; the API server compiles its expressions in `e2e/install/injection.rs`.

use crate::objects::{Objects, word};

fn rendered(arguments: &str) -> Objects {
    Objects::rendered_for("1.36", &format!("{arguments} --set injection.enabled=true"))
}

fn expression(objects: &Objects) -> String {
    let policy = objects.of_kind("MutatingAdmissionPolicy").next().expect("a policy");
    word(&policy["spec"]["mutations"][0]["applyConfiguration"]["expression"]).to_owned()
}

#[test]
fn pods_with_files_get_no_socket() {
    let files = expression(&rendered("-f values-standalone.yaml --set delivery=files,injection.mountPath=/identity"));
    assert!(!files.contains("SPIFFE_ENDPOINT_SOCKET") && files.contains("mountPath: \"/identity\""), "{files}");
    let socket = expression(&rendered("-f values-spire.yaml"));
    assert!(socket.contains("unix:///spiffe-workload-api/spire-agent.sock"), "{socket}");
    let named = expression(&rendered("-f values-spire.yaml --set injection.socketName=api.sock"));
    assert!(named.contains("unix:///spiffe-workload-api/api.sock"), "{named}");
}

#[test]
fn words_of_an_administrator_stay_words() {
    let odd =
        expression(&rendered("-f values-spire.yaml --set-json injection.attributes={\"svid-csi/hint\":\"a\\\"b\"}"));
    assert!(odd.contains(r#"{"svid-csi/hint":"a\"b"}"#), "{odd}");
}
