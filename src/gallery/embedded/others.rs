//! Who else is enrolled, as of a change in the middle of its group: the index, and what earlier changes of the group made of
//! identities, which the index does not have yet.

use std::collections::BTreeMap;

use super::exact::{ExactSearch, Wanted};
use super::index::{Delta, GalleryIndex, Indexes, read};
use super::ranking::Ranked;
use super::types::{Gallery, Identity};
use crate::biometrics::ids::IdentityId;
use crate::biometrics::template::Template;
use crate::error::Error;

/// The identities of a gallery as of a change.
pub(super) struct Others<'a> {
    gallery: &'a Gallery,
    rows: Rows<'a>,
    /// What the rows say of these is out of date; `None` is gone.
    changed: BTreeMap<&'a IdentityId, Option<&'a Identity>>,
}

/// The rows that the group's changes began with.
enum Rows<'a> {
    /// Those that are searched.
    Indexed(&'a Indexes),
    /// Those that an earlier change made: of an import, or by another fusion rule.
    Made(&'a GalleryIndex),
    /// None: an earlier change deleted the gallery, which was made again since.
    Dropped,
}

impl<'a> Others<'a> {
    pub(super) fn new(gallery: &'a Gallery, indexes: &'a Indexes, pending: &'a [Delta]) -> Self {
        let mut others = Self { gallery, rows: Rows::Indexed(indexes), changed: BTreeMap::new() };
        for delta in pending {
            match delta {
                Delta::GalleryAdded(index) | Delta::GalleryRebuilt(index) if *index.id() == gallery.id => {
                    others.begin(Rows::Made(index));
                }
                Delta::GalleryDropped(id) if *id == gallery.id => others.begin(Rows::Dropped),
                Delta::IdentitySet(of, identity) if *of == gallery.id => {
                    others.changed.insert(&identity.id, Some(identity));
                }
                Delta::IdentityDropped(of, id) if *of == gallery.id => {
                    others.changed.insert(id, None);
                }
                _ => {}
            }
        }
        others
    }

    fn begin(&mut self, rows: Rows<'a>) {
        self.rows = rows;
        self.changed.clear();
    }

    /// Returns how many identities there are.
    pub(super) fn count(&self) -> u64 {
        let counted = |rows: &ExactSearch| {
            let (mut count, changed) = (rows.identities(), self.changed.iter());
            for (id, identity) in changed {
                match (rows.number(id).is_some(), identity.is_some()) {
                    (false, true) => count += 1,
                    (true, false) => count = count.saturating_sub(1),
                    _ => {}
                }
            }
            count as u64
        };
        match &self.rows {
            Rows::Indexed(indexes) => indexes.find(&self.gallery.id).map(|shared| counted(&read(&shared.index).rows)),
            Rows::Made(index) => Some(counted(&index.rows)),
            Rows::Dropped => None,
        }
        .unwrap_or_else(|| self.changed.values().flatten().count() as u64)
    }

    /// Returns for each probe the best identity but `own`, ties by id, always searched exactly. *Cost*: one pass over the
    /// rows for all probes.
    pub(super) fn best(&self, own: &IdentityId, probes: &[&Template]) -> Result<Vec<Option<Ranked>>, Error> {
        let search = |rows: &ExactSearch| {
            // As many as are passed over, and one.
            let capacity = self.changed.len() + 2;
            let wanted = probes.iter().map(|probe| Wanted { probe: probe.values(), capacity, only: None });
            rows.search_many(&wanted.collect::<Vec<_>>())
        };
        let rankings = match &self.rows {
            Rows::Indexed(indexes) => indexes.find(&self.gallery.id).map(|shared| search(&read(&shared.index).rows)),
            Rows::Made(index) => Some(search(&index.rows)),
            Rows::Dropped => None,
        };
        let is_other = |ranked: &Ranked| ranked.identity != *own && !self.changed.contains_key(&ranked.identity);
        let mut best: Vec<Option<Ranked>> = match rankings {
            Some(rankings) => {
                rankings.into_iter().map(|ranked| ranked.into_best_first().into_iter().find(is_other)).collect()
            }
            None => vec![None; probes.len()],
        };
        for identity in self.changed.values().flatten().filter(|identity| identity.id != *own) {
            for (template, compared) in identity.compared_by(self.gallery.settings.fusion) {
                for (probe, best) in probes.iter().zip(&mut best) {
                    let score = probe.score(&compared)?;
                    let found = Ranked { identity: identity.id.clone(), template: template.clone(), score };
                    if best.as_ref().is_none_or(|best| found.precedes(best)) {
                        *best = Some(found);
                    }
                }
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::fusion::Fusion;
    use crate::biometrics::ids::{GalleryId, PackId, TemplateId};
    use crate::gallery::types::{EnrolledTemplate, GallerySettings, PersonDetails};
    use std::time::UNIX_EPOCH;

    fn template(degrees: f32) -> Template {
        let (sin, cos) = degrees.to_radians().sin_cos();
        Template::from_vector(&[cos, sin], PackId::from_digits("0a".repeat(16))).expect("a template")
    }

    fn identity(name: &str, degrees: &[f32]) -> Identity {
        let enrolled = degrees.iter().enumerate().map(|(at, degrees)| EnrolledTemplate {
            id: TemplateId::parse(&at.to_string()).expect("an id"),
            template: template(*degrees),
            face: None,
            chip: None,
            created: UNIX_EPOCH,
        });
        Identity {
            id: IdentityId::parse(name).expect("an id"),
            details: PersonDetails::default(),
            templates: enrolled.collect(),
            created: UNIX_EPOCH,
            updated: UNIX_EPOCH,
        }
    }

    fn gallery(fusion: Fusion) -> Gallery {
        Gallery {
            id: GalleryId::parse("g").expect("an id"),
            settings: GallerySettings { fusion, ..Default::default() },
            pack_id: PackId::from_digits("0a".repeat(16)),
            dimension: 2,
            created: UNIX_EPOCH,
            updated: UNIX_EPOCH,
        }
    }

    /// An index of a gallery with these people.
    fn index(gallery: &Gallery, people: &[Identity]) -> GalleryIndex {
        let mut index = GalleryIndex::new(1, gallery.clone());
        people.iter().for_each(|identity| index.set_identity(identity));
        index
    }

    fn best(gallery: &Gallery, pending: &[Delta], own: &str, degrees: f32) -> Option<(String, f32)> {
        let indexes = Indexes::default();
        indexes.insert(index(gallery, &[identity("ann", &[0.0]), identity("bob", &[60.0])]));
        let others = Others::new(gallery, &indexes, pending);
        let own = IdentityId::parse(own).expect("an id");
        let found = others.best(&own, &[&template(degrees)]).expect("scores").pop().expect("one probe");
        found.map(|found| (found.identity.as_str().to_owned(), (found.score.cosine() * 100.0).round() / 100.0))
    }

    fn named(name: &str, cosine: f32) -> Option<(String, f32)> {
        Some((name.to_owned(), cosine))
    }

    #[test]
    fn others_are_those_of_the_index_but_oneself() {
        let gallery = gallery(Fusion::Max);
        assert_eq!(best(&gallery, &[], "cid", 0.0), named("ann", 1.0));
        assert_eq!(best(&gallery, &[], "ann", 0.0), named("bob", 0.5));
    }

    #[test]
    fn others_are_as_earlier_changes_of_the_group_made_them() {
        let gallery = gallery(Fusion::Max);
        let id = |name: &str| IdentityId::parse(name).expect("an id");
        let set =
            |name: &str, degrees: &[f32]| Delta::IdentitySet(gallery.id.clone(), Box::new(identity(name, degrees)));
        let dropped = |name: &str| Delta::IdentityDropped(gallery.id.clone(), id(name));
        assert_eq!(best(&gallery, &[dropped("ann")], "cid", 0.0), named("bob", 0.5));
        assert_eq!(best(&gallery, &[dropped("ann"), dropped("bob")], "cid", 0.0), None);
        assert_eq!(best(&gallery, &[set("ann", &[90.0]), set("dan", &[30.0])], "cid", 30.0), named("dan", 1.0));
        assert_eq!(best(&gallery, &[set("cid", &[0.0]), dropped("ann")], "cid", 0.0), named("bob", 0.5));
        assert_eq!(best(&gallery, &[dropped("ann"), set("ann", &[0.0])], "cid", 0.0), named("ann", 1.0));
        // Of equals the smaller id, wherever it is.
        assert_eq!(best(&gallery, &[set("abe", &[0.0])], "cid", 0.0), named("abe", 1.0));
        let elsewhere = GalleryId::parse("h").expect("an id");
        let other_gallery = Delta::IdentitySet(elsewhere, Box::new(identity("eve", &[0.0])));
        assert_eq!(best(&gallery, &[dropped("ann"), other_gallery], "cid", 0.0), named("bob", 0.5));
    }

    #[test]
    fn others_are_those_of_rows_made_anew_and_of_nothing_after_a_deletion() {
        let gallery = gallery(Fusion::Mean);
        let rebuilt = Delta::GalleryRebuilt(Box::new(index(&gallery, &[identity("zoe", &[0.0, 60.0])])));
        assert_eq!(best(&gallery, &[rebuilt], "cid", 30.0), named("zoe", 1.0));
        let set = Delta::IdentitySet(gallery.id.clone(), Box::new(identity("eve", &[-60.0, 60.0])));
        assert_eq!(best(&gallery, &[Delta::GalleryDropped(gallery.id.clone())], "cid", 0.0), None);
        assert_eq!(best(&gallery, &[Delta::GalleryDropped(gallery.id.clone()), set], "cid", 0.0), named("eve", 1.0));
    }
}
