//! Injected faults.

use std::time::Duration;

use kube::api::{ListParams, PostParams};
use svid_csi_testkit::api_server::Fault;

use crate::fixture::{request, requests, server};

#[tokio::test]
async fn calls_fail_as_often_as_requested() {
    let (server, client) = server().await;
    for (fault, expected) in [
        (Fault::InternalError, Some(500)),
        (Fault::Unavailable, Some(503)),
        (Fault::Gone, Some(410)),
        (Fault::Denied("no".to_owned()), Some(403)),
        (Fault::Drop, None),
        (Fault::Delay(Duration::from_millis(1)), Some(200)),
    ] {
        let before = server.calls.all().len();
        server.faults.next(1, "list", "*", fault.clone());
        // The client itself retries some of them.
        while requests(&client).list(&ListParams::default()).await.is_err() {}
        let codes: Vec<_> = server.calls.all()[before..].iter().map(|call| call.code).collect();
        assert_eq!((codes[0], codes.last().unwrap()), (expected, &Some(200)), "{fault:?}");
        assert!(codes.len() <= 2, "{fault:?}: {codes:?}");
    }
}

#[tokio::test]
async fn clients_wait_as_long_as_retry_after_says() {
    let (server, client) = server().await;
    server.faults.next(1, "list", "*", Fault::TooManyRequests(1));
    requests(&client).list(&ListParams::default()).await.unwrap();
    let lists = server.calls.of("list", "certificaterequests");
    assert_eq!(lists.iter().map(|call| call.code).collect::<Vec<_>>(), [Some(429), Some(200)]);
    assert!(lists[1].at - lists[0].at >= Duration::from_secs(1), "the client obeys Retry-After");
}

#[tokio::test]
async fn a_call_hangs_until_it_is_released() {
    let (server, client) = server().await;
    server.faults.always("list", "certificaterequests", Fault::Hang);
    let api = requests(&client);
    let parameters = ListParams::default();
    let go_on = async {
        let count = || (server.calls.peak("list", "certificaterequests") == 2).then_some(());
        server.pulse.until("two lists at once", count).await;
        assert!(server.calls.of("list", "certificaterequests").iter().all(|call| call.code.is_none()));
        server.faults.clear();
    };
    let (first, second, ()) = futures::join!(api.list(&parameters), api.list(&parameters), go_on);
    assert!(first.is_ok() && second.is_ok());
}

#[tokio::test]
async fn a_call_with_a_lost_response_takes_effect() {
    let (server, client) = server().await;
    server.faults.next(1, "create", "certificaterequests", Fault::LoseAnswer);
    let lost = requests(&client).create(&PostParams::default(), &request("a", "n1")).await;
    assert!(lost.is_err() && server.cert_manager.requests().len() == 1);
}
