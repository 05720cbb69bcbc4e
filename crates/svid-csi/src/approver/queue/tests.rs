mod naive;

use std::collections::BTreeSet;

use futures::FutureExt;
use serde_json::json;

use super::*;

fn object(namespace: &str, name: &str, version: u64, padding: usize) -> Box<Listed> {
    let metadata = json!({ "namespace": namespace, "name": name, "resourceVersion": version.to_string() });
    let spec = json!({ "request": "x".repeat(padding) });
    Box::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
}

fn offer(queue: &Arc<Queue>, namespace: &str, name: &str, version: u64) {
    queue.offer(object(namespace, name, version, 0));
}

fn key(namespace: &str, name: &str) -> RequestKey {
    RequestKey { namespace: namespace.into(), name: name.into() }
}

#[track_caller]
fn next(queue: &Arc<Queue>) -> TakenRequest {
    queue.take().now_or_never().expect("a request waits")
}

#[track_caller]
fn none(queue: &Arc<Queue>) {
    assert!(queue.take().now_or_never().is_none(), "nothing waits");
}

fn version(taken: &TakenRequest) -> &str {
    taken.object.as_ref().expect("it is held").version()
}

#[tokio::test]
async fn namespaces_take_turns() {
    let queue = Arc::new(Queue::default());
    for number in 0..10_000 {
        offer(&queue, "busy", &format!("r{number:05}"), 1);
    }
    offer(&queue, "small", "one", 1);
    offer(&queue, "a", "x", 1);
    offer(&queue, "a", "y", 1);
    let turns: Vec<_> = (0..7).map(|_| next(&queue)).collect();
    let names: Vec<_> = turns.iter().map(|taken| format!("{}/{}", taken.key.namespace, taken.key.name)).collect();
    let expected = ["a/x", "busy/r00000", "small/one", "a/y", "busy/r00001", "busy/r00002", "busy/r00003"];
    assert_eq!(names, expected);
    offer(&queue, "late", "one", 1);
    let soon: BTreeSet<_> = (0..2).map(|_| next(&queue).key.namespace.to_string()).collect();
    assert!(soon.contains("late"), "{soon:?}");
}

#[tokio::test]
async fn a_request_is_taken_once_and_in_its_newest_version() {
    let queue = Arc::new(Queue::default());
    offer(&queue, "a", "x", 1);
    offer(&queue, "a", "x", 2);
    let taken = next(&queue);
    assert_eq!(version(&taken), "2");
    offer(&queue, "a", "x", 3);
    none(&queue);
    taken.finish(Next::Forget);
    none(&queue);
    assert_eq!(queue.len(), 0);
}

#[tokio::test]
async fn a_request_that_changed_during_its_turn_gets_another_turn() {
    let queue = Arc::new(Queue::default());
    offer(&queue, "a", "x", 1);
    let taken = next(&queue);
    offer(&queue, "a", "x", 2);
    taken.finish(Next::Leave);
    let taken = next(&queue);
    assert_eq!(version(&taken), "2");
    taken.finish(Next::Leave);
    none(&queue);
    offer(&queue, "a", "x", 2);
    none(&queue);
    offer(&queue, "a", "x", 3);
    assert_eq!(version(&next(&queue)), "3");
}

#[tokio::test]
async fn a_request_read_again_and_left_pending_waits_for_a_newer_version() {
    let queue = Arc::new(Queue::default());
    offer(&queue, "a", "x", 1);
    let mut taken = next(&queue);
    taken.object = Some(object("a", "x", 5, 0));
    taken.finish(Next::Leave);
    offer(&queue, "a", "x", 5);
    none(&queue);
    offer(&queue, "a", "x", 6);
    let mut taken = next(&queue);
    taken.object = Some(object("a", "x", 7, 0));
    offer(&queue, "a", "x", 7);
    taken.finish(Next::Leave);
    none(&queue);
}

#[tokio::test]
async fn a_decided_or_deleted_request_is_forgotten_in_every_state() {
    let queue = Arc::new(Queue::default());
    for name in ["waiting", "taken", "delayed", "left"] {
        offer(&queue, "a", name, 1);
    }
    let mut turns: Vec<_> = (0..4).map(|_| next(&queue)).collect();
    turns.pop().unwrap().finish(Next::Leave);
    turns.pop().unwrap().finish(Next::Retry(Duration::from_secs(1)));
    let taken = turns.pop().unwrap();
    drop(turns);
    for name in ["waiting", "taken", "delayed", "left"] {
        queue.forget(&key("a", name));
    }
    taken.finish(Next::Leave);
    none(&queue);
    queue.recall();
    none(&queue);
    let inner = queue.lock();
    assert_eq!((inner.entries.len(), inner.delayed.len(), inner.held), (0, 0, 0));
}

#[tokio::test]
async fn a_dropped_turn_is_repeated() {
    let queue = Arc::new(Queue::default());
    offer(&queue, "a", "x", 1);
    drop(next(&queue));
    let taken = next(&queue);
    assert!(taken.object.is_none() && taken.tries == 0, "its object went with the first turn");
}

#[tokio::test(start_paused = true)]
async fn retries_come_when_they_are_due() {
    let queue = Arc::new(Queue::default());
    let started = Instant::now();
    offer(&queue, "a", "x", 1);
    offer(&queue, "a", "y", 1);
    next(&queue).finish(Next::Retry(Duration::from_secs(20)));
    next(&queue).finish(Next::Retry(Duration::from_secs(10)));
    for (name, seconds) in [("y", 10), ("x", 20)] {
        let taken = queue.take().await;
        assert_eq!((&*taken.key.name, taken.tries, taken.seen), (name, 1, started));
        assert_eq!(started.elapsed().as_secs(), seconds);
        taken.finish(Next::Forget);
    }
}

#[tokio::test]
async fn a_recall_requeues_every_pending_request() {
    let queue = Arc::new(Queue::default());
    for name in ["x", "y"] {
        offer(&queue, "a", name, 1);
        next(&queue).finish(Next::Leave);
    }
    none(&queue);
    queue.recall();
    let names: Vec<_> = (0..2).map(|_| next(&queue)).map(|taken| taken.key.name.to_string()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 2);
}

#[tokio::test]
async fn a_recall_during_a_turn_is_not_lost() {
    let queue = Arc::new(Queue::default());
    offer(&queue, "a", "x", 1);
    let taken = next(&queue);
    queue.recall();
    taken.finish(Next::Leave);
    next(&queue).finish(Next::Leave);
    none(&queue);
}

#[tokio::test]
async fn a_listing_forgets_what_is_not_in_it() {
    let queue = Arc::new(Queue::default());
    for name in ["stays", "goes"] {
        offer(&queue, "a", name, 1);
    }
    queue.listing_begins();
    offer(&queue, "a", "stays", 1);
    offer(&queue, "a", "comes", 1);
    queue.listing_ends();
    let names: Vec<_> = (0..2).map(|_| next(&queue)).map(|taken| taken.key.name.to_string()).collect();
    assert_eq!(names, ["stays", "comes"]);
    assert_eq!(queue.len(), 2, "dropped turns wait again");
}

#[tokio::test]
async fn the_budget_limits_the_objects_and_no_request_is_lost() {
    let queue = Arc::new(Queue::default());
    for number in 0..10 {
        queue.offer(object("a", &number.to_string(), 1, BUDGET / 4));
    }
    assert!(queue.lock().held <= BUDGET && queue.len() == 10);
    let turns: Vec<_> = (0..10).map(|_| next(&queue)).collect();
    let held = turns.iter().filter(|taken| taken.object.is_some()).count();
    assert!((2..=4).contains(&held), "{held}");
    assert_eq!(queue.lock().held, 0);
    // A request whose new version does not fit.
    queue.offer(object("b", "big", 1, BUDGET));
    queue.offer(object("a", "9", 2, BUDGET));
    for taken in turns {
        taken.finish(Next::Leave);
    }
    let names: BTreeSet<_> = (0..2).map(|_| next(&queue).key.name.to_string()).collect();
    assert_eq!(names, BTreeSet::from(["9".to_owned(), "big".to_owned()]));
}
