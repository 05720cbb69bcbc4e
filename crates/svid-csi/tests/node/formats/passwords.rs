//! The password that a pod chose for its PKCS#12 files.

use tonic::Code;

use super::*;

const PASSWORD: &str = "correct horse battery staple";

fn with_password(password: &str) -> InlineVolume {
    volume("web").attribute("svid-csi/file-pkcs12", "key.p12").secret("pkcs12-password", password)
}

fn store(target: &Path) -> Vec<u8> {
    fs::read(target.join("key.p12")).unwrap()
}

async fn is_renewed(node: &Node, target: &Path) {
    let before = store(target);
    renew_all(node).await;
    until("the store is renewed", async || fs::read(target.join("key.p12")).is_ok_and(|now| now != before)).await;
}

#[test]
fn renewals_use_the_password_even_after_a_restart() {
    test(async || {
        let mut node = Node::files(&[ADMIN, "--log-level=5"]).await;
        let target = node.publish(&with_password(PASSWORD)).await;
        assert!(opens(&store(&target), PASSWORD) && !opens(&store(&target), "changeit"));
        is_renewed(&node, &target).await;
        assert!(opens(&store(&target), PASSWORD));
        node.kill();
        node.start().await;
        is_renewed(&node, &target).await;
        assert!(opens(&store(&target), PASSWORD));

        let kept = node.path(&format!("root/data/passwords/{}", with_password("").id()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&kept), mode(kept.parent().unwrap())), (0o600, 0o700));
        let status = crate::endpoints::get(&node, "/status").await;
        for shown in [node.record(&with_password("")), status, node.log()] {
            assert!(!shown.contains(PASSWORD), "{shown}");
        }
        for name in names(&target) {
            let seen = fs::read(target.join(&name)).unwrap();
            assert!(!seen.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()), "{name}");
        }
        node.unpublish(&with_password(PASSWORD)).await;
        assert!(!kept.exists());
    });
}

#[test]
fn another_password_is_used_at_once() {
    test(async || {
        let node = Node::files(&[]).await;
        let target = node.publish(&with_password(PASSWORD)).await;
        let first = store(&target);
        node.publish(&with_password(PASSWORD)).await;
        assert_eq!(store(&target), first, "the same changes nothing");
        node.publish(&with_password("another")).await;
        until("the store has it", async || {
            fs::read(target.join("key.p12")).is_ok_and(|store| opens(&store, "another"))
        })
        .await;
    });
}

#[test]
fn a_lost_password_is_waited_for() {
    test(async || {
        let mut node = Node::files(&[ADMIN, "--metrics-address=127.0.0.1:0"]).await;
        let target = node.publish(&with_password(PASSWORD)).await;
        let (first, before) = (serial(&target), store(&target));
        node.kill();
        fs::remove_dir_all(node.path("root/data/passwords")).unwrap();
        node.start().await;
        renew_all(&node).await;
        until("the failure is counted", async || metric(&node, "renewal_failures_total").await == Some(1.0)).await;
        assert_eq!((serial(&target), store(&target)), (first, before.clone()), "everything is kept");
        assert!(node.log().contains("again with the next publish"), "{}", node.log());
        node.publish(&with_password(PASSWORD)).await;
        until("the store is renewed", async || {
            fs::read(target.join("key.p12")).is_ok_and(|now| now != before && opens(&now, PASSWORD))
        })
        .await;
    });
}

#[test]
fn bad_passwords_are_refused_without_being_quoted() {
    test(async || {
        let node = Node::files(&["--log-level=5"]).await;
        for (volume, says) in [
            (with_password("hunter2\n"), "does it end with a line break?"),
            (with_password(""), "must have 1 to 256 characters"),
            (volume("web").attribute("svid-csi/pkcs12-password", "hunter2"), "of a Secret"),
        ] {
            let (code, message) = node.refused(&volume).await;
            assert_eq!(code, Code::InvalidArgument);
            assert!(message.contains(says) && !message.contains("hunter2"), "{message}");
        }
        assert!(!node.log().contains("hunter2"));
    });
}
