//! Enrolled identities, behind a port: [`Galleries`]. Nothing outside this folder knows which store lies behind it.
//!
//! `port.rs` is what the rest of the engine asks; `types.rs`, `changes.rs` and `lasting.rs` are what it asks with. What every
//! store does alike is here too: `enrolment.rs` decides what is enrolled, `ranking.rs` who is ranked how, the `…record.rs` files
//! write things as bytes, and `archive.rs` writes galleries as files, so that they move from one store to another.
//!
//! [`EmbeddedGalleries`] keeps them on this machine, [`PostgresGalleries`] in a database that servers share; [`TwoStores`] is both of
//! two, and moves galleries between them. `open.rs` chooses.

mod archive;
mod changes;
mod comparison;
mod curve_record;
mod embedded;
mod enrolment;
pub mod filter;
mod gallery_record;
mod key_record;
mod lasting;
mod mates;
mod open;
mod packed;
mod port;
mod postgres;
mod ranking;
mod record;
mod synthetic;
mod two_stores;
mod types;
mod value;

pub use archive::read_file_ids;
pub use changes::{GalleryChange, IdentityChange};
pub use curve_record::{CurveOwner, NewCurve};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use embedded::fuzzing;
pub use embedded::{
    EmbeddedGalleries, ExactSearch, Import, KeyChange, KeyChangeError, KeyError, KeyId, MasterKey, StoreError, Wanted,
    change_key,
};
pub use enrolment::{Enrolled, Enrollment};
pub use lasting::{Compaction, Embed, ExportPart, ImportState, MigrationComparison, MigrationPlan, MigrationState};
pub use open::{OpenError, OpenGalleries, StoreLocation, open_galleries};
pub use port::{Capabilities, Galleries, Health, Importing, IsListed, Lasting};
pub use postgres::{PostgresError, PostgresGalleries, PostgresOptions};
pub use ranking::{Ranked, Ranking};
pub use synthetic::{Synthetic, SyntheticGallery, write_synthetic};
pub use two_stores::{MovePlan, MoveState, TwoStores};
pub(crate) use types::check_display_name;
pub use types::{
    Deletion, EnrolledTemplate, Gallery, GalleryCounts, GallerySettings, GalleryStatus, GraphRecall, Identity,
    IdentityOutline, IfExists, KnownOutline, MetadataValue, Page, PersonDetails, RecallTarget, Scope, Search,
    SearchOutcome, SearchPath, SearchPolicy, Served, TemplateOutline,
};
