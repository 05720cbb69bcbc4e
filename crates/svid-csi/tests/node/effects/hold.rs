//! Two things at once: a call or a renewal is held before one of its effects while something else happens.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::effects::{Act, At, Point};

use super::judge::asks;
use super::operation::Operation;
use super::oracle::{self, Verdict, check};
use super::plan::Plan;
use super::sweep::{fresh, is_possible};
use super::world::{Counted, World};
use crate::fixture::until;

/// How long the second thing has to reach the driver, which shows no sign of a call that waits for a volume's lock. If that
/// is too short, the two happen one after the other, which is right as well.
const UNDER_WAY: Duration = Duration::from_millis(20);

/// What happens while the first is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    /// The kubelet gives up waiting, and unpublishes.
    Unpublish,
    /// The kubelet gives up waiting, and publishes as something else.
    Republish,
    /// Its identity is due.
    Renewal,
    /// The trust bundle changes.
    Bundle,
    /// The driver is asked to end.
    Terminate,
    /// The kubelet gives up waiting.
    CallerGone,
}

impl Second {
    /// Whether the caller of the first no longer waits.
    fn gives_up(self) -> bool {
        matches!(self, Second::Unpublish | Second::Republish | Second::CallerGone)
    }
}

/// Tries these pairs at some effects of the first.
pub(crate) async fn some_pairs(plan: Plan, first: Operation, seconds: &[Second]) {
    pairs(plan, first, seconds, 8).await;
}

/// Tries these pairs at every `step`-th effect of the first.
pub(crate) async fn pairs(plan: Plan, first: Operation, seconds: &[Second], step: usize) {
    let mut violations = Vec::new();
    for second in seconds {
        if !is_possible(&format!("{second:?} during {} of {}", first.name(), plan.name())) {
            return;
        }
        violations.append(&mut each_effect(plan, first, *second, step).await);
    }
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[expect(clippy::print_stdout, reason = "what a test says is captured and shown by the test runner")]
async fn each_effect(plan: Plan, first: Operation, second: Second, step: usize) -> Vec<String> {
    let mut violations = Vec::new();
    let mut world = fresh(plan, first, Counted::Effects).await;
    for (tried, n) in (1..).step_by(step).enumerate() {
        let pod = format!("pod-{n}");
        first.prepare(&mut world, &pod).await;
        let happened = both(&mut world, first, second, &pod, n).await;
        let case = format!("{second:?} while {first:?} of {plan:?} is held at {n}");
        let verdict = match happened {
            Happened::NotHeld => {
                println!("{first:?} of {plan:?} has less than {n} effects: {tried} tried with {second:?}");
                assert!(tried > 0, "nothing was held");
                break;
            }
            Happened::Both(Err(error)) => Err(error),
            Happened::Both(Ok(())) => judge(&world, first, second, &pod).await,
        };
        println!("{case}: {verdict:?}");
        if let Err(violation) = verdict {
            println!("{}", world.node.log());
            violations.push(format!("{case}: {violation}"));
            world = fresh(plan, first, Counted::Effects).await;
        }
    }
    violations
}

enum Happened {
    /// There is no such effect.
    NotHeld,
    /// Both, and whether the second went well.
    Both(Verdict),
}

async fn both(world: &mut World, first: Operation, second: Second, pod: &str, n: usize) -> Happened {
    let point = Point { at: At::Nth(n), act: Act::Hold };
    let happened = {
        let world = &*world;
        let mut call = Box::pin(first.ask_running(world, pod, Some(point)));
        let is_held = async || world.node.watched().has_fired();
        let over = tokio::select! {
            biased;
            () = until("the effect is reached", is_held) => false,
            _ = &mut call => true,
        };
        if over {
            Happened::NotHeld
        } else if second.gives_up() {
            drop(call);
            let ((), verdict) = tokio::join!(release(world), happens(world, first, second, pod));
            Happened::Both(verdict)
        } else {
            // What the first answers is not judged: a driver that is asked to end may refuse it.
            let (_, (), verdict) = tokio::join!(call, release(world), happens(world, first, second, pod));
            Happened::Both(verdict)
        }
    };
    world.finish();
    if second == Second::Terminate && matches!(happened, Happened::Both(_)) {
        // Without blocking this thread, whose connections the driver closes in good order.
        until("the driver ends", async || world.node.watched().ended().is_some()).await;
        let ended = world.node.ended();
        world.start().await;
        return Happened::Both(check(ended.success(), || format!("SIGTERM: {ended}")));
    }
    happened
}

async fn release(world: &World) {
    tokio::time::sleep(UNDER_WAY).await;
    world.node.watched().release();
}

async fn happens(world: &World, first: Operation, second: Second, pod: &str) -> Verdict {
    let volume = world.volume(pod);
    let plugin = world.node.plugin().await;
    match second {
        Second::Unpublish => {
            let unpublished = world.node.kubelet.unpublish(&plugin, &volume).await;
            unpublished.map_err(|error| format!("unpublish: {error}"))
        }
        Second::Republish => asks(world, &wanted(world, first, second, pod)).await,
        Second::Renewal => {
            world.renew(&volume).await;
            Ok(())
        }
        Second::Bundle => {
            world.trust(Some(&TestCa::new("other")));
            Ok(())
        }
        Second::Terminate => {
            let pid = Pid::from_raw(world.node.pid().cast_signed());
            kill(pid, Signal::SIGTERM).map_err(|error| error.to_string())
        }
        Second::CallerGone => Ok(()),
    }
}

/// As what the volume is asked for last.
fn wanted(world: &World, first: Operation, second: Second, pod: &str) -> InlineVolume {
    if first == Operation::Republish || second == Second::Republish { world.other(pod) } else { world.volume(pod) }
}

async fn judge(world: &World, first: Operation, second: Second, pod: &str) -> Verdict {
    let volume = wanted(world, first, second, pod);
    if first == Operation::Unpublish || second == Second::Unpublish {
        oracle::unpublishes(world, &volume).await?;
    }
    asks(world, &volume).await?;
    oracle::published(world, &volume).await?;
    if second == Second::Bundle {
        let is_there = async || {
            let trusted = oracle::trusted(world, &volume).await?;
            check(trusted == 2, || format!("the pod trusts {trusted} CAs"))
        };
        oracle::eventually(is_there).await?;
        world.trust(None);
    }
    oracle::unpublishes(world, &volume).await
}
