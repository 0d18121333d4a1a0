//! Random operations, with restarts of every kind between them, against a plain model. And what other tests of this folder
//! write galleries with.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::filter::Filter;
use super::types::Gallery;
use super::{EmbeddedGalleries, MasterKey, change_key};
use crate::biometrics::enrolment::CheckDefaults;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::biometrics::template::Template;
use crate::error::{Entity, Error};
use crate::gallery::{
    Enrolled, EnrolledTemplate, Enrollment, GalleryChange, GallerySettings, Identity, IdentityChange, IfExists,
    MetadataValue, Scope, Search, SearchPolicy, Synthetic,
};

pub(super) const GALLERY: &str = "g";
const DIMENSION: usize = 32;

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio")
}

pub(super) fn gallery(id: &str) -> GalleryId {
    GalleryId::parse(id).expect("an id")
}

pub(super) fn identity(number: u64) -> IdentityId {
    IdentityId::parse(&format!("p{number}")).expect("an id")
}

fn template_id(number: u64) -> TemplateId {
    TemplateId::parse(&number.to_string()).expect("an id")
}

fn pack() -> PackId {
    PackId::from_digits("0a".repeat(16))
}

/// Each template of each identity is a direction of its own.
fn template(identity: u64, number: u64) -> Template {
    let vector = Synthetic::new(9, DIMENSION).template(identity * 1_000 + number, 0);
    Template::from_vector(&vector, pack()).expect("a template")
}

pub(super) async fn create(galleries: &EmbeddedGalleries, id: &str) {
    galleries
        .create_gallery(gallery(id), GallerySettings::default(), pack(), DIMENSION)
        .await
        .expect("create a gallery");
}

pub(super) async fn enroll(
    galleries: &EmbeddedGalleries,
    id: &str,
    number: u64,
    templates: &[u64],
) -> Result<Enrolled, Error> {
    let enrolled = templates.iter().map(|which| EnrolledTemplate {
        id: template_id(*which),
        template: template(number, *which),
        face: None,
        chip: None,
        created: SystemTime::now(),
    });
    let metadata = [("number".to_owned(), MetadataValue::Number(number as f64))];
    let change = IdentityChange { display_name: None, metadata: Some(metadata.into()) };
    let enrollment = Enrollment {
        identity: identity(number),
        change,
        templates: enrolled.collect(),
        if_exists: IfExists::Add,
        check_defaults: CheckDefaults::default(),
        may_refuse_all: false,
        identities_max: None,
    };
    galleries.enroll(gallery(id), enrollment).await
}

fn stored(galleries: &EmbeddedGalleries, id: &str) -> BTreeMap<String, Identity> {
    let keep = |id: &IdentityId, identity: Option<Identity>| (id.as_str().to_owned(), identity.expect("undamaged"));
    let page = galleries.list_identities(&gallery(id), None, usize::MAX, keep).expect("list");
    page.items.into_iter().collect()
}

fn best(galleries: &EmbeddedGalleries, id: &str, probe: Template, scope: Scope) -> Option<(IdentityId, TemplateId)> {
    let search = Search { probe, capacity: 1, exact: true, scope };
    let ranked = galleries.search(&gallery(id), search).expect("search").ranked;
    let best = ranked.into_iter().next().filter(|best| best.score.cosine() > 0.999)?;
    Some((best.identity, best.template))
}

/// Holds a gallery's index against its store: each template is found, also by its metadata, and there is nothing else.
#[track_caller]
pub(super) fn index_agrees(galleries: &EmbeddedGalleries, id: &str, context: &str) {
    let stored = stored(galleries, id);
    let (_, status) = galleries.gallery(&gallery(id)).expect("the gallery");
    let templates: usize = stored.values().map(|identity| identity.templates.len()).sum();
    let counts = (status.counts.identities, status.counts.templates, status.counts.damaged_identities);
    assert_eq!(counts, (stored.len() as u64, templates as u64, 0), "{context}");
    for identity in stored.values() {
        for enrolled in &identity.templates {
            let expected = Some((identity.id.clone(), enrolled.id.clone()));
            assert!(best(galleries, id, enrolled.template.clone(), Scope::default()) == expected, "{context}");
        }
        let number = identity.id.as_str().trim_start_matches('p');
        let filter = Some(Filter::parse("filter", &format!("number = {number}")).expect("a filter"));
        let probe = identity.templates.first().expect("a template").template.clone();
        let found = best(galleries, id, probe, Scope { filter, candidates: None });
        assert!(found.is_some_and(|(found, _)| found == identity.id), "{context}: not found by its metadata");
    }
}

/// What galleries should hold: templates by number, by identity by number, by id of the gallery.
type Model = BTreeMap<&'static str, BTreeMap<u64, BTreeSet<u64>>>;

const GALLERIES: [&str; 3] = ["a", "b", "c"];
const PEOPLE: u64 = 12;
const OPERATIONS: u64 = 1_500;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) % limit
    }
}

struct Trial {
    folder: tempfile::TempDir,
    galleries: Option<EmbeddedGalleries>,
    model: Model,
    random: Random,
    runtime: tokio::runtime::Runtime,
    /// Keys that the store is encrypted with in turn; none: it stays plain.
    keys: Vec<Option<MasterKey>>,
    key: Option<MasterKey>,
}

impl Trial {
    fn galleries(&self) -> &EmbeddedGalleries {
        self.galleries.as_ref().expect("open")
    }

    /// Does one thing to both and compares what they say.
    fn step(&mut self) -> String {
        let id = GALLERIES[self.random.below(3) as usize];
        let number = self.random.below(PEOPLE);
        match self.random.below(100) {
            0..45 => self.enroll(id, number),
            45..60 => self.delete_identity(id, number),
            60..75 => self.delete_template(id, number),
            75..79 => self.create(id),
            79..81 => self.delete_gallery(id),
            81..84 => self.update(id),
            84..89 => self.restart(),
            89..93 => self.snapshot(id),
            93..95 => self.compact(),
            95..98 => self.move_as_a_file(id),
            _ => self.break_an_import_off(id),
        }
    }

    fn enroll(&mut self, id: &'static str, number: u64) -> String {
        let which: Vec<u64> = (0..1 + self.random.below(3)).map(|_| self.random.below(6)).collect();
        let which: BTreeSet<u64> = which.into_iter().collect();
        let list: Vec<u64> = which.iter().copied().collect();
        let outcome = self.runtime.block_on(enroll(self.galleries(), id, number, &list));
        match self.model.get_mut(id) {
            Some(people) => {
                let is_new = !people.contains_key(&number);
                let known = people.entry(number).or_default();
                let added = which.difference(known).count();
                let outcome = outcome.expect("enrolled");
                assert_eq!((outcome.is_new, outcome.added.len()), (is_new, added));
                known.extend(which);
            }
            None => assert!(matches!(outcome, Err(Error::NotFound(Entity::Gallery)))),
        }
        format!("enrol {list:?} of {number} in {id}")
    }

    fn delete_identity(&mut self, id: &'static str, number: u64) -> String {
        let deleted = self.runtime.block_on(self.galleries().delete_identity(gallery(id), identity(number)));
        let expected = self.model.get_mut(id).map(|people| people.remove(&number).is_some());
        assert_eq!(deleted.is_ok(), expected == Some(true));
        format!("delete {number} of {id}")
    }

    fn delete_template(&mut self, id: &'static str, number: u64) -> String {
        let which = self.random.below(6);
        let deleted = self.galleries().delete_template(gallery(id), identity(number), template_id(which));
        let deleted = self.runtime.block_on(deleted);
        let known = self.model.get_mut(id).and_then(|people| people.get_mut(&number));
        match known {
            Some(known) if known.contains(&which) && known.len() > 1 => {
                deleted.expect("deleted");
                known.remove(&which);
            }
            Some(known) if known.contains(&which) => assert!(matches!(deleted, Err(Error::LastTemplate))),
            _ => assert!(matches!(deleted, Err(Error::NotFound(_)))),
        }
        format!("delete template {which} of {number} of {id}")
    }

    fn create(&mut self, id: &'static str) -> String {
        let settings = Gallery::with_defaults(gallery(id), pack(), DIMENSION, SystemTime::now()).settings;
        let created = self.galleries().create_gallery(gallery(id), settings, pack(), DIMENSION);
        let created = self.runtime.block_on(created);
        assert_eq!(created.is_ok(), !self.model.contains_key(id));
        self.model.entry(id).or_default();
        format!("create {id}")
    }

    fn delete_gallery(&mut self, id: &'static str) -> String {
        let deleted = self.runtime.block_on(self.galleries().delete_gallery(gallery(id), true));
        assert_eq!(deleted.is_ok(), self.model.remove(id).is_some());
        format!("delete gallery {id}")
    }

    fn update(&mut self, id: &'static str) -> String {
        let policy = [SearchPolicy::Auto, SearchPolicy::Exact, SearchPolicy::Graph][self.random.below(3) as usize];
        let change = GalleryChange { search_policy: Some(policy), ..GalleryChange::default() };
        let updated = self.runtime.block_on(self.galleries().update_gallery(gallery(id), change));
        assert_eq!(updated.is_ok(), self.model.contains_key(id));
        format!("update {id}")
    }

    /// In good order or not.
    fn restart(&mut self) -> String {
        let galleries = self.galleries.take().expect("open");
        let is_closed = self.random.below(2) == 0;
        if is_closed {
            galleries.close();
        }
        drop(galleries);
        if !self.keys.is_empty() {
            let to = self.keys[self.random.below(self.keys.len() as u64) as usize].clone();
            if to.as_ref().map(MasterKey::id) != self.key.as_ref().map(MasterKey::id) {
                change_key(self.folder.path(), self.key.as_ref(), to.as_ref(), |_| ()).expect("change the key");
                self.key = to;
            }
        }
        self.galleries =
            Some(EmbeddedGalleries::open_with_key(self.folder.path(), self.key.as_ref()).expect("open again"));
        format!("restart, closed: {is_closed}, key {:?}", self.key)
    }

    fn snapshot(&mut self, id: &'static str) -> String {
        let found = self.galleries().indexes.all().into_iter().find(|(known, _)| *known == gallery(id));
        if let Some((known, shared)) = found {
            self.galleries().keeper.snapshots.take(&known, &shared).expect("a snapshot");
        }
        format!("snapshot of {id}")
    }

    fn compact(&mut self) -> String {
        self.galleries().compact(|_| Ok(())).expect("compact");
        "compact".to_owned()
    }

    fn export(&self, id: &str) -> Option<Vec<u8>> {
        let mut file = Vec::new();
        let exported = self.galleries().export(&gallery(id), |part| {
            file.extend_from_slice(&part.bytes);
            Ok(())
        });
        assert_eq!(exported.is_ok(), self.model.contains_key(id));
        exported.is_ok().then_some(file)
    }

    fn move_as_a_file(&mut self, id: &'static str) -> String {
        let to = GALLERIES[self.random.below(3) as usize];
        if let Some(file) = self.export(id) {
            let imported = self.galleries().begin_import(gallery(to), 0).and_then(|mut import| {
                import.feed(&file)?;
                import.finish()
            });
            assert_eq!(imported.is_ok(), !self.model.contains_key(to));
            let people = self.model.get(id).cloned().expect("it was exported");
            self.model.entry(to).or_insert(people);
        }
        format!("move {id} to {to}")
    }

    fn break_an_import_off(&mut self, id: &'static str) -> String {
        if let Some(file) = self.export(id)
            && let Ok(mut import) = self.galleries().begin_import(gallery("never"), 0)
        {
            import.feed(&file[..file.len() - 1]).expect("a whole file but for its end");
        }
        assert!(self.galleries().gallery(&gallery("never")).is_err());
        format!("break an import of {id} off")
    }

    fn check(&self, context: &str) {
        let listed = self.galleries().list_galleries(None, 100, |_| true).items;
        let listed: Vec<String> = listed.iter().map(|(gallery, _)| gallery.id.as_str().to_owned()).collect();
        assert_eq!(listed, self.model.keys().map(|id| (*id).to_owned()).collect::<Vec<_>>(), "{context}");
        for (id, people) in &self.model {
            let expected: BTreeMap<String, BTreeSet<String>> = people
                .iter()
                .map(|(number, known)| (format!("p{number}"), known.iter().map(u64::to_string).collect()))
                .collect();
            let found: BTreeMap<String, BTreeSet<String>> = stored(self.galleries(), id)
                .into_iter()
                .map(|(id, identity)| {
                    (id, identity.templates.iter().map(|enrolled| enrolled.id.as_str().to_owned()).collect())
                })
                .collect();
            assert_eq!(found, expected, "{context}: {id}");
            index_agrees(self.galleries(), id, context);
        }
    }
}

#[test]
fn random_operations_and_restarts_match_a_plain_model() {
    run(Vec::new());
}

#[test]
fn random_operations_match_a_plain_model_while_the_key_changes() {
    let key = || Some(MasterKey::random().expect("a key"));
    run(vec![None, key(), key()]);
}

fn run(keys: Vec<Option<MasterKey>>) {
    let seed = std::env::var("FACEMATCH_SEED").map_or_else(
        |_| SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_nanos() as u64,
        |seed| seed.parse().expect("FACEMATCH_SEED is a number"),
    );
    println!("FACEMATCH_SEED={seed} runs these operations again");
    let folder = tempfile::tempdir().expect("a folder");
    let galleries = Some(EmbeddedGalleries::open(folder.path()).expect("open"));
    let (model, random) = (Model::new(), Random(seed | 1));
    let mut trial = Trial { folder, galleries, model, random, runtime: runtime(), keys, key: None };
    for operation in 0..OPERATIONS {
        let context = trial.step();
        if operation % 10 == 0 || context.starts_with("restart") {
            trial.check(&format!("FACEMATCH_SEED={seed}, operation {operation}, {context}"));
        }
    }
}
