//! The layers of a client: TLS with roots that are reread, possibly a proxy, time-outs, credentials, and a retry if the
//! server asks for one (429, 503, 504).
//!
//! kube's own client has different rules for `NO_PROXY`, and does not accept an API server whose certificate is its own
//! CA.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt;
use kube::client::retry::RetryPolicy;
use kube::{Client, Config};
use rustls::ClientConfig;
use tower::retry::RetryLayer;
use tower::util::option_layer;
use tower::{BoxError, Service, ServiceBuilder};

use super::socks::Socks;
use super::verifier;
use super::{ClientError, proxy};
use crate::host::resolver::Resolver;

/// A client with the credentials of `config`, through its proxy if it has one.
pub(super) fn client(config: &Config) -> Result<Client, ClientError> {
    let mut tcp = HttpConnector::new_with_resolver(Resolver::default());
    tcp.enforce_http(false);
    let tls = tls(config)?;
    let Some(address) = config.proxy_url.clone() else { return stack(config, tls, tcp) };
    let credentials = proxy::credentials(&address);
    if address.scheme_str() == Some("socks5") {
        return stack(config, tls, Socks::new(address, credentials, tcp));
    }
    let header = credentials.and_then(|(user, password)| {
        let mut header =
            HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).ok()?;
        header.set_sensitive(true);
        Some(header)
    });
    if address.scheme_str() == Some("https") {
        let tunnel = Tunnel::new(address, https(config, tls.clone(), tcp)?);
        return stack(config, tls, with_header(tunnel, header));
    }
    stack(config, tls, with_header(Tunnel::new(address, tcp), header))
}

fn with_header<C>(tunnel: Tunnel<C>, header: Option<HeaderValue>) -> Tunnel<C> {
    match header {
        Some(header) => tunnel.with_auth(header),
        None => tunnel,
    }
}

fn tls(config: &Config) -> Result<ClientConfig, ClientError> {
    let mut tls = config.rustls_client_config().map_err(ClientError::Client)?;
    if let Some(verifier) = verifier::of(config)? {
        tls.dangerous().set_certificate_verifier(verifier);
    }
    Ok(tls)
}

fn https<C>(config: &Config, tls: ClientConfig, connector: C) -> Result<HttpsConnector<C>, ClientError> {
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = config.tls_server_name.clone() {
        let name = name.try_into().map_err(|source| ClientError::ServerName { source })?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(builder.enable_http1().wrap_connector(connector))
}

fn stack<C>(config: &Config, tls: ClientConfig, connector: C) -> Result<Client, ClientError>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    let mut connector = TimeoutConnector::new(https(config, tls, connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()))))
        .layer(option_layer(config.auth_layer().map_err(ClientError::Client)?))
        .layer(config.extra_headers_layer().map_err(ClientError::Client)?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::Config;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::client;

    #[test]
    fn names_are_found_while_all_threads_for_blocking_work_are_busy() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let _busy = tokio::task::spawn_blocking(move || ended.recv());
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = format!("http://localhost:{}", listener.local_addr().unwrap().port());
            let client = client(&Config::new(server.parse().unwrap())).unwrap();
            tokio::select! {
                accepted = timeout(Duration::from_secs(30), listener.accept()) => drop(accepted.unwrap().unwrap()),
                version = client.apiserver_version() => panic!("{version:?}"),
            }
            drop(end);
        });
    }
}
