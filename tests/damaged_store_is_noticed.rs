//! A store that lost what was written to it does not open as if nothing had been.

use std::path::Path;
use std::time::SystemTime;

use facematch::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use facematch::biometrics::template::Template;
use facematch::gallery::{
    EmbeddedGalleries, EnrolledTemplate, Enrollment, GallerySettings, IdentityChange, IfExists, SearchPolicy,
    StoreError, Synthetic,
};

const IDENTITIES: u64 = 300;

fn gallery() -> GalleryId {
    GalleryId::parse("g").expect("an id")
}

/// A store with a gallery of some people, closed.
async fn write_store(folder: &Path) {
    let galleries = EmbeddedGalleries::open(folder).expect("open");
    let settings = GallerySettings { search_policy: SearchPolicy::Exact, ..Default::default() };
    let pack_id = PackId::parse(&"0a".repeat(16)).expect("an id");
    galleries.create_gallery(gallery(), settings, pack_id.clone(), 128).await.expect("create");
    let people = Synthetic::new(1, 128);
    for number in 0..IDENTITIES {
        let template = Template::from_vector(&people.template(number, 0), pack_id.clone()).expect("a template");
        let id = TemplateId::parse("t").expect("an id");
        let enrollment = Enrollment {
            identity: IdentityId::parse(&format!("p{number}")).expect("an id"),
            change: IdentityChange::default(),
            templates: vec![EnrolledTemplate { id, template, face: None, chip: None, created: SystemTime::now() }],
            if_exists: IfExists::Refuse,
            check_defaults: Default::default(),
            may_refuse_all: false,
            identities_max: None,
        };
        galleries.enroll(gallery(), enrollment).await.expect("enrol");
    }
    galleries.close();
}

/// What opening says: everything is there, or the store is damaged. Anything else is a failure.
#[track_caller]
fn whole_or_damaged(folder: &Path, how: &str) -> bool {
    match EmbeddedGalleries::open(folder) {
        Err(StoreError::Damaged { .. } | StoreError::Unopenable { .. } | StoreError::DamagedGallery(_)) => false,
        Err(error) => panic!("{how}: {error}"),
        Ok(galleries) => {
            let (_, status) = galleries.gallery(&gallery()).unwrap_or_else(|error| panic!("{how}: {error}"));
            let counts = status.counts;
            assert_eq!(counts.identities + counts.damaged_identities, IDENTITIES, "{how}");
            galleries.close();
            counts.damaged_identities == 0
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, target).expect("copy");
        }
    }
}

#[tokio::test]
async fn damage_anywhere_in_the_store_is_noticed() {
    let original = tempfile::tempdir().expect("a folder");
    write_store(original.path()).await;
    assert!(whole_or_damaged(original.path(), "as it was"));
    let length = std::fs::metadata(original.path().join("store-1").join("db")).expect("the file").len();
    let mut noticed = 0;
    let steps = 40;
    for step in 0..steps {
        for (how, change) in [
            ("cut to", (|bytes, at| bytes.truncate(at)) as fn(&mut Vec<u8>, usize)),
            ("a byte flipped at", |bytes, at| bytes[at] ^= 0x10),
            ("4 KiB of zeros at", |bytes, at| bytes.iter_mut().skip(at).take(4_096).for_each(|byte| *byte = 0)),
            ("noise from", |bytes, at| bytes.iter_mut().skip(at).for_each(|byte| *byte ^= 0x5a)),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            copy(original.path(), folder.path());
            let file = folder.path().join("store-1").join("db");
            let mut bytes = std::fs::read(&file).expect("read");
            let at = (length * step / steps) as usize;
            change(&mut bytes, at);
            std::fs::write(&file, bytes).expect("write");
            noticed += u64::from(!whole_or_damaged(folder.path(), &format!("{how} {at} of {length}")));
        }
    }
    println!("{noticed} of {} damages reported; the others cost nothing", steps * 4);
    assert!(noticed > steps);
}

/// The store as it was before its last write, beside a marker that knows of that write: what a lost end looks like.
#[tokio::test]
async fn store_without_its_last_write_is_damaged() {
    let folder = tempfile::tempdir().expect("a folder");
    write_store(folder.path()).await;
    let earlier = tempfile::tempdir().expect("a folder");
    copy(folder.path(), earlier.path());
    let galleries = EmbeddedGalleries::open(folder.path()).expect("open");
    let gone = IdentityId::parse("p7").expect("an id");
    galleries.delete_identity(gallery(), gone).await.expect("delete");
    galleries.close();
    drop(galleries);
    let marker = folder.path().join("facematch.state");
    std::fs::copy(&marker, earlier.path().join("facematch.state")).expect("copy the marker");
    let Err(error) = EmbeddedGalleries::open(earlier.path()) else { panic!("a deletion was undone in silence") };
    assert!(error.to_string().contains("its last writes are not there"), "{error}");
    // What the error says to do, for those who have no backup.
    std::fs::remove_file(earlier.path().join("facematch.state")).expect("remove the marker");
    assert!(whole_or_damaged(earlier.path(), "without a marker"));
}

#[tokio::test]
async fn store_without_its_files_is_not_a_new_one() {
    let folder = tempfile::tempdir().expect("a folder");
    write_store(folder.path()).await;
    std::fs::remove_file(folder.path().join("store-1").join("db")).expect("remove");
    let Err(error) = EmbeddedGalleries::open(folder.path()) else { panic!("opened as new") };
    assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Unopenable { .. }), "{error}");
    assert!(error.to_string().contains("store"), "{error}");
}
