//! The steps of `mount` and `deliver` in `node/volume`, and of `delivery/files`: folders, their contents and their mounts.

use svid_csi_core::state::Phase;

use crate::code::Mutation;
use crate::record::Remembered;
use crate::run::{Done, Failure, Run, Stop, tolerated};
use crate::world::{Folder, Generation, Root, Spec, World, bit, names_of};

impl Run<'_> {
    /// As `prepare`: creates the folder to mount.
    pub fn prepare(&mut self) -> Done<Root> {
        let filled = self.known().and_then(Remembered::filled);
        if self.world.is_clone && filled != self.world.folder.map(|folder| Root::Folder(folder.number)) {
            self.effect("unmounting a clone that is not recorded", World::lose_folder)?;
        }
        if self.world.folder.is_none() {
            let number = self.world.new_number();
            let folder = Folder { number, shown: None, beside: 0, names: [false; 2] };
            self.effect("creating the volume's folder", |world| world.folder = Some(folder))?;
        }
        Ok(Root::Folder(self.world.folder.expect("it was made").number))
    }

    /// As `is_ours`.
    pub fn is_ours(&self, root: Root) -> bool {
        let record = self.known();
        let recorded = record.is_some_and(|record| [record.root, record.formerly].contains(&Some(root)));
        // The kubelet's note beside the target names the volume's driver and does not describe the mount.
        let never_ready = record.is_none_or(|record| record.phase == Phase::Intended);
        recorded
            || self.is_folder(root)
            || root == Root::Agent
            || (never_ready && self.world.parent)
            || self.is(Mutation::ForeignTakenForOurs)
    }

    /// As `is_recorded`.
    pub fn is_recorded(&self, record: Remembered, root: Root) -> bool {
        [record.root, record.formerly].contains(&Some(root))
            || self.is_folder(root)
            || (record.spec == Spec::Passthrough && root == Root::Agent)
    }

    fn is_folder(&self, root: Root) -> bool {
        self.world.folder.is_some_and(|folder| root == Root::Folder(folder.number))
    }

    /// As `detach_while`.
    pub fn detach_ours(&mut self) -> Done {
        loop {
            self.look("the target")?;
            let Some(root) = self.world.mounts.top() else { return Ok(()) };
            if !self.is_ours(root) {
                return Err(Stop::Failed(Failure::Foreign));
            }
            self.effect("unmounting what is at the target", |world| world.mounts.pop())?;
        }
    }

    /// As `Node::mount`: steps that may fail come before steps that remove something.
    pub fn mount(&mut self, root: Root, spec: Spec) -> Done {
        self.look("the target")?;
        let shown = self.world.mounts.top();
        if self.is(Mutation::DetachFirst) && shown.is_some_and(|shown| shown != root) {
            self.detach_ours()?;
        }
        self.look("what is to be mounted")?;
        let record = self.volume().record;
        if record.root != Some(root) || record.spec != spec {
            let mounted = shown.map(Root::id);
            self.record("recording the next mount", |record| record.show(Some(root.id()), spec.real(), mounted))?;
        }
        if shown == Some(root) {
            return Ok(());
        }
        let behind = self.world.behind;
        let replaced = self.replace(shown, root);
        if matches!(replaced, Err(Stop::Failed(_))) && !self.is(Mutation::FormerMountLost) {
            // The model lets this succeed. If it fails too, nothing is mounted until the next publish.
            if let (Some(before), None) = (shown, self.world.mounts.top()) {
                self.world.mounts.push(before);
                self.world.behind = behind;
            }
            if self.volume().record != record && self.world.mounts.top() == shown {
                tolerated(self.record("recording the former mount again", |now| *now = record.real()))?;
            }
        }
        replaced
    }

    fn replace(&mut self, shown: Option<Root>, root: Root) -> Done {
        let is_bypassed = self.is(Mutation::CloneBypassed) && self.world.is_clone && self.is_folder(root);
        let root = if is_bypassed { Root::Folder(self.world.new_number()) } else { root };
        if shown.is_some() && !self.is(Mutation::MountsOnTop) {
            self.detach_ours()?;
        }
        if !self.world.parent {
            return Err(Stop::Failed(Failure::NoParent));
        }
        if !self.world.target {
            self.effect("creating the target folder", |world| world.target = true)?;
        }
        self.effect("mounting the volume", |world| world.mounts.push(root))
    }

    /// As `reach`: whether the volume's folder is mounted at the target and was published before.
    pub fn reach(&mut self) -> Done<bool> {
        self.look("the target")?;
        let record = self.volume().record;
        let root = match self.world.mounts.top() {
            Some(root) if record.spec != Spec::Passthrough || self.is(Mutation::MountTakenForFolder) => root,
            _ => return Ok(false),
        };
        if self.is(Mutation::MountTakenForFolder) && root == Root::Agent {
            self.world.leaked = true;
        }
        let was_given = record.issued.is_some() || record.phase == Phase::Ready;
        if !self.is_folder(root) && (record.root != Some(root) || !was_given) {
            return Ok(false);
        }
        self.clone_mount(root)?;
        Ok(true)
    }

    /// As `Folders::reach`: the driver finds its way to what is mounted at the target.
    pub fn clone_mount(&mut self, root: Root) -> Done {
        if self.is_folder(root) {
            return Ok(());
        }
        self.effect("cloning the target's mount", |world| {
            (world.folder, world.is_clone) = (world.behind.take(), true);
        })
    }

    /// As `Node::folder`: keys are written only to the driver's tmpfs and to the recorded mount.
    pub fn open_folder(&self) -> Done<Folder> {
        let filled = self.known().and_then(Remembered::filled);
        let may_be_written = |folder: &Folder| !self.world.is_clone || filled == Some(Root::Folder(folder.number));
        self.world.folder.filter(may_be_written).ok_or(Stop::Failed(Failure::Call))
    }

    pub fn audit(&mut self, generation: Generation) {
        self.world.audited |= bit(generation);
    }

    /// As `files::install`: names first, then the one step that shows the new files, then the removal of the old ones.
    pub fn deliver(&mut self, spec: Spec, generation: Generation) -> Done {
        if spec == Spec::Passthrough {
            return Ok(());
        }
        let before = self.open_folder()?;
        let names = names_of(spec);
        let shown = self.show(before, spec, generation);
        if let Err(Stop::Failed(_)) = shown {
            self.take_back(before, names);
        }
        shown?;
        // The pod has the new files, which must be recorded.
        if !tolerated(self.remove_former(names))? {
            self.again();
        }
        Ok(())
    }

    fn remove_former(&mut self, names: usize) -> Done {
        self.effect("removing the previous files and names", |world| {
            let folder = world.folder.as_mut().expect("it exists");
            folder.beside = 0;
            folder.names[1 - names] = false;
        })
    }

    /// As `tidy`: removes what an earlier delivery has left.
    pub fn tidy(&mut self) -> Done {
        if self.volume().record.spec == Spec::Passthrough {
            return Ok(());
        }
        let folder = self.open_folder()?;
        let Some((_, shown)) = folder.shown else { return Ok(()) };
        let is_tidy = folder.beside == 0 && !folder.names[1 - names_of(shown)];
        if is_tidy { Ok(()) } else { self.remove_former(names_of(shown)) }
    }

    fn show(&mut self, before: Folder, spec: Spec, generation: Generation) -> Done {
        let folder = |world: &mut World, change: &dyn Fn(&mut Folder)| {
            change(world.folder.as_mut().expect("it exists"));
        };
        self.effect("writing the new files beside the previous ones", |world| {
            folder(world, &|folder| folder.beside |= bit(generation));
        })?;
        if !before.names[names_of(spec)] {
            self.effect("linking the names of the new files", |world| {
                folder(world, &|folder| folder.names[names_of(spec)] = true);
            })?;
        }
        self.effect("pointing ..data at the new files", |world| {
            folder(world, &|folder| {
                folder.beside &= !bit(generation);
                folder.beside |= folder.shown.map_or(0, |(before, _)| bit(before));
                folder.shown = Some((generation, spec));
            });
            world.emptied = false;
        })
    }

    /// As `take_back`. If that fails, the next delivery does it.
    fn take_back(&mut self, before: Folder, names: usize) {
        let keeps_names = self.is(Mutation::NamesLeft);
        if let Some(folder) = &mut self.world.folder {
            folder.beside = before.beside;
            folder.names[names] &= before.names[names] || keeps_names;
        }
    }

    /// As `files::take_away`.
    pub fn take_away(&mut self) -> Done {
        let folder = self.open_folder()?;
        let folder_is_empty = folder.shown.is_none() && folder.beside == 0 && folder.names == [false; 2];
        if folder_is_empty {
            return Ok(());
        }
        self.effect("removing ..data", |world| {
            let folder = world.folder.as_mut().expect("it exists");
            folder.beside |= folder.shown.take().map_or(0, |(generation, _)| bit(generation));
            world.emptied = true;
        })?;
        self.effect("removing the files", |world| {
            let folder = world.folder.as_mut().expect("it exists");
            (folder.beside, folder.names) = (0, [false; 2]);
        })
    }

    /// As `remove_data`. A clone is emptied if the record says that this driver filled it.
    pub fn remove_data(&mut self, filled: Option<Root>) -> Done {
        let Some(folder) = self.world.folder else { return Ok(()) };
        if self.world.is_clone && filled != Some(Root::Folder(folder.number)) {
            return self.effect("unmounting a clone that is not recorded", World::lose_folder);
        }
        let folder_was_clone = self.world.is_clone;
        self.effect("removing the contents of the volume's folder", |world| {
            let folder = world.folder.as_mut().expect("it exists");
            (folder.shown, folder.beside, folder.names) = (None, 0, [false; 2]);
        })?;
        self.effect("removing the volume's folder", |world| {
            world.lose_folder();
            world.behind = world.behind.filter(|_| folder_was_clone);
        })
    }
}
