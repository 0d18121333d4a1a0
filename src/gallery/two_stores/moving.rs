//! Moves a gallery to the other store while it is served: copy, catch up, compare, switch; what it leaves is the way back.
//!
//! The copy is the gallery's file, fed to the other store as it is written. Who is written to meanwhile is noted and written again
//! behind the others, in rounds, until few are left; those are written while writes wait, and so is the end. Then the two are
//! compared, and one write switches. Searches and reads never wait.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::Instrument;

use super::port::Watch;
use super::{Place, Standing, TwoStores, Which};
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::{Entity, Error};
use crate::gallery::archive::{Decoder, Encoder, Frame, PART_BYTES};
use crate::gallery::port::{Importing, Lasting};
use crate::gallery::record::gallery_record;
use crate::gallery::{CurveOwner, Galleries, Gallery, GallerySettings, NewCurve, Served};

/// Changed identities that are written while writes wait, at most, unless they keep coming: 256 take some tenths of a second.
const LAST_CHANGES_MAX: usize = 256;
const ROUNDS_MAX: usize = 20;

/// Identities that are compared value by value while writes wait, chosen by chance.
const COMPARED: usize = 500;
const COMPARED_SEED: u64 = 1;

/// How often it is tried to take a switch back that may have failed.
const DECISION_INTERVAL: std::time::Duration = std::time::Duration::from_millis(if cfg!(test) { 20 } else { 1_000 });
const DECISION_TRIES: usize = 20;

/// Longest time in which the last changes are written and compared, and of the write that switches: writes wait for both.
const GATE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(120);
const SWITCH_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// Nobody takes the states any more.
const NOBODY_WAITS: Error = Error::DeadlineExceeded;

/// States that wait for the other end: what a slow one can make the server hold.
const WAITING_MAX: usize = 2;

/// What is asked of a move.
#[derive(Clone, Debug)]
pub struct MovePlan {
    /// The address of the store to move to.
    pub to: String,
    /// Nothing is copied: what an earlier move left there is served again, as it was then but for whom was deleted since.
    pub as_it_was: bool,
    /// No other server works on the store that is left: writes of one would be lost.
    pub is_only_server: bool,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveState {
    /// Identities copied so far, those written again counted again.
    pub identities: u64,
    /// Identities there were when it began.
    pub identities_total: u64,
    /// Identities that were read from both stores and are the same.
    pub compared: u64,
    /// Whether the other store serves the gallery now.
    pub is_switched: bool,
}

impl TwoStores {
    /// Moves a gallery to the other store. Whoever drops the states ends it, up to where the last changes are written: all is then
    /// as before.
    ///
    /// *Errors*: [`Error::NotFound`] without the gallery, or without a copy to go back to; [`Error::AlreadyExists`] where the other
    /// store has a gallery of that id; [`Error::BadField`]; [`Error::UnderWay`]; [`Error::DataLoss`] where an identity is damaged,
    /// or the copy is not what was copied.
    pub async fn move_gallery(self: &Arc<Self>, id: &GalleryId, plan: MovePlan) -> Result<Lasting<MoveState>, Error> {
        let (place, _) = self.place(id).await?;
        let working = place.begin_work()?;
        let standing = self.standing(id, &place).await?;
        let to = self.at_address(&plan.to).ok_or_else(|| {
            let addresses = format!("{} or {}, the stores of this server", self.first.address, self.second.address);
            Error::bad_field("to", addresses)
        })?;
        if to == standing.served_from {
            self.find_served(id, standing).await?;
            return Err(Error::bad_field("to", "the other store: this one serves the gallery"));
        }
        if plan.as_it_was {
            // Back to the first without asking the second, which may be gone.
            if !standing.is_way_back || to == Which::Second && !self.is_copy(id, Which::First).await? {
                self.find_served(id, standing).await?;
                return Err(Error::NotFound(Entity::Copy));
            }
        } else {
            self.find_served(id, standing).await?;
            if self.side(to).find(id).await?.is_some() {
                return Err(Error::AlreadyExists(Entity::Copy));
            }
        }
        if self.side(standing.served_from).get().is_ok_and(|left| left.capabilities().is_shared) && !plan.is_only_server
        {
            let expected = "said, and true: writes of other servers of the store that the gallery leaves would be lost";
            return Err(Error::bad_field("only_server", expected));
        }
        let (sender, states) = mpsc::channel(WAITING_MAX);
        let moving = Moving { stores: Arc::clone(self), id: id.clone(), place, standing, to, states: sender };
        let moved = async move {
            let moved = if plan.as_it_was { moving.go_back().await } else { moving.run().await };
            drop(working);
            let told = match moved {
                Ok(state) => Ok(state),
                Err(error) => {
                    tracing::warn!(%error, "a gallery stays where it was");
                    Err(error)
                }
            };
            // Where nobody waits, nobody is told.
            let _ = moving.states.send(told).await;
        };
        tokio::spawn(moved.in_current_span());
        Ok(states)
    }

    /// Deletes what a move left in the store that does not serve a gallery, also one that broke off.
    ///
    /// *Errors*: [`Error::NotFound`] where there is nothing; [`Error::AlreadyExists`] where what is there is no copy;
    /// [`Error::UnderWay`].
    pub async fn delete_copy(&self, id: &GalleryId) -> Result<(), Error> {
        let _named = self.names.lock().await;
        let (place, _) = self.place(id).await?;
        let _working = place.begin_work()?;
        let _alone = place.gate.write().await;
        let standing = self.standing(id, &place).await?;
        // Of the two, what is left must be the one that serves.
        self.find_served(id, standing).await?;
        let deleted = self.delete_what_is_left(id, standing).await?;
        if standing.served_from == Which::First {
            if standing.has_copy {
                self.say_served(id, Served::Here).await?;
            }
            if deleted.is_none() && self.second.find(id).await?.is_some() {
                return Err(Error::AlreadyExists(Entity::Gallery));
            }
        }
        place.stand(Some(standing.without_copy()));
        deleted.map(drop).ok_or(Error::NotFound(Entity::Copy))
    }

    /// *Errors*: [`Error::NotFound`].
    async fn find_served(&self, id: &GalleryId, standing: Standing) -> Result<Gallery, Error> {
        self.side(standing.served_from).find(id).await?.ok_or(Error::NotFound(Entity::Gallery))
    }
}

struct Moving {
    stores: Arc<TwoStores>,
    id: GalleryId,
    place: Arc<Place>,
    /// Where the gallery stood when it began.
    standing: Standing,
    to: Which,
    states: mpsc::Sender<Result<MoveState, Error>>,
}

/// A copy as it grows.
struct Copy {
    begun: Gallery,
    import: Box<dyn Importing>,
    encoder: Encoder,
    state: MoveState,
}

impl Moving {
    fn source(&self) -> Result<&Arc<dyn Galleries>, Error> {
        self.stores.side(self.to.other()).get()
    }

    fn target(&self) -> Result<&Arc<dyn Galleries>, Error> {
        self.stores.side(self.to).get()
    }

    async fn tell(&self, state: MoveState) -> Result<(), Error> {
        // Nobody takes it any more.
        self.states.send(Ok(state)).await.map_err(|_| NOBODY_WAITS)
    }

    async fn go_back(&self) -> Result<MoveState, Error> {
        let _alone = Arc::clone(&self.place.gate).write_owned().await;
        self.switch().await.map_err(|(error, _)| error)?;
        Ok(MoveState { is_switched: true, ..Default::default() })
    }

    async fn run(&self) -> Result<MoveState, Error> {
        if self.to == Which::Second {
            // Said before there is anything: whatever becomes of this, deletions reach it, and it can be deleted.
            let _alone = Arc::clone(&self.place.gate).write_owned().await;
            self.stores.say_served(&self.id, Served::HereWithCopy).await?;
            self.place.stand(Some(Standing::with_copy(Which::First)));
        }
        let moved = self.copy_and_switch().await;
        match moved {
            Err((error, is_undecided)) => {
                // What was copied is people's data: it does not stay.
                if !is_undecided {
                    self.clean_up().await;
                }
                Err(error)
            }
            Ok(state) => Ok(state),
        }
    }

    /// An error comes with whether it is not known which store serves the gallery now.
    async fn copy_and_switch(&self) -> Result<MoveState, (Error, bool)> {
        let watch = self.place.watch();
        let copied = async {
            let import = self.target()?.begin_import(self.id.clone(), 0).await?;
            let mut copy = self.copy(import).await?;
            self.catch_up(&mut copy, &watch).await?;
            Ok(copy)
        };
        let copy = tokio::select! {
            copied = copied => copied,
            () = self.states.closed() => Err(NOBODY_WAITS),
        };
        let copy = copy.map_err(|error| (error, false))?;
        let _alone = Arc::clone(&self.place.gate).write_owned().await;
        // Writes wait: a store that hangs must not let them wait for ever.
        let completed = tokio::time::timeout(GATE_TIME_MAX, self.complete(copy, watch.take())).await;
        let completed =
            completed.unwrap_or(Err(Error::Unavailable("the last changes took too long; move the gallery again")));
        let mut state = completed.map_err(|error| (error, false))?;
        self.switch().await?;
        state.is_switched = true;
        Ok(state)
    }

    /// Deletes what was copied; where that cannot be now, the first store says that it may be there.
    async fn clean_up(&self) {
        let _alone = Arc::clone(&self.place.gate).write_owned().await;
        let cleaned = async {
            self.stores.delete_what_is_left(&self.id, self.standing).await?;
            if self.to == Which::Second {
                self.stores.say_served(&self.id, Served::Here).await?;
                self.place.stand(Some(Standing::ALONE_IN_FIRST));
            }
            Ok::<(), Error>(())
        };
        let cleaned = tokio::time::timeout(GATE_TIME_MAX, cleaned).await;
        if let Ok(Err(Error::NotFound(_))) = cleaned {
            return; // The gallery was deleted meanwhile, and the copy before it.
        }
        if !matches!(cleaned, Ok(Ok(()))) {
            tracing::warn!("what a move copied is still in the other store: `facematch gallery drop-copy` deletes it");
        }
    }

    /// Writes the last changes and the end, and compares. Meanwhile nobody writes.
    async fn complete(&self, mut copy: Copy, changed: BTreeSet<IdentityId>) -> Result<MoveState, Error> {
        self.write_changed(&mut copy, changed).await?;
        let (gallery, _) = self.source()?.gallery(&self.id).await?;
        if gallery.created != copy.begun.created || gallery.pack_id != copy.begun.pack_id {
            return Err(Error::Unavailable("the gallery was made anew meanwhile; move it again"));
        }
        let Copy { mut import, mut encoder, mut state, .. } = copy;
        encoder.end(gallery_record(0, &gallery), 0);
        import.feed(encoder.take()).await?;
        let served = if self.to == Which::First { Served::Elsewhere } else { Served::Here };
        import.finish(served).await?;
        state.compared = self.compare(&gallery).await?;
        self.copy_curve().await?;
        Ok(state)
    }

    /// Feeds the gallery's file, but for its end, to the other store.
    async fn copy(&self, import: Box<dyn Importing>) -> Result<Copy, Error> {
        let (begun, status) = self.source()?.gallery(&self.id).await?;
        let state = MoveState { identities_total: status.counts.identities, ..Default::default() };
        let mut copy = Copy { begun, import, encoder: Encoder::default(), state };
        let mut parts = self.source()?.export(&self.id).await?;
        let (mut decoder, mut is_ended) = (Decoder::default(), false);
        while let Some(part) = parts.recv().await {
            let part = part?;
            if part.damaged > 0 {
                return Err(Error::DataLoss(
                    "it would be lost by the move; delete the identity, or bring it back, first",
                ));
            }
            decoder.feed(&part.bytes);
            while let Some(frame) = decoder.next()? {
                match frame {
                    Frame::Header(header) => copy.encoder.header(&header),
                    Frame::Identity(id, record) => copy.encoder.record(&id, record),
                    Frame::Removed(id) => copy.encoder.removed(&id),
                    Frame::End(_) => is_ended = true,
                }
            }
            copy.state.identities = part.identities;
            copy.import.feed(copy.encoder.take()).await?;
            self.tell(copy.state).await?;
        }
        // Its sender is gone without a word.
        if is_ended { Ok(copy) } else { Err(Error::internal("an export ended before its end")) }
    }

    /// Writes who changed meanwhile, until few are left.
    async fn catch_up(&self, copy: &mut Copy, watch: &Watch) -> Result<(), Error> {
        let mut left = watch.take();
        for _ in 0..ROUNDS_MAX {
            let is_last = left.len() <= LAST_CHANGES_MAX;
            self.write_changed(copy, left).await?;
            self.tell(copy.state).await?;
            if is_last {
                break;
            }
            left = watch.take();
        }
        Ok(())
    }

    async fn write_changed(&self, copy: &mut Copy, changed: BTreeSet<IdentityId>) -> Result<(), Error> {
        for id in changed {
            match self.source()?.identity(&self.id, &id).await {
                Ok(identity) => {
                    copy.encoder.identity(&identity);
                    copy.state.identities += 1;
                }
                Err(Error::NotFound(_)) => copy.encoder.removed(&id),
                Err(error) => return Err(error),
            }
            if copy.encoder.waiting() >= PART_BYTES {
                copy.import.feed(copy.encoder.take()).await?;
            }
        }
        copy.import.feed(copy.encoder.take()).await
    }

    /// Compares the gallery's settings, how much there is, and some identities value by value.
    async fn compare(&self, gallery: &Gallery) -> Result<u64, Error> {
        const DIFFERS: Error = Error::DataLoss("the copy is not what was copied, so nothing was switched");
        let (source, target) = (self.source()?, self.target()?);
        let (_, here) = source.gallery(&self.id).await?;
        let (copied, there) = target.gallery(&self.id).await?;
        let settings = |gallery: &Gallery| GallerySettings { served: Served::Here, ..gallery.settings.clone() };
        let is_same = settings(&copied) == settings(gallery) && copied.created == gallery.created;
        if !is_same || there.counts != here.counts {
            return Err(DIFFERS);
        }
        let ids = source.some_identities(&self.id, COMPARED, COMPARED_SEED).await?;
        for id in &ids {
            if source.identity(&self.id, id).await? != target.identity(&self.id, id).await? {
                return Err(DIFFERS);
            }
        }
        Ok(ids.len() as u64)
    }

    async fn copy_curve(&self) -> Result<(), Error> {
        let owner = CurveOwner::Gallery(self.id.clone());
        let Some(known) = self.source()?.curve(&owner).await? else { return Ok(()) };
        let new = NewCurve { pack_id: known.pack_id.clone(), curve: known.curve.clone(), source: known.source.clone() };
        match self.target()?.set_curve(owner, new).await {
            Err(Error::PackMismatch { .. }) => {
                tracing::warn!("a curve of another pack, which rested, does not move with its gallery");
                Ok(())
            }
            set => set.map(drop),
        }
    }

    /// Switches, by one write to the first store. A write that failed may yet come into force: it is written over by what was said
    /// before, and until that has succeeded no write to the gallery may pass. An error comes with whether it never did.
    async fn switch(&self) -> Result<(), (Error, bool)> {
        let (before, after) = match self.to {
            Which::First => (Served::Elsewhere, Served::HereWithCopy),
            Which::Second => (Served::HereWithCopy, Served::Elsewhere),
        };
        let say = async |served| {
            let written = tokio::time::timeout(SWITCH_TIME_MAX, self.stores.say_served(&self.id, served)).await;
            written.unwrap_or(Err(Error::Unavailable("the first store does not answer in time")))
        };
        if let Err(error) = say(after).await {
            for _ in 0..DECISION_TRIES {
                match say(before).await {
                    Ok(()) => return Err((error, false)),
                    // There is nothing to be switched any more.
                    Err(Error::NotFound(_)) => return Err((error, false)),
                    Err(_) => tokio::time::sleep(DECISION_INTERVAL).await,
                }
            }
            // Whoever comes next looks it up.
            self.place.stand(None);
            return Err((error, true));
        }
        self.place.stand(Some(Standing::with_copy(self.to)));
        tracing::info!(store = self.stores.side(self.to).address, "a gallery has moved");
        Ok(())
    }
}
