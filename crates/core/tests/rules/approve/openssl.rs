//! CSRs of OpenSSL: `cargo test -p svid-csi-core -- --ignored openssl` if the tool is installed.

use std::process::Command;

use svid_csi_core::approve::{Verdict, judge};

use super::forge::{faults, policy, request};
use crate::forge::ID;

fn openssl(key: &[&str], subject: &str, extensions: &[&str]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(["req", "-new", "-nodes", "-keyout", "/dev/null", "-config", "/dev/null", "-subj", subject]);
    command.args(key);
    for extension in extensions {
        command.args(["-addext", extension]);
    }
    let output = command.output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
#[ignore = "needs the openssl command"]
fn openssl_is_judged_like_any_other() {
    let names = format!("subjectAltName=critical,URI:{ID}");
    let p256 = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"][..];
    let curve = |curve| vec!["-newkey", "ec", "-pkeyopt", curve];
    let (p384, p521) = (curve("ec_paramgen_curve:P-384"), curve("ec_paramgen_curve:P-521"));
    for key in [p256, &p384, &p521, &["-newkey", "rsa:2048"], &["-newkey", "rsa:4096"], &["-newkey", "ed25519"]] {
        let usages = ["keyUsage=critical,digitalSignature,keyEncipherment", "extendedKeyUsage=serverAuth,clientAuth"];
        let csr = openssl(key, "/", &[&names, usages[0], usages[1]]);
        assert_eq!(judge(&request(csr), &policy()), Verdict::Approve, "{key:?}");
    }
    let with_dns = format!("{names},DNS:cart");
    for (class, key, subject, extensions) in [
        ("key_size", &["-newkey", "rsa:1024"][..], "/", vec![&*names]),
        ("key_algorithm", &curve("ec_paramgen_curve:secp256k1"), "/", vec![&*names]),
        ("signature_algorithm", &["-newkey", "rsa:2048", "-sha1"], "/", vec![&*names]),
        ("subject", p256, "/O=system:masters", vec![&*names]),
        ("name", p256, "/", vec![&*with_dns]),
        ("csr_ca", p256, "/", vec![&*names, "basicConstraints=CA:TRUE"]),
        ("extension", p256, "/", vec![&*names, "basicConstraints=CA:FALSE"]),
        ("extension", p256, "/", vec![&*names, "tlsfeature=status_request"]),
        ("key_usage", p256, "/", vec![&*names, "keyUsage=keyCertSign"]),
        ("extended_key_usage", p256, "/", vec![&*names, "extendedKeyUsage=serverAuth,codeSigning"]),
    ] {
        let found: Vec<_> = faults(&request(openssl(key, subject, &extensions)), &policy());
        assert!(matches!(&found[..], [(one, _)] if *one == class), "{class}: {found:?}");
    }
}
