//! The queue beside a naive one, over random orders of everything that happens to it.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NAMES: [(&str, &str); 5] = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x")];
const RETRY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
enum Step {
    /// A new version of a request, or a new request, or again the same version.
    Offer {
        name: usize,
        newer: bool,
    },
    Forget(usize),
    Take,
    /// The turn with that number among those in progress ends, or is dropped.
    Finish(usize, Option<Next>),
    Recall,
    /// A list that has these requests, in their last versions.
    List([bool; 5]),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let ends = prop_oneof![
        1 => Just(Some(Next::Forget)),
        3 => Just(Some(Next::Leave)),
        1 => Just(Some(Next::Retry(RETRY))),
        1 => Just(None),
    ];
    prop_oneof![
        4 => (0..5_usize, any::<bool>()).prop_map(|(name, newer)| Step::Offer { name, newer }),
        1 => (0..5_usize).prop_map(Step::Forget),
        4 => Just(Step::Take),
        4 => (0..4_usize, ends).prop_map(|(turn, end)| Step::Finish(turn, end)),
        1 => Just(Step::Recall),
        1 => any::<[bool; 5]>().prop_map(Step::List),
        1 => (1..15_u64).prop_map(Step::Wait),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Delayed(Instant),
    /// The turn, the version at its beginning, and whether all were recalled since.
    Taken {
        turn: usize,
        known: u64,
        recalled: bool,
    },
    Left,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    version: u64,
    state: State,
}

#[derive(Default)]
struct Naive {
    requests: BTreeMap<usize, Request>,
    versions: u64,
    turns: usize,
}

impl Naive {
    fn offer(&mut self, name: usize, newer: bool) -> u64 {
        let before = self.requests.get(&name).map(|request| request.version);
        let version = before.filter(|_| !newer).unwrap_or_else(|| {
            self.versions += 1;
            self.versions
        });
        let request = self.requests.entry(name).or_insert(Request { version: 0, state: State::Left });
        if request.state == State::Left && request.version != version {
            request.state = State::Waiting;
        }
        request.version = version;
        version
    }

    fn is_due(&self, now: Instant) -> bool {
        let is_due = |request: &Request| match request.state {
            State::Waiting => true,
            State::Delayed(due) => due <= now,
            State::Taken { .. } | State::Left => false,
        };
        self.requests.values().any(is_due)
    }

    fn finish(&mut self, name: usize, turn: usize, next: Option<&Next>, now: Instant) {
        let Some(request) = self.requests.get_mut(&name) else { return };
        let State::Taken { turn: its, known, recalled } = request.state else { return };
        if its != turn {
            return;
        }
        match next {
            Some(Next::Forget) => drop(self.requests.remove(&name)),
            Some(Next::Leave) if !recalled && request.version == known => request.state = State::Left,
            Some(Next::Leave) | None => request.state = State::Waiting,
            Some(Next::Retry(delay)) => request.state = State::Delayed(now + *delay),
        }
    }
}

async fn compare(steps: Vec<Step>) {
    let (queue, mut naive) = (Arc::new(Queue::default()), Naive::default());
    let mut turns: Vec<(usize, usize, TakenRequest)> = Vec::new();
    let offer = |naive: &mut Naive, name: usize, newer| {
        let version = naive.offer(name, newer);
        super::offer(&queue, NAMES[name].0, NAMES[name].1, version);
    };
    for step in steps {
        match &step {
            Step::Offer { name, newer } => offer(&mut naive, *name, *newer),
            Step::Forget(name) => {
                let was_known = naive.requests.remove(name).is_some();
                assert_eq!(queue.forget(&key(NAMES[*name].0, NAMES[*name].1)), was_known, "{step:?}");
            }
            Step::Take => {
                let taken = queue.take().now_or_never();
                assert_eq!(taken.is_some(), naive.is_due(Instant::now()), "{:?}", naive.requests);
                let Some(taken) = taken else { continue };
                let is_it = |(namespace, name): &(&str, &str)| key(namespace, name) == taken.key;
                let name = NAMES.iter().position(is_it).unwrap();
                naive.turns += 1;
                let request = naive.requests.get_mut(&name).expect("a request that exists");
                assert!(matches!(request.state, State::Waiting | State::Delayed(_)), "{request:?} is taken twice");
                if let Some(object) = &taken.object {
                    assert_eq!(object.version(), request.version.to_string(), "an old version");
                }
                request.state = State::Taken { turn: naive.turns, known: request.version, recalled: false };
                turns.push((name, naive.turns, taken));
            }
            Step::Finish(nth, next) => {
                if *nth >= turns.len() {
                    continue;
                }
                let (name, turn, taken) = turns.remove(*nth);
                naive.finish(name, turn, next.as_ref(), Instant::now());
                match next {
                    Some(next) => taken.finish(next.clone()),
                    None => drop(taken),
                }
            }
            Step::Recall => {
                queue.recall();
                for request in naive.requests.values_mut() {
                    match &mut request.state {
                        State::Left => request.state = State::Waiting,
                        State::Taken { recalled, .. } => *recalled = true,
                        State::Waiting | State::Delayed(_) => {}
                    }
                }
            }
            Step::List(has) => {
                queue.listing_begins();
                (0..NAMES.len()).filter(|name| has[*name]).for_each(|name| offer(&mut naive, name, false));
                queue.listing_ends();
                naive.requests.retain(|name, _| has[*name]);
            }
            Step::Wait(seconds) => tokio::time::advance(Duration::from_secs(*seconds)).await,
        }
        assert_eq!(queue.len(), naive.requests.len(), "after {step:?}");
    }
    drop(turns);
    naive.requests.values_mut().filter(|request| matches!(request.state, State::Taken { .. })).for_each(|request| {
        request.state = State::Waiting;
    });
    tokio::time::advance(RETRY).await;
    let left = naive.requests.values().filter(|request| request.state == State::Left).count();
    let rest = std::iter::from_fn(|| queue.take().now_or_never()).collect::<Vec<_>>();
    assert_eq!(rest.len(), naive.requests.len() - left, "a request was lost");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn none_is_lost_none_is_taken_twice_and_each_is_taken_in_its_newest_version(steps in vec(step(), 1..60)) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(compare(steps));
    }
}
