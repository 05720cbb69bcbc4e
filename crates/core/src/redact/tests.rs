use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

use super::*;

fn of(text: &str) -> String {
    Redacted::of(text).to_string()
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

#[test]
fn private_keys_in_pem_are_removed() {
    let pem = key().serialize_pem();
    assert_eq!(of(&format!("before {}\nafter", pem.trim_end())), "before [redacted]\nafter");
    let json = serde_json::json!({"why": pem.clone(), "more": "text"}).to_string();
    let redacted: serde_json::Value = serde_json::from_str(&of(&json)).unwrap();
    assert_eq!(redacted["more"], "text");
    assert!(!redacted["why"].as_str().unwrap().contains("PRIVATE"), "{redacted}");
    let nested = serde_json::json!({"outer": json}).to_string();
    assert!(!of(&nested).contains(&pem[40..60]), "{}", of(&nested));
    let lines: Vec<_> = pem.lines().collect();
    for cut in [1..lines.len() - 1, 0..lines.len() - 1, 1..lines.len(), 1..2, 2..lines.len()] {
        let shown = of(&lines[cut].join("\n"));
        assert!(lines[1..lines.len() - 1].iter().all(|line| !shown.contains(line)), "{shown}");
    }
    assert_eq!(of("-----BEGIN PUBLIC KEY-----\nabc\n"), "-----BEGIN PUBLIC KEY-----\nabc\n");
    assert_eq!(of("-----BEGIN RSA PRIVATE KEY----- cut \"rest\""), "[redacted]\"rest\"");
}

#[test]
fn keys_in_der_are_found_in_every_encoding() {
    let rsa = [&[0x30, 0x82, 0x04, 0xa4, 0x02, 0x01, 0x00, 0x02, 0x82, 0x01, 0x01, 0x00][..], &[7; 90]].concat();
    let sec1 = [&[0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20][..], &[9; 112]].concat();
    let pkcs12 = [&[0x30, 0x82, 0x01, 0x00, 0x02, 0x01, 0x03, 0x30][..], &[5; 80]].concat();
    let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_der();
    for der in [rsa, sec1, pkcs12, ed25519, key().serialize_der()] {
        let hex: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
        let shifted = |by: usize| STANDARD.encode([&b"abc"[..by], &der].concat());
        let forms = [shifted(0), shifted(1), shifted(2), URL_SAFE_NO_PAD.encode(&der), hex.to_uppercase(), hex];
        for form in forms {
            let wrapped: Vec<_> = form.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
            for text in [form.clone(), wrapped.join("\n"), wrapped.join("\\n    "), wrapped.join("\r\n")] {
                let shown = of(&format!("a: {text} b"));
                assert_eq!(shown, "a: [redacted] b");
            }
        }
    }
}

#[test]
fn tokens_and_credentials_are_removed() {
    for (text, shown) in [
        ("token eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl.", "token [redacted]"),
        ("(eyJhbGciOiJFUzI1NiJ9)", "([redacted])"),
        ("eyJ", "eyJ"),
        ("Authorization: Bearer abc, x", "Authorization: [redacted], x"),
        ("authorization=basic  abc", "authorization=[redacted]"),
        ("sent bearer T0k3n-0f-the-driver to", "sent bearer [redacted] to"),
        ("a bearer certificate", "a bearer certificate"),
        ("https://user:hunter2@proxy:3128/x", "https://[redacted]@proxy:3128/x"),
        ("spiffe://example.org/ns/shop", "spiffe://example.org/ns/shop"),
        ("https://host/?access_token=abc&x=1", "https://host/?access_token=[redacted]&x=1"),
    ] {
        assert_eq!(of(text), shown);
    }
}

#[test]
fn values_are_removed_by_the_names_of_their_keys() {
    for (text, shown) in [
        (r#"{"pkcs12-password":"a \" b","x":1}"#, r#"{"pkcs12-password":"[redacted]","x":1}"#),
        (r#"{\"Password\" : \"a \\\" b\",\"x\":1}"#, r#"{\"Password\" : \"[redacted]\",\"x\":1}"#),
        ("clientSecret: hunter2\nnext: 1", "clientSecret: [redacted]\nnext: 1"),
        ("password=hunter2, user=x", "password=[redacted], user=x"),
        ("--token hunter2 --x", "--token [redacted] --x"),
        ("map[password:hunter2 x:1]", "map[password:[redacted] x:1]"),
        (r#""secrets": {"a": "hunter2", "b": "}"}, "x""#, r#""secrets": {[redacted]}, "x""#),
        (r#""tokens": ["one", "two"], "x""#, r#""tokens": [[redacted]], "x""#),
        (r#""password": "not closed"#, r#""password": "[redacted]"#),
        (r#""tokenRequests": [{"audience": "vault"}]"#, r#""tokenRequests": [{"audience": "vault"}]"#),
        ("automountServiceAccountToken: false", "automountServiceAccountToken: false"),
        ("svid_csi_waiting_for_token 3", "svid_csi_waiting_for_token 3"),
        ("waits for the pod's token", "waits for the pod's token"),
    ] {
        assert_eq!(of(text), shown);
    }
}

#[test]
fn secrets_inside_base64_are_found() {
    let pem = key().serialize_pem();
    let secret = STANDARD.encode(r#"{"user":"x","password":"hunter2"}"#);
    for text in [STANDARD.encode(&pem), STANDARD.encode(STANDARD.encode(&pem)), secret] {
        assert_eq!(of(&format!("data: {text}\n")), "data: [redacted]\n");
    }
}

#[test]
fn what_a_report_needs_stays() {
    let id = format!("csi-{}", "0123456789abcdef".repeat(4));
    for text in [
        format!(
            "/var/lib/kubelet/pods/5f0c8f5c-77aa-4f0e-9a4c-1a2b3c4d5e6f/volumes/kubernetes.io~csi/spiffe/mount {id}"
        ),
        format!("/tmp/svidAbC123/root/data/volumes/{id}/..data"),
        "serial 4a3f9b7c1d2e5f60718293a4b5c6d7e8f9012345".to_owned(),
        "image svid-csi@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855".to_owned(),
        "2026-11-29T19:15:00Z  WARN svid_csi::node: the identity cannot be renewed volume=csi-1".to_owned(),
        "CapEff:\t000001ffffffffff".to_owned(),
        "VolumeUsesAnotherPodThatWasRemovedBeforeItStarted".to_owned(),
    ] {
        assert_eq!(of(&text), text);
    }
}

#[test]
fn long_texts_are_cut_at_lines() {
    let lines: String = (0..100).map(|number| format!("line {number}\n")).collect();
    let start = Redacted::of(&lines).cut(200, Keep::Start).to_string();
    assert!(start.starts_with("line 0\nline 1\n") && start.len() <= 200, "{start}");
    assert!(start.ends_with(" bytes are left out]\n"), "{start}");
    let end = Redacted::of(&lines).cut(200, Keep::End).to_string();
    assert!(end.starts_with("[truncated: ") && end.ends_with("line 99\n") && end.len() <= 200, "{end}");
    assert_eq!(Redacted::of(&lines).cut(lines.len(), Keep::End).text(), lines);
    let wide = Redacted::of(&"\u{fc}".repeat(300)).cut(101, Keep::Start).to_string();
    assert!(wide.len() <= 101, "{wide}");
}

proptest! {
    #[test]
    fn any_text_is_redacted_once(text in "[\\PC\n\"\\\\]{0,300}") {
        let once = Redacted::of(&text);
        let twice = Redacted::of(once.text());
        prop_assert_eq!(once.text(), twice.text());
    }

    #[test]
    fn secret_values_never_stay(secret in "[a-zA-Z0-9!#$%]{12,40}", level in 0..4_usize) {
        let mut text = serde_json::json!({"some": {"db-password": secret}}).to_string();
        for _ in 0..level {
            text = serde_json::json!({"message": text, "count": 1}).to_string();
        }
        let shown = of(&text);
        prop_assert!(!shown.contains(&secret), "{}", shown);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&shown).is_ok(), "{}", shown);
    }

    #[test]
    fn keys_never_stay(before in "[a-zA-Z0-9/]{0,7}", after in "[ \"}]", seed in prop::array::uniform32(any::<u8>())) {
        let der = [&[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20][..], &seed].concat();
        let base64 = STANDARD.encode(der);
        let shown = of(&format!("{before}{base64}{after}"));
        prop_assert!(!shown.contains(&base64[24..40]), "{}", shown);
    }
}

/// The author of a request chooses its text, and the main thread's stack has an end.
#[test]
fn a_long_run_of_escaped_line_breaks_is_read() {
    let text = format!("{}{}", "a".repeat(40), "\\n".repeat(400_000));
    assert!(Redacted::of(&text).text().len() > 400_000);
}
