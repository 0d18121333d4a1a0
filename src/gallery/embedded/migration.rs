//! A gallery moves to another pack: new templates of its kept chips, beside the running gallery, then one switch.
//!
//! Identities are written under a number that is no gallery's until the switch; what a crash leaves of it is removed at the next
//! start. Going back is a migration to the pack of before: chips are kept to the last level, so its templates come out as they were.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::compaction::check_room;
use super::comparison::{COMPARED_MAX, Comparing};
use super::crash::step;
use super::galleries::{EmbeddedGalleries, build_index, find_gallery};
use super::import::Sole;
use super::index::{Delta, GalleryIndex};
use super::lasting::{Embed, MigrationComparison, MigrationPlan, MigrationState};
use super::record::now;
use super::store::{Store, StoredGallery, Watch, Write};
use super::types::{Gallery, Identity};
use super::writer::{Change, Submitted, Writer};
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::{Entity, Error};

/// Identities that are embedded and written together.
const STEP_IDENTITIES: usize = 32;

/// Changed identities that are left to the writer's turn, in which all writes wait for their templates.
const LAST_CHANGES_MAX: usize = 16;

/// Changed identities at most for which all writes wait.
const TURN_CHANGES_MAX: usize = 4 * LAST_CHANGES_MAX;

/// How often the changes of meanwhile are caught up with before the writer's turn.
const ROUNDS_MAX: usize = 30;

/// A migration under way.
struct Migration {
    store: Arc<Store>,
    writer: Arc<Writer>,
    embed: Arc<Embed>,
    from: StoredGallery,
    to: StoredGallery,
    watch: Arc<Watch>,
    index: GalleryIndex,
    is_done: bool,
    _sole: Sole,
}

impl Drop for Migration {
    /// What was written for nothing is removed.
    fn drop(&mut self) {
        let number = self.to.number;
        if !self.is_done {
            // Where it fails, the next start removes it.
            let _ = self.writer.submit(move |change| change.apply_unseen(removal(number)).map(drop));
        }
    }
}

/// Removes what a migration wrote, and the note that it is under way.
pub(super) fn removal(number: u64) -> Write {
    let mut write = Write::default();
    write.remove_range(number);
    write.end_migration(number);
    write
}

impl EmbeddedGalleries {
    /// Makes the templates of a gallery anew by another pack, compares, and switches in one step. `embed` is called also in the
    /// writer's turn, for the last few changes, and must not wait for a write. `go_on` is told how far it is, and ends it by an
    /// error: all is then as before. Blocks.
    ///
    /// A gallery's own thresholds are cosines of the old pack, so the switch takes them away.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::UnderWay`]; [`Error::ChipsMissing`]; [`Error::FoundFewer`]; [`Error::BadField`]
    /// where it is of that pack; those of `embed` and `go_on`. *Cost*: memory for a second index and disk for a second copy of
    /// its identities, until the switch.
    pub fn migrate(
        &self,
        id: &GalleryId,
        plan: MigrationPlan,
        embed: Arc<Embed>,
        mut go_on: impl FnMut(MigrationState) -> Result<(), Error>,
    ) -> Result<MigrationState, Error> {
        let sole = Sole::take(&self.importing, id)?;
        let from = find_gallery(&self.store, id)?;
        if from.gallery.pack_id == plan.pack_id {
            return Err(Error::bad_field("pack_id", "another pack than the gallery's"));
        }
        let mut state = MigrationState { identities_total: self.check_chips(&from)?, ..Default::default() };
        // A second copy is written. A disk that filled up would stop all writes.
        check_room(&self.store, self.store.bytes_on_disk())?;
        let mut migration = self.begin_migration(from, &plan, embed, sole)?;
        migration.embed_all(&mut state, &mut |state| {
            check_room(&self.store, 0)?;
            go_on(state)
        })?;
        let comparison = self.compare(&migration)?;
        state.comparison = Some(comparison);
        go_on(state)?;
        if plan.is_trial {
            return Ok(state);
        }
        comparison.check(plan.loss_max)?;
        let mut changed = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            changed.append(&mut migration.changed()?);
            if changed.len() <= LAST_CHANGES_MAX {
                break;
            }
            migration.follow(std::mem::take(&mut changed))?;
            go_on(state)?;
        }
        go_on(state)?;
        migration.switch(changed)?;
        state.is_switched = true;
        Ok(state)
    }

    /// Checks that every template has its chip. Returns how many identities there are.
    fn check_chips(&self, stored: &StoredGallery) -> Result<u64, Error> {
        let (mut count, mut templates, mut identities, mut first) = (0u64, 0u64, 0u64, None);
        for entry in self.store.identities_after(stored, None) {
            let (id, identity) = entry?;
            let identity = identity?;
            let missing = identity.templates.iter().filter(|enrolled| enrolled.chip.is_none()).count() as u64;
            count += 1;
            templates += missing;
            identities += u64::from(missing > 0);
            if missing > 0 && first.is_none() {
                first = Some(id);
            }
        }
        match first {
            Some(first) => Err(Error::ChipsMissing { templates, identities, first }),
            None => Ok(count),
        }
    }

    fn begin_migration(
        &self,
        from: StoredGallery,
        plan: &MigrationPlan,
        embed: Arc<Embed>,
        sole: Sole,
    ) -> Result<Migration, Error> {
        let number = self.writer.submit(|change| {
            let mut write = Write::default();
            write.begin_migration(change.next_sequence());
            change.apply_unseen(write)
        })?;
        let number = number.wait()?;
        let gallery = Gallery { pack_id: plan.pack_id.clone(), dimension: plan.dimension, ..from.gallery.clone() };
        Ok(Migration {
            store: Arc::clone(&self.store),
            writer: Arc::clone(&self.writer),
            embed,
            watch: self.store.watch_identities(from.number),
            index: GalleryIndex::new(number, gallery.clone()),
            to: StoredGallery { number, gallery },
            from,
            is_done: false,
            _sole: sole,
        })
    }

    fn compare(&self, migration: &Migration) -> Result<MigrationComparison, Error> {
        let id = &migration.from.gallery.id;
        let mut comparing = Comparing::default();
        for identity in self.indexes.some_identities(id, COMPARED_MAX, 1)? {
            let of = |stored| self.store.identity(stored, &identity);
            // Who changed meanwhile is not asked about.
            if let (Some(before), Some(after)) = (of(&migration.from)?, of(&migration.to)?) {
                comparing.add(&before, &after);
            }
        }
        comparing.finish(migration.from.gallery.dimension, migration.to.gallery.dimension)
    }
}

impl Migration {
    fn embed_all(
        &mut self,
        state: &mut MigrationState,
        go_on: &mut impl FnMut(MigrationState) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut after: Option<IdentityId> = None;
        loop {
            let next = self.store.identities_after(&self.from, after.as_ref()).take(STEP_IDENTITIES);
            let identities = next.map(|entry| entry?.1).collect::<Result<Vec<Identity>, Error>>()?;
            let Some(last) = identities.last() else { return Ok(()) };
            after = Some(last.id.clone());
            state.identities += identities.len() as u64;
            let write = self.made_anew(identities)?;
            self.writer.submit(move |change| change.apply_unseen(write).map(drop))?.wait()?;
            step("migrated");
            go_on(*state)?;
        }
    }

    /// Which identities changed since the last call.
    fn changed(&self) -> Result<BTreeSet<IdentityId>, Error> {
        let keys = self.watch.take();
        keys.iter().map(|key| Ok(self.store.noted_identity(&self.from, key)?.0)).collect()
    }

    fn follow(&mut self, changed: BTreeSet<IdentityId>) -> Result<(), Error> {
        let mut changed: Vec<IdentityId> = changed.into_iter().collect();
        while !changed.is_empty() {
            let rest = changed.split_off(changed.len().min(STEP_IDENTITIES));
            let write = self.followed(&changed)?;
            self.writer.submit(move |change| change.apply_unseen(write).map(drop))?.wait()?;
            changed = rest;
        }
        Ok(())
    }

    /// What is to be written of identities that changed: they are set anew or removed.
    fn followed(&mut self, changed: &[IdentityId]) -> Result<Write, Error> {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        for id in changed {
            match self.store.identity(&self.from, id)? {
                Some(identity) => there.push(identity),
                None => gone.push(id),
            }
        }
        let mut write = self.made_anew(there)?;
        for id in gone {
            self.index.drop_identity(id);
            write.remove_identity(self.to.number, id);
        }
        Ok(write)
    }

    fn made_anew(&mut self, identities: Vec<Identity>) -> Result<Write, Error> {
        let mut write = Write::default();
        for identity in (self.embed)(identities)? {
            self.index.set_identity(&identity);
            write.set_identity(self.to.number, &identity);
        }
        Ok(write)
    }

    /// Puts the new templates in the place of the old ones.
    fn switch(mut self, changed: BTreeSet<IdentityId>) -> Result<(), Error> {
        let writer = Arc::clone(&self.writer);
        let switched: Submitted<()> = writer.submit(move |change| {
            let switched = self.switch_in_turn(change, changed);
            if !std::mem::replace(&mut self.is_done, true) {
                // Here and not when it is dropped, which in the writer's own thread could wait for itself.
                change.apply_unseen(removal(self.to.number))?;
            }
            switched
        })?;
        switched.wait()
    }

    /// In the writer's turn nothing is written between the last change and the switch, and both are one write.
    fn switch_in_turn(&mut self, change: &mut Change<'_>, mut changed: BTreeSet<IdentityId>) -> Result<(), Error> {
        changed.append(&mut self.changed()?);
        if changed.len() > TURN_CHANGES_MAX {
            return Err(Error::Unavailable("too much is written to the gallery for it to move now; try again"));
        }
        let stored = find_gallery(change.store, &self.from.gallery.id)?;
        if stored.number != self.from.number {
            // Deleted, and made anew.
            return Err(Error::NotFound(Entity::Gallery));
        }
        let mut write = self.followed(&changed.into_iter().collect::<Vec<_>>())?;
        let fusion = self.to.gallery.settings.fusion;
        let gallery = stored.gallery.moved(&self.to.gallery.pack_id, self.to.gallery.dimension, now());
        self.to.gallery = gallery.clone();
        write.set_gallery(&self.to);
        write.remove_range(self.from.number);
        write.end_migration(self.to.number);
        step("migration complete");
        change.apply_unseen(write)?;
        self.is_done = true;
        let index = if fusion == gallery.settings.fusion {
            let empty = GalleryIndex::new(self.to.number, gallery.clone());
            self.index.set_gallery(gallery);
            std::mem::replace(&mut self.index, empty)
        } else {
            // Rows were made by the rule of before.
            build_index(change.store, &self.to)?
        };
        change.follow(Delta::GalleryRebuilt(Box::new(index)));
        Ok(())
    }
}
