//! Proxies between this process and the API server, found as kubectl finds them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::proxy::{Protocol, Proxy, Script};

use crate::cluster::Cluster;
use crate::process::Approver;

/// No process listens there.
const DEAD: &str = "http://127.0.0.1:9";

/// Only a proxy can resolve this name.
const ELSEWHERE: &str = "http://api.test:6443";

/// The kubeconfig with another address of the API server, or with a proxy.
fn change(cluster: &Cluster, field: &str, value: &str) {
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let mut kubeconfig: serde_json::Value = serde_json::from_str(&text).unwrap();
    kubeconfig["clusters"][0]["cluster"][field] = value.into();
    std::fs::write(cluster.kubeconfig(), kubeconfig.to_string()).unwrap();
}

async fn approves(cluster: &Cluster, environment: &[(&str, &str)]) {
    let approver = Approver::start_in(&cluster.kubeconfig(), &[], environment);
    approver.ready().await;
    cluster.good("shop", "one");
    cluster.approved("shop", "one").await;
}

/// A cluster whose API server has a name that only a proxy can resolve, and the proxy.
async fn elsewhere(protocol: Protocol) -> (Cluster, Proxy) {
    let cluster = Cluster::start();
    change(&cluster, "server", ELSEWHERE);
    let proxy = Script::plain(cluster.server.address(), protocol).start().await;
    (cluster, proxy)
}

fn socks_for(user: &str, password: &str) -> Protocol {
    Protocol::SocksFor(user.to_owned(), password.to_owned())
}

#[tokio::test]
async fn this_machine_is_never_reached_through_the_proxy_of_the_environment() {
    approves(&Cluster::start(), &[("HTTPS_PROXY", DEAD), ("HTTP_PROXY", DEAD)]).await;
}

#[tokio::test]
async fn another_machine_is_reached_through_the_proxy_of_the_environment() {
    let (cluster, proxy) = elsewhere(Protocol::Http).await;
    let with_password = format!("us%40er:pass@{}", proxy.address());
    approves(&cluster, &[("HTTPS_PROXY", DEAD), ("HTTP_PROXY", &with_password)]).await;
    let head = proxy.asked().remove(0);
    assert!(head.starts_with("connect api.test:6443 "), "{head}");
    assert!(head.contains("proxy-authorization: basic "), "{head}");
}

#[tokio::test]
async fn the_proxy_of_the_kubeconfig_wins() {
    let cluster = Cluster::start();
    let proxy = Script::plain(cluster.server.address(), Protocol::Http).start().await;
    change(&cluster, "proxy-url", &format!("http://{}", proxy.address()));
    approves(&cluster, &[("HTTP_PROXY", DEAD), ("NO_PROXY", "*")]).await;
    assert!(!proxy.asked().is_empty());
}

/// With either scheme, the proxy resolves names, as in Go.
#[tokio::test]
async fn a_socks_proxy_resolves_names() {
    for scheme in ["socks5", "socks5h"] {
        let (cluster, proxy) = elsewhere(Protocol::Socks).await;
        approves(&cluster, &[("HTTP_PROXY", &format!("{scheme}://{}", proxy.address()))]).await;
        assert_eq!(proxy.asked()[0], "api.test:6443");
    }
}

#[tokio::test]
async fn a_socks_proxy_in_the_kubeconfig_is_used_for_addresses() {
    let cluster = Cluster::start();
    let proxy = Script::plain(cluster.server.address(), Protocol::Socks).start().await;
    change(&cluster, "proxy-url", &format!("socks5://{}", proxy.address()));
    for (server, asked) in
        [("http://192.0.2.1:6443", "192.0.2.1:6443"), ("http://[2001:db8::1]:80", "[2001:db8::1]:80")]
    {
        change(&cluster, "server", server);
        let before = proxy.asked().len();
        let approver = Approver::start(&cluster.kubeconfig(), &[]);
        approver.ready().await;
        assert_eq!(proxy.asked()[before], asked);
    }
}

#[tokio::test]
async fn a_socks_proxy_receives_the_password_if_it_asks_for_one() {
    for protocol in [socks_for("us@er", "pass"), Protocol::Socks] {
        let (cluster, proxy) = elsewhere(protocol).await;
        approves(&cluster, &[("HTTP_PROXY", &format!("socks5://us%40er:pass@{}", proxy.address()))]).await;
    }
}

#[tokio::test]
async fn a_socks_proxy_that_refuses_the_client_is_reported() {
    for (credentials, says) in [("us%40er:wr0ng@", "does not accept the user name"), ("", "asks for a user name")] {
        let (cluster, proxy) = elsewhere(socks_for("us@er", "pass")).await;
        let address = format!("socks5://{credentials}{}", proxy.address());
        let approver = Approver::start_in(&cluster.kubeconfig(), &[], &[("HTTP_PROXY", &address)]);
        approver.logged(&["the SOCKS proxy", says]).await;
        assert!(!approver.log().contains("wr0ng"), "{}", approver.log());
    }
}

/// The proxy's certificate is verified like the API server's, as in kubectl.
#[tokio::test]
async fn an_https_proxy_is_verified_by_the_certificate_authority_of_the_cluster() {
    let (cluster, ca) = (Cluster::start(), TestCa::new("proxies"));
    change(&cluster, "server", ELSEWHERE);
    let own_tls = Some(ca.server_tls("127.0.0.1"));
    let script = Script { own_tls, ..Script::plain(cluster.server.address(), Protocol::Http) };
    let proxy = script.start().await;
    let address = format!("https://user:pass@{}", proxy.address());

    change(&cluster, "certificate-authority-data", &STANDARD.encode(TestCa::new("others").bundle_pem()));
    let approver = Approver::start_in(&cluster.kubeconfig(), &[], &[("HTTP_PROXY", &address)]);
    approver.logged(&["UnknownIssuer"]).await;
    assert!(proxy.asked().is_empty() && !approver.log().contains("pass@"), "{}", approver.log());
    drop(approver);

    change(&cluster, "certificate-authority-data", &STANDARD.encode(ca.bundle_pem()));
    approves(&cluster, &[("HTTP_PROXY", &address)]).await;
    let head = proxy.asked().remove(0);
    assert!(head.starts_with("connect api.test:6443 ") && head.contains("proxy-authorization: basic "), "{head}");
}

/// TLS to the proxy, and within it TLS to the API server.
#[tokio::test]
async fn through_an_https_proxy_the_api_server_is_also_verified() {
    let (cluster, ca) = (Cluster::start(), TestCa::new("all"));
    change(&cluster, "server", "https://api.test");
    change(&cluster, "certificate-authority-data", &STANDARD.encode(ca.bundle_pem()));
    for name in ["other.test", "api.test"] {
        let (own_tls, server_tls) = (Some(ca.server_tls("127.0.0.1")), Some(ca.server_tls(name)));
        let (server, protocol) = (cluster.server.address(), Protocol::Http);
        let proxy = Script { server, protocol, own_tls, server_tls }.start().await;
        let address = format!("https://{}", proxy.address());
        if name == "api.test" {
            approves(&cluster, &[("HTTPS_PROXY", &address)]).await;
            assert!(proxy.asked()[0].starts_with("connect api.test:443 "));
        } else {
            let approver = Approver::start_in(&cluster.kubeconfig(), &[], &[("HTTPS_PROXY", &address)]);
            approver.logged(&["not valid for name"]).await;
        }
    }
}
