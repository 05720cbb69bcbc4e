//! The checks after a fault in an operation.

use std::fs;

use svid_csi::demo::kubelet::{InlineVolume, KubeletError};

use super::operation::Operation;
use super::oracle::{self, Verdict, check};
use super::world::World;
use crate::adoption::{self, NAMES, serial_in};
use crate::broker::scene::names;
use crate::fixture::run;
use crate::formats::store::opens;

impl Operation {
    /// Checks the volume once the driver runs again: before the kubelet retries, after that, and after the unpublish.
    pub(crate) async fn judge(self, world: &World, pod: &str, asked: &Result<(), KubeletError>) -> Verdict {
        let volume = world.volume(pod);
        match self {
            Operation::Publish => {
                if let Err(error) = asked
                    && !error.is_uncertain()
                {
                    oracle::gone(world, &volume).await.map_err(|left| format!("after a final {error}: {left}"))?;
                }
                asked_again(world, &volume).await
            }
            Operation::Republish | Operation::Revert => {
                let mounts = world.node.mounts(&world.node.kubelet.target(&volume));
                check(mounts == 1, || format!("{mounts} mounts before the kubelet asks again"))?;
                oracle::no_name_dangles(world, &volume)?;
                let wanted = if self == Operation::Revert { volume } else { world.other(pod) };
                asked_again(world, &wanted).await
            }
            Operation::Remount => {
                // As after a renewal, the record may be one identity behind.
                asks(world, &volume).await?;
                oracle::eventually(async || oracle::is_usable(world, &volume).await.map(drop)).await?;
                oracle::is_renewed(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::Renewal => {
                // A record that is one renewal behind does no harm: the next one is only earlier.
                oracle::eventually(async || oracle::is_usable(world, &volume).await.map(drop)).await?;
                oracle::is_renewed(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::Bundle => bundle(world, &volume).await,
            Operation::Tokens => tokens(world, &volume).await,
            Operation::Password => password(world, &world.plan.with_other_password(pod)).await,
            Operation::Withdrawal => {
                is_withdrawn(world, &volume).await?;
                world.register(pod);
                oracle::eventually(async || oracle::is_whole(world, &volume).await).await?;
                oracle::is_renewed(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::Unpublish => oracle::unpublishes(world, &volume).await,
            Operation::Adoption => adopted(world, &volume).await,
            Operation::StartAlone | Operation::Return => {
                oracle::can_issue(world).await?;
                oracle::eventually(async || oracle::is_whole(world, &volume).await).await?;
                oracle::published(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::StartGone => {
                oracle::eventually(async || oracle::gone(world, &volume).await).await?;
                // The source may not have been ready either.
                oracle::eventually(async || asks(world, &volume).await).await?;
                oracle::unpublishes(world, &volume).await
            }
            Operation::Entry => {
                let is_there = async || check(world.has_entry(), || "the node's entry is missing".to_owned());
                oracle::eventually(is_there).await?;
                asked_again(world, &volume).await
            }
            Operation::Start
            | Operation::StartCloned
            | Operation::StartShared
            | Operation::StartPrivate
            | Operation::FirstStart => {
                asks_until_served(world, &volume).await?;
                oracle::can_issue(world).await?;
                oracle::published(world, &volume).await?;
                oracle::unpublishes(world, &volume).await
            }
        }
    }
}

/// The kubelet asks again and finally unpublishes.
async fn asked_again(world: &World, volume: &InlineVolume) -> Verdict {
    asks(world, volume).await?;
    oracle::published(world, volume).await?;
    oracle::unpublishes(world, volume).await
}

pub(super) async fn asks(world: &World, volume: &InlineVolume) -> Verdict {
    let published = world.node.kubelet.publish(&world.node.plugin().await, volume).await;
    published.map(drop).map_err(|error| format!("asked again: {error}"))
}

/// The kubelet asks until it is served: the driver retries what it could not read at startup, and refuses until then.
async fn asks_until_served(world: &World, volume: &InlineVolume) -> Verdict {
    let mut refusal = None;
    let is_served = async || match world.node.kubelet.publish(&world.node.plugin().await, volume).await {
        Err(error) if error.is_uncertain() => Err(format!("asked again: {error}")),
        served => {
            refusal = served.err();
            Ok(())
        }
    };
    oracle::eventually(is_served).await?;
    refusal.map_or(Ok(()), |error| Err(format!("asked again: {error}")))
}

/// The kubelet asks again, as it does every minute or so, and after that at the latest the pod trusts the other CA.
async fn bundle(world: &World, volume: &InlineVolume) -> Verdict {
    for count in [2, 1] {
        asks(world, volume).await?;
        let is_there = async || {
            oracle::is_whole(world, volume).await?;
            let trusted = oracle::trusted(world, volume).await?;
            check(trusted == count, || format!("the pod trusts {trusted} CAs instead of {count}"))
        };
        oracle::eventually(is_there).await?;
        world.trust(None);
    }
    oracle::is_renewed(world, volume).await?;
    oracle::unpublishes(world, volume).await
}

/// The pod validates tokens with all keys of the agent.
async fn tokens(world: &World, volume: &InlineVolume) -> Verdict {
    let is_there = async || {
        oracle::is_whole(world, volume).await?;
        let keys = oracle::token_keys(world, volume)?;
        check(keys == world.token_keys(), || format!("the pod knows {keys} keys instead of {}", world.token_keys()))
    };
    oracle::eventually(is_there).await?;
    oracle::is_renewed(world, volume).await?;
    oracle::unpublishes(world, volume).await
}

async fn password(world: &World, volume: &InlineVolume) -> Verdict {
    asks(world, volume).await?;
    let store = world.node.kubelet.target(volume).join("key.p12");
    let is_open = async || {
        oracle::is_whole(world, volume).await?;
        let store = fs::read(&store).map_err(|error| format!("the store: {error}"))?;
        check(opens(&store, "another"), || "the store has the former password".to_owned())
    };
    oracle::eventually(is_open).await?;
    oracle::is_renewed(world, volume).await?;
    is_open().await?;
    oracle::unpublishes(world, volume).await
}

/// Nothing can be read any more, the record says why, and so does the condition.
pub(super) async fn is_withdrawn(world: &World, volume: &InlineVolume) -> Verdict {
    let target = world.node.kubelet.target(volume);
    let is_empty = async || {
        check(world.node.mounts(&target) == 1, || "it is not mounted once".to_owned())?;
        check(names(&target).is_empty(), || format!("left: {:?}", names(&target)))?;
        let record = world.record(volume)?;
        check(record.withdrawn && record.issued.is_none(), || "it is not recorded".to_owned())?;
        let trouble = world.node.trouble(volume).await.unwrap_or_default();
        check(trouble.contains("withdr"), || format!("the condition: {trouble}"))
    };
    oracle::eventually(is_empty).await.map_err(|error| format!("withdrawn: {error}"))
}

/// The pod, which knows only the mount of csi-driver-spiffe, gets a new identity.
async fn adopted(world: &World, volume: &InlineVolume) -> Verdict {
    let in_pod = world.node.path("in-pod").join(&volume.pod.name);
    let again = adoption::republish(&world.node, volume).await;
    again.map_err(|error| format!("asked again: {error}"))?;
    oracle::eventually(async || oracle::is_whole(world, volume).await).await?;
    oracle::is_renewed(world, volume).await?;
    let (seen, recorded) = (serial_in(&in_pod, NAMES), world.recorded_serial(volume));
    check(recorded.as_ref() == Some(&seen), || format!("the pod sees {seen}, the record says {recorded:?}"))?;
    run("umount", &[in_pod.to_str().unwrap_or_default()]);
    oracle::unpublishes(world, volume).await
}
