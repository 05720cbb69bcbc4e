use svid_csi_core::plan::{Delivery, Plan};

use super::*;

const CODES: [i32; 9] = [0, 3, 5, 6, 7, 8, 9, 13, 14];
const RESULTS: [CallResult; 5] =
    [CallResult::Ok, CallResult::Unchanged, CallResult::Caller, CallResult::Source, CallResult::Node];
const OUTCOMES: [RenewalResult; 4] =
    [RenewalResult::Renewed, RenewalResult::Unchanged, RenewalResult::Withdrawn, RenewalResult::Failed];
const METHODS: [&str; 7] = [
    "FetchX509SVID",
    "FetchX509Bundles",
    "FetchJWTSVID",
    "FetchJWTBundles",
    "ValidateJWTSVID",
    "StreamSecrets",
    "FetchSecrets",
];

#[test]
fn every_metric_is_in_the_reference() {
    let registered = format!("{:?}", Metrics::default().registry).matches("Descriptor {").count();
    assert!(registered > 10);
    assert_eq!(
        Metrics::specimen().matches("# TYPE ").count(),
        registered,
        "specimen() must set a value of each family"
    );
}

fn plans() -> Vec<Plan> {
    let deliveries = [Delivery::SocketDir, Delivery::Files, Delivery::WorkloadApi];
    let pairs = Source::ALL.into_iter().flat_map(|source| deliveries.map(|delivery| Plan::new(source, delivery)));
    pairs.filter_map(Result::ok).collect()
}

/// Counts calls with every combination of labels.
fn every_call(metrics: &Arc<Metrics>) {
    for call in [CsiCall::Publish, CsiCall::Unpublish, CsiCall::VolumeStats] {
        for plan in plans().into_iter().map(Some).chain([None]) {
            for result in RESULTS {
                let mut open = metrics.begin(call);
                open.concerns(plan);
                open.end(result, Code::Ok);
            }
        }
        for code in CODES {
            metrics.begin(call).end(CallResult::Node, code.into());
        }
    }
    for (method, code) in METHODS.into_iter().flat_map(|method| CODES.map(|code| (method, code))) {
        metrics.workload_api_called(method, code.into());
    }
}

#[test]
fn a_page_is_small_whatever_happens_on_a_node() {
    let metrics = Arc::<Metrics>::default();
    every_call(&metrics);
    for source in Source::ALL {
        metrics.issued_after(source, Duration::from_secs(1_000_000_000));
        for outcome in OUTCOMES {
            metrics.renewal_ended(source, "identity", outcome);
            metrics.renewal_ended(source, "tokens", outcome);
        }
    }
    let phases = ["intended", "ready", "removing"];
    let volumes = plans().into_iter().flat_map(|plan| phases.map(|phase| (plan.to_string(), phase, 5_000)));
    let page = metrics.encode(&Snapshot { volumes: volumes.collect(), ..Snapshot::default() });
    assert!(page.len() > 20_000 && page.len() < 100_000, "{} bytes", page.len());
}

#[test]
fn a_cancelled_call_is_no_longer_open() {
    let metrics = Arc::<Metrics>::default();
    let open = metrics.begin(CsiCall::Publish);
    let in_flight = |page: String| page.contains("csi_calls_in_flight{call=\"NodePublishVolume\"} 1\n");
    assert!(in_flight(metrics.encode(&Snapshot::default())));
    drop(open);
    let page = metrics.encode(&Snapshot::default());
    assert!(!page.contains("csi_calls_total{") && !in_flight(page));
}

#[test]
fn failed_renewals_are_those_of_the_older_counter() {
    let metrics = Metrics::default();
    for outcome in OUTCOMES {
        metrics.renewal_ended(Source::Broker, "identity", outcome);
    }
    metrics.renewal_ended(Source::LocalCa, "tokens", RenewalResult::Failed);
    let page = metrics.encode(&Snapshot::default());
    assert_eq!(page.matches("outcome=\"failed\"} 1\n").count(), 2, "{page}");
    assert!(page.contains("svid_csi_renewal_failures_total 2\n"), "{page}");
}

#[test]
#[ignore = "it measures: just figures"]
fn what_a_counted_call_costs() {
    const CALLS: u32 = 200_000;
    let metrics = Arc::new(Metrics::default());
    let begun = std::time::Instant::now();
    for _ in 0..CALLS {
        let mut call = metrics.begin(CsiCall::Publish);
        call.concerns(Some(Plan::Passthrough));
        call.end(CallResult::Ok, Code::Ok);
        metrics.issued();
    }
    println!("a counted publish: {:?}", begun.elapsed() / CALLS);
}
