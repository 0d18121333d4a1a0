//! The port: all that the rest of the engine asks of galleries, whichever store keeps them.
//!
//! What holds of every store: a reply means durable, and visible to every search that begins after it, on every server of that
//! store. A gallery holds templates of one pack. Scores are computed here, in single precision, from the templates as they were
//! enrolled, so decisions and ties are the same on every store. `tests/every_store_keeps_the_contract.rs` holds each
//! store to it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::changes::{GalleryChange, IdentityChange};
use super::curve_record::{CurveOwner, NewCurve};
use super::enrolment::{Enrolled, Enrollment};
use super::lasting::{Compaction, Embed, ExportPart, ImportState, MigrationPlan, MigrationState};
use super::types::{
    Deletion, Gallery, GallerySettings, GalleryStatus, Identity, IdentityOutline, Page, Search, SearchOutcome, Served,
};
use crate::access::{Key, KeyId};
use crate::biometrics::calibration::KnownCurve;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::error::Error;

/// What a store can do besides what all can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Other servers may work on the same galleries at the same time.
    pub is_shared: bool,
}

/// Whether a store can be worked with now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It reads and writes.
    Ready,
    /// It takes no writes, for the reason in words.
    ReadOnly(&'static str),
    /// It does nothing, for the reason in words.
    Unreachable(&'static str),
}

/// The states of something that lasts, as it comes along; the last one is the outcome, or an error. Whoever drops it ends the
/// work: all is then as before.
pub type Lasting<T> = mpsc::Receiver<Result<T, Error>>;

/// Which galleries are meant.
pub type IsListed<'a> = &'a (dyn Fn(&GalleryId) -> bool + Send + Sync);

/// All galleries of a store.
///
/// *Errors*, of every method: [`Error::Unavailable`] where the store cannot be reached, or takes no writes;
/// [`Error::DataLoss`] where what it keeps is damaged.
#[async_trait]
pub trait Galleries: Send + Sync {
    /// Tells what the store can do.
    fn capabilities(&self) -> Capabilities;

    /// Tells how the store is. Costs nothing: it is asked twice a second.
    fn health(&self) -> Health;

    /// Lets go of the store: writes that were begun are finished, later ones are refused.
    async fn close(&self);

    /// Makes an empty gallery.
    ///
    /// *Errors*: [`Error::AlreadyExists`].
    async fn create_gallery(
        &self,
        id: GalleryId,
        settings: GallerySettings,
        pack_id: PackId,
        dimension: usize,
    ) -> Result<Gallery, Error>;

    /// Returns a gallery and how much it holds.
    ///
    /// *Errors*: [`Error::NotFound`].
    async fn gallery(&self, id: &GalleryId) -> Result<(Gallery, GalleryStatus), Error>;

    /// Returns up to `count` of some galleries after an id.
    async fn list_galleries(
        &self,
        after: Option<&GalleryId>,
        count: usize,
        is_listed: IsListed<'_>,
    ) -> Result<Page<(Gallery, GalleryStatus)>, Error>;

    /// Changes a gallery's settings.
    ///
    /// *Errors*: [`Error::NotFound`]. *Cost*: of a new fusion rule, every identity is read and its rows are made anew; writes
    /// wait for that, searches do not.
    async fn update_gallery(&self, id: GalleryId, wanted: GalleryChange) -> Result<Gallery, Error>;

    /// Deletes a gallery; `force` also one that holds identities. Where there is none, what an import that broke off has left.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::GalleryNotEmpty`].
    async fn delete_gallery(&self, id: GalleryId, force: bool) -> Result<Deletion, Error>;

    /// Enrols an identity or adds templates to one, as the gallery's policies allow.
    ///
    /// *Errors*: [`Error::NotFound`] without the gallery; [`Error::PackMismatch`]; [`Error::AlreadyExists`];
    /// [`Error::TooManyTemplates`]; [`Error::Refused`] where a policy refuses every template. *Cost*: of the policy on
    /// duplicates an exact search, for which later writes wait.
    async fn enroll(&self, gallery: GalleryId, enrollment: Enrollment) -> Result<Enrolled, Error>;

    /// Returns an identity.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::DataLoss`] where its record is damaged.
    async fn identity(&self, gallery: &GalleryId, id: &IdentityId) -> Result<Identity, Error>;

    /// Returns some identities, in the order of the ids, each with its own error: [`Error::NotFound`], [`Error::DataLoss`].
    async fn identities(&self, gallery: &GalleryId, ids: &[IdentityId]) -> Result<Vec<Result<Identity, Error>>, Error>;

    /// Returns up to `count` identities after an id, damaged ones too.
    ///
    /// *Errors*: [`Error::NotFound`] without the gallery.
    async fn list_identities(
        &self,
        gallery: &GalleryId,
        after: Option<&IdentityId>,
        count: usize,
    ) -> Result<Page<IdentityOutline>, Error>;

    /// Returns the ids of up to `count` identities of a gallery, chosen by chance, the same for the same seed.
    ///
    /// *Errors*: [`Error::NotFound`].
    async fn some_identities(&self, gallery: &GalleryId, count: usize, seed: u64) -> Result<Vec<IdentityId>, Error>;

    /// Changes an identity's details.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::DataLoss`].
    async fn update_identity(
        &self,
        gallery: GalleryId,
        id: IdentityId,
        wanted: IdentityChange,
    ) -> Result<Identity, Error>;

    /// Deletes an identity and its templates; a damaged one too.
    ///
    /// *Errors*: [`Error::NotFound`].
    async fn delete_identity(&self, gallery: GalleryId, id: IdentityId) -> Result<Deletion, Error>;

    /// Deletes one template of several.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::LastTemplate`]; [`Error::DataLoss`].
    async fn delete_template(
        &self,
        gallery: GalleryId,
        identity: IdentityId,
        template: TemplateId,
    ) -> Result<Deletion, Error>;

    /// Returns once everything that a read has shown is durable and visible to searches.
    ///
    /// *Errors*: [`Error::Unavailable`] where it never will be.
    async fn settle(&self) -> Result<(), Error>;

    /// Ranks the identities of a gallery for each of some probes, ties by id; outcomes in the order of the searches.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::PackMismatch`].
    async fn search(&self, gallery: &GalleryId, searches: Vec<Search>) -> Result<Vec<SearchOutcome>, Error>;

    /// Returns an owner's own curve.
    async fn curve(&self, owner: &CurveOwner) -> Result<Option<Arc<KnownCurve>>, Error>;

    /// Sets the curve of a gallery or a pack, in the place of the one before.
    ///
    /// *Errors*: [`Error::NotFound`] without the gallery; [`Error::PackMismatch`] where it is of other templates.
    async fn set_curve(&self, owner: CurveOwner, new: NewCurve) -> Result<Arc<KnownCurve>, Error>;

    /// Takes an owner's own curve away.
    ///
    /// *Errors*: [`Error::NotFound`] where there is none.
    async fn remove_curve(&self, owner: CurveOwner) -> Result<(), Error>;

    /// Returns the access keys that are kept. One that is damaged is not among them: nobody gets in by it.
    async fn keys(&self) -> Result<Vec<Key>, Error>;

    /// Keeps a key.
    ///
    /// *Errors*: [`Error::AlreadyExists`] where one has its id, or its certificate's subject.
    async fn set_key(&self, new: Key) -> Result<(), Error>;

    /// Removes a key; a damaged one too.
    ///
    /// *Errors*: [`Error::NotFound`].
    async fn remove_key(&self, id: KeyId) -> Result<(), Error>;

    /// Writes a gallery as a file, part by part, as it was at one moment.
    ///
    /// *Errors*: [`Error::NotFound`]; where the gallery is deleted meanwhile, that, or it is as it was.
    async fn export(&self, gallery: &GalleryId) -> Result<Lasting<ExportPart>, Error>;

    /// Returns how far an import into a gallery had come when it broke off.
    ///
    /// *Errors*: [`Error::NotFound`] where there is none.
    async fn import_state(&self, gallery: &GalleryId) -> Result<ImportState, Error>;

    /// Begins to import a gallery from the start of a file, or resumes at the offset that [`Galleries::import_state`] says.
    ///
    /// *Errors*: [`Error::AlreadyExists`] where there is such a gallery; [`Error::UnderWay`]; [`Error::BadField`] where it is
    /// not there that the import broke off.
    async fn begin_import(&self, id: GalleryId, offset: u64) -> Result<Box<dyn Importing>, Error>;

    /// Erases from the store's own files what was deleted.
    ///
    /// *Errors*: [`Error::UnderWay`]; [`Error::Unavailable`] where there is no room for it.
    async fn compact(&self) -> Result<Lasting<Compaction>, Error>;

    /// Makes the templates of a gallery anew by another pack, compares, and switches in one step. A gallery's own thresholds are
    /// cosines of the old pack, so the switch takes them away.
    ///
    /// *Errors*: [`Error::NotFound`]; [`Error::UnderWay`]; [`Error::ChipsMissing`]; [`Error::FoundFewer`]; [`Error::BadField`]
    /// where it is of that pack; those of `embed`, which must not wait for a write.
    async fn migrate(
        &self,
        id: &GalleryId,
        plan: MigrationPlan,
        embed: Arc<Embed>,
    ) -> Result<Lasting<MigrationState>, Error>;
}

/// A gallery's import under way. Dropped, it has broken off, and can be resumed.
#[async_trait]
pub trait Importing: Send {
    /// Takes what follows in the file.
    ///
    /// *Errors*: [`Error::GalleryFile`]; those of a write.
    async fn feed(&mut self, bytes: Vec<u8>) -> Result<(), Error>;

    /// Makes the gallery visible; [`Served::Elsewhere`] where another store serves it as yet.
    ///
    /// *Errors*: [`Error::GalleryFile`] where the end has not come; [`Error::AlreadyExists`].
    async fn finish(self: Box<Self>, served: Served) -> Result<Gallery, Error>;
}
