//! Two pods that would connect to each other.

use std::sync::Arc;

use svid_csi_testkit::TestCa;
use svid_csi_testkit::api_server::{Issuing, Mode};

use super::{command, doctor, found, healthy, ids_with, output};
use crate::cert_manager::cluster::cluster_test;
use crate::fixture::test;

#[test]
fn pods_of_one_authority_meet_whatever_their_delivery() {
    test(async || {
        let node = healthy(&[]).await;
        for (from, to) in [("shop/web", "shop/api"), ("shop/web", "shop/socket"), ("shop/socket", "shop/web")] {
            let (code, text) = output(&mut command(&node, &["--from", from, "--to", to]));
            assert_eq!((code, text), (0, format!("{from} and {to}: nothing is wrong\n")));
        }
        let ids = ids_with(&node, &["--from=shop/web", "--to=shop/gone"]);
        assert_eq!(ids.into_iter().collect::<Vec<_>>(), ["pod-without-volume"]);
    });
}

#[test]
fn pods_of_two_authorities_refuse_each_other() {
    cluster_test(&[], async |cluster| {
        cluster.node.publish(&cluster.volume("web")).await;
        let next = Arc::new(TestCa::new("next"));
        cluster.server.cert_manager.mode(Mode::Issue(Issuing::by(&next)));
        cluster.node.publish(&cluster.volume("api")).await;
        let (code, answer) = doctor(&cluster.node, &["--from=shop/web", "--to=shop/api"]);
        let refused: Vec<_> = found(&answer).filter(|finding| finding["id"] == "handshake-refused").collect();
        assert_eq!((code, refused.len()), (2, 2), "{answer}");
        let causes: Vec<_> = refused.iter().map(|finding| finding["cause"].as_str().unwrap()).collect();
        assert!(
            causes[0].contains("the client ends the connection") && causes[0].contains("does not lead"),
            "{causes:?}"
        );
        assert!(
            causes[1].contains("the server ends the connection") && causes[1].contains("does not lead"),
            "{causes:?}"
        );
    });
}
