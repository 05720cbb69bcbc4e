//! CSR texts as cert-manager's own decoder reads them: `just csr-oracle` builds and runs both.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use svid_csi_core::approve::{Policy, Request, Verdict, judge};

use super::forge::{Csr, built, labelled, policy, request};
use crate::forge::{ID, uri};

const TEXTS: usize = 150_000;
const SEED: u64 = 11;

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

/// SplitMix64: the same texts in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).expect("it is below a usize")
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

fn text(random: &mut Random, ders: &[Vec<u8>]) -> Vec<u8> {
    let block = |random: &mut Random| {
        let label = random.one_of(&["CERTIFICATE REQUEST", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "X"]);
        labelled(label, &ders[random.below(ders.len())])
    };
    let mut text = block(random);
    if random.below(4) == 0 {
        text += &block(random);
    }
    for _ in 0..random.below(4) {
        change(random, &mut text);
    }
    text.into_bytes()
}

fn change(random: &mut Random, text: &mut String) {
    let lines: Vec<_> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    // Mostly at the beginning of lines, and mostly of the first and the last ones.
    let at = match (random.below(8), lines.len()) {
        (0, _) | (_, 0) => random.below(text.len() + 1),
        (1, _) => 0,
        (2 | 3, _) => lines[0],
        (4 | 5, count) => lines[count - 1 - random.below(2).min(count - 1)],
        (_, count) => lines[random.below(count)],
    };
    match random.below(8) {
        0 => *text = text.replace('\n', random.one_of(&["\r\n", "\n\n", " \n", "\n ", "\t\n"])),
        1 if at < text.len() => drop(text.remove(at)),
        2 => text.truncate(at),
        3 if at > 0 => drop(text.remove(at - 1)),
        _ => text.insert_str(at, random.one_of(&PIECES)),
    }
}

/// The CSR in a text, if that is one plain block.
fn plain(text: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(text).expect("an approved CSR is text");
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).map(str::trim).collect();
    STANDARD.decode(base64).expect("an approved CSR is base64")
}

fn ders() -> Vec<Vec<u8>> {
    let two = built(|params| params.subject_alt_names.extend([uri("https://example.org"), uri(ID)]));
    vec![
        Csr::good().der(),
        Csr::with_attributes(&[]).der(),
        plain(&two),
        plain(&built(|params| params.subject_alt_names.clear())),
    ]
}

/// The decoder's result for each text: the SHA-256 of the DER, and whether a SPIFFE ID is in it.
fn read_by_cert_manager(texts: &[Vec<u8>]) -> Vec<Option<(String, bool)>> {
    let program = std::env::var_os("CSR_ORACLE").expect("CSR_ORACLE names the decoder; `just csr-oracle` builds it");
    let decoder = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut decoder = decoder.expect("the decoder runs");
    let (mut input, output) = (decoder.stdin.take().expect("piped"), decoder.stdout.take().expect("piped"));
    let verdicts = std::thread::scope(|scope| {
        scope.spawn(move || {
            for text in texts {
                let size = u32::try_from(text.len()).expect("short");
                input.write_all(&[&size.to_be_bytes(), &text[..]].concat()).expect("the decoder reads on");
            }
        });
        let read = |line: std::io::Result<String>| {
            let line = line.expect("a line");
            let [digest, _, spiffe] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            Some((digest.to_owned(), spiffe != "0"))
        };
        BufReader::new(output).lines().map(read).collect::<Vec<_>>()
    });
    assert!(decoder.wait().expect("it ends").success());
    verdicts
}

#[test]
#[ignore = "needs cert-manager's decoder: just csr-oracle"]
fn an_approved_csr_is_the_one_that_cert_manager_reads() {
    let (mut random, ders) = (Random(SEED), ders());
    let texts: Vec<_> = (0..TEXTS).map(|_| text(&mut random, &ders)).collect();
    let verdicts = read_by_cert_manager(&texts);
    assert_eq!(verdicts.len(), TEXTS);
    let auto = Policy { auto_approve_non_spiffe: true, ..policy() };
    let (mut spiffe, mut approved) = (0, [0, 0]);
    for (text, read) in texts.iter().zip(&verdicts) {
        let shown = || String::from_utf8_lossy(text).into_owned();
        spiffe += usize::from(read.as_ref().is_some_and(|(_, is_spiffe)| *is_spiffe));
        let ours = judge(&request(text.clone()), &policy());
        let mut foreign = Request { identity: None, ..request(text.clone()) };
        foreign.issuer.name = "web".to_owned();
        let foreign = judge(&foreign, &auto);
        for (index, (verdict, may_be_spiffe)) in [(ours, true), (foreign, false)].into_iter().enumerate() {
            if verdict != Verdict::Approve {
                continue;
            }
            approved[index] += 1;
            let Some((digest, is_spiffe)) = read else { panic!("approved, and unreadable there: {:?}", shown()) };
            let expected = digest::digest(&digest::SHA256, &plain(text));
            let expected: String = expected.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(*digest, expected, "another CSR is read there: {}", shown());
            assert!(may_be_spiffe || !is_spiffe, "approved as no SPIFFE identity: {}", shown());
        }
    }
    println!("{TEXTS} texts, {spiffe} read as SPIFFE identities there; approved here: {approved:?}");
    assert!(spiffe > TEXTS / 10 && approved.iter().all(|count| *count > TEXTS / 50), "{spiffe} {approved:?}");
}
