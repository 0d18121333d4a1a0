//! Calibrate: a stream of labelled pairs, or a gallery against itself → a curve.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tonic::codegen::BoxFuture;

use super::calibration::{calibration_reply, owner, owner_pack, source};
use super::engine::{Engine, Look};
use super::items::{Item, Items};
use super::status::log_own_fault;
use super::{call, convert};
use crate::biometrics::calibration::{Analysis, Comparison, Faces, Plan, ScoreCounts, ScoreSet, Side, Total, Unit};
use crate::biometrics::ids::{GalleryId, PackId};
use crate::biometrics::template::Template;
use crate::contract::{self as proto, calibrate_request, calibrate_response, compared_sample, labelled_pair};
use crate::error::{Entity, Error};
use crate::gallery::{CurveOwner, Galleries, NewCurve};
use crate::telemetry::count_error;

/// The longest tag of a pair, and the longest name of whose a sample is, in bytes.
const TAG_BYTES_MAX: usize = 128;

/// Pairs of a call: 12 bytes each until its end.
const PAIRS_MAX: usize = 1_000_000;

/// Templates of a gallery that are compared: fifty million pairs, some five seconds of a core.
const TEMPLATES_MAX: usize = 10_000;

/// Identities that are read together.
const IDENTITIES_AT_A_TIME: usize = 128;

const TOO_MANY_PAIRS: Error = Error::BadMessage("a call takes 1,000,000 pairs");

/// A calibration under way.
pub(super) struct Calibrating {
    engine: Arc<Engine>,
    options: Arc<Options>,
    pairs: Arc<Mutex<Pairs>>,
}

struct Options {
    gallery: Option<GalleryId>,
    pack_id: PackId,
    look: Look,
    set_for: Option<CurveOwner>,
    source: String,
    seed: u64,
}

/// What has come of the pairs so far.
#[derive(Default)]
struct Pairs {
    mated: Class,
    non_mated: Class,
    taken: usize,
    units: Units,
    /// Of a pair at least it was not said whose its samples are.
    has_strangers: bool,
}

#[derive(Default)]
struct Class {
    counts: ScoreCounts,
    comparisons: Vec<Comparison>,
    lost: u64,
}

/// Numbers of people or samples, by a hash of what names them: nothing of a name is kept.
#[derive(Default)]
struct Units {
    hasher: RandomState,
    numbers: HashMap<u64, u32>,
    unnamed: u32,
}

impl Units {
    fn number(&mut self, name: &Name) -> u32 {
        let next = self.numbers.len() as u32 + self.unnamed;
        match name {
            Name::None => {
                self.unnamed += 1;
                next
            }
            name => *self.numbers.entry(self.hasher.hash_one(name)).or_insert(next),
        }
    }

    fn count(&self) -> usize {
        self.numbers.len() + self.unnamed as usize
    }
}

/// What a side of a pair is known by.
#[derive(Hash)]
enum Name {
    Identity(String),
    Sample(Vec<u8>),
    None,
}

/// A pair that was checked.
struct Checked {
    is_mated: bool,
    names: [Name; 2],
    comparison: labelled_pair::Comparison,
}

impl Items for Calibrating {
    type Request = proto::CalibrateRequest;
    type Reply = proto::CalibrateResponse;

    const ITEMS_MAX: usize = 64;

    async fn begin(engine: &Arc<Engine>, first: proto::CalibrateRequest) -> Result<Self, Error> {
        let Some(calibrate_request::Message::Options(options)) = first.message else {
            return Err(Error::bad_field("options", "the first message"));
        };
        let options = check_options(engine, options).await.map_err(|error| error.at("options"))?;
        Ok(Self { engine: Arc::clone(engine), options: Arc::new(options), pairs: Arc::default() })
    }

    fn item(&self, request: proto::CalibrateRequest) -> Result<Item<Self::Reply>, Error> {
        let Some(calibrate_request::Message::Pair(pair)) = request.message else {
            return Err(Error::bad_field("pair", "every message but the first"));
        };
        if self.options.gallery.is_some() {
            return Err(Error::bad_field("pair", "absent: a gallery is compared with itself"));
        }
        if pair.tag.len() > TAG_BYTES_MAX {
            return Err(Error::bad_field("pair.tag", "at most 128 bytes"));
        }
        {
            let mut pairs = lock(&self.pairs);
            pairs.taken += 1;
            if pairs.taken > PAIRS_MAX {
                return Err(TOO_MANY_PAIRS);
            }
        }
        let has_photo = has_photo(&pair);
        let (engine, options, pairs) = (Arc::clone(&self.engine), Arc::clone(&self.options), Arc::clone(&self.pairs));
        let work = async move {
            let tag = pair.tag.clone();
            let result = result(&engine, &options, &pairs, pair).await?;
            let result = proto::PairResult { tag, ..result };
            Ok(proto::CalibrateResponse { message: Some(calibrate_response::Message::Result(result)) })
        };
        Ok(Item { has_photo, work: Box::pin(work) })
    }

    fn last(self) -> BoxFuture<Option<Self::Reply>, Error> {
        Box::pin(async move {
            let Self { engine, options, pairs } = self;
            // One at a time; the others wait.
            let turn = Arc::clone(&engine.calibrating).acquire_owned().await.map_err(Error::internal)?;
            let enrolled = match &options.gallery {
                Some(gallery) => Some(Enrolled::read(engine.galleries.as_ref(), gallery, &options).await?),
                None => None,
            };
            let seed = options.seed;
            let analysed = engine.off_the_workers(move || {
                let _turn = turn;
                analyse(enrolled, &pairs, seed)
            });
            let Analysed { analysis, lost } = analysed.await?;
            let mut reply = calibration_reply(&analysis, lost);
            let known = match &options.set_for {
                _ if analysis.curve.non_mated.total() == 0 => None,
                None => None,
                Some(owner) => Some(engine.galleries.set_curve(owner.clone(), options.new_curve(&analysis)).await?),
            };
            reply.is_set = known.is_some();
            reply.curve = Some(match known {
                Some(known) => super::calibration::curve_reply(&known),
                None => super::calibration::unset_curve_reply(&options.new_curve(&analysis)),
            });
            let message = Some(calibrate_response::Message::Calibration(reply));
            Ok(Some(proto::CalibrateResponse { message }))
        })
    }
}

impl Options {
    fn new_curve(&self, analysis: &Analysis) -> NewCurve {
        NewCurve { pack_id: self.pack_id.clone(), curve: analysis.curve.clone(), source: self.source.clone() }
    }
}

async fn check_options(engine: &Engine, options: proto::CalibrationOptions) -> Result<Options, Error> {
    let gallery = match options.gallery_id.as_str() {
        "" => None,
        id => Some(GalleryId::parse(id)?),
    };
    let pack_id = match &gallery {
        Some(gallery) => engine.galleries.gallery(gallery).await?.0.pack_id,
        None => engine.pack.id.clone(),
    };
    let set_for = options.set_for.map(|stated| owner(engine, "set_for", Some(stated))).transpose()?;
    if let Some(owner) = &set_for {
        let expected = owner_pack(engine, owner).await?;
        if expected != pack_id {
            return Err(Error::PackMismatch { expected, found: pack_id });
        }
    }
    Ok(Options {
        gallery,
        look: Look {
            settings: convert::detection(options.detection)?,
            selection: convert::one_face_selection(options.face_selection)?,
            pack_id: pack_id.clone(),
        },
        pack_id,
        set_for,
        source: source("source", options.source)?,
        seed: options.seed,
    })
}

fn has_photo(pair: &proto::LabelledPair) -> bool {
    let Some(labelled_pair::Comparison::Samples(samples)) = &pair.comparison else { return false };
    let is_photo = |sample: &Option<proto::ComparedSample>| {
        matches!(sample.as_ref().and_then(|sample| sample.sample.as_ref()), Some(compared_sample::Sample::Photo(_)))
    };
    is_photo(&samples.a) || is_photo(&samples.b)
}

fn check(pair: proto::LabelledPair) -> Result<Checked, Error> {
    let is_mated = pair.is_mated.ok_or_else(|| Error::bad_field("is_mated", "true or false"))?;
    let comparison = pair.comparison.ok_or_else(|| Error::bad_field("comparison", "a score or two samples"))?;
    let names = match (pair.identity_a, pair.identity_b) {
        (a, b) if a.is_empty() && b.is_empty() => sample_names(&comparison),
        (a, b) if [&a, &b].iter().any(|name| !(1..=TAG_BYTES_MAX).contains(&name.len())) => {
            return Err(Error::bad_field("identity_a", "1 to 128 bytes, like identity_b, or both empty"));
        }
        (a, b) if (a == b) != is_mated => {
            return Err(Error::bad_field("is_mated", "true of one identity, and false of two"));
        }
        (a, b) => [Name::Identity(a), Name::Identity(b)],
    };
    Ok(Checked { is_mated, names, comparison })
}

fn sample_names(comparison: &labelled_pair::Comparison) -> [Name; 2] {
    let name = |sample: &Option<proto::ComparedSample>| match sample.as_ref().and_then(|sample| sample.sample.as_ref())
    {
        Some(compared_sample::Sample::Photo(photo)) => Name::Sample(photo.data.clone()),
        Some(compared_sample::Sample::Embedding(embedding)) => {
            Name::Sample(embedding.values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        None => Name::None,
    };
    match comparison {
        labelled_pair::Comparison::Score(_) => [Name::None, Name::None],
        labelled_pair::Comparison::Samples(samples) => [name(&samples.a), name(&samples.b)],
    }
}

/// *Errors*: what would fail the next pair too.
async fn result(
    engine: &Engine,
    options: &Options,
    pairs: &Mutex<Pairs>,
    pair: proto::LabelledPair,
) -> Result<proto::PairResult, Error> {
    let is_mated = pair.is_mated;
    let scored = async {
        let Checked { is_mated, names, comparison } = check(pair)?;
        let score = score(engine, options, comparison).await?;
        lock(pairs).add(is_mated, score, &names)?;
        Ok(score)
    };
    match scored.await {
        Ok(score) => Ok(proto::PairResult { score: Some(score), ..Default::default() }),
        Err(error) if is_pairs_own(&error) => {
            log_own_fault(&error);
            count_error(error.reason());
            if let Some(is_mated) = is_mated {
                lock(pairs).class(is_mated).lost += 1;
            }
            let failure = proto::PairFailure { reason: error.reason().to_owned(), message: error.to_string() };
            Ok(proto::PairResult { failure: Some(failure), ..Default::default() })
        }
        Err(error) => Err(error),
    }
}

fn is_pairs_own(error: &Error) -> bool {
    match error {
        Error::AtField { source, .. } => is_pairs_own(source),
        error => matches!(
            error,
            Error::BadField { .. }
                | Error::Photo(_)
                | Error::Face(_)
                | Error::PackMismatch { .. }
                | Error::DataLoss(_)
                | Error::Internal(_)
        ),
    }
}

async fn score(engine: &Engine, options: &Options, comparison: labelled_pair::Comparison) -> Result<f32, Error> {
    match comparison {
        labelled_pair::Comparison::Score(score) if (-1.0..=1.0).contains(&score) => Ok(score),
        labelled_pair::Comparison::Score(_) => Err(Error::bad_field("score", "a cosine from -1 to 1")),
        labelled_pair::Comparison::Samples(proto::SamplePair { a, b }) => {
            let a = template(engine, options, a).await.map_err(|error| error.at("samples.a"))?;
            let b = template(engine, options, b).await.map_err(|error| error.at("samples.b"))?;
            Ok(a.score(&b)?.cosine())
        }
    }
}

async fn template(
    engine: &Engine,
    options: &Options,
    sample: Option<proto::ComparedSample>,
) -> Result<Template, Error> {
    let sample = sample.and_then(|sample| sample.sample);
    match sample.ok_or_else(|| Error::bad_field("sample", "a photo or an embedding"))? {
        compared_sample::Sample::Embedding(embedding) => {
            let template = convert::embedding(&embedding, engine)?;
            template.check_fits(&options.pack_id, template.values().len())?;
            Ok(template)
        }
        compared_sample::Sample::Photo(photo) => {
            let mut place = engine.workers.wait_for_place(call::caller()).await?;
            let acquired = engine.acquire(&mut place, photo.data, options.look.clone()).await;
            let chosen = acquired.map_err(|error| error.at("photo"))?.chosen;
            let chosen = chosen.map_err(|reason| Error::from(reason).at("photo"))?;
            let template = chosen.into_iter().next().map(|(_, template)| template);
            template.ok_or_else(|| Error::internal("a chosen face without a template"))
        }
    }
}

impl Pairs {
    fn class(&mut self, is_mated: bool) -> &mut Class {
        if is_mated { &mut self.mated } else { &mut self.non_mated }
    }

    fn add(&mut self, is_mated: bool, score: f32, names: &[Name; 2]) -> Result<(), Error> {
        let [a, b] = names;
        self.has_strangers |= !matches!((a, b), (Name::Identity(_), Name::Identity(_)));
        let (a, b) = (self.units.number(a), self.units.number(b));
        let class = self.class(is_mated);
        class.counts.add(score).map_err(|_| Error::bad_field("score", "a cosine from -1 to 1"))?;
        class.comparisons.push(Comparison { score, a, b });
        Ok(())
    }
}

struct Analysed {
    analysis: Analysis,
    /// Mated and non-mated pairs without a score.
    lost: [u64; 2],
}

/// Blocks, for seconds.
fn analyse(enrolled: Option<Enrolled>, pairs: &Mutex<Pairs>, seed: u64) -> Result<Analysed, Error> {
    // One thread: photos and searches go on beside it.
    let plan = Plan { thresholds: Vec::new(), seed, threads: 1 };
    if let Some(enrolled) = enrolled {
        return Ok(Analysed { analysis: enrolled.cross(seed)?.analyse(&plan), lost: [0, 0] });
    }
    let Pairs { mated, non_mated, units, has_strangers, .. } = std::mem::take(&mut *lock(pairs));
    let set = ScoreSet {
        mated: mated.counts,
        non_mated: non_mated.counts,
        mated_side: Side::mated(mated.comparisons, Total::Listed),
        non_mated_side: Side::non_mated(non_mated.comparisons, Total::Listed),
        unit: if has_strangers { Unit::Photos } else { Unit::Identities },
        units: units.count(),
    };
    Ok(Analysed { analysis: set.analyse(&plan), lost: [mated.lost, non_mated.lost] })
}

/// Templates of a gallery, to be scored with each other.
struct Enrolled {
    values: Vec<f32>,
    dimension: usize,
    /// A number for each template.
    identities: Vec<u32>,
}

impl Enrolled {
    /// Reads those of people who are chosen by chance.
    async fn read(galleries: &dyn Galleries, id: &GalleryId, options: &Options) -> Result<Self, Error> {
        let (gallery, _) = galleries.gallery(id).await?;
        let mut enrolled = Self { values: Vec::new(), dimension: gallery.dimension, identities: Vec::new() };
        let mut people = 0;
        for chosen in galleries.some_identities(id, TEMPLATES_MAX, options.seed).await?.chunks(IDENTITIES_AT_A_TIME) {
            for identity in galleries.identities(id, chosen).await? {
                let identity = match identity {
                    Ok(identity) => identity,
                    // Deleted meanwhile, or damaged, which the log has told when it was found.
                    Err(Error::NotFound(Entity::Identity) | Error::DataLoss(_)) => continue,
                    Err(error) => return Err(error),
                };
                if enrolled.identities.len() + identity.templates.len() > TEMPLATES_MAX {
                    return Ok(enrolled);
                }
                for template in identity.templates.iter().map(|known| &known.template) {
                    // It may have moved to another pack since the call began.
                    template.check_fits(&options.pack_id, gallery.dimension).map_err(Error::of_moved_gallery)?;
                    enrolled.values.extend_from_slice(template.values());
                    enrolled.identities.push(people);
                }
                people += 1;
            }
        }
        Ok(enrolled)
    }

    fn cross(&self, seed: u64) -> Result<ScoreSet, Error> {
        let Self { values, dimension, identities } = self;
        let faces = Faces { values, dimension: *dimension, identities, groupings: &[] };
        let crossed = faces.cross(seed, 1, |_| {});
        Ok(crossed.map_err(|_| Error::DataLoss("a stored template is no vector of numbers"))?.all)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
