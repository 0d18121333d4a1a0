//! A gallery's record: its settings as bytes.

use std::collections::BTreeMap;

use prost::Message;

use super::record::{micros, time};
use super::types::{Gallery, GallerySettings, RecallTarget, SearchPolicy, Served};
use crate::biometrics::decision::AmbiguityMargin;
use crate::biometrics::enrolment::{Check, CheckPolicy};
use crate::biometrics::fusion::Fusion;
use crate::biometrics::ids::{GalleryId, PackId};
use crate::biometrics::quality::QualityGate;
use crate::biometrics::score::Threshold;
use crate::error::Error;

#[derive(Clone, PartialEq, Message)]
pub(super) struct GalleryRecord {
    /// Number of the gallery's identities' key range: never used again, so that a gallery made anew under an old id
    /// does not see what is left of its predecessor.
    #[prost(fixed64, tag = "1")]
    pub number: u64,
    #[prost(string, tag = "2")]
    display_name: String,
    #[prost(bool, tag = "3")]
    graph: bool,
    #[prost(float, tag = "4")]
    ambiguity_margin: f32,
    #[prost(float, optional, tag = "5")]
    identification_cosine: Option<f32>,
    #[prost(string, tag = "6")]
    pack_id: String,
    #[prost(uint32, tag = "7")]
    dimension: u32,
    #[prost(uint64, tag = "8")]
    created_micros: u64,
    #[prost(uint64, tag = "9")]
    updated_micros: u64,
    /// Before `graph`: the policy chooses by itself.
    #[prost(bool, tag = "10")]
    auto: bool,
    /// Limits by name, as `biometrics/quality.rs` has them.
    #[prost(btree_map = "string, float", tag = "11")]
    quality_gate: BTreeMap<String, f32>,
    /// 0: max, 1: mean, 2: quality-weighted mean.
    #[prost(uint32, tag = "12")]
    fusion: u32,
    /// Policies: 0: off, 1: warn, 2: reject.
    #[prost(uint32, tag = "13")]
    duplicate_policy: u32,
    #[prost(float, optional, tag = "14")]
    duplicate_cosine: Option<f32>,
    #[prost(uint32, tag = "15")]
    consistency_policy: u32,
    #[prost(float, optional, tag = "16")]
    consistency_cosine: Option<f32>,
    #[prost(double, optional, tag = "17")]
    recall_target: Option<f64>,
    #[prost(bool, tag = "18")]
    keep_chips: bool,
    /// 0: here, 1: here, with a copy in another store, 2: in another store, 3: as 1, with a stale copy.
    #[prost(uint32, tag = "19")]
    served: u32,
}

/// Each value has its place as its number.
const FUSIONS: [Fusion; 3] = [Fusion::Max, Fusion::Mean, Fusion::QualityWeightedMean];
const SERVED: [Served; 4] = [Served::Here, Served::HereWithCopy, Served::Elsewhere, Served::HereWithStaleCopy];
const POLICIES: [CheckPolicy; 3] = [CheckPolicy::Off, CheckPolicy::Warn, CheckPolicy::Reject];

pub(super) fn gallery_record(number: u64, gallery: &Gallery) -> GalleryRecord {
    let GallerySettings {
        display_name,
        search_policy,
        ambiguity_margin,
        identification,
        quality_gate,
        fusion,
        duplicates,
        consistency,
        recall_target,
        keep_chips,
        served,
    } = &gallery.settings;
    GalleryRecord {
        number,
        display_name: display_name.clone(),
        graph: *search_policy == SearchPolicy::Graph,
        auto: *search_policy == SearchPolicy::Auto,
        ambiguity_margin: ambiguity_margin.cosine_difference(),
        identification_cosine: identification.map(Threshold::cosine),
        pack_id: gallery.pack_id.as_str().to_owned(),
        dimension: u32::try_from(gallery.dimension).unwrap_or(u32::MAX),
        created_micros: micros(gallery.created),
        updated_micros: micros(gallery.updated),
        quality_gate: quality_gate.stated().map(|(limit, value)| (limit.name.to_owned(), value)).collect(),
        fusion: place_of(&FUSIONS, *fusion),
        duplicate_policy: place_of(&POLICIES, duplicates.policy),
        duplicate_cosine: duplicates.cosine.map(Threshold::cosine),
        consistency_policy: place_of(&POLICIES, consistency.policy),
        consistency_cosine: consistency.cosine.map(Threshold::cosine),
        recall_target: Some(recall_target.share()),
        keep_chips: *keep_chips,
        served: place_of(&SERVED, *served),
    }
}

/// A value's place in a table of all its values, and the value at a place.
fn place_of<T: PartialEq>(table: &[T], value: T) -> u32 {
    table.iter().position(|known| *known == value).map_or(0, |at| at as u32)
}

fn value_at<T: Copy>(table: &[T], number: u32) -> Result<T, Error> {
    table.get(number as usize).copied().ok_or(Error::DataLoss("a number is of no value that is known"))
}

/// *Errors*: [`Error::DataLoss`] where a value is not one that was ever written.
pub(super) fn gallery(id: GalleryId, record: &GalleryRecord) -> Result<Gallery, Error> {
    let read = || -> Result<Gallery, Error> {
        let cosine = |stated: Option<f32>| stated.map(|cosine| Threshold::from_cosine("cosine", cosine)).transpose();
        let settings = GallerySettings {
            display_name: record.display_name.clone(),
            search_policy: match (record.auto, record.graph) {
                (true, _) => SearchPolicy::Auto,
                (false, true) => SearchPolicy::Graph,
                (false, false) => SearchPolicy::Exact,
            },
            ambiguity_margin: AmbiguityMargin::new("ambiguity_margin", record.ambiguity_margin)?,
            identification: cosine(record.identification_cosine)?,
            quality_gate: QualityGate::named(record.quality_gate.iter().map(|(name, value)| (name.as_str(), *value)))?,
            fusion: value_at(&FUSIONS, record.fusion)?,
            duplicates: Check {
                policy: value_at(&POLICIES, record.duplicate_policy)?,
                cosine: cosine(record.duplicate_cosine)?,
            },
            consistency: Check {
                policy: value_at(&POLICIES, record.consistency_policy)?,
                cosine: cosine(record.consistency_cosine)?,
            },
            recall_target: match record.recall_target {
                Some(share) => RecallTarget::new("recall_target", share)?,
                None => RecallTarget::default(),
            },
            keep_chips: record.keep_chips,
            served: value_at(&SERVED, record.served)?,
        };
        Ok(Gallery {
            id,
            settings,
            pack_id: PackId::parse(&record.pack_id)?,
            dimension: record.dimension as usize,
            created: time(record.created_micros),
            updated: time(record.updated_micros),
        })
    };
    read().map_err(|_| Error::DataLoss("a value is out of its range"))
}

#[cfg(test)]
mod tests {
    use super::super::record::{seal, unseal};
    use super::*;

    #[test]
    fn gallery_record_comes_back_as_it_was() {
        let gallery = Gallery {
            id: GalleryId::parse("staff").expect("an id"),
            settings: GallerySettings {
                display_name: "Staff".into(),
                search_policy: SearchPolicy::Graph,
                ambiguity_margin: AmbiguityMargin::new("m", 0.1).expect("a margin"),
                identification: Some(Threshold::from_cosine("t", 0.4).expect("a threshold")),
                quality_gate: QualityGate::named([("sharpness_min", 0.3), ("yaw_degrees_max", 30.0)]).expect("a gate"),
                fusion: Fusion::QualityWeightedMean,
                duplicates: Check { policy: CheckPolicy::Reject, cosine: None },
                recall_target: RecallTarget::new("t", 0.99).expect("a target"),
                keep_chips: true,
                served: Served::Elsewhere,
                consistency: Check { policy: CheckPolicy::Warn, cosine: Threshold::from_cosine("t", 0.1).ok() },
            },
            pack_id: PackId::from_digits("0a".repeat(16)),
            dimension: 512,
            created: time(5),
            updated: time(6),
        };
        let sealed = seal(b"k", &gallery_record(7, &gallery));
        let record: GalleryRecord = unseal(b"k", &sealed).expect("whole");
        assert_eq!(record.number, 7);
        assert_eq!(super::gallery(gallery.id.clone(), &record).expect("whole"), gallery);
    }

    #[test]
    fn gallery_record_of_before_there_were_policies_has_their_defaults() {
        let before = GalleryRecord { pack_id: "0a".repeat(16), dimension: 4, auto: true, ..Default::default() };
        let read = super::gallery(GalleryId::parse("staff").expect("an id"), &before).expect("whole");
        let ambiguity_margin = AmbiguityMargin::new("m", 0.0).expect("a margin");
        assert_eq!(read.settings, GallerySettings { ambiguity_margin, ..Default::default() });
    }
}
