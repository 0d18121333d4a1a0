//! What galleries hold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::filter::Filter;
use super::ranking::Ranked;
use crate::biometrics::decision::AmbiguityMargin;
use crate::biometrics::enrolment::Check;
use crate::biometrics::face::Face;
use crate::biometrics::fusion::Fusion;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::biometrics::quality::QualityGate;
use crate::biometrics::score::Threshold;
use crate::biometrics::template::Template;
use crate::error::Error;

/// How a gallery is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SearchPolicy {
    /// Exactly, until the gallery outgrows that; then by a graph, where that misses few enough.
    #[default]
    Auto,
    /// Every template is scored: nobody is missed.
    Exact,
    /// An HNSW graph proposes candidates, which are scored exactly. May miss a mate.
    Graph,
}

/// The share of mates that a gallery's graph must propose to be used: from .9 to .9999.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecallTarget(f64);

impl RecallTarget {
    /// Checks a target.
    ///
    /// *Errors*: [`Error::BadField`].
    pub fn new(field: &'static str, share: f64) -> Result<Self, Error> {
        if !(0.9..=0.9999).contains(&share) {
            return Err(Error::bad_field(field, "a share from 0.9 to 0.9999"));
        }
        Ok(Self(share))
    }

    /// Returns the share.
    pub fn share(self) -> f64 {
        self.0
    }

    /// Tells whether what was measured meets it.
    pub(super) fn is_met_by(self, recall: &GraphRecall) -> bool {
        recall.missed as f64 <= (1.0 - self.0) * recall.probes as f64 + 1e-9
    }
}

impl Default for RecallTarget {
    /// One mate in a thousand may be missed.
    fn default() -> Self {
        Self(0.999)
    }
}

/// A gallery's settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GallerySettings {
    /// Free text.
    pub display_name: String,
    /// How it is searched.
    pub search_policy: SearchPolicy,
    /// How clear of a runner-up a match must be.
    pub ambiguity_margin: AmbiguityMargin,
    /// Its own identification threshold; `None` is the pack's.
    pub identification: Option<Threshold>,
    /// What it asks of the photos it enrols.
    pub quality_gate: QualityGate,
    /// How the templates of an identity become its score.
    pub fusion: Fusion,
    /// New templates of somebody who is enrolled as another identity.
    pub duplicates: Check,
    /// New templates that are unlike their identity's others.
    pub consistency: Check,
    /// How many mates a graph must propose to be used.
    pub recall_target: RecallTarget,
    /// Whether the aligned chips of photos are kept, so that another pack can make templates of them.
    pub keep_chips: bool,
    /// Which store serves it, where a move has taken it to another or back.
    pub served: Served,
}

/// Which store serves a gallery. Said by the first of a server's two stores, of what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Served {
    /// This one.
    #[default]
    Here,
    /// This one; the other may have what a move left, or what one has copied so far.
    HereWithCopy,
    /// The same, but deletions were not passed on to it for a while: it is no way back.
    HereWithStaleCopy,
    /// The other one: this is what the move left.
    Elsewhere,
}

/// A gallery.
#[derive(Clone, Debug, PartialEq)]
pub struct Gallery {
    /// Its id.
    pub id: GalleryId,
    /// Its settings.
    pub settings: GallerySettings,
    /// The pack whose templates it holds.
    pub pack_id: PackId,
    /// Length of its templates.
    pub dimension: usize,
    /// When it was made.
    pub created: SystemTime,
    /// When its settings were last changed.
    pub updated: SystemTime,
}

impl Gallery {
    /// Makes one that nobody has stated settings of.
    pub(super) fn with_defaults(id: GalleryId, pack_id: PackId, dimension: usize, time: SystemTime) -> Self {
        let settings = GallerySettings::default();
        Self { id, settings, pack_id, dimension, created: time, updated: time }
    }

    /// The gallery of another pack. Its own thresholds are cosines of the old one, so they go.
    pub(super) fn moved(self, pack_id: &PackId, dimension: usize, time: SystemTime) -> Self {
        let mut moved = Self { pack_id: pack_id.clone(), dimension, updated: time, ..self };
        moved.settings.identification = None;
        moved.settings.duplicates.cosine = None;
        moved.settings.consistency.cosine = None;
        moved
    }
}

/// How much a gallery holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GalleryCounts {
    /// Identities that are searched.
    pub identities: u64,
    /// Their templates.
    pub templates: u64,
    /// Identities whose record is damaged, so that they cannot be searched.
    pub damaged_identities: u64,
}

/// What a graph was measured to miss, on the gallery itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphRecall {
    /// Probes whose mate is known.
    pub probes: u64,
    /// Those whose mate the graph did not propose.
    pub missed: u64,
    /// Candidates that a search keeps.
    pub expansion: usize,
    /// When.
    pub time: SystemTime,
}

/// How a gallery stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GalleryStatus {
    /// How much it holds.
    pub counts: GalleryCounts,
    /// How searches are answered now.
    pub path: SearchPath,
    /// While a graph is being built, or measured again: the share that is done.
    pub build_progress: Option<f64>,
    /// What the graph was measured to miss, also where it is therefore not used.
    pub recall: Option<GraphRecall>,
}

/// A value of an identity's metadata.
#[derive(Clone, PartialEq)]
pub enum MetadataValue {
    /// At most 1,024 bytes.
    Text(String),
    /// Finite.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// Seconds and nanoseconds since 1970-01-01 UTC.
    Time {
        /// Whole seconds.
        seconds: i64,
        /// From 0 to 999,999,999.
        nanos: i32,
    },
}

// What is known of a person never reaches a log through `Debug`.
impl std::fmt::Debug for MetadataValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MetadataValue::Text(_) => "Text(..)",
            MetadataValue::Number(_) => "Number(..)",
            MetadataValue::Flag(_) => "Flag(..)",
            MetadataValue::Time { .. } => "Time(..)",
        })
    }
}

/// What is known of a person besides the templates.
#[derive(Clone, Default, PartialEq)]
pub struct PersonDetails {
    /// Free text.
    pub display_name: String,
    /// By key.
    pub metadata: BTreeMap<String, MetadataValue>,
}

/// From the year 1 to 9999, as protobuf has times.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl PersonDetails {
    /// The longest display name, in bytes.
    pub const DISPLAY_NAME_BYTES_MAX: usize = 256;
    /// The most metadata entries.
    pub const METADATA_MAX: usize = 64;
    /// The longest metadata key, in bytes.
    pub const METADATA_KEY_BYTES_MAX: usize = 64;
    /// The longest metadata text, in bytes.
    pub const METADATA_TEXT_BYTES_MAX: usize = 1_024;

    /// Checks lengths and values.
    ///
    /// *Errors*: [`Error::BadField`] that names the field.
    pub fn check(&self) -> Result<(), Error> {
        check_display_name("display_name", &self.display_name)?;
        if self.metadata.len() > Self::METADATA_MAX {
            return Err(Error::bad_field("metadata", "at most 64 entries"));
        }
        for (key, value) in &self.metadata {
            if !(1..=Self::METADATA_KEY_BYTES_MAX).contains(&key.len()) {
                return Err(Error::bad_field("metadata", "keys of 1 to 64 bytes"));
            }
            let fits = match value {
                MetadataValue::Text(text) => text.len() <= Self::METADATA_TEXT_BYTES_MAX,
                MetadataValue::Number(number) => number.is_finite(),
                MetadataValue::Flag(_) => true,
                MetadataValue::Time { seconds, nanos } => {
                    SECONDS.contains(seconds) && (0..1_000_000_000).contains(nanos)
                }
            };
            if !fits {
                return Err(Error::bad_field("metadata", "text of at most 1,024 bytes, finite numbers, valid times"));
            }
        }
        Ok(())
    }
}

/// Checks the length of a display name.
///
/// *Errors*: [`Error::BadField`].
pub(crate) fn check_display_name(field: &'static str, text: &str) -> Result<(), Error> {
    if text.len() > PersonDetails::DISPLAY_NAME_BYTES_MAX {
        return Err(Error::bad_field(field, "at most 256 bytes"));
    }
    Ok(())
}

/// One stored template.
#[derive(Clone, PartialEq)]
pub struct EnrolledTemplate {
    /// Unique within its identity.
    pub id: TemplateId,
    /// The features.
    pub template: Template,
    /// The face it was made from; `None` for one enrolled as an embedding.
    pub face: Option<Face>,
    /// The aligned chip it was made from, as a PNG, where its gallery keeps those.
    pub chip: Option<Arc<[u8]>>,
    /// When it was enrolled.
    pub created: SystemTime,
}

/// An enrolled identity.
#[derive(Clone, PartialEq)]
pub struct Identity {
    /// Unique within its gallery.
    pub id: IdentityId,
    /// Name and metadata.
    pub details: PersonDetails,
    /// One or more, in the order of enrolment.
    pub templates: Vec<EnrolledTemplate>,
    /// When it was first enrolled.
    pub created: SystemTime,
    /// When it or its templates last changed.
    pub updated: SystemTime,
}

impl EnrolledTemplate {
    /// The longest chip: 112 x 112 x 3 bytes that no compression makes smaller, and what a PNG adds.
    pub const CHIP_BYTES_MAX: usize = 48 << 10;

    /// Returns what lists show of it.
    pub fn outline(&self) -> TemplateOutline {
        TemplateOutline {
            id: self.id.clone(),
            pack_id: self.template.pack_id().clone(),
            face: self.face.clone(),
            has_chip: self.chip.is_some(),
            created: self.created,
        }
    }

    /// Returns what it counts in a quality-weighted mean: 1 where its face was not measured.
    pub fn weight(&self) -> f32 {
        let face = self.face.as_ref();
        face.and_then(|face| Some(face.quality?.weight(face))).unwrap_or(1.0)
    }
}

impl Identity {
    /// Returns what the identity is compared by: each template, or the one that the gallery's fusion makes of all, whose id
    /// is no template's.
    pub fn compared_by(&self, fusion: Fusion) -> Vec<(TemplateId, Template)> {
        let weighted = self.templates.iter().map(|enrolled| (&enrolled.template, enrolled.weight()));
        match fusion.fuse(weighted) {
            Some(fused) => vec![(TemplateId::of_all(), fused)],
            None => self.templates.iter().map(|known| (known.id.clone(), known.template.clone())).collect(),
        }
    }

    /// Returns what lists show of it.
    pub fn outline(&self) -> KnownOutline {
        let templates = self.templates.iter().map(EnrolledTemplate::outline).collect();
        let details = self.details.clone();
        KnownOutline { details, templates, created: self.created, updated: self.updated }
    }

    /// The most templates of one identity. More add little (scores saturate after a handful) and cost each search.
    pub const TEMPLATES_MAX: usize = 64;
}

/// An identity without its vectors and chips: what lists are made of.
#[derive(Clone, PartialEq)]
pub struct IdentityOutline {
    /// Unique within its gallery.
    pub id: IdentityId,
    /// What is known of it; `None` where its record is damaged.
    pub known: Option<KnownOutline>,
}

/// What is known of an identity besides its vectors and chips.
#[derive(Clone, PartialEq)]
pub struct KnownOutline {
    /// Name and metadata.
    pub details: PersonDetails,
    /// In the order of enrolment.
    pub templates: Vec<TemplateOutline>,
    /// When it was first enrolled.
    pub created: SystemTime,
    /// When it or its templates last changed.
    pub updated: SystemTime,
}

/// A stored template without its vector and chip.
#[derive(Clone, PartialEq)]
pub struct TemplateOutline {
    /// Unique within its identity.
    pub id: TemplateId,
    /// The pack that made it.
    pub pack_id: PackId,
    /// The face it was made from; `None` for one enrolled as an embedding.
    pub face: Option<Face>,
    /// Whether its aligned chip is kept.
    pub has_chip: bool,
    /// When it was enrolled.
    pub created: SystemTime,
}

/// A page of a list, and whether more follows.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// In order of id.
    pub items: Vec<T>,
    /// Whether there is a next page.
    pub more: bool,
}

/// What enrolment does where the identity exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfExists {
    /// Refuses.
    #[default]
    Refuse,
    /// Adds the templates.
    Add,
}

/// A deletion that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// The store's sequence number of it.
    pub sequence: u64,
    /// When.
    pub time: SystemTime,
}

/// What to look for in a gallery.
#[derive(Clone, Debug)]
pub struct Search {
    /// Whom to find.
    pub probe: Template,
    /// How many identities to return.
    pub capacity: usize,
    /// Score every template, whatever the gallery's policy.
    pub exact: bool,
    /// Among whom.
    pub scope: Scope,
}

/// Which identities a search may name. It is applied before scoring, so an answer is as complete as one without it, and it
/// is always found exactly.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Those whose metadata it is true of.
    pub filter: Option<Filter>,
    /// These; who is not enrolled is passed over.
    pub candidates: Option<Vec<IdentityId>>,
}

impl Scope {
    /// The most candidates a search may list.
    pub const CANDIDATES_MAX: usize = 100_000;

    /// Tells whether all identities are searched.
    pub fn is_everyone(&self) -> bool {
        self.filter.is_none() && self.candidates.is_none()
    }
}

/// How candidates were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchPath {
    /// Every template was scored.
    Exact,
    /// The graph proposed, exact scores decided.
    Graph,
}

/// The answer of a search.
#[derive(Clone, Debug)]
pub struct SearchOutcome {
    /// Distinct identities, best first, ties by id.
    pub ranked: Vec<Ranked>,
    /// How many identities were in the gallery when it was searched.
    pub identities: u64,
    /// How many of them the scope left.
    pub searched: u64,
    /// How they were found.
    pub path: SearchPath,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn display_name_has_at_most_so_many_bytes() {
        let longest = PersonDetails::DISPLAY_NAME_BYTES_MAX;
        for (bytes, is_taken) in [(0, true), (longest, true), (longest + 1, false), (longest + 50, false)] {
            assert_eq!(check_display_name("display_name", &"a".repeat(bytes)).is_ok(), is_taken, "{bytes}");
        }
    }

    #[test]
    fn gallery_of_another_pack_has_no_thresholds_of_the_old_one() {
        let pack = |digit: &str| PackId::from_digits(digit.repeat(32));
        let time = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let id = GalleryId::parse("g").expect("an id");
        let mut gallery = Gallery::with_defaults(id, pack("a"), 512, time(1));
        let threshold = Threshold::from_cosine("t", 0.4).ok();
        gallery.settings.identification = threshold;
        (gallery.settings.duplicates.cosine, gallery.settings.consistency.cosine) = (threshold, threshold);
        let moved = gallery.clone().moved(&pack("b"), 128, time(2));
        assert_eq!((&moved.pack_id, moved.dimension), (&pack("b"), 128));
        assert_eq!((moved.created, moved.updated), (time(1), time(2)));
        assert_eq!(moved.settings, GallerySettings::default());
    }
}
