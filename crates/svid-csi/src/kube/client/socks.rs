//! SOCKS5 (RFC 1928 and RFC 1929), compatible with Go: names are resolved by the proxy, and a password is sent only to
//! a proxy that asks for it. hyper-util's implementation fails if a proxy does not ask.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use crate::host::resolver::Resolver;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const PASSWORD: u8 = 2;

/// Connects through a proxy.
#[derive(Debug, Clone)]
pub(super) struct Socks {
    proxy: Uri,
    credentials: Option<Credentials>,
    tcp: HttpConnector<Resolver>,
}

/// User name and password.
type Credentials = (String, String);

/// Why a proxy cannot connect. Contains no part of a password.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocksError {
    #[error("the SOCKS proxy cannot be reached")]
    Unreachable(#[source] BoxError),
    #[error("the SOCKS proxy gave an unexpected response")]
    Broken(#[from] io::Error),
    #[error("the proxy is not a SOCKS5 proxy")]
    Version,
    #[error(
        "the SOCKS proxy asks for a user name and a password, or for another way to authenticate: write socks5://USER:PASSWORD@HOST:PORT"
    )]
    Method,
    #[error("the SOCKS proxy does not accept the user name and the password")]
    Denied,
    #[error("the SOCKS proxy cannot connect: {0}")]
    Refused(&'static str),
    #[error("for a SOCKS proxy, {0} must have 1 to 255 bytes")]
    Length(&'static str),
    #[error("the address of the API server has no host")]
    NoHost,
}

impl Socks {
    pub(super) fn new(proxy: Uri, credentials: Option<Credentials>, tcp: HttpConnector<Resolver>) -> Self {
        Self { proxy, credentials, tcp }
    }
}

impl Service<Uri> for Socks {
    type Response = TokioIo<TcpStream>;
    type Error = SocksError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(|error| SocksError::Unreachable(error.into()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let (connecting, credentials) = (self.tcp.call(self.proxy.clone()), self.credentials.clone());
        Box::pin(async move {
            let connected = connecting.await.map_err(|error| SocksError::Unreachable(error.into()))?;
            let mut stream = connected.into_inner();
            authenticate(&mut stream, credentials.as_ref()).await?;
            let usual = if target.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
            let host = target.host().ok_or(SocksError::NoHost)?.trim_matches(['[', ']']);
            ask_for(&mut stream, host, target.port_u16().unwrap_or(usual)).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

async fn authenticate(
    proxy: &mut (impl AsyncRead + AsyncWrite + Unpin),
    credentials: Option<&Credentials>,
) -> Result<(), SocksError> {
    let offered: &[u8] = match credentials {
        Some(_) => &[NO_AUTHENTICATION, PASSWORD],
        None => &[NO_AUTHENTICATION],
    };
    proxy.write_all(&with_length(vec![VERSION], offered, "the list of methods")?).await?;
    let [version, method] = read(proxy).await?;
    if version != VERSION {
        return Err(SocksError::Version);
    }
    match (method, credentials) {
        (NO_AUTHENTICATION, _) => return Ok(()),
        (PASSWORD, Some((user, password))) => {
            let message = with_length(vec![1], user.as_bytes(), "the user name")?;
            proxy.write_all(&with_length(message, password.as_bytes(), "the password")?).await?;
        }
        _ => return Err(SocksError::Method),
    }
    let [_version, status] = read(proxy).await?;
    if status == 0 { Ok(()) } else { Err(SocksError::Denied) }
}

async fn ask_for(proxy: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str, port: u16) -> Result<(), SocksError> {
    const CONNECT: u8 = 1;
    let begin = |kind| vec![VERSION, CONNECT, 0, kind];
    let mut message = match host.parse() {
        Ok(IpAddr::V4(address)) => [&begin(1)[..], &address.octets()].concat(),
        Ok(IpAddr::V6(address)) => [&begin(4)[..], &address.octets()].concat(),
        Err(_) => with_length(begin(3), host.as_bytes(), "the host")?,
    };
    message.extend(port.to_be_bytes());
    proxy.write_all(&message).await?;
    let [version, reply, _reserved, kind] = read(proxy).await?;
    if version != VERSION {
        return Err(SocksError::Version);
    }
    if reply != 0 {
        return Err(SocksError::Refused(reason(reply)));
    }
    let address = match kind {
        1 => 4,
        4 => 16,
        _ => usize::from(proxy.read_u8().await?),
    };
    proxy.read_exact(&mut vec![0; address + size_of::<u16>()]).await?;
    Ok(())
}

async fn read<const LENGTH: usize>(proxy: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    proxy.read_exact(&mut bytes).await?;
    Ok(bytes)
}

fn with_length(mut message: Vec<u8>, part: &[u8], what: &'static str) -> Result<Vec<u8>, SocksError> {
    let length = u8::try_from(part.len()).ok().filter(|length| *length > 0).ok_or(SocksError::Length(what))?;
    message.push(length);
    message.extend(part);
    Ok(message)
}

/// RFC 1928, section 6.
fn reason(reply: u8) -> &'static str {
    match reply {
        2 => "its rules do not allow it",
        3 => "the network is unreachable",
        4 => "the host is unreachable",
        5 => "the connection was refused",
        6 => "it took too long",
        7 => "it does not support CONNECT",
        8 => "it does not support addresses of that type",
        _ => "general failure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result with a proxy that sends these responses to any request.
    async fn answered(answers: &[u8], credentials: Option<Credentials>, host: &str) -> Result<(), String> {
        let (mut client, mut proxy) = tokio::io::duplex(4096);
        proxy.write_all(answers).await.unwrap();
        let asked = async {
            authenticate(&mut client, credentials.as_ref()).await?;
            ask_for(&mut client, host, 443).await
        };
        asked.await.map_err(|error: SocksError| error.to_string())
    }

    #[tokio::test]
    async fn every_type_of_address_is_accepted_in_the_response() {
        for bound in [&[1, 0, 0, 0, 0, 0, 0][..], &[3, 0, 0, 0], &[3, 2, b'a', b'b', 0, 0]] {
            let answers = [&[VERSION, 0, VERSION, 0, 0], bound].concat();
            assert_eq!(answered(&answers, None, "api.test").await, Ok(()), "{bound:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_names_the_reason() {
        let credentials = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (answers, credentials, host, says) in [
            (&b"HTTP/1.1 400"[..], None, "api.test", "not a SOCKS5 proxy"),
            (&[5, 0xff], None, "api.test", "asks for a user name"),
            (&[5, 2], None, "api.test", "asks for a user name"),
            (&[5, 2, 1, 1], credentials("u", "s3cret"), "api.test", "does not accept the user name"),
            (&[5, 2], credentials("", "s3cret"), "api.test", "the user name must have 1 to 255"),
            (&[5, 2], credentials("u", &"s3cret".repeat(50)), "api.test", "the password must have 1 to 255"),
            (&[5, 0], None, &"x".repeat(256), "the host must have 1 to 255"),
            (&[5, 0, 5, 2, 0, 1], None, "api.test", "its rules do not allow it"),
            (&[5, 0, 5, 5, 0, 1], None, "192.0.2.1", "the connection was refused"),
        ] {
            let error = answered(answers, credentials, host).await.unwrap_err();
            assert!(error.contains(says) && !error.contains("s3cret"), "{says}: {error}");
        }
    }
}
