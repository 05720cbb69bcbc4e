//! Chains under CAs of every kind, generated from a seed, and the verdicts of OpenSSL and Go about them: `just paths`.
//!
//! If their verdict differs, a rule of RFC 5280 explains it, and the chain itself shows that this is the reason.

mod hierarchy;
mod reasons;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

use svid_csi_core::identity::{Candidate, leads_to};

use self::hierarchy::made;
use self::reasons::Score;
use crate::forge::now;
use crate::oracle::{Program, Question, chains, inputs, seed};

/// Only the path: the rule that every certificate of a chain must be a CA is our own.
fn ours(candidate: &Candidate) -> Result<(), String> {
    let bundle = candidate.bundle.as_deref().expect("a bundle");
    leads_to(&candidate.chain, bundle, now()).map_err(|rejection| rejection.to_string())
}

fn seconds() -> u64 {
    now().duration_since(UNIX_EPOCH).expect("a time").as_secs()
}

#[test]
#[ignore = "needs Go: just paths"]
fn go_judges_chains_alike() {
    let (mut go, mut score) = (Program::start(), Score::new(reasons::OF_GO));
    for seed in seed()..seed() + inputs() {
        let made = made(seed, &[]);
        let answer = go.ask(Question::Path, &chains(&made.candidate, now()));
        score.count(seed, &made, &answer);
    }
    score.is_worth_it();
}

fn pem(all: &[rustls_pki_types::CertificateDer<'_>]) -> String {
    svid_csi_core::identity::to_pem(all)
}

/// The verdict of OpenSSL, for clients and servers.
fn openssl(folder: &Path, candidate: &Candidate) -> String {
    let write = |name: &str, text: String| {
        let mut file = File::create(folder.join(name)).expect("a file");
        file.write_all(text.as_bytes()).expect("room");
    };
    write("leaf", pem(&candidate.chain[..1]));
    write("chain", pem(&candidate.chain[1..]));
    write("bundle", pem(candidate.bundle.as_deref().expect("a bundle")));
    for purpose in ["sslserver", "sslclient"] {
        let at = seconds().to_string();
        let mut command = Command::new("openssl");
        command.current_dir(folder).args(["verify", "-no-CApath", "-no-CAstore", "-CAfile", "bundle"]);
        if candidate.chain.len() > 1 {
            command.args(["-untrusted", "chain"]);
        }
        let output = command.args(["-purpose", purpose, "-attime", &at, "leaf"]).output().expect("openssl runs");
        if !output.status.success() {
            return String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        }
    }
    "ok".to_owned()
}

#[test]
#[ignore = "needs the openssl command"]
fn openssl_judges_chains_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut score = Score::new(reasons::OF_OPENSSL);
    for seed in seed()..seed() + inputs() / 20 {
        let made = made(seed, &[]);
        let answer = openssl(folder.path(), &made.candidate);
        score.count(seed, &made, &answer);
    }
    score.is_worth_it();
}
