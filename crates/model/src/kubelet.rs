//! The actions of the kubelet, the source and other programs on the node, and the kubelet's view after each response.

use svid_csi_core::state::Phase;

use crate::code::Mutation;
use crate::properties::Property;
use crate::run::{Choices, Done, Failure, Run, Stop};
use crate::world::{Belief, Pod, Root, Spec, World};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The kubelet publishes the volume.
    Publish,
    /// The kubelet unpublishes it.
    Unpublish,
    /// The pod is deleted.
    DeletePod,
    /// The kubelet removes the pod's folder.
    RemovePodFolder,
    /// The kubelet requests the volume with another spec from now on.
    AskAs(Spec),
    /// The driver checks the volume again.
    Timer,
    /// The source issues the next identity.
    IssueNext,
    /// The driver receives what the source has for the pod.
    Renew,
    /// The source withdraws the pod's identity.
    Withdraw,
    /// Another program mounts something over the target.
    MountForeign,
    /// It unmounts that.
    UnmountForeign,
    /// Another program unmounts the volume.
    UnmountVolume,
    /// The kubelet is started again, and knows only the folders that it finds.
    RestartKubelet,
    /// The driver is killed between two calls.
    Kill,
    /// The driver starts.
    Start,
}

impl Step {
    /// All steps that are possible now.
    pub(crate) fn possible(world: &World) -> Vec<Step> {
        let up = world.driver.is_some();
        let wanted = matches!(world.pod, Pod::Wanted | Pod::Running);
        let others = [Spec::A, Spec::B, Spec::Passthrough].into_iter().filter(|spec| *spec != world.asks);
        let mut steps: Vec<_> = others.filter(|_| wanted && world.left.specs > 0).map(Step::AskAs).collect();
        let mut add = |step, possible| steps.extend(Some(step).filter(|_| possible));
        add(Step::Publish, up && wanted);
        add(Step::Unpublish, up && world.pod == Pod::Deleted && world.belief != Belief::Unmounted);
        add(Step::DeletePod, wanted);
        let is_done = world.pod == Pod::Deleted && world.belief == Belief::Unmounted;
        add(Step::RemovePodFolder, is_done && world.mounts.top().is_none());
        add(Step::Timer, world.later().is_some());
        add(Step::IssueNext, world.gives.is_some() && world.left.renewals > 0);
        add(Step::Renew, Run::new(*world, &mut Choices::default(), None).renewal_is_due());
        add(Step::Withdraw, world.gives.is_some() && world.left.withdrawals > 0);
        add(Step::IssueNext, world.gives.is_none() && world.left.renewals > 0);
        let is_ready = world.disk.is_some_and(|record| record.phase == Phase::Ready);
        // For a volume that was never ready, the kubelet's note vouches for the mount, whatever it is.
        let may_be_covered = world.pod == Pod::Running && is_ready && !world.foreign;
        add(Step::MountForeign, may_be_covered && world.left.foreign > 0);
        add(Step::UnmountForeign, world.mounts.top() == Some(Root::Foreign) && world.foreign);
        let is_shown = world.mounts.top().is_some_and(|root| root != Root::Foreign);
        add(Step::UnmountVolume, world.pod == Pod::Running && is_shown && world.left.unmounts > 0);
        add(Step::RestartKubelet, world.pod != Pod::Gone && world.left.restarts > 0);
        add(Step::Kill, up && world.left.kills > 0);
        add(Step::Start, !up);
        steps
    }
}

impl Run<'_> {
    /// Takes one step. The resulting states are between two calls.
    pub fn step(&mut self, step: Step) {
        // The state shows whether the driver was killed.
        let _ = match step {
            Step::Publish => self.kubelet_publishes(),
            Step::Unpublish => self.kubelet_unpublishes(),
            Step::Timer => self.acts("The time has come for the driver to check the volume again.", Self::timer),
            Step::Renew => self.acts("The renewal receives what the source has for the pod.", Self::renew),
            Step::Start => self.acts("The driver starts.", Self::start),
            other => self.happens_outside(other),
        };
        self.moment();
    }

    fn acts(&mut self, why: &str, act: impl FnOnce(&mut Self) -> Done) -> Done {
        self.say(format_args!("{why}"));
        act(self)
    }

    fn happens_outside(&mut self, step: Step) -> Done {
        let world = &mut self.world;
        let said = match step {
            Step::DeletePod => {
                world.pod = Pod::Deleted;
                "The pod is deleted.".to_owned()
            }
            Step::RemovePodFolder => {
                (world.pod, world.parent, world.target) = (Pod::Gone, false, false);
                "The kubelet removes the pod's folder.".to_owned()
            }
            Step::AskAs(spec) => {
                (world.asks, world.left.specs) = (spec, world.left.specs - 1);
                format!("From now on, the kubelet requests the volume as {spec:?}.")
            }
            Step::IssueNext => {
                (world.latest, world.left.renewals) = (world.latest + 1, world.left.renewals - 1);
                world.gives = Some(world.latest);
                "The source issues another identity for the pod.".to_owned()
            }
            Step::Withdraw => {
                (world.gives, world.left.withdrawals) = (None, world.left.withdrawals - 1);
                "The source withdraws the pod's identity.".to_owned()
            }
            Step::MountForeign => {
                (world.foreign, world.left.foreign) = (true, world.left.foreign - 1);
                world.mounts.push(Root::Foreign);
                "Another program mounts something over the target.".to_owned()
            }
            Step::UnmountForeign => {
                world.foreign = false;
                world.mounts.pop();
                // The driver does not watch for that: the kubelet's next call checks again.
                world.asks_again |= world.pod == Pod::Running;
                "The other program unmounts it.".to_owned()
            }
            Step::UnmountVolume => {
                world.left.unmounts -= 1;
                world.mounts.pop();
                let had_data = world.folder.or(world.behind).is_some();
                world.forget_unmounted();
                world.emptied |= had_data && world.folder.or(world.behind).is_none();
                world.asks_again = true;
                "Another program unmounts the volume.".to_owned()
            }
            Step::RestartKubelet => {
                world.left.restarts -= 1;
                world.belief = if world.parent { Belief::Uncertain } else { Belief::Unmounted };
                world.asks_again |= world.pod == Pod::Running;
                "The kubelet restarts.".to_owned()
            }
            Step::Kill => {
                (world.driver, world.left.kills) = (None, world.left.kills - 1);
                "The driver is killed.".to_owned()
            }
            Step::Publish | Step::Unpublish | Step::Timer | Step::Renew | Step::Start => unreachable!("the driver's"),
        };
        self.say(format_args!("{said}"));
        Ok(())
    }

    fn kubelet_publishes(&mut self) -> Done {
        let spec = self.world.asks;
        let was_whole = self.world.pod == Pod::Running && self.world.is_whole();
        let names = self.world.mounted_folder().map_or([false; 2], |folder| folder.names);
        self.say(format_args!("The kubelet publishes the volume as {spec:?}."));
        (self.world.parent, self.world.asks_again) = (true, true);
        let mut published = self.publish(spec).and_then(|()| self.survives("answering"));
        if published.is_ok() && self.happens(|world| &mut world.left.given_up) {
            self.say(format_args!("The kubelet times out before the response arrives."));
            published = Err(Stop::GivenUp);
        }
        match published {
            Ok(()) => self.answered_with_success(spec),
            Err(Stop::Failed(failure)) => {
                let is_final = self.is_final(failure);
                let has_more_names = (0..2).any(|n| self.world.dangling_names()[n] && !names[n]);
                if was_whole && (!self.world.is_whole() || has_more_names) {
                    self.breaks(Property::P8);
                }
                self.answered_with_failure(is_final);
            }
            Err(Stop::Killed | Stop::GivenUp) => self.answered_with_failure(false),
        }
        Ok(())
    }

    fn answered_with_success(&mut self, spec: Spec) {
        self.say(format_args!("The publish succeeds."));
        if !self.world.is_published_as(spec) {
            self.breaks(Property::P2);
        }
        let shown = self.world.mounted_folder().and_then(|folder| folder.shown);
        if shown.is_some_and(|(_, shown)| shown != spec) {
            self.breaks(Property::P1);
        }
        (self.world.belief, self.world.pod, self.world.asks_again) = (Belief::Mounted, Pod::Running, false);
    }

    /// To the kubelet, a mounted volume remains mounted. After a final code it removes the folder that it created.
    fn answered_with_failure(&mut self, is_final: bool) {
        let world = &mut self.world;
        world.belief = match world.belief {
            Belief::Unmounted | Belief::Uncertain if is_final => Belief::Unmounted,
            Belief::Unmounted => Belief::Uncertain,
            belief => belief,
        };
        if is_final && world.mounts.top().is_none() {
            (world.parent, world.target) = (false, false);
        }
        let code = if is_final { "a final code" } else { "no response, or a code after which the volume may exist" };
        self.say(format_args!("The publish fails: the kubelet receives {code}."));
    }

    /// Whether a failed system call is final depends on its errno.
    fn is_final(&mut self, failure: Failure) -> bool {
        match failure {
            Failure::Foreign | Failure::NoParent => true,
            Failure::Call | Failure::Source => self.choose(2) == 1,
            Failure::Begun => self.is(Mutation::FinalAfterEffects),
        }
    }

    fn kubelet_unpublishes(&mut self) -> Done {
        self.say(format_args!("The kubelet unpublishes the volume."));
        if self.read_unread().and_then(|()| self.remove()).and_then(|()| self.survives("answering")).is_ok() {
            self.say(format_args!("The unpublish succeeds."));
            self.world.belief = Belief::Unmounted;
            if self.world.mounts.top().is_none() {
                (self.world.parent, self.world.target) = (false, false);
            }
        } else {
            self.say(format_args!("The unpublish fails."));
            self.world.belief = Belief::Uncertain;
        }
        Ok(())
    }
}
