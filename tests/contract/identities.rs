//! Who is enrolled, changed and deleted, by whichever server.

use std::collections::BTreeSet;
use std::sync::Arc;

use facematch::biometrics::enrolment::{Check, CheckPolicy, Finding};
use facematch::biometrics::fusion::Fusion;
use facematch::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use facematch::biometrics::score::Threshold;
use facematch::biometrics::template::{Template, dot};
use facematch::error::{Entity, Error};
use facematch::gallery::{
    Enrollment, GalleryChange, GallerySettings, IdentityChange, IfExists, SearchPath, SearchPolicy,
};

use super::house::{House, all, enrollment, ranked, search_for};
use super::whole_galleries::{chip, filled};
use crate::common::people::{DIMENSION, gallery, identity, pack, settings, template};

pub async fn gallery_lives_as_it_is_told(house: Arc<House>) {
    let galleries = house.first();
    house.create("b", settings(SearchPolicy::Auto)).await;
    let again = galleries.create_gallery(gallery("b"), GallerySettings::default(), pack(), 8).await;
    assert!(matches!(again, Err(Error::AlreadyExists(Entity::Gallery))));
    for id in ["a", "c", "d"] {
        house.create(id, GallerySettings::default()).await;
    }
    let (found, status) = house.any(1).gallery(&gallery("b")).await.expect("the gallery");
    assert_eq!((found.pack_id, found.dimension, found.settings.display_name.as_str()), (pack(), DIMENSION, "People"));
    assert_eq!((status.counts.identities, status.path), (0, SearchPath::Exact));
    let names = |page: &facematch::gallery::Page<(facematch::gallery::Gallery, _)>| -> Vec<String> {
        page.items.iter().map(|(gallery, _)| gallery.id.as_str().to_owned()).collect()
    };
    let not_c = |id: &GalleryId| id.as_str() != "c";
    let page = galleries.list_galleries(None, 2, &not_c).await.expect("a page");
    assert_eq!((names(&page), page.more), (vec!["a".to_owned(), "b".to_owned()], true));
    let page = galleries.list_galleries(Some(&gallery("b")), 2, &not_c).await.expect("a page");
    assert_eq!((names(&page), page.more), (vec!["d".to_owned()], false));
    let change = GalleryChange { display_name: Some("Staff".into()), keep_chips: Some(true), ..Default::default() };
    let changed = galleries.update_gallery(gallery("b"), change).await.expect("update");
    let (seen, _) = house.any(2).gallery(&gallery("b")).await.expect("the gallery");
    assert!(seen == changed && seen.settings.keep_chips && seen.settings.search_policy == SearchPolicy::Auto);
    house.enroll("b", 1, &[0, 1]).await;
    let refused = galleries.delete_gallery(gallery("b"), false).await;
    assert!(matches!(refused, Err(Error::GalleryNotEmpty { identities: 1 })));
    let before = galleries.delete_gallery(gallery("a"), false).await.expect("delete an empty one");
    let after = galleries.delete_gallery(gallery("b"), true).await.expect("delete a full one");
    assert!(after.sequence > before.sequence);
    for missing in [
        house.any(1).gallery(&gallery("b")).await.map(drop),
        house.any(2).delete_gallery(gallery("b"), true).await.map(drop),
    ] {
        assert!(matches!(missing, Err(Error::NotFound(Entity::Gallery))));
    }
    let search = house.any(1).search(&gallery("b"), vec![search_for(template(1, 0), 1)]).await;
    assert!(matches!(search, Err(Error::NotFound(Entity::Gallery))));
    // Another of the same name has nothing of it.
    house.create("b", GallerySettings::default()).await;
    assert!(all(house.any(1), "b").await.is_empty());
    assert!(ranked(house.any(2), "b", search_for(template(1, 0), 3)).await.is_empty());
}

pub async fn enrolment_says_what_it_did(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    let enroll = async |enrollment: Enrollment| house.first().enroll(gallery("g"), enrollment).await;
    let first = enroll(enrollment(1, &[0, 1])).await.expect("enrol");
    assert!(first.is_new && first.added.len() == 2 && first.refused.is_empty());
    // Once more, and one more: what is there is passed over.
    let more = house.any(1).enroll(gallery("g"), enrollment(1, &[1, 2])).await.expect("add");
    let added: Vec<&str> = more.added.iter().map(TemplateId::as_str).collect();
    assert_eq!((more.is_new, added, more.identity.templates.len()), (false, vec!["2"], 3));
    let stored = house.any(2).identity(&gallery("g"), &identity(1)).await.expect("stored");
    assert!(stored == more.identity && stored.details.display_name == "Person 1");
    let refused = enroll(Enrollment { if_exists: IfExists::Refuse, ..enrollment(1, &[5]) }).await;
    assert!(matches!(refused, Err(Error::AlreadyExists(Entity::Identity))));
    let missing = house.any(1).enroll(gallery("nobody"), enrollment(1, &[0])).await;
    assert!(matches!(missing, Err(Error::NotFound(Entity::Gallery))));
    let none = enroll(Enrollment { templates: Vec::new(), ..enrollment(2, &[]) }).await;
    assert!(matches!(none, Err(Error::BadField { .. })));
    let many: Vec<u64> = (0..70).collect();
    let too_many = enroll(enrollment(3, &many)).await;
    assert!(matches!(too_many, Err(Error::TooManyTemplates { found: 70, limit: 64 })));
    let full = enroll(Enrollment { identities_max: Some(1), ..enrollment(4, &[0]) }).await;
    assert!(matches!(full, Err(Error::IdentitiesMax { limit: 1 })));
    enroll(Enrollment { identities_max: Some(1), ..enrollment(1, &[9]) }).await.expect("no new identity");
    let foreign = |values: &[f32], pack: &str| {
        let mut enrollment = enrollment(6, &[0]);
        enrollment.templates[0].template =
            Template::from_vector(values, PackId::parse(&pack.repeat(16)).expect("an id")).expect("a template");
        enrollment
    };
    let other_pack = enroll(foreign(template(6, 0).values(), "0b")).await;
    assert!(matches!(other_pack, Err(Error::PackMismatch { .. })));
    assert!(matches!(enroll(foreign(&[1.0, 2.0], "0a")).await, Err(Error::BadField { .. })));
    let probe = Template::from_vector(template(6, 0).values(), PackId::parse(&"0b".repeat(16)).expect("an id"))
        .expect("a template");
    let search = house.first().search(&gallery("g"), vec![search_for(probe, 1)]).await;
    assert!(matches!(search, Err(Error::PackMismatch { .. })));
    let change = IdentityChange { display_name: Some("Ann".into()), metadata: None };
    let updated = house.first().update_identity(gallery("g"), identity(1), change).await.expect("update");
    assert!(updated.details.display_name == "Ann" && updated.details.metadata == stored.details.metadata);
    assert!(updated == house.any(1).identity(&gallery("g"), &identity(1)).await.expect("stored"));
    let missing = house.first().update_identity(gallery("g"), identity(9), IdentityChange::default()).await;
    assert!(matches!(missing, Err(Error::NotFound(Entity::Identity))));
    let both = house.first().identities(&gallery("g"), &[identity(9), identity(1)]).await.expect("some");
    assert!(matches!(&both[..], [Err(Error::NotFound(Entity::Identity)), Ok(known)] if known.id == identity(1)));
    let (_, status) = house.any(1).gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (1, 4));
}

pub async fn duplicates_and_strangers_are_seen(house: Arc<House>) {
    let at = |cosine| Some(Threshold::from_cosine("t", cosine).expect("a cosine"));
    let checks = GallerySettings {
        duplicates: Check { policy: CheckPolicy::Reject, cosine: at(0.45) },
        consistency: Check { policy: CheckPolicy::Warn, cosine: at(0.3) },
        ..Default::default()
    };
    house.create("g", checks).await;
    for number in 0..20 {
        house.enroll("g", number, &[0]).await;
    }
    let mut twin = enrollment(50, &[3]);
    twin.templates[0].template = template(7, 3);
    let Err(Error::Refused(Finding::DuplicateIdentity { identity: of, score, .. })) =
        house.any(1).enroll(gallery("g"), twin).await
    else {
        panic!("a duplicate is enrolled")
    };
    assert_eq!((of, score.cosine()), (identity(7), dot(template(7, 0).values(), template(7, 3).values())));
    // To oneself one is no duplicate; unlike oneself one may be, with a warning.
    house.enroll("g", 7, &[3]).await;
    let mut stranger = enrollment(8, &[4]);
    stranger.templates[0].template = template(60, 0);
    let warned = house.any(2).enroll(gallery("g"), stranger).await.expect("enrol");
    assert!(matches!(&warned.warnings.values().next().expect("a warning")[..], [Finding::UnlikeIdentity { .. }]));
}

pub async fn of_two_enrolments_of_one_face_the_second_is_refused(house: Arc<House>) {
    let at = Some(Threshold::from_cosine("t", 0.45).expect("a cosine"));
    let settings =
        GallerySettings { duplicates: Check { policy: CheckPolicy::Reject, cosine: at }, ..Default::default() };
    house.create("g", settings).await;
    for face in 0..10 {
        let mut tasks = tokio::task::JoinSet::new();
        for server in 0..3u64 {
            let house = Arc::clone(&house);
            tasks.spawn(async move {
                let mut enrollment = enrollment(100 + face * 10 + server, &[0]);
                enrollment.templates[0].template = template(face, 0);
                house.any(server).enroll(gallery("g"), enrollment).await
            });
        }
        let results = tasks.join_all().await;
        let enrolled = results.iter().filter(|result| result.is_ok()).count();
        let refused = results.iter().filter(|result| matches!(result, Err(Error::Refused(_)))).count();
        assert_eq!(
            (enrolled, refused),
            (1, 2),
            "face {face}: {:?}",
            results.iter().filter_map(|r| r.as_ref().err()).collect::<Vec<_>>()
        );
    }
}

pub async fn deleted_is_gone_at_once(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    for number in 0..30 {
        house.enroll("g", number, &[0, 1]).await;
    }
    let best = async |server: u64, number: u64| {
        ranked(house.any(server), "g", search_for(template(number, 7), 1)).await.remove(0)
    };
    let mut last = 0;
    for number in 0..10 {
        assert_eq!(best(number, number).await.0, identity(number).as_str());
        let deletion = house.any(number).delete_identity(gallery("g"), identity(number)).await.expect("delete");
        assert!(deletion.sequence > last);
        last = deletion.sequence;
        assert_ne!(best(number + 1, number).await.0, identity(number).as_str(), "a ghost");
        let read = house.any(number + 1).identity(&gallery("g"), &identity(number)).await;
        assert!(matches!(read, Err(Error::NotFound(Entity::Identity))));
        let again = house.any(number + 2).delete_identity(gallery("g"), identity(number)).await;
        assert!(matches!(again, Err(Error::NotFound(Entity::Identity))));
    }
    let one = TemplateId::parse("1").expect("an id");
    house.first().delete_template(gallery("g"), identity(20), one.clone()).await.expect("delete one");
    assert!(
        ranked(house.any(1), "g", search_for(template(20, 1), 1)).await.iter().all(|(_, template, _)| template != "1")
    );
    let again = house.any(1).delete_template(gallery("g"), identity(20), one).await;
    assert!(matches!(again, Err(Error::NotFound(Entity::Template))));
    let last = house.any(2).delete_template(gallery("g"), identity(20), TemplateId::parse("0").expect("an id")).await;
    assert!(matches!(last, Err(Error::LastTemplate)));
    let (_, status) = house.any(1).gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (20, 39));
    let mut compaction = house.first().compact().await.expect("compact");
    let mut done = None;
    while let Some(state) = compaction.recv().await {
        done = Some(state.expect("a state"));
    }
    let done = done.expect("a state");
    assert!(done.identities == 20 && done.bytes_after.is_some(), "{done:?}");
    assert_eq!(all(house.any(1), "g").await.len(), 20);
}

pub async fn changes_are_seen_by_the_next_search_of_every_server(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    house.enroll("g", 999, &[0]).await;
    for number in 0..100u64 {
        house.any(number).enroll(gallery("g"), enrollment(number, &[0])).await.expect("enrol");
        let found = ranked(house.any(number + 1), "g", search_for(template(number, 4), 1)).await;
        assert_eq!(found[0].0, identity(number).as_str(), "a miss");
        house.any(number + 2).delete_identity(gallery("g"), identity(number)).await.expect("delete");
        let found = ranked(house.any(number), "g", search_for(template(number, 4), 5)).await;
        assert_eq!(found.len(), 1, "a ghost");
    }
}

pub async fn identities_are_listed_in_pages(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    let ids = ["a", "B", "ä", "aa", "a b", "Z", "0", "~", "é%_'\""];
    for (number, id) in ids.iter().enumerate() {
        let id = IdentityId::parse(id).expect("an id");
        let enrollment = Enrollment { identity: id, ..enrollment(number as u64, &[0]) };
        house.any(number as u64).enroll(gallery("g"), enrollment).await.expect("enrol");
    }
    let mut sorted: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    sorted.sort();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = house.any(1).list_identities(&gallery("g"), after.as_ref(), 2).await.expect("a page");
        listed.extend(page.items.iter().map(|outline| outline.id.as_str().to_owned()));
        after = page.items.last().map(|outline| outline.id.clone());
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, sorted);
    let some = house.first().some_identities(&gallery("g"), 5, 3).await.expect("some");
    assert_eq!(some, house.any(1).some_identities(&gallery("g"), 5, 3).await.expect("some"));
    let distinct: BTreeSet<_> = some.iter().collect();
    assert_eq!(distinct.len(), 5);
    let missing = house.first().list_identities(&gallery("nobody"), None, 2).await;
    assert!(matches!(missing, Err(Error::NotFound(Entity::Gallery))));
}

pub async fn reads_beside_changes_are_whole(house: Arc<House>) {
    filled(&house).await;
    let reading = tokio::spawn({
        let house = Arc::clone(&house);
        async move {
            for round in 0..150u64 {
                // A rule that changes, and templates that come and go, with and without chips.
                let search = search_for(template(round % 60, 0), 5);
                let outcome = house.any(round).search(&gallery("g"), vec![search]).await.expect("a search").remove(0);
                assert_eq!(outcome.ranked.len(), 5);
                let known = house.any(round + 1).identity(&gallery("g"), &identity(3)).await.expect("an identity");
                assert!(
                    known.templates.iter().all(|enrolled| enrolled.chip.as_ref().is_none_or(|chip| chip.len() > 100))
                );
            }
        }
    });
    let mut round = 0u64;
    while !reading.is_finished() {
        round += 1;
        let fusion = [Fusion::Max, Fusion::Mean, Fusion::QualityWeightedMean][round as usize % 3];
        let change = GalleryChange { fusion: Some(fusion), ..Default::default() };
        house.any(round).update_gallery(gallery("g"), change).await.expect("another rule");
        let mut more = enrollment(3, &[7]);
        more.templates[0].chip = Some(chip(round as u8));
        house.any(round + 1).enroll(gallery("g"), more).await.expect("enrol");
        let seven = TemplateId::parse("7").expect("an id");
        house.any(round + 2).delete_template(gallery("g"), identity(3), seven).await.expect("delete");
    }
    reading.await.expect("every read is whole");
}

pub async fn concurrent_enrolments_lose_nothing(house: Arc<House>) {
    house.create("g", GallerySettings::default()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..12u64 {
        let house = Arc::clone(&house);
        tasks.spawn(async move {
            for number in 0..12u64 {
                // Each of twelve people by all, a template each, in different orders; and some twice.
                let person = (number * 5 + task) % 12;
                for again in 0..2 {
                    let enrolled = house.any(task + again).enroll(gallery("g"), enrollment(person, &[task])).await;
                    let enrolled = enrolled.unwrap_or_else(|error| panic!("{person}, {task}: {error:?}"));
                    assert_eq!(enrolled.added.len(), 1 - again as usize);
                }
            }
        });
    }
    tasks.join_all().await;
    for (id, identity) in all(house.any(1), "g").await {
        assert_eq!(identity.templates.len(), 12, "{id}");
    }
    let (_, status) = house.first().gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((status.counts.identities, status.counts.templates), (12, 144));
}
