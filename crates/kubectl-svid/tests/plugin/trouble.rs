//! Nodes and API servers that do not answer as they should.

use axum::http::StatusCode;
use serde_json::json;

use crate::api_server::{ApiServer, Script};
use crate::{driver_pod, run};

fn fine() -> Script {
    Script::Ends(json!({"node": "n", "volumes": []}).to_string(), String::new(), 0)
}

fn refuses(code: StatusCode, times: Option<usize>) -> Script {
    Script::Refuses(code, times, Box::new(fine()))
}

/// The line of the summary with that node.
fn line<'a>(text: &'a str, node: &str) -> &'a str {
    let names = [format!("({node})"), format!("({node},"), format!(" {node})")];
    text.lines().find(|line| names.iter().any(|name| line.contains(name))).unwrap_or_else(|| panic!("{node}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_without_an_answer_is_named_with_the_reason() {
    let server = ApiServer::start().await;
    server.driver("fine", fine());
    server.driver("busy", refuses(StatusCode::TOO_MANY_REQUESTS, Some(2)));
    server.driver("denied-1", refuses(StatusCode::FORBIDDEN, None));
    server.driver("denied-2", refuses(StatusCode::FORBIDDEN, None));
    server.driver("always-busy", refuses(StatusCode::TOO_MANY_REQUESTS, None));
    server.driver("hangs", Script::Hangs);
    server.driver("half", Script::Breaks("{\"node\": \"n\", \"vol".to_owned()));
    server.driver("cut", Script::Ends("{\"node\": \"n\", \"vol".to_owned(), String::new(), 0));
    server.driver("other", Script::Ends("{}".to_owned(), String::new(), 0));
    server.driver("empty", Script::NoProgram);
    let old = "error: unrecognized subcommand 'status'\n\nUsage: svid-csi <COMMAND>\n";
    server.driver("old", Script::Ends(String::new(), old.to_owned(), 2));
    let gone = "error: there is no socket /x\x1b[2J: is the driver running?\n";
    server.driver("gone", Script::Ends(String::new(), gone.to_owned(), 1));
    let mut pending = driver_pod("pending");
    pending["status"]["phase"] = json!("Pending");
    server.put(pending);
    let mut off = driver_pod("off");
    off["spec"]["containers"][1]["args"] = json!(["driver", "--data-root=/d", "--admin-socket", "0"]);
    server.put(off);
    let (code, text, error) = run(&server, &["status", "-A", "--node-timeout=3s"]);
    assert_eq!((code, error.as_str()), (2, ""), "{text}");
    assert_eq!(text.lines().next(), Some("nodes: 14 asked, 2 answered"), "{text}");
    for (node, reason) in [
        ("denied-1", "2 nodes (denied-1, denied-2): the API server answers 403: pods \"POD\": the test refuses"),
        ("always-busy", "the API server answers 429: pods \"POD\": the test refuses"),
        ("hangs", "the node did not answer in time"),
        ("half", "the connection ended before the command did"),
        ("cut", "half an answer, or another program's: EOF while parsing"),
        ("other", "half an answer, or another program's: missing field `node`"),
        ("empty", "svid-csi cannot run in the container: exec: \"/bin/svid-csi\": stat /bin/svid-csi"),
        ("old", "its driver is older than this command: unrecognized subcommand 'status'"),
        ("gone", "there is no socket /x\\u{1b}[2J: is the driver running?"),
        ("pending", "its driver pod svid-csi/driver-pending is Pending, not Running"),
        ("off", "its driver has no admin socket (--admin-socket=0)"),
    ] {
        let line = line(&text, node);
        assert!(line.starts_with("no answer from ") && line.contains(reason), "{node}: {line}");
    }
    let (_, text, _) = run(&server, &["status", "--json", "--node=old"]);
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(all["unanswered"][0]["driver_pod"], "svid-csi/driver-old");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_refuses_or_hangs_ends_the_command() {
    let server = ApiServer::start().await;
    server.driver("a", fine());
    server.lists(refuses(StatusCode::FORBIDDEN, None));
    for command in [&["status"][..], &["doctor"], &["renew", "--all", "--node=a"]] {
        let (code, text, error) = run(&server, command);
        assert_eq!((code, text.as_str(), error.lines().count()), (2, "", 1), "{error}");
        assert!(
            error.starts_with("error: cannot list driver pods; --driver-namespace looks in one namespace only: ")
                && error.contains("the API server answers 403: pods is forbidden"),
            "{error}"
        );
    }
    server.lists(refuses(StatusCode::TOO_MANY_REQUESTS, None));
    let (code, _, error) = run(&server, &["status", "--timeout=1s"]);
    assert!(code == 2 && error.contains("the API server answers 429"), "{error}");
    server.lists(Script::Hangs);
    let (code, _, error) = run(&server, &["status", "--timeout=1s"]);
    assert!(code == 2 && error.contains("the API server did not answer in time"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_an_error_on_one_line() {
    let server = ApiServer::start().await;
    let one_line = |args: &[&str], expected: &str| {
        let (code, text, error) = run(&server, args);
        assert_eq!((code, text.as_str(), error.lines().count()), (2, "", 1), "{error}");
        assert!(error.contains(expected), "{error}");
    };
    one_line(&["status"], "there is no driver pod: no privileged pod in any namespace has the labels");
    one_line(&["doctor", "--node=x\u{1b}[2J"], "there is no driver pod on node x\\u{1b}[2J: ");
    one_line(&["status", "--kubeconfig=/none"], "--kubeconfig /none");
    one_line(&["status", "--context=other"], "the kubeconfig cannot be used");
    let closed = server.kubeconfig().with_file_name("closed");
    let text = std::fs::read_to_string(server.kubeconfig()).unwrap();
    let (before, after) = text.split_once("127.0.0.1:").unwrap();
    let port = after.find(|c: char| !c.is_ascii_digit()).unwrap();
    std::fs::write(&closed, format!("{before}127.0.0.1:1{}", &after[port..])).unwrap();
    one_line(&["status", &format!("--kubeconfig={}", closed.display())], "the API server cannot be reached: ");
    for words in [
        &["renew"][..],
        &["renew", "--all"],
        &["renew", "web", "--all", "--node=a"],
        &["identity"],
        &["status", "x/y/z"],
    ] {
        let (code, _, error) = run(&server, words);
        assert!(code == 2 && error.starts_with("error: "), "{error}");
    }
}
