//! Targets of fuzzers: what lies on disks, and files from anybody. See `crate::fuzzing`.
//!
//! Checksums of an input are put right before it is read: a fuzzer does not find them, and what is wrong behind a right one is
//! what there is to learn. That wrong ones are seen is for the tests of each format.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is what a fuzzer looks for"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::EmbeddedGalleries;
use super::archive::checksum;
use super::curve_record::{CurveRecord, curve_record, known_curve};
use super::record::{self, GalleryRecord, StagedRecord};
use super::snapshot;
use super::types::{Gallery, Identity};
use crate::biometrics::enrolment::CheckDefaults;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::biometrics::template::Template;
use crate::error::Error;
use crate::fuzzing::{Run, Scratch};
use crate::gallery::{EnrolledTemplate, Enrollment, IdentityChange, IfExists, MetadataValue, Search, Synthetic};

/// Of all templates here; small, so that inputs are.
pub(crate) const DIMENSION: usize = 8;

/// Bytes before the first frame, and before the body of each: those of galleries and of snapshots alike.
const PREAMBLE_BYTES: usize = 12;
const FRAME_HEADER_BYTES: usize = 9;

/// Puts the checksums of frames right, up to one that is cut short.
fn mend_frames(bytes: &mut [u8], mut at: usize, mut chain: u32) {
    while let Some(&[kind, l0, l1, l2, l3]) = bytes.get(at..at + 5) {
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let end = at + FRAME_HEADER_BYTES + length as usize;
        let Some(body) = bytes.get(at + FRAME_HEADER_BYTES..end) else { return };
        chain = checksum(chain, kind, length, &[body]);
        bytes[at + 5..at + FRAME_HEADER_BYTES].copy_from_slice(&chain.to_le_bytes());
        at = end;
    }
}

/// The key that records are under.
pub(crate) const KEY: &[u8] = b"key";

fn unseal_identity(record: &[u8]) -> Result<Identity, Error> {
    record::read_identity(identity(0), record::unframe(KEY, record)?, DIMENSION)
}

fn seal_identity(identity: &Identity) -> Vec<u8> {
    record::frame(KEY, &record::identity_message(identity))
}

/// What kind of record it is, and the record. What is read of it is written as it was read.
pub(crate) fn record(bytes: &[u8]) {
    let Some((kind, record)) = bytes.split_first() else { return };
    let mut record = record.to_vec();
    if let Some((header, body)) = record.split_first_chunk_mut::<8>() {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(KEY);
        hasher.update(body);
        header[4..].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
    match kind % 4 {
        0 => {
            let read = |bytes: &[u8]| unseal_identity(bytes);
            let Ok(somebody) = read(&record) else { return };
            assert!(somebody.templates.iter().all(|enrolled| enrolled.template.values().len() == DIMENSION));
            // Nobody is written without a template: of which pack they are would not be known.
            if somebody.templates.is_empty() {
                return;
            }
            let again = seal_identity(&somebody);
            let back = read(&again).expect("what was written");
            assert!(seal_identity(&back) == again);
        }
        1 => {
            let Ok(read) = record::unseal::<GalleryRecord>(KEY, &record) else { return };
            let Ok(gallery) = record::gallery(gallery_id(), &read) else { return };
            let again = record::gallery_record(read.number, &gallery);
            assert!(record::gallery(gallery_id(), &again).is_ok_and(|back| back.settings == gallery.settings));
        }
        2 => drop(record::unseal::<StagedRecord>(KEY, &record)),
        _ => {
            let Ok(read) = record::unseal::<CurveRecord>(KEY, &record) else { return };
            let Ok(known) = known_curve(read) else { return };
            let _ = known.strictest_threshold();
            for threshold in [-1.0, 0.2, 1.0].into_iter().chain(known.threshold_for_fmr(1e-3)) {
                let _ = known.of_comparison(threshold);
            }
            assert!(known_curve(curve_record(&known)).is_ok());
        }
    }
}

/// A store with one gallery, and what is asked of it.
pub(crate) struct House {
    pub galleries: EmbeddedGalleries,
    pub scratch: Scratch,
    runtime: tokio::runtime::Runtime,
}

impl House {
    pub(crate) fn new(people: u64) -> Self {
        let scratch = Scratch::new();
        let galleries = EmbeddedGalleries::open(scratch.path()).expect("open a store");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let settings = Gallery::with_defaults(gallery_id(), pack(), DIMENSION, SystemTime::now()).settings;
        runtime.block_on(async {
            galleries.create_gallery(gallery_id(), settings, pack(), DIMENSION).await.expect("make a gallery");
            for number in 0..people {
                galleries.enroll(gallery_id(), enrollment(number)).await.expect("enrol");
            }
        });
        Self { galleries, scratch, runtime }
    }

    /// The bytes of the gallery's snapshot.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let (id, shared) = self.galleries.indexes.all().into_iter().next().expect("the gallery");
        self.galleries.keeper.snapshots.take(&id, &shared).expect("a snapshot");
        std::fs::read(self.snapshot_path()).expect("read it")
    }

    fn stored(&self) -> super::store::StoredGallery {
        self.galleries.store.gallery(&gallery_id()).expect("read").expect("the gallery")
    }

    fn snapshot_path(&self) -> std::path::PathBuf {
        snapshot::path(self.scratch.path(), self.stored().number)
    }

    /// The bytes of the gallery as a file.
    pub(crate) fn file(&self, id: &GalleryId) -> Vec<u8> {
        let mut bytes = Vec::new();
        let taken = self.galleries.export(id, |part| {
            bytes.extend(part.bytes);
            Ok(())
        });
        taken.expect("an export");
        bytes
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.galleries.close();
    }
}

/// Bytes of the frames behind the header; behind a first byte of 0 a whole file. The header is that of the store that reads it,
/// without which it would not.
pub(crate) fn snapshot() -> Run {
    let house = House::new(3);
    let whole = house.snapshot();
    let start = header_end(&whole);
    let chain = u32::from_le_bytes(whole[PREAMBLE_BYTES + 5..][..4].try_into().unwrap());
    Box::new(move |bytes| {
        let Some((kind, bytes)) = bytes.split_first() else { return };
        let mut file = if *kind == 0 { bytes.to_vec() } else { [&whole[..start], bytes].concat() };
        let (from, before) = if *kind == 0 { (PREAMBLE_BYTES, 0) } else { (start, chain) };
        mend_frames(&mut file, from, before);
        std::fs::write(house.snapshot_path(), &file).expect("write a file");
        let Ok(Some(index)) = snapshot::load(house.scratch.path(), &house.galleries.store, &house.stored()) else {
            return;
        };
        // It is searched like any other.
        let indexes = super::index::Indexes::default();
        indexes.insert(index);
        let scope =
            crate::gallery::Scope { filter: super::filter::Filter::parse("f", "number > 0").ok(), candidates: None };
        for (exact, scope) in [(true, Default::default()), (false, scope)] {
            let search = Search { probe: template(1), capacity: 2, exact, scope };
            let outcome = indexes.search_many(&gallery_id(), vec![search]).expect("a search");
            for ranked in outcome.iter().flat_map(|outcome| &outcome.ranked) {
                assert!(!ranked.score.cosine().is_nan(), "a score that is no number");
            }
        }
    })
}

/// Where the first frame of a file ends.
pub(crate) fn header_end(file: &[u8]) -> usize {
    let length = u32::from_le_bytes(file[PREAMBLE_BYTES + 1..][..4].try_into().unwrap());
    PREAMBLE_BYTES + FRAME_HEADER_BYTES + length as usize
}

/// A file of a gallery, which comes in two parts. What is imported can be exported and imported again; what is not leaves nothing
/// to be seen.
pub(crate) fn gallery_file() -> Run {
    let house = House::new(0);
    let count = AtomicU64::new(0);
    Box::new(move |bytes| {
        let mut file = bytes.to_vec();
        mend_frames(&mut file, PREAMBLE_BYTES, 0);
        // Of an id of its own, so that nothing that was before is in its way.
        let id = GalleryId::parse(&format!("i{}", count.fetch_add(1, Ordering::Relaxed))).expect("an id");
        let came = import(&house, &id, &file);
        let is_there = house.galleries.gallery(&id).is_ok();
        assert_eq!(came, is_there);
        if came {
            let again = GalleryId::parse(&format!("{}-again", id.as_str())).expect("an id");
            assert!(import(&house, &again, &house.file(&id)), "what was exported is not imported");
            house.runtime.block_on(house.galleries.delete_gallery(again, true)).expect("delete");
        }
        if came || house.galleries.import_state(&id).is_ok() {
            house.runtime.block_on(house.galleries.delete_gallery(id, true)).expect("delete");
        }
    })
}

/// Tells whether a file was imported.
fn import(house: &House, id: &GalleryId, file: &[u8]) -> bool {
    let mut import = house.galleries.begin_import(id.clone(), 0).expect("begin an import");
    let (first, second) = file.split_at(file.len() / 2);
    import.feed(first).and_then(|()| import.feed(second)).and_then(|()| import.finish()).is_ok()
}

pub(crate) fn gallery_id() -> GalleryId {
    GalleryId::parse("g").expect("an id")
}

pub(crate) fn identity(number: u64) -> IdentityId {
    IdentityId::parse(&format!("p{number}")).expect("an id")
}

pub(crate) fn pack() -> PackId {
    PackId::parse(&"0a".repeat(16)).expect("an id")
}

pub(crate) fn template(number: u64) -> Template {
    Template::from_vector(&Synthetic::new(9, DIMENSION).template(number, 0), pack()).expect("a template")
}

pub(crate) fn enrollment(number: u64) -> Enrollment {
    let enrolled = (0..2).map(|which| EnrolledTemplate {
        id: TemplateId::parse(&which.to_string()).expect("an id"),
        template: template(number * 10 + which),
        face: None,
        chip: None,
        created: SystemTime::now(),
    });
    let metadata = [
        ("number".to_owned(), MetadataValue::Number(number as f64)),
        ("site".to_owned(), MetadataValue::Text("HQ".to_owned())),
        ("staff".to_owned(), MetadataValue::Flag(true)),
        ("since".to_owned(), MetadataValue::Time { seconds: 5, nanos: 7 }),
    ];
    Enrollment {
        identity: identity(number),
        change: IdentityChange { display_name: Some("Ann".to_owned()), metadata: Some(metadata.into()) },
        templates: enrolled.collect(),
        if_exists: IfExists::Add,
        check_defaults: CheckDefaults::default(),
        may_refuse_all: false,
        identities_max: None,
    }
}

/// Records that are right, as inputs.
#[cfg(test)]
pub(crate) fn records() -> Vec<(String, Vec<u8>)> {
    use crate::biometrics::calibration::{Curve, CurveOf, KnownCurve, ScoreCounts};
    let house = House::new(1);
    let stored = house.stored();
    let somebody = house.galleries.store.identity(&stored, &identity(0)).expect("read").expect("somebody");
    let (mut mated, mut non_mated) = (ScoreCounts::default(), ScoreCounts::default());
    (0..20).for_each(|at| mated.add(0.2 + at as f32 / 40.0).expect("a score"));
    (0..400).for_each(|at| non_mated.add(at as f32 / 2_000.0).expect("a score"));
    let curve = Curve::of(&mated, &non_mated);
    let known = KnownCurve::new(pack(), &curve, CurveOf::Pack, "a test".to_owned(), None);
    let staged = StagedRecord {
        number: 7,
        export_id: "e".to_owned(),
        pack_id: pack().as_str().to_owned(),
        ..Default::default()
    };
    let sealed = [
        ("identity", seal_identity(&somebody)),
        ("gallery", record::seal(KEY, &record::gallery_record(stored.number, &stored.gallery))),
        ("staged", record::seal(KEY, &staged)),
        ("curve", record::seal(KEY, &curve_record(&known))),
    ];
    let seed =
        |(kind, (name, record)): (usize, (&str, Vec<u8>))| (name.to_owned(), [&[kind as u8], &record[..]].concat());
    sealed.into_iter().enumerate().map(seed).collect()
}
