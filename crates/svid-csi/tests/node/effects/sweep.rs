//! One fault at each effect of an operation, one after the other, until there is no effect left.

use std::path::PathBuf;
use std::{env, fs};

use nix::errno::Errno;
use svid_csi::demo::kubelet::KubeletError;
use svid_csi_testkit::effects::{self, Act, At, Class, Point, Span};

use super::operation::Operation;
use super::oracle::Verdict;
use super::plan::Plan;
use super::project::Expected;
use super::world::{Counted, World};
use crate::fixture::is_root_outside;

/// Rewrites the committed traces.
const WRITE: &str = "SVID_CSI_WRITE_TRACES";
/// What the driver says if a removal takes longer than it may, which it then repeats. The driver stops at each call, so on a
/// busy machine that happens without any other files.
const TOO_SLOW: &str = "new files keep appearing in it";
/// After so many violations a sweep ends: each may take the whole patience of a check.
const ENOUGH: usize = 5;
/// One of so many effects is tried, unless all are asked for.
const SOME: usize = 4;

/// The faults of `cargo test`.
pub(crate) const FEW: &[Act] = &[Act::KillBefore, Act::Fail(Errno::ENOSPC, Span::Once)];
/// The faults of `just faults`.
pub(crate) const ALL: &[Act] = &[
    Act::KillBefore,
    Act::KillAfter,
    Act::Fail(Errno::ENOSPC, Span::Once),
    Act::Fail(Errno::EIO, Span::Once),
    Act::Fail(Errno::EMFILE, Span::Once),
];

/// Errors for every call, checks included: a failed check is not a "no".
pub(crate) const LOOKS: &[Act] = &[
    Act::Fail(Errno::EIO, Span::Once),
    Act::Fail(Errno::EMFILE, Span::Once),
    Act::Fail(Errno::EACCES, Span::Once),
    Act::Fail(Errno::ENOMEM, Span::Once),
];

fn is_asked_for(variable: &str) -> bool {
    env::var(variable).is_ok_and(|value| !value.is_empty() && value != "false")
}

/// Whether ptrace can be used; says so if not.
#[expect(clippy::print_stdout, reason = "what a test says is captured and shown by the test runner")]
pub(crate) fn is_possible(what: &str) -> bool {
    let Some(error) = effects::forbidden() else { return true };
    let line = format!("skipped: {what} needs ptrace, which is not permitted here: {error}");
    assert!(!is_asked_for("CI"), "{line}");
    println!("{line}");
    false
}

/// Tries these faults at the effects of an operation: at some of them, unless `CI` or `SVID_CSI_FAULTS` is set.
pub(crate) async fn some(plan: Plan, operation: Operation) {
    let step = if is_asked_for("CI") || is_asked_for("SVID_CSI_FAULTS") { 1 } else { SOME };
    sweep(plan, operation, FEW, step, Counted::Effects).await;
}

/// Tries every fault at every effect.
pub(crate) async fn every(plan: Plan, operation: Operation) {
    sweep(plan, operation, ALL, 1, Counted::Effects).await;
}

/// Lets every call fail, also those that only look.
pub(crate) async fn looks(plan: Plan, operation: Operation) {
    sweep(plan, operation, LOOKS, 1, Counted::LooksToo).await;
}

async fn sweep(plan: Plan, operation: Operation, acts: &[Act], step: usize, counted: Counted) {
    if !is_possible(&format!("{} of {}", operation.name(), plan.name())) {
        return;
    }
    let mut violations = Vec::new();
    for act in acts {
        violations.append(&mut each_effect(plan, operation, *act, step, counted).await);
    }
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[expect(clippy::print_stdout, reason = "what a test says is captured and shown by the test runner")]
async fn each_effect(plan: Plan, operation: Operation, act: Act, step: usize, counted: Counted) -> Vec<String> {
    let mut violations = Vec::new();
    let mut world = fresh(plan, operation, counted).await;
    let expected = Expected::of(plan, operation, is_kill(act));
    for (tried, n) in (1..).step_by(step).enumerate() {
        let pod = format!("pod-{n}");
        operation.prepare(&mut world, &pod).await;
        let point = Point { at: At::Nth(n), act };
        let asked = operation.ask(&mut world, &pod, Some(point)).await;
        let run = world.finish();
        if !run.fired {
            let and_ends = format!("{operation:?} of {plan:?}, {act:?}: {tried} of {} effects tried", run.trace.len());
            println!("{and_ends}");
            assert!(
                tried > 0 && asked.is_ok() && !world.node.has_ended(),
                "{and_ends}: {asked:?}\n{}",
                world.node.log()
            );
            break;
        }
        let reached = world.names(&world.volume(&pod)).render(&run.trace[..n]);
        let case = format!("{operation:?} of {plan:?}, {act:?} at {n}: {}", reached.lines().last().unwrap_or_default());
        println!("{case}");
        let verdict = match survive(&mut world, operation, act, &pod, &asked, expected.as_ref()).await {
            Ok(()) => operation.judge(&world, &pod, &asked).await,
            Err(violation) => Err(violation),
        };
        if let Err(violation) = verdict {
            println!("{violation}\nafter:\n{reached}{asked:?}\n{}", world.node.log());
            violations.push(format!("{case}: {violation}"));
            if violations.len() == ENOUGH {
                violations.push("the rest is not tried".to_owned());
                break;
            }
            world = fresh(plan, operation, counted).await;
        }
    }
    violations
}

pub(super) async fn fresh(plan: Plan, operation: Operation, counted: Counted) -> World {
    let mut world = World::new(plan, counted, operation.begins_shared());
    operation.begin(&mut world).await;
    world
}

/// Starts the driver again if it has ended, which only kills and failed starts may make it do. The model must explain what
/// is left of the volume, and what the start makes of it.
async fn survive(
    world: &mut World,
    operation: Operation,
    act: Act,
    pod: &str,
    asked: &Result<(), KubeletError>,
    expected: Option<&Expected>,
) -> Verdict {
    let volume = world.volume(pod);
    if is_kill(act) {
        world.node.watched().wait();
    }
    let has_ended = world.node.has_ended();
    if let Some(expected) = expected {
        expected.explain(world, operation, &volume, asked, has_ended)?;
    }
    if !has_ended {
        return Ok(());
    }
    if !is_kill(act) && !operation.is_start() {
        return Err("the driver has ended".to_owned());
    }
    world.node.reap();
    world.spawn(None);
    world.node.answers().await.map_err(|ended| format!("the driver does not start again: {ended}"))?;
    match expected {
        Some(expected) if is_kill(act) => expected.explain_restart(world, &volume),
        _ => Ok(()),
    }
}

fn is_kill(act: Act) -> bool {
    matches!(act, Act::KillBefore | Act::KillAfter)
}

/// Compares what an operation does, in order, with the committed trace.
async fn as_committed(plan: Plan, operation: Operation) -> Verdict {
    let mut world = fresh(plan, operation, Counted::Effects).await;
    let mut traced = trace(&mut world, operation).await;
    for _ in 0..2 {
        if world.node.log().contains(TOO_SLOW) {
            world = fresh(plan, operation, Counted::Effects).await;
            traced = trace(&mut world, operation).await;
        }
    }
    let trace = traced?;
    let name = format!("{}-{}.txt", plan.name(), operation.name());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/node/effects/traces").join(&name);
    if is_asked_for(WRITE) {
        fs::write(&path, &trace).map_err(|error| error.to_string())?;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    if committed == trace {
        return Ok(());
    }
    Err(format!("{name} differs; if that is intended, run this test with {WRITE}=1 and commit it:\n{trace}"))
}

async fn trace(world: &mut World, operation: Operation) -> Result<String, String> {
    let pod = "web";
    if !operation.is_start() {
        // What the first volume of all needs has its place in no volume's trace.
        world.register("first");
        let first = world.volume("first");
        world.node.publish(&first).await;
        world.node.unpublish(&first).await;
    }
    operation.prepare(world, pod).await;
    operation.ask(world, pod, None).await.map_err(|error| error.to_string())?;
    let mut trace = world.finish().trace;
    if operation.is_start() {
        // From here on, tasks run side by side.
        let ready = trace.iter().rposition(|effect| effect.class == Class::Bind);
        trace.truncate(ready.map_or(0, |last| last + 1));
    } else {
        // Beside everything else, the agent's directory is followed, and requests are deleted.
        let agents = world.node.path("run");
        trace.retain(|effect| !effect.paths.iter().all(|path| path.starts_with(&agents)));
        trace.retain(|effect| effect.class != Class::Request || effect.detail != "DELETE");
    }
    Ok(world.names(&world.volume(pod)).render(&trace))
}

/// The same for several operations.
#[expect(clippy::print_stdout, reason = "what a test says is captured and shown by the test runner")]
pub(crate) async fn all_as_committed(plan: Plan, operations: &[Operation]) {
    if !is_possible(&format!("the traces of {}", plan.name())) {
        return;
    }
    if !is_root_outside() {
        println!("skipped: the traces of {} are those of a driver that is root and can seal files", plan.name());
        return;
    }
    let mut differing = Vec::new();
    for operation in operations {
        differing.extend(as_committed(plan, *operation).await.err());
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
