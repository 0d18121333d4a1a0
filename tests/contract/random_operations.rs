//! Random operations by several servers, against a plain model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use facematch::biometrics::fusion::Fusion;
use facematch::biometrics::ids::TemplateId;
use facematch::gallery::{GalleryChange, GallerySettings, Identity, IdentityChange};

use super::house::{House, all, enrollment, ranked, search_for};
use super::whole_galleries::{exported, import};
use crate::common::people::{DIMENSION, gallery, identity, pack};

/// Numbers by xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

pub async fn random_operations_match_a_plain_model(house: Arc<House>) {
    const OPERATIONS: u64 = 400;
    let seed = std::env::var("FACEMATCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
    let seed = seed.unwrap_or(now.as_nanos() as u64 | 1);
    println!("FACEMATCH_SEED={seed} runs these operations again");
    let mut dice = Dice(seed);
    let mut model: BTreeMap<&str, BTreeMap<u64, BTreeSet<u64>>> = BTreeMap::new();
    for operation in 0..OPERATIONS {
        let context = format!("FACEMATCH_SEED={seed}, operation {operation}");
        let (id, server) = (["x", "y"][dice.below(2) as usize], dice.below(3));
        let (person, which) = (dice.below(8), dice.below(4));
        let galleries = house.any(server);
        match dice.below(20) {
            0..3 => {
                let created =
                    galleries.create_gallery(gallery(id), GallerySettings::default(), pack(), DIMENSION).await;
                assert_eq!(created.is_ok(), !model.contains_key(id), "{context}");
                model.entry(id).or_default();
            }
            3 => {
                let deleted = galleries.delete_gallery(gallery(id), true).await;
                assert_eq!(deleted.is_ok(), model.remove(id).is_some(), "{context}");
            }
            4..13 => {
                let enrolled = galleries.enroll(gallery(id), enrollment(person, &[which])).await;
                assert_eq!(enrolled.is_ok(), model.contains_key(id), "{context}: {:?}", enrolled.err());
                if let Some(people) = model.get_mut(id) {
                    people.entry(person).or_default().insert(which);
                }
            }
            13..15 => {
                let deleted = galleries.delete_identity(gallery(id), identity(person)).await;
                let was = model.get_mut(id).and_then(|people| people.remove(&person)).is_some();
                assert_eq!(deleted.is_ok(), was, "{context}");
            }
            15..17 => {
                let template = TemplateId::parse(&which.to_string()).expect("an id");
                let deleted = galleries.delete_template(gallery(id), identity(person), template).await;
                let known = model.get_mut(id).and_then(|people| people.get_mut(&person));
                let was = known.is_some_and(|known| known.len() > 1 && known.remove(&which));
                assert_eq!(deleted.is_ok(), was, "{context}");
            }
            17 => {
                let fusion = [Fusion::Max, Fusion::Mean][dice.below(2) as usize];
                let change = GalleryChange { fusion: Some(fusion), ..Default::default() };
                let changed = galleries.update_gallery(gallery(id), change).await;
                assert_eq!(changed.is_ok(), model.contains_key(id), "{context}");
            }
            18 => {
                let change = IdentityChange { display_name: Some(context.clone()), metadata: None };
                let changed = galleries.update_identity(gallery(id), identity(person), change).await;
                let is_there = model.get(id).is_some_and(|people| people.contains_key(&person));
                assert_eq!(changed.is_ok(), is_there, "{context}");
            }
            _ => {
                let to = if id == "x" { "y" } else { "x" };
                if let Some(people) = model.get(id).cloned() {
                    let file = exported(galleries, id).await;
                    let imported = import(house.any(server + 1), to, &file).await;
                    assert_eq!(imported.is_ok(), !model.contains_key(to), "{context}: {:?}", imported.err());
                    model.entry(to).or_insert(people);
                }
            }
        }
        if operation % 20 == 0 {
            check(&house, &model, dice.below(3), &context).await;
        }
    }
    check(&house, &model, 0, "at the end").await;
}

async fn check(house: &House, model: &BTreeMap<&str, BTreeMap<u64, BTreeSet<u64>>>, server: u64, context: &str) {
    let galleries = house.any(server);
    let listed = galleries.list_galleries(None, 10, &|_| true).await.expect("list").items;
    let listed: Vec<&str> = listed.iter().map(|(gallery, _)| gallery.id.as_str()).collect();
    assert_eq!(listed, model.keys().copied().collect::<Vec<_>>(), "{context}");
    for (id, people) in model {
        let found = all(galleries, id).await;
        let ids = |identity: &Identity| -> BTreeSet<u64> {
            identity.templates.iter().map(|enrolled| enrolled.id.as_str().parse().expect("a number")).collect()
        };
        let stored: BTreeMap<String, BTreeSet<u64>> =
            found.iter().map(|(id, known)| (id.clone(), ids(known))).collect();
        let expected =
            people.iter().map(|(number, known)| (identity(*number).as_str().to_owned(), known.clone())).collect();
        assert_eq!(stored, expected, "{context}: {id}");
        let (gallery, status) = galleries.gallery(&gallery(id)).await.expect("the gallery");
        let templates: usize = people.values().map(BTreeSet::len).sum();
        assert_eq!(
            (status.counts.identities, status.counts.templates),
            (people.len() as u64, templates as u64),
            "{context}: {id}"
        );
        // Whoever is there is found by what there is of them, with everybody else behind.
        for (name, known) in &found {
            let (_, probe) = known.compared_by(gallery.settings.fusion).remove(0);
            let found = ranked(galleries, id, search_for(probe, 20)).await;
            assert_eq!((found.len(), &found[0].0), (people.len(), name), "{context}: {id}");
        }
    }
}
