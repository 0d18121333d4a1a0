//! Galleries as files, and galleries of another pack.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use facematch::biometrics::fusion::Fusion;
use facematch::biometrics::ids::PackId;
use facematch::biometrics::score::Threshold;
use facematch::biometrics::template::Template;
use facematch::error::{Entity, Error};
use facematch::gallery::{
    Embed, Galleries, GallerySettings, Identity, MigrationPlan, MigrationState, SearchPolicy, Served,
};

use super::house::{House, all, enrollment, ranked, search_for};
use crate::common::people::{DIMENSION, gallery, identity, pack, settings, template};

/// A chip of one colour.
pub fn chip(level: u8) -> Arc<[u8]> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(112, 112, image::Rgb([level, 7, 9]));
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("a picture");
    bytes.into_inner().into()
}

/// A chip that no compression makes smaller.
pub fn noise(seed: u64) -> Arc<[u8]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let picture = image::RgbImage::from_fn(112, 112, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        image::Rgb([state as u8, (state >> 8) as u8, (state >> 16) as u8])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).expect("encode");
    png.into_inner().into()
}

pub async fn filled(house: &House) {
    house.create("g", GallerySettings { fusion: Fusion::Mean, keep_chips: true, ..settings(SearchPolicy::Auto) }).await;
    for number in 0..60u64 {
        let mut enrollment = enrollment(number, &[0, 1]);
        if number % 3 == 0 {
            enrollment.templates[1].chip = Some(chip(number as u8));
        }
        house.any(number).enroll(gallery("g"), enrollment).await.expect("enrol");
    }
}

pub async fn exported(galleries: &dyn Galleries, id: &str) -> Vec<u8> {
    let mut parts = galleries.export(&gallery(id)).await.expect("export");
    let mut file = Vec::new();
    while let Some(part) = parts.recv().await {
        file.extend_from_slice(&part.expect("a part").bytes);
    }
    file
}

pub async fn import(galleries: &dyn Galleries, id: &str, file: &[u8]) -> Result<(), Error> {
    let mut import = galleries.begin_import(gallery(id), 0).await?;
    for piece in file.chunks(10_000) {
        import.feed(piece.to_vec()).await?;
    }
    import.finish(Served::Here).await.map(drop)
}

pub async fn galleries_move_as_files(house: Arc<House>) {
    filled(&house).await;
    let people = all(house.any(1), "g").await;
    assert!(people.values().any(|identity| identity.templates[1].chip.as_deref().is_some_and(|chip| chip.len() > 100)));
    let file = exported(house.any(2), "g").await;
    // Into the same store, and through one of this machine's and back.
    import(house.first(), "copy", &file).await.expect("import");
    let elsewhere = House::embedded();
    import(elsewhere.first(), "away", &file).await.expect("import");
    import(house.any(1), "back", &exported(elsewhere.first(), "away").await).await.expect("import");
    assert!(all(elsewhere.first(), "away").await == people);
    let (original, counts) = house.first().gallery(&gallery("g")).await.expect("the gallery");
    for id in ["copy", "back"] {
        assert!(all(house.any(2), id).await == people, "{id}");
        let (moved, status) = house.any(1).gallery(&gallery(id)).await.expect("the gallery");
        assert!(moved.settings == original.settings && status.counts == counts.counts, "{id}");
        let probe = search_for(template(17, 8), 60);
        assert_eq!(ranked(house.any(1), id, probe.clone()).await, ranked(house.any(2), "g", probe).await);
    }
    assert!(matches!(import(house.any(1), "g", &file).await, Err(Error::AlreadyExists(Entity::Gallery))));
    let mut damaged = file.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    assert!(matches!(import(house.first(), "damaged", &damaged).await, Err(Error::GalleryFile(_))));
    assert!(house.any(1).gallery(&gallery("damaged")).await.is_err());
    // What it left, if it came as far as that.
    loop {
        match house.any(2).delete_gallery(gallery("damaged"), false).await {
            Ok(_) | Err(Error::NotFound(Entity::Gallery)) => break,
            // Its connection is just being closed, and its lock with it.
            Err(Error::UnderWay(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    elsewhere.close().await;
}

pub async fn import_that_somebody_deletes_is_no_gallery(house: Arc<House>) {
    filled(&house).await;
    let file = exported(house.first(), "g").await;
    let (start, rest) = file.split_at(file.len() - 100);
    let mut import = house.first().begin_import(gallery("x"), 0).await.expect("begin");
    import.feed(start.to_vec()).await.expect("nearly all");
    // Made and deleted meanwhile, by another server.
    let made = house.any(1).create_gallery(gallery("x"), GallerySettings::default(), pack(), DIMENSION).await;
    if made.is_ok() {
        house.any(2).delete_gallery(gallery("x"), true).await.expect("delete");
    }
    let finished = async {
        import.feed(rest.to_vec()).await?;
        import.finish(Served::Here).await
    };
    // Wholly there, or not at all.
    match finished.await {
        Ok(_) => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(all(house.any(1), "x").await.len(), 60);
            assert_eq!(ranked(house.any(2), "x", search_for(template(3, 0), 1)).await[0].0, identity(3).as_str());
        }
        Err(_) => assert!(house.any(1).gallery(&gallery("x")).await.is_err()),
    }
}

pub async fn imports_go_on_where_they_broke_off(house: Arc<House>) {
    house.create("g", GallerySettings { keep_chips: true, ..settings(SearchPolicy::Auto) }).await;
    // More than two megabytes each: more than one step of any store, and a part of the next.
    for number in 0..3 {
        let mut enrollment = enrollment(number, &(0..60).collect::<Vec<u64>>());
        for (which, enrolled) in enrollment.templates.iter_mut().enumerate() {
            enrolled.chip = Some(noise(number * 60 + which as u64));
        }
        house.any(number).enroll(gallery("g"), enrollment).await.expect("enrol");
    }
    let people = all(house.first(), "g").await;
    let file = exported(house.first(), "g").await;
    assert!(file.len() > 6 << 20);
    let mut broken = house.first().begin_import(gallery("late"), 0).await.expect("begin");
    broken.feed(file[..file.len() - 1].to_vec()).await.expect("nearly all");
    let other = house.any(1).begin_import(gallery("late"), 0).await;
    assert!(matches!(other.err(), Some(Error::UnderWay(_))));
    drop(broken);
    // Let go of beside: its lock goes with the connection.
    let mut state = None;
    for _ in 0..200 {
        match house.any(1).begin_import(gallery("late"), 0).await {
            Ok(import) => {
                drop(import);
                state = house.any(2).import_state(&gallery("late")).await.ok();
                break;
            }
            Err(Error::UnderWay(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    let offset = state.expect("a part").offset;
    assert!(offset > 2 << 20 && offset < file.len() as u64, "{offset}");
    let mut import = loop {
        match house.any(1).begin_import(gallery("late"), offset).await {
            Ok(import) => break import,
            Err(Error::UnderWay(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    };
    import.feed(file[offset as usize..].to_vec()).await.expect("the rest");
    import.finish(Served::Here).await.expect("the end");
    assert!(all(house.any(2), "late").await == people);
    assert!(matches!(house.first().import_state(&gallery("late")).await, Err(Error::NotFound(Entity::Import))));
}

/// What another pack makes of a chip, if it makes anything: the same values in another order.
pub fn of_other_pack(template: &Template) -> Template {
    let values: Vec<f32> = template.values().iter().rev().copied().collect();
    Template::from_vector(&values, other_pack()).expect("a template")
}

pub fn other_pack() -> PackId {
    PackId::parse(&"0b".repeat(16)).expect("an id")
}

pub async fn migrated(
    galleries: &dyn Galleries,
    plan: MigrationPlan,
    embed: Arc<Embed>,
) -> Result<MigrationState, Error> {
    let mut states = galleries.migrate(&gallery("g"), plan, embed).await?;
    let mut last = MigrationState::default();
    while let Some(state) = states.recv().await {
        last = state?;
    }
    Ok(last)
}

pub async fn galleries_move_to_another_pack(house: Arc<House>) {
    let kept = GallerySettings {
        keep_chips: true,
        identification: Threshold::from_cosine("t", 0.4).ok(),
        ..Default::default()
    };
    house.create("g", kept).await;
    let with_chips = |number: u64| {
        let mut enrollment = enrollment(number, &[0, 1]);
        enrollment.templates.iter_mut().for_each(|enrolled| enrolled.chip = Some(chip(number as u8)));
        enrollment
    };
    for number in 0..80 {
        house.any(number).enroll(gallery("g"), with_chips(number)).await.expect("enrol");
    }
    let before = all(house.first(), "g").await;
    let embed: Arc<Embed> = Arc::new(|mut identities: Vec<Identity>| {
        std::thread::sleep(Duration::from_millis(50));
        for enrolled in identities.iter_mut().flat_map(|identity| &mut identity.templates) {
            assert!(enrolled.chip.as_ref().is_some_and(|chip| chip.len() > 100), "a chip that is none");
            enrolled.template = of_other_pack(&enrolled.template);
        }
        Ok(identities)
    });
    let plan = |pack_id, is_trial| MigrationPlan { pack_id, dimension: DIMENSION, loss_max: 0.0, is_trial };
    let same = migrated(house.first(), plan(pack(), false), Arc::clone(&embed)).await;
    assert!(matches!(same, Err(Error::BadField { .. })));
    let tried = migrated(house.any(1), plan(other_pack(), true), Arc::clone(&embed)).await.expect("a trial");
    let comparison = tried.comparison.expect("a comparison");
    assert!(!tried.is_switched && tried.identities == 80 && comparison.probes == 160, "{tried:?}");
    assert!(all(house.any(2), "g").await == before);
    // What changes meanwhile is in it, and a second one is told to wait.
    let (begun, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let moving = tokio::spawn({
        let (house, embed, begun, answered) =
            (Arc::clone(&house), Arc::clone(&embed), Arc::clone(&begun), Arc::clone(&answered));
        let waits: Arc<Embed> = Arc::new(move |identities| {
            begun.store(true, Ordering::Relaxed);
            let since = Instant::now();
            while !answered.load(Ordering::Relaxed) && since.elapsed() < Duration::from_secs(30) {
                std::thread::sleep(Duration::from_millis(5));
            }
            embed(identities)
        });
        async move { migrated(house.any(1), plan(other_pack(), false), waits).await }
    });
    while !begun.load(Ordering::Relaxed) && !moving.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = migrated(house.any(2), plan(other_pack(), false), Arc::clone(&embed)).await;
    assert!(matches!(second, Err(Error::UnderWay(_))), "{second:?}");
    answered.store(true, Ordering::Relaxed);
    let mut there: BTreeSet<u64> = (0..80).collect();
    for number in 80..100u64 {
        match house.any(number).enroll(gallery("g"), with_chips(number)).await {
            Ok(_) => drop(there.insert(number)),
            Err(Error::PackMismatch { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        house.any(number).delete_identity(gallery("g"), identity(number - 80)).await.expect("delete");
        there.remove(&(number - 80));
    }
    let moved = moving.await.expect("no panic").expect("a migration");
    assert!(moved.is_switched, "{moved:?}");
    let (now, status) = house.any(2).gallery(&gallery("g")).await.expect("the gallery");
    assert_eq!((now.pack_id, now.settings.identification, now.settings.keep_chips), (other_pack(), None, true));
    let after = all(house.any(2), "g").await;
    assert_eq!(
        after.keys().cloned().collect::<Vec<_>>(),
        there.iter().map(|n| identity(*n).as_str().to_owned()).collect::<Vec<_>>()
    );
    assert_eq!(status.counts.templates, 2 * there.len() as u64);
    for number in there.iter().step_by(9) {
        let found = ranked(house.any(*number), "g", search_for(of_other_pack(&template(*number, 7)), 1)).await;
        assert_eq!(found[0].0, identity(*number).as_str());
    }
    // Without a chip there is no way.
    let mut bare = enrollment(200, &[0]);
    bare.templates[0].template = of_other_pack(&template(200, 0));
    house.first().enroll(gallery("g"), bare).await.expect("enrol");
    let missing = migrated(house.any(1), plan(pack(), false), embed).await;
    assert!(matches!(missing, Err(Error::ChipsMissing { templates: 1, identities: 1, .. })), "{missing:?}");
}
