//! The steps of `publish`, `intent` and `unpublish` in `node/volume`, effect by effect.

use svid_csi_core::state::{Phase, Record};

use crate::code::Mutation;
use crate::record::{Remembered, issued};
use crate::run::{Done, Failure, Run, Stop, begun, tolerated};
use crate::world::{Generation, Root, Spec, Volume};

impl Run<'_> {
    /// As `Node::publish`: a volume that did not become ready is checked later.
    pub fn publish(&mut self, spec: Spec) -> Done {
        self.read_unread()?;
        let may_be_mounted = self.known().is_some_and(|record| record.phase != Phase::Intended);
        let published = match spec {
            Spec::Passthrough => self.publish_passthrough(),
            Spec::A | Spec::B => self.publish_identity(spec),
        };
        let armed = !self.is(Mutation::FinalAfterEffects);
        if published.is_err() && self.world.driver.is_some() && armed {
            self.forgotten();
        }
        if may_be_mounted && !self.is(Mutation::FinalThoughPublished) { published.map_err(begun) } else { published }
    }

    /// As `hold`: a call reads a record that startup could not read.
    pub fn read_unread(&mut self) -> Done {
        if self.is(Mutation::UnreadIsUnknown) || self.known().is_some() {
            return Ok(());
        }
        let Some(record) = self.world.disk else { return Ok(()) };
        self.look("the record").map_err(begun)?;
        self.driver().volume = Some(Volume { record, renewal: None, unfinished: true });
        Ok(())
    }

    fn publish_identity(&mut self, spec: Spec) -> Done {
        if self.is_published(spec, None)? {
            return self.ensure_renewal_running().map_err(begun);
        }
        self.check_target()?;
        let root = self.prepare()?;
        self.intend(spec, root)?;
        let generation = self.ask()?;
        self.install(spec, generation).map_err(begun)
    }

    fn publish_passthrough(&mut self) -> Done {
        if self.is_published(Spec::Passthrough, Some(Root::Agent))? {
            return Ok(());
        }
        self.check_target()?;
        self.intend(Spec::Passthrough, Root::Agent)?;
        self.pass_through().map_err(begun)
    }

    fn pass_through(&mut self) -> Done {
        let record = self.volume().record;
        if !record.is_settled() {
            self.look("the target")?;
            if self.world.mounts.top() == record.root && record.spec == Spec::Passthrough {
                self.end_identity()?;
                self.record("recording that the identity has ended", Record::end_identity)?;
            }
        }
        let record = self.volume().record;
        let has_data = record.spec != Spec::Passthrough || !record.is_settled();
        self.mount(Root::Agent, Spec::Passthrough)?;
        if has_data {
            self.end_identity()?;
        }
        self.ready(Spec::Passthrough, None)
    }

    fn end_identity(&mut self) -> Done {
        self.volume().renewal = None;
        let filled = self.volume().record.filled();
        self.remove_data(filled)
    }

    /// As `is_published`.
    fn is_published(&mut self, spec: Spec, source: Option<Root>) -> Done<bool> {
        let Some(record) = self.known().filter(|record| record.phase == Phase::Ready) else { return Ok(false) };
        let Some(expected) = source.or(record.root) else { return Ok(false) };
        let is_settled = record.is_settled() || self.is(Mutation::UnsettledIsPublished);
        if !is_settled || record.spec != spec {
            return Ok(false);
        }
        self.look("the target")?;
        Ok(self.world.mounts.top() == Some(expected))
    }

    /// As `check_target`.
    fn check_target(&mut self) -> Done {
        self.look("the target")?;
        match self.world.mounts.top() {
            Some(root) if !self.is_ours(root) => Err(Stop::Failed(Failure::Foreign)),
            _ => Ok(()),
        }
    }

    /// As `intend`.
    fn intend(&mut self, spec: Spec, root: Root) -> Done {
        let Some(known) = self.known() else {
            let record = Remembered::intended(spec, root);
            self.effect("writing the first record of the volume", |world| world.disk = Some(record))?;
            self.driver().volume = Some(Volume { record, renewal: None, unfinished: false });
            return Ok(());
        };
        if known.phase == Phase::Ready {
            return Ok(());
        }
        if known.root != Some(root) {
            self.detach_ours()?;
        }
        self.record("recording the intent to publish", |record| {
            record.phase = Phase::Intended;
            record.show(Some(root.id()), spec.real(), None);
        })
    }

    /// As `first`: waits for the source, during which the kubelet may time out.
    fn ask(&mut self) -> Done<Generation> {
        self.survives("receiving an identity")?;
        if self.happens(|world| &mut world.left.given_up) {
            self.say(format_args!("The kubelet times out while the driver waits for the source."));
            return Err(Stop::GivenUp);
        }
        self.world.gives.ok_or(Stop::Failed(Failure::Source))
    }

    /// As `install`.
    fn install(&mut self, spec: Spec, generation: Generation) -> Done {
        let in_use = self.reach()?;
        self.announce(spec, generation)?;
        if !self.is(Mutation::AuditAfterwards) {
            self.audit(generation);
        }
        self.deliver(spec, generation)?;
        let ready = self.mount_delivered(spec, generation, in_use);
        let record = self.known();
        let has_identity = |record: Remembered| record.phase == Phase::Ready && record.spec != Spec::Passthrough;
        if ready.is_ok() || record.is_some_and(has_identity) {
            self.keep_renewing();
        }
        ready
    }

    fn mount_delivered(&mut self, spec: Spec, generation: Generation, in_use: bool) -> Done {
        if !in_use {
            let root = Root::Folder(self.world.folder.expect("it was filled").number);
            self.mount(root, spec)?;
        }
        self.audit(generation);
        self.ready(spec, Some(generation))
    }

    /// As `announce`.
    pub fn announce(&mut self, spec: Spec, generation: Generation) -> Done {
        let record = self.volume().record;
        let is_recorded = record.issued.is_some() && (record.spec == spec || record.unsettled);
        if record.phase != Phase::Ready || is_recorded || self.is(Mutation::NotAnnounced) {
            return Ok(());
        }
        self.record("announcing the identity", |record| record.announce(&spec.real(), issued(generation)))
    }

    /// As `ready`.
    fn ready(&mut self, spec: Spec, given: Option<Generation>) -> Done {
        let root = self.world.folder.filter(|_| given.is_some()).map(|folder| Root::Folder(folder.number).id());
        self.record("recording that the volume is ready", |record| {
            let root = root.or(record.root);
            (record.phase, record.spec, record.root) = (Phase::Ready, spec.real(), root);
            record.settle();
            record.give(given.map(issued));
        })?;
        self.volume().unfinished = false;
        Ok(())
    }

    /// As `ensure_renewal_running`.
    fn ensure_renewal_running(&mut self) -> Done {
        if self.is_kept_fresh() { Ok(()) } else { self.serve_again() }
    }

    /// As `remove`: unpublishes, on request, during startup and when the timer ends.
    pub fn remove(&mut self) -> Done {
        let known = self.known();
        if known.is_some_and(|record| record.spec != Spec::Passthrough) {
            self.volume().renewal = None;
            let recorded = self.record("recording that the removal begins", |record| record.phase = Phase::Removing);
            tolerated(recorded)?;
        }
        if self.world.parent {
            self.detach_ours()?;
        }
        self.remove_data(self.known().and_then(Remembered::filled))?;
        if self.world.target {
            self.effect("removing the target folder", |world| world.target = false)?;
        }
        if self.world.disk.is_some() {
            self.effect("removing the record", |world| world.disk = None)?;
        }
        self.driver().volume = None;
        Ok(())
    }

    /// As `Node::record`: on disk first, then in memory.
    pub fn record(&mut self, what: &str, change: impl FnOnce(&mut Record)) -> Done {
        let mut record = self.volume().record.real();
        change(&mut record);
        let record = Remembered::of(&record);
        if self.is(Mutation::RecordAfterMemory) {
            self.volume().record = record;
        }
        self.effect(what, |world| world.disk = Some(record))?;
        self.volume().record = record;
        Ok(())
    }

    /// As `is_kept_fresh`.
    pub fn is_kept_fresh(&mut self) -> bool {
        let volume = self.volume();
        match volume.record.spec {
            Spec::Passthrough => volume.renewal.is_none(),
            spec => volume.renewal.is_some_and(|renewal| renewal.spec == spec),
        }
    }
}
