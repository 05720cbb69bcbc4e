//! Two things at once: a call or a renewal is held before one of its effects while something else happens.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use svid_csi::demo::kubelet::InlineVolume;
use svid_csi_testkit::TestCa;
use svid_csi_testkit::effects::{Act, At, Point};

use super::judge::{asks, is_withdrawn};
use super::operation::Operation;
use super::oracle::{self, Verdict, check};
use super::plan::Plan;
use super::sweep::{fresh, is_possible};
use super::world::{Counted, World};
use crate::broker::scene::names;
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
    /// The source withdraws the pod's identity.
    Withdrawal,
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
    if first.is_start() {
        world.spawn(Some(Some(point)));
    }
    let happened = {
        let world = &*world;
        let mut call = Box::pin(async move {
            if first.is_start() {
                Operation::starts(world).await
            } else {
                first.ask_running(world, pod, Some(point)).await
            }
        });
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
        // A driver that has only begun to start does not handle signals yet.
        let is_expected = ended.success() || (first.is_start() && ended.signal() == Some(Signal::SIGTERM as i32));
        return Happened::Both(check(is_expected, || format!("SIGTERM: {ended}")));
    }
    happened
}

async fn release(world: &World) {
    tokio::time::sleep(UNDER_WAY).await;
    world.node.watched().release();
}

async fn happens(world: &World, first: Operation, second: Second, pod: &str) -> Verdict {
    let volume = world.volume(pod);
    match second {
        Second::Unpublish => {
            let plugin = world.node.plugin().await;
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
        Second::Withdrawal => {
            world.agent().withdraw(&volume.pod);
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
    if second == Second::Withdrawal {
        withdrawn(world, first, &volume).await?;
    }
    if first == Operation::Unpublish || second == Second::Unpublish {
        oracle::unpublishes(world, &volume).await?;
    }
    asks(world, &volume).await?;
    oracle::published(world, &volume).await?;
    if first == Operation::Bundle || second == Second::Bundle {
        let is_there = async || {
            let trusted = oracle::trusted(world, &volume).await?;
            check(trusted == 2, || format!("the pod trusts {trusted} CAs"))
        };
        oracle::eventually(is_there).await?;
        world.trust(None);
    }
    oracle::unpublishes(world, &volume).await
}

/// A withdrawal beats an installation in progress: the pod can read nothing until it has another identity.
async fn withdrawn(world: &World, first: Operation, volume: &InlineVolume) -> Verdict {
    if first == Operation::Publish {
        // A publish that found no identity has not mounted anything.
        let left = || names(&world.node.kubelet.target(volume));
        let is_empty = async || check(left().is_empty(), || format!("left: {:?}", left()));
        oracle::eventually(is_empty).await.map_err(|error| format!("withdrawn: {error}"))?;
        world.register(&volume.pod.name);
        return oracle::eventually(async || asks(world, volume).await).await;
    }
    is_withdrawn(world, volume).await?;
    world.register(&volume.pod.name);
    oracle::eventually(async || oracle::is_whole(world, volume).await).await
}
