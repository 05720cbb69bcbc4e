//! The Go program with the other libraries.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What the program is asked, by the letter that it knows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Question {
    /// The frames that an HTTP/2 client sent, and those that were passed on.
    Authority = b'a' as isize,
    BundleDocument = b'b' as isize,
    Csr = b'c' as isize,
    Duration = b'd' as isize,
    SpiffeId = b'i' as isize,
    /// A token, an audience and a JWK set.
    Jwt = b'j' as isize,
    JwtBundle = b'k' as isize,
    /// The time, a key, the length of the chain, the chain, the anchors.
    Path = b'p' as isize,
    /// `key` or `trust`, the password and the file.
    KeyStore = b's' as isize,
    TrustDomain = b't' as isize,
    PodTokens = b'w' as isize,
    /// The same as a path.
    X509Svid = b'x' as isize,
}

/// A record of fields, each after its length.
pub(crate) fn record<'a>(fields: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    fields.into_iter().flat_map(|field| [&length(field.len()), field].concat()).collect()
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("a short record").to_be_bytes()
}

/// It runs until it is dropped.
pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(crate) fn start() -> Self {
        let path =
            std::env::var_os("SVID_CSI_ORACLE").expect("SVID_CSI_ORACLE names the program; `just oracles` sets it");
        let child = Command::new(path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the program starts");
        let answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { input: child.stdin.take(), answers, child }
    }

    pub(crate) fn ask(&mut self, question: Question, input: &[u8]) -> String {
        self.ask_all(question, &[input.to_vec()]).remove(0)
    }

    /// The answers, in order.
    pub(super) fn ask_all(&mut self, question: Question, inputs: &[Vec<u8>]) -> Vec<String> {
        let (stdin, answers) = (self.input.as_mut().expect("it is open until the end"), &mut self.answers);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let records =
                    inputs.iter().flat_map(|input| [&length(input.len() + 1)[..], &[question as u8], input].concat());
                stdin.write_all(&records.collect::<Vec<_>>()).expect("the program reads");
            });
            inputs.iter().map(|_| answers.next().expect("an answer").expect("text")).collect()
        })
    }
}

impl Drop for Program {
    /// Ends the input, and with it the program.
    fn drop(&mut self) {
        drop(self.input.take());
        let ended = self.child.wait().expect("it ends");
        assert!(std::thread::panicking() || ended.success(), "the program failed: {ended}");
    }
}
