//! The steps of `recover`, `later` and `renewal` in `node/volume`. The real `recover` decides what startup does with the
//! volume.

use svid_csi_core::state::{Observed, Phase, Pod as Seen, Record, Step, Target, recover};

use crate::code::Mutation;
use crate::properties::Property;
use crate::record::issued;
use crate::run::{Done, Failure, Run, Stop};
use crate::world::{Driver, Generation, Later, Pod, Renewal, Root, Spec, Volume};

impl Run<'_> {
    /// As `Node::recover`.
    pub fn start(&mut self) -> Done {
        self.world.driver = Some(Driver::default());
        if self.happens(|world| &mut world.left.losses) {
            self.say(format_args!("It runs in a new container, without the tmpfs of the previous one."));
            let had_folder = self.world.folder.is_some();
            self.world.lose_folder();
            self.world.emptied |= had_folder && self.world.behind.is_none();
        }
        self.moment();
        if let Err(stop) = self.look("the data root") {
            if !self.is(Mutation::UnseenDataReplaced) {
                self.say(format_args!("It ends."));
                self.world.driver = None;
                return Err(stop);
            }
            // The records are on the tmpfs too.
            self.world.lose_folder();
            self.world.disk = None;
            return Ok(());
        }
        let Some(record) = self.world.disk else { return self.remove_orphan() };
        if self.look("the record").is_err() {
            if self.is(Mutation::UnreadIsOrphan) {
                self.remove_orphan()?;
            }
            self.try_later();
            return Ok(());
        }
        self.driver().volume = Some(Volume { record, renewal: None, unfinished: false });
        match self.resume() {
            Err(Stop::Failed(Failure::Foreign)) => Ok(()),
            Err(Stop::Failed(_)) => {
                self.try_later();
                Ok(())
            }
            done => done,
        }
    }

    fn remove_orphan(&mut self) -> Done {
        if self.world.is_clone {
            return Ok(());
        }
        match self.remove_data(None) {
            Err(Stop::Failed(_)) => {
                self.try_later();
                Ok(())
            }
            done => done,
        }
    }

    fn try_later(&mut self) {
        if !self.is(Mutation::StartOnlyOnce) {
            self.again();
        }
    }

    /// As `resume`.
    fn resume(&mut self) -> Done {
        let done = self.take_step();
        let step = match done {
            Err(Stop::Killed) => return Err(Stop::Killed),
            Ok(step) => Some(step),
            Err(_) => None,
        };
        if let Some(volume) = &mut self.driver().volume {
            volume.unfinished = done.is_err();
            if step == Some(Step::AwaitPublish) {
                self.forgotten();
            }
        }
        done.map(|_| ())
    }

    fn take_step(&mut self) -> Done<Step> {
        let (record, observed) = self.observe()?;
        let step = recover(&record, observed);
        self.say(format_args!("The driver finds {observed:?} and decides: {step:?}."));
        match step {
            Step::Serve | Step::Mount => self.serve_again(),
            Step::AwaitPublish => self.record("recording that the volume waits for a publish", |record| {
                (record.phase, record.adopted) = (Phase::Intended, None);
            }),
            Step::Remove => self.remove(),
            Step::LeaveAlone => Err(Stop::Failed(match observed.target {
                Target::Missing => Failure::NoParent,
                _ => Failure::Foreign,
            })),
        }
        .map(|()| step)
    }

    /// As `observe`.
    fn observe(&mut self) -> Done<(Record, Observed)> {
        self.look("the target")?;
        let record = self.volume().record;
        let target = match self.world.mounts.top() {
            Some(root) if self.is_recorded(record, root) => Target::Ours,
            Some(_) => Target::Foreign,
            None if self.world.target => Target::Folder,
            None => Target::Missing,
        };
        let pod = if self.world.pod == Pod::Gone { Seen::Gone } else { Seen::Present };
        Ok((record.real(), Observed { target, pod, data: self.world.folder.is_some() }))
    }

    /// As `serve_again`.
    pub fn serve_again(&mut self) -> Done {
        if !self.world.parent {
            return Err(Stop::Failed(Failure::NoParent));
        }
        let spec = self.volume().record.spec;
        let missing = if spec == Spec::Passthrough {
            self.missing_of_agent()?
        } else if self.reach()? {
            None
        } else {
            let folder = self.world.folder.ok_or(Stop::Failed(Failure::Call))?;
            Some(Root::Folder(folder.number))
        };
        self.deliver_again()?;
        if let Some(root) = missing {
            self.mount(root, spec)?;
        }
        if spec == Spec::Passthrough {
            self.remove_former_data()?;
        }
        self.keep_renewing();
        self.volume().unfinished = false;
        Ok(())
    }

    fn missing_of_agent(&mut self) -> Done<Option<Root>> {
        self.look("the target")?;
        let record = self.volume().record;
        let shown = self.world.mounts.top();
        if let Some(filled) = record.filled().filter(|filled| shown == Some(*filled)) {
            self.clone_mount(filled)?;
        }
        Ok((shown.is_none() || shown == record.formerly).then_some(Root::Agent))
    }

    fn remove_former_data(&mut self) -> Done {
        let record = self.volume().record;
        self.remove_data(record.filled())?;
        if record.formerly.is_none() && record.issued.is_none() && !record.unsettled {
            return Ok(());
        }
        self.record("recording that the previous plan has ended", Record::end_identity)
    }

    /// As `deliver_again`.
    fn deliver_again(&mut self) -> Done {
        let record = self.volume().record;
        if record.withdrawn && !self.is(Mutation::WithdrawalForgotten) {
            return self.take_away();
        }
        if record.issued.is_none() || record.spec == Spec::Passthrough {
            return Ok(());
        }
        if self.world.folder.is_some_and(|folder| folder.shown.is_some()) {
            return self.tidy();
        }
        if !self.is(Mutation::HiddenTakenForGone) {
            self.take_away()?;
        }
        self.record("recording that the pod has no identity", |record| record.give(None))
    }

    /// As `keep_renewing`.
    pub fn keep_renewing(&mut self) {
        if !self.is_kept_fresh() {
            let volume = self.volume();
            let renewal = Renewal { spec: volume.record.spec, has: volume.record.issued.is_some() };
            volume.renewal = Some(renewal).filter(|renewal| renewal.spec != Spec::Passthrough);
        }
    }

    /// As `run_later`: the volume is due to be checked.
    pub fn timer(&mut self) -> Done {
        let Some(due) = self.driver().later.take() else { return Ok(()) };
        let settled = self.finish(due);
        if let Err(Stop::Failed(_)) = settled {
            self.again();
            return Ok(());
        }
        settled
    }

    /// As `finish`. A volume that is due by back-off was requested less than ten minutes ago.
    fn finish(&mut self, due: Later) -> Done {
        let Some(volume) = self.driver().volume else { return self.finish_unknown() };
        if volume.unfinished {
            return self.resume();
        }
        if volume.record.phase == Phase::Ready && !self.is(Mutation::TimerDropsReady) {
            return self.tidy();
        }
        if due == Later::Again {
            self.forgotten();
            return Ok(());
        }
        // Data that is lost while it is not mounted is published again at the kubelet's next request, which is on its way.
        let is_lost = volume.record.phase != Phase::Ready && self.world.asks_again;
        if self.world.pod == Pod::Running && !is_lost {
            self.breaks(Property::P6);
        }
        self.remove()
    }

    /// As `finish_unknown`.
    fn finish_unknown(&mut self) -> Done {
        self.look("the record")?;
        let Some(record) = self.world.disk else { return self.remove_orphan() };
        self.driver().volume = Some(Volume { record, renewal: None, unfinished: false });
        self.resume()
    }

    /// Whether the renewal task has something to do.
    pub fn renewal_is_due(&self) -> bool {
        let due = self.world.volume().and_then(|volume| {
            let renewal = volume.renewal?;
            Some(match self.world.gives {
                Some(given) => volume.record.issued != Some(given) || !volume.record.delivered,
                None => renewal.has,
            })
        });
        due == Some(true)
    }

    /// As `renew` and `withdraw_if_withdrawn`.
    pub fn renew(&mut self) -> Done {
        if self.volume().record.phase != Phase::Ready {
            self.volume().renewal = None;
            return Ok(());
        }
        let Some(generation) = self.world.gives else { return self.withdraw() };
        let renewed = self.deliver_next(generation);
        // As `keep_fresh`: after a failure the record says what the pod may have.
        if renewed != Err(Stop::Killed) {
            let has = self.volume().record.issued.is_some();
            self.task_has(has);
        }
        renewed
    }

    fn deliver_next(&mut self, generation: Generation) -> Done {
        let spec = self.volume().record.spec;
        self.announce(spec, generation)?;
        if !self.is(Mutation::AuditAfterwards) {
            self.audit(generation);
        }
        self.deliver(spec, generation)?;
        self.audit(generation);
        self.record("recording the new identity", |record| {
            record.give(Some(issued(generation)));
            record.unsettled = false;
        })
    }

    fn withdraw(&mut self) -> Done {
        let recorded = self.record("recording the withdrawal", |record| {
            (record.issued, record.withdrawn) = (None, true);
        });
        if recorded == Err(Stop::Killed) {
            return recorded;
        }
        if !self.is(Mutation::WithdrawalKeepsFiles) {
            self.take_away()?;
        }
        if recorded.is_err() {
            self.record("recording the withdrawal again", |record| {
                (record.issued, record.withdrawn) = (None, true);
            })?;
        }
        self.task_has(false);
        self.world.revoked = (2 << self.world.latest) - 1;
        self.say(format_args!("The driver reports that the identity was withdrawn and that the volume is empty."));
        self.moment();
        Ok(())
    }

    fn task_has(&mut self, has: bool) {
        if let Some(renewal) = &mut self.volume().renewal {
            renewal.has = has;
        }
    }
}
