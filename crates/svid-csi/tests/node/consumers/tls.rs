//! A client of TLS servers: the openssl command.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use svid_csi::spiffe::svid::Leaf;

/// A connection over which a request is being sent.
pub(super) struct Connection {
    process: Child,
    input: ChildStdin,
}

/// What a server has sent.
pub(super) struct Answer {
    pub(super) leaf: Leaf,
    pub(super) text: String,
}

/// The certificates that a client trusts, and its own.
pub(super) struct Client {
    /// The volume with the identity.
    folder: PathBuf,
    has_certificate: bool,
}

impl Client {
    /// With the identity in a volume.
    pub(super) fn with(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), has_certificate: true }
    }

    /// Without a certificate of its own.
    pub(super) fn anonymous(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), has_certificate: false }
    }

    /// Connects, and sends the beginning of a request.
    pub(super) fn connect(&self, server: SocketAddr, beginning: &str) -> Connection {
        let file = |name: &str| self.folder.join(name);
        let mut command = Command::new("openssl");
        command.args(["s_client", "-ign_eof", "-verify_return_error", "-connect", &server.to_string()]);
        command.arg("-CAfile").arg(file("ca.crt"));
        if self.has_certificate {
            command.arg("-cert").arg(file("tls.crt")).arg("-cert_chain").arg(file("tls.crt"));
            command.arg("-key").arg(file("tls.key"));
        }
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("openssl runs");
        let input = process.stdin.take().unwrap();
        let mut connection = Connection { process, input };
        connection.send(beginning);
        connection
    }

    /// Sends a request over a connection of its own, if the server and its certificate can be used.
    pub(super) fn get(&self, server: SocketAddr) -> Option<Answer> {
        self.connect(server, "GET / HTTP/1.0\r\n\r\n").answer()
    }
}

impl Connection {
    fn send(&mut self, text: &str) {
        // The server may have ended the connection.
        let _ = self.input.write_all(text.as_bytes());
    }

    /// Sends the rest of the request.
    pub(super) fn finish(mut self, rest: &str) -> Option<Answer> {
        self.send(rest);
        self.answer()
    }

    fn answer(mut self) -> Option<Answer> {
        let mut text = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.process.wait().unwrap();
        let leaf = Leaf::read(&CertificateDer::from_pem_slice(text.as_bytes()).ok()?).unwrap();
        Some(Answer { leaf, text })
    }
}
