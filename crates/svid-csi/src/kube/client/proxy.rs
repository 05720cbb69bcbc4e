//! The proxy to the API server, found as by kubectl: the `proxy-url` of the kubeconfig, else the environment, read by
//! the rules of Go's `golang.org/x/net/http/httpproxy`.

use std::net::IpAddr;

use http::Uri;
use http::uri::{Authority, Scheme};
use ipnet::IpNet;

/// The proxies in the environment.
#[derive(Debug, Default)]
pub(super) struct ProxyEnvironment {
    https: Option<String>,
    http: Option<String>,
    none_for: Vec<Rule>,
}

/// A part of `NO_PROXY`.
#[derive(Debug)]
enum Rule {
    Everything,
    Network(IpNet),
    Address(IpAddr, Option<String>),
    /// A domain with a leading dot, and whether it includes the domain itself or only its subdomains.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<String>,
    },
}

/// A proxy that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proxy of {origin} cannot be used: write http://, https:// or socks5:// with host and port")]
pub struct ProxyError {
    /// The variable or field; its value may contain a password.
    pub origin: &'static str,
}

impl ProxyEnvironment {
    /// Reads the variables in upper or lower case; the upper case takes precedence.
    pub(super) fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| {
            let names = [name.to_owned(), name.to_ascii_lowercase()];
            names.iter().find_map(|name| lookup(name).filter(|value| !value.is_empty()))
        };
        let none_for = value("NO_PROXY").unwrap_or_default();
        let none_for = none_for.split(',').filter_map(|part| Rule::read(&part.trim().to_ascii_lowercase())).collect();
        Self { https: value("HTTPS_PROXY"), http: value("HTTP_PROXY"), none_for }
    }

    /// The proxy for `target`, if one is to be used. This machine itself is always reached directly.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub(super) fn proxy_for(&self, target: &Uri) -> Result<Option<Uri>, ProxyError> {
        let is_https = target.scheme() == Some(&Scheme::HTTPS);
        let (proxy, origin) = if is_https { (&self.https, "HTTPS_PROXY") } else { (&self.http, "HTTP_PROXY") };
        let (Some(proxy), Some(host)) = (proxy, target.host()) else { return Ok(None) };
        let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
        let port = target.port_u16().unwrap_or(if is_https { 443 } else { 80 }).to_string();
        let address = host.parse::<IpAddr>().ok();
        let is_here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        if is_here || self.none_for.iter().any(|rule| rule.is_for(&host, address, &port)) {
            return Ok(None);
        }
        parse(proxy, origin).map(Some)
    }
}

impl Rule {
    fn read(part: &str) -> Option<Self> {
        if part == "*" {
            return Some(Self::Everything);
        }
        if let Ok(network) = part.parse() {
            return Some(Self::Network(network));
        }
        let bare = part.parse::<IpAddr>().is_err();
        let (host, port) = match part.rsplit_once(':').filter(|_| bare) {
            Some((host, port)) => (host.trim_matches(['[', ']']), Some(port.to_owned())),
            None => (part, None),
        };
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address, port));
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let itself = !host.starts_with('.');
        let suffix = if itself { format!(".{host}") } else { host.to_owned() };
        (!host.is_empty()).then_some(Self::Domain { suffix, itself, port })
    }

    fn is_for(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let is_port = |asked: &Option<String>| asked.as_deref().is_none_or(|asked| asked == port);
        match self {
            Self::Everything => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Address(one, asked) => address == Some(*one) && is_port(asked),
            Self::Domain { suffix, itself, port } => {
                (host.ends_with(suffix) || (*itself && host == &suffix[1..])) && is_port(port)
            }
        }
    }
}

/// Reads the address of a proxy; without a scheme it is an HTTP proxy.
pub(super) fn parse(text: &str, origin: &'static str) -> Result<Uri, ProxyError> {
    let is_known = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https" | "socks5" | "socks5h"));
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let uri = text.parse().ok().filter(is_known);
    let mut parts = uri.map(Uri::into_parts).unwrap_or_default();
    let authority = parts.authority.filter(|authority| !authority.host().is_empty()).ok_or(ProxyError { origin })?;
    if parts.scheme.as_ref().is_some_and(|scheme| scheme.as_str().starts_with("socks5")) {
        let with_port = || Authority::try_from(format!("{authority}:1080")).ok();
        parts.authority = if authority.port().is_none() { with_port() } else { Some(authority) };
        parts.scheme = Scheme::try_from("socks5").ok();
    } else {
        parts.authority = Some(authority);
    }
    parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    Uri::from_parts(parts).map_err(|_| ProxyError { origin })
}

/// User and password in the address of a proxy, percent-decoded.
pub(super) fn credentials(proxy: &Uri) -> Option<(String, String)> {
    let (user, _) = proxy.authority()?.as_str().rsplit_once('@')?;
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decoded(user), decoded(password)))
}

#[cfg(test)]
mod tests;
