//! A proxy for one server, which it connects to for every requested name.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Its protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP CONNECT.
    Http,
    /// SOCKS5 (RFC 1928) without authentication.
    Socks,
    /// SOCKS5 with this user name and password (RFC 1929).
    SocksFor(String, String),
}

/// A proxy.
#[derive(Clone)]
pub struct Script {
    /// The server.
    pub server: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// Its own TLS, as an HTTPS proxy.
    pub own_tls: Option<TlsAcceptor>,
    /// TLS that it terminates for the server, which has none.
    pub server_tls: Option<TlsAcceptor>,
}

/// A proxy that runs as long as the runtime does.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// Without any TLS.
    pub fn plain(server: SocketAddr, protocol: Protocol) -> Self {
        Self { server, protocol, own_tls: None, server_tls: None }
    }

    /// Starts it.
    ///
    /// # Panics
    /// If no port is available.
    pub async fn start(self) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let asks = asked.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (script, asks) = (self.clone(), asks.clone());
                tokio::spawn(async move {
                    match script.own_tls.clone() {
                        Some(tls) => script.serve(tls.accept(client).await?, &asks).await,
                        None => script.serve(client, &asks).await,
                    }
                });
            }
        });
        Proxy { address, asked }
    }

    async fn serve(
        &self,
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        asked: &Mutex<Vec<String>>,
    ) -> io::Result<()> {
        let ask = match &self.protocol {
            Protocol::Http => connect(&mut client).await?,
            Protocol::Socks => socks(&mut client, None).await?,
            Protocol::SocksFor(user, password) => socks(&mut client, Some((user, password))).await?,
        };
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(ask);
        let mut server = TcpStream::connect(self.server).await?;
        match &self.server_tls {
            Some(tls) => copy_bidirectional(&mut tls.accept(client).await?, &mut server).await?,
            None => copy_bidirectional(&mut client, &mut server).await?,
        };
        Ok(())
    }
}

impl Proxy {
    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far: the heads of HTTP requests in lower case, hosts and ports for SOCKS.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn connect(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    Ok(String::from_utf8_lossy(&head).to_ascii_lowercase())
}

async fn socks(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    only: Option<(&String, &String)>,
) -> io::Result<String> {
    const VERSION: u8 = 5;
    const NONE_FITS: u8 = 0xff;
    let [version, methods] = read(client).await?;
    let mut offered = vec![0; usize::from(methods)];
    client.read_exact(&mut offered).await?;
    let wanted = if only.is_some() { 2 } else { 0 };
    if version != VERSION || !offered.contains(&wanted) {
        client.write_all(&[VERSION, NONE_FITS]).await?;
        return Err(io::Error::other("no method fits"));
    }
    client.write_all(&[VERSION, wanted]).await?;
    if let Some((user, password)) = only {
        let [_version] = read(client).await?;
        let is_known = text(client).await? == *user && text(client).await? == *password;
        client.write_all(&[1, u8::from(!is_known)]).await?;
        if !is_known {
            return Err(io::Error::other("not admitted"));
        }
    }
    let [_version, _connect, _reserved, kind] = read(client).await?;
    let host = match kind {
        1 => Ipv4Addr::from(read::<4>(client).await?).to_string(),
        4 => format!("[{}]", Ipv6Addr::from(read::<16>(client).await?)),
        _ => text(client).await?,
    };
    let port = u16::from_be_bytes(read(client).await?);
    // In two parts, as on real networks.
    client.write_all(&[VERSION, 0, 0, 1, 0]).await?;
    client.flush().await?;
    client.write_all(&[0; 5]).await?;
    Ok(format!("{host}:{port}"))
}

async fn read<const LENGTH: usize>(client: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn text(client: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut bytes = vec![0; usize::from(client.read_u8().await?)];
    client.read_exact(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
