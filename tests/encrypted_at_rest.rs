//! With encryption on, nothing that is known of a person is in any file of the data folder; with it off, all of it is found by
//! the same search, so that it can be.

mod common;

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use common::people::{
    DIMENSION, all, assert_index_agrees, best, create, enrollment, gallery, identity, pack, template,
};
use facematch::biometrics::template::Template;
use facematch::error::Error;
use facematch::gallery::{
    EmbeddedGalleries, Enrollment, MasterKey, MetadataValue, StoreError, SyntheticGallery, change_key, write_synthetic,
};

const NAME: &str = "Konstanze Unverwechselbar";
const PLACE: &str = "behind the seventh hill";

/// Of whom a snapshot is taken: from 20,000 templates on.
const TEMPLATES: u64 = 21_000;

fn key() -> MasterKey {
    MasterKey::random().expect("a key")
}

/// A person with everything that is known of one.
fn konstanze() -> Enrollment {
    let mut person = enrollment(900_001, &[0, 1]);
    person.change.display_name = Some(NAME.to_owned());
    person.change.metadata = Some([("where".to_owned(), MetadataValue::Text(PLACE.to_owned()))].into());
    for enrolled in &mut person.templates {
        enrolled.chip = Some(chip().into());
    }
    person
}

/// A picture that no compression makes smaller.
fn chip() -> Vec<u8> {
    let mut state = 7u32;
    let picture = image::RgbImage::from_fn(112, 112, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Rgb([(state >> 8) as u8, (state >> 16) as u8, (state >> 24) as u8])
    });
    common::png(&picture)
}

/// As many bytes in a row as tell that something is there.
const PART_BYTES: usize = 16;

/// What is looked for: the parts of everything, and what each is of.
fn secrets() -> HashMap<[u8; PART_BYTES], &'static str> {
    // In memory, and packed as records and snapshots have them: the lower halves of all values one after the other.
    let values = |template: &Template| -> Vec<u8> {
        let whole = template.values().iter().flat_map(|value| value.to_le_bytes());
        let halves = template.values().iter().flat_map(|value| (value.to_bits() as u16).to_le_bytes());
        whole.chain(halves).collect()
    };
    let things = [
        ("name", NAME.as_bytes().to_vec()),
        ("metadata", PLACE.as_bytes().to_vec()),
        ("chip", chip()),
        ("template", values(&template(900_001, 1))),
        ("template of the large gallery", values(&template(17, 0))),
    ];
    let parts = things.iter().flat_map(|(what, bytes)| bytes.as_chunks().0.iter().map(|part| (*part, *what)));
    parts.collect()
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        match entry.is_dir() {
            true => found.extend(files(&entry)),
            false => found.push(std::fs::read(&entry).expect("read")),
        }
    }
    found
}

/// The secrets that are in a file of a folder.
fn found_in(folder: &Path) -> BTreeSet<&'static str> {
    let secrets = secrets();
    let mut may_begin = vec![false; 1 << 16];
    secrets.keys().for_each(|[first, second, ..]| may_begin[usize::from(*first) << 8 | usize::from(*second)] = true);
    let mut found = BTreeSet::new();
    for file in files(folder) {
        for (at, two) in file.windows(2).enumerate() {
            if may_begin[usize::from(two[0]) << 8 | usize::from(two[1])] {
                let part = file[at..].first_chunk().and_then(|part| secrets.get(part));
                found.extend(part);
            }
        }
    }
    found
}

/// A store with a large gallery that has a snapshot, one with the person, and people who were deleted; closed.
fn fill(folder: &Path, key: Option<&MasterKey>) {
    let galleries = EmbeddedGalleries::open_with_key(folder, key).expect("open");
    let large = SyntheticGallery {
        gallery: gallery("large"),
        pack_id: pack(),
        dimension: DIMENSION,
        seed: 1,
        templates: TEMPLATES,
    };
    let mut import = galleries.begin_import(gallery("large"), 0).expect("begin");
    write_synthetic(&large, |part, _| import.feed(part)).expect("feed");
    import.finish().expect("finish");
    let runtime = runtime();
    runtime.block_on(async {
        create(&galleries, "small").await;
        galleries.enroll(gallery("small"), konstanze()).await.expect("enrol");
        galleries.enroll(gallery("small"), enrollment(1, &[0])).await.expect("enrol");
    });
    galleries.close();
    drop(galleries);
    let galleries = EmbeddedGalleries::open_with_key(folder, key).expect("open");
    runtime.block_on(async {
        // Logged, as a change of a gallery that has a snapshot.
        galleries.enroll(gallery("large"), konstanze()).await.expect("enrol");
        galleries.delete_identity(gallery("small"), identity(1)).await.expect("delete");
    });
    galleries.close();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("tokio")
}

fn everything() -> BTreeSet<&'static str> {
    secrets().into_values().collect()
}

#[test]
fn nothing_of_a_person_is_in_a_file_of_an_encrypted_store_and_all_of_it_in_a_plain_one() {
    let (plain, encrypted, key) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), key());
    fill(plain.path(), None);
    fill(encrypted.path(), Some(&key));
    assert_eq!(found_in(plain.path()), everything());
    // Of a change since it was taken there is nothing in a snapshot yet.
    assert_eq!(found_in(&plain.path().join("snapshots")), ["template of the large gallery"].into());
    assert!(!files(&encrypted.path().join("snapshots")).is_empty());
    assert_eq!(found_in(encrypted.path()), BTreeSet::new());
    // Ids are keys, and stay readable.
    let id = identity(900_001);
    assert!(files(encrypted.path()).iter().any(|file| file.windows(7).any(|part| part == id.as_str().as_bytes())));
    let galleries = EmbeddedGalleries::open_with_key(encrypted.path(), Some(&key)).expect("open");
    let found = galleries.identity(&gallery("small"), &id).expect("the identity");
    assert!(
        found.details.display_name == NAME && found.templates.iter().all(|one| one.chip.as_deref() == Some(&chip()))
    );
    assert_eq!(best(&galleries, "large", template(17, 0)).expect("somebody").0.as_str(), "00000017");
    assert_index_agrees(&galleries, "small", "encrypted");
    galleries.close();
}

#[test]
fn store_that_is_encrypted_rotated_and_decrypted_keeps_everybody_and_leaves_nothing_of_before() {
    let (folder, one, two) = (tempfile::tempdir().expect("a folder"), key(), key());
    fill(folder.path(), None);
    let people = |key: Option<&MasterKey>| {
        let galleries = EmbeddedGalleries::open_with_key(folder.path(), key).expect("open");
        let people = ["large", "small"].map(|id| all(&galleries, id));
        galleries.close();
        people
    };
    let before = people(None);
    change_key(folder.path(), None, Some(&one), |_| ()).expect("encrypt");
    assert_eq!(found_in(folder.path()), BTreeSet::new(), "right after it is encrypted");
    assert!(people(Some(&one)) == before);
    assert_eq!(found_in(folder.path()), BTreeSet::new(), "with snapshots again");
    let rotated = change_key(folder.path(), Some(&one), Some(&two), |_| ()).expect("rotate");
    assert_eq!(rotated.identities, before.iter().map(|people| people.len() as u64).sum::<u64>());
    let refused = EmbeddedGalleries::open_with_key(folder.path(), Some(&one)).err().expect("the key of before");
    assert!(matches!(refused, StoreError::WrongKey { .. }), "{refused}");
    assert!(people(Some(&two)) == before);
    assert_eq!(found_in(folder.path()), BTreeSet::new());
    change_key(folder.path(), Some(&two), None, |_| ()).expect("decrypt");
    assert!(people(None) == before);
    assert_eq!(found_in(folder.path()), everything());
}

/// A wrong key, none, and one for a plain store: refused, with what to do, and nothing else happens to the store.
#[test]
fn store_opens_by_its_own_key_alone() {
    let (folder, right) = (tempfile::tempdir().expect("a folder"), key());
    let galleries = EmbeddedGalleries::open_with_key(folder.path(), Some(&right)).expect("a new store");
    runtime().block_on(async {
        create(&galleries, "a").await;
        galleries.enroll(gallery("a"), enrollment(1, &[0])).await.expect("enrol");
    });
    galleries.close();
    drop(galleries);
    let refused = |key: Option<&MasterKey>| match EmbeddedGalleries::open_with_key(folder.path(), key) {
        Ok(_) => panic!("it opens"),
        Err(error) => error.to_string(),
    };
    let wrong = key();
    let (missing, other) = (refused(None), refused(Some(&wrong)));
    assert!(missing.contains(&right.id().to_string()) && missing.contains("--encryption-key-file"), "{missing}");
    assert!(other.contains(&right.id().to_string()) && other.contains(&wrong.id().to_string()), "{other}");
    let galleries = EmbeddedGalleries::open_with_key(folder.path(), Some(&right)).expect("the right key");
    assert_index_agrees(&galleries, "a", "after refusals");
    galleries.close();
}

/// An export is how a gallery moves to another store, with or without a key of its own: it is plain.
#[test]
fn gallery_moves_from_an_encrypted_store_to_another() {
    let (from, to) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let galleries = EmbeddedGalleries::open_with_key(from.path(), Some(&key())).expect("open");
    runtime().block_on(async {
        create(&galleries, "small").await;
        galleries.enroll(gallery("small"), konstanze()).await.expect("enrol");
    });
    let mut file = Vec::new();
    let take = |part: facematch::gallery::ExportPart| {
        file.extend_from_slice(&part.bytes);
        Ok::<(), Error>(())
    };
    galleries.export(&gallery("small"), take).expect("export");
    assert!(file.windows(NAME.len()).any(|part| part == NAME.as_bytes()));
    let other = EmbeddedGalleries::open_with_key(to.path(), Some(&key())).expect("open");
    let mut import = other.begin_import(gallery("small"), 0).expect("begin");
    import.feed(&file).expect("feed");
    import.finish().expect("finish");
    assert!(all(&other, "small") == all(&galleries, "small"));
    other.close();
    galleries.close();
}
