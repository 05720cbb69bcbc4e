//! CSR texts as cert-manager's own decoder reads them: `just csr-oracle` builds and runs both.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use svid_csi_core::approve::{self, Policy, Request, judge};

use super::{Comparison, Question, Rolls, Verdict};
use crate::approve::forge::{Csr, built, labelled, policy, request};
use crate::forge::{ID, uri};

/// Insertions: everything that PEM parsers disagree about.
const PIECES: [&str; 24] = [
    "-----",
    "-----BEGIN CERTIFICATE REQUEST-----\n",
    "-----END CERTIFICATE REQUEST-----\n",
    "-----BEGIN X-----\n",
    "-----END X-----\n",
    "\n-----END ",
    "-----BEGIN ",
    "X: -----\n",
    "X: -----END CERTIFICATE REQUEST-----\n",
    "A: b\n",
    "A: b\n\n",
    ":",
    ":\n",
    "\n",
    "\r\n",
    "\r",
    " ",
    "\t",
    "\u{c}",
    "\0",
    "=",
    "-",
    "QUJD",
    "Proc-Type: 4,ENCRYPTED\n\n",
];

fn text(rolls: &mut Rolls) -> Vec<u8> {
    let block = |rolls: &mut Rolls| {
        let label = rolls.pick(&["CERTIFICATE REQUEST", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "X"]);
        labelled(label, &DERS[rolls.below(DERS.len())])
    };
    let mut text = block(rolls);
    if rolls.one_in(4) {
        text += &block(rolls);
    }
    for _ in 0..rolls.below(4) {
        change(rolls, &mut text);
    }
    text.into_bytes()
}

fn change(rolls: &mut Rolls, text: &mut String) {
    let lines: Vec<_> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    // Mostly at the beginning of lines, and mostly of the first and the last ones.
    let at = match (rolls.below(8), lines.len()) {
        (0, _) | (_, 0) => rolls.below(text.len() + 1),
        (1, _) => 0,
        (2 | 3, _) => lines[0],
        (4 | 5, count) => lines[count - 1 - rolls.below(2).min(count - 1)],
        (_, count) => lines[rolls.below(count)],
    };
    match rolls.below(8) {
        0 => *text = text.replace('\n', rolls.pick(&["\r\n", "\n\n", " \n", "\n ", "\t\n"])),
        1 if at < text.len() => drop(text.remove(at)),
        2 => text.truncate(at),
        3 if at > 0 => drop(text.remove(at - 1)),
        _ => text.insert_str(at, rolls.pick(&PIECES)),
    }
}

/// The CSR in a text, if that is one plain block.
fn plain(text: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(text).expect("an approved CSR is text");
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).map(str::trim).collect();
    STANDARD.decode(base64).expect("an approved CSR is base64")
}

static DERS: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let two = built(|params| params.subject_alt_names.extend([uri("https://example.org"), uri(ID)]));
    [
        Csr::good().der(),
        Csr::with_attributes(&[]).der(),
        plain(&two),
        plain(&built(|params| params.subject_alt_names.clear())),
    ]
});

#[test]
#[ignore = "needs cert-manager's decoder: just csr-oracle"]
fn an_approved_csr_is_the_one_that_cert_manager_reads() {
    let name = "CSRs";
    let compare = |text: &Vec<u8>, theirs: &str| compare(text, theirs);
    let encode = Vec::clone;
    Comparison { name, question: Question::Csr, make: text, encode, compare, cost: 1 }.run();
}

/// An approved CSR must be the one that is read there. One that is not approved may be anything.
fn compare(text: &[u8], theirs: &str) -> Verdict {
    let auto = Policy { auto_approve_non_spiffe: true, ..policy() };
    let ours = judge(&request(text), &policy());
    let mut foreign = Request { identity: None, ..request(text) };
    foreign.issuer.name = "web".to_owned();
    let approved = [(ours, true), (judge(&foreign, &auto), false)];
    let mut approved = approved.into_iter().filter(|(verdict, _)| *verdict == approve::Verdict::Approve).peekable();
    if approved.peek().is_none() {
        return Verdict::Refused;
    }
    let shown = |why: &str| Verdict::Different(format!("{why}: {}", String::from_utf8_lossy(text)));
    let [digest, uris, spiffe] = theirs.split(' ').collect::<Vec<_>>()[..] else {
        return shown("approved, and unreadable there");
    };
    let expected = digest::digest(&digest::SHA256, &plain(text));
    let expected: String = expected.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for (_, is_identity) in approved {
        let expected_names = if is_identity { ["1", "1"] } else { [uris, "0"] };
        if digest != expected {
            return shown("another CSR is read there");
        }
        if [uris, spiffe] != expected_names {
            return shown("approved for other names than are read there");
        }
    }
    Verdict::Accepted
}
