//! Records in tables. What is sealed is sealed for its place, so a record that got into another row is damaged.
//!
//! Chips lie in a table of their own: searches read records, and must not read pictures. In a record a chip that is kept elsewhere
//! is one byte.

use std::sync::Arc;

use super::schema::Tables;
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::error::Error;
use crate::gallery::gallery_record::{GalleryRecord, gallery, gallery_record};
use crate::gallery::record;
use crate::gallery::types::{EnrolledTemplate, Gallery, Identity};

/// Stands for a chip in a record.
const ELSEWHERE: &[u8] = &[0];

pub(super) const NO_TEMPLATE: Error = Error::DataLoss("a row is of a template that its identity does not have");

pub(super) fn gallery_key(id: &GalleryId) -> Vec<u8> {
    [b"gallery/", id.as_str().as_bytes()].concat()
}

fn identity_key(tables: Tables, id: &IdentityId) -> Vec<u8> {
    [b"identity/", &tables.number.to_be_bytes()[..], id.as_str().as_bytes()].concat()
}

/// Reads an id that the database gave.
pub(super) fn identity_id(text: &str) -> Result<IdentityId, Error> {
    IdentityId::parse(text).map_err(|_| Error::DataLoss("an identity's id is not one"))
}

pub(super) fn seal_gallery(number: i64, gallery: &Gallery) -> Vec<u8> {
    record::seal(&gallery_key(&gallery.id), &gallery_record(number.cast_unsigned(), gallery))
}

/// *Errors*: [`Error::DataLoss`].
pub(super) fn unseal_gallery(id: GalleryId, sealed: &[u8]) -> Result<Gallery, Error> {
    let found: GalleryRecord = record::unseal(&gallery_key(&id), sealed)?;
    gallery(id, &found)
}

/// Seals an identity without its chips.
pub(super) fn seal_identity(tables: Tables, identity: &Identity) -> Vec<u8> {
    let templates = identity.templates.iter().map(|enrolled| EnrolledTemplate {
        chip: enrolled.chip.as_ref().map(|_| ELSEWHERE.into()),
        ..enrolled.clone()
    });
    let bare = Identity { templates: templates.collect(), ..identity.clone() };
    record::frame(&identity_key(tables, &identity.id), &record::identity_message(&bare))
}

/// Reads an identity; a chip that it has is one byte.
///
/// *Errors*: [`Error::DataLoss`].
pub(super) fn identity(tables: Tables, id: IdentityId, sealed: &[u8], dimension: usize) -> Result<Identity, Error> {
    let key = identity_key(tables, &id);
    record::read_identity(id, record::unframe(&key, sealed)?, dimension)
}

/// Returns how many templates a record has.
///
/// *Errors*: [`Error::DataLoss`].
pub(super) fn templates(tables: Tables, id: &IdentityId, sealed: &[u8]) -> Result<usize, Error> {
    record::count_templates(record::unframe(&identity_key(tables, id), sealed)?)
}

/// Puts chips in their places.
///
/// *Errors*: [`Error::DataLoss`] where one is missing.
pub(super) fn put_chips<'a>(identity: &mut Identity, chips: impl Fn(&str) -> Option<&'a [u8]>) -> Result<(), Error> {
    for enrolled in identity.templates.iter_mut().filter(|enrolled| enrolled.chip.is_some()) {
        let chip = chips(enrolled.id.as_str()).ok_or(Error::DataLoss("a chip is missing"))?;
        enrolled.chip = Some(Arc::from(chip));
    }
    Ok(())
}
