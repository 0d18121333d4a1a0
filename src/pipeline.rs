//! One photo through decode, detect, align, embed.

use std::collections::BTreeMap;
use std::sync::Arc;

use image::RgbImage;

use crate::biometrics::face::{Face, FaceSelection, NotChosen};
use crate::biometrics::ids::PackId;
use crate::biometrics::template::Template;
use crate::decode::Decoder;
use crate::detect::input::Letterbox;
use crate::detect::scales::Scales;
use crate::detect::suppress::suppress;
use crate::embed::{Chip, measure};
use crate::error::Error;
use crate::model::{DetectorSession, Pack, PackError, RecognizerSession};
use crate::telemetry::{Stage, StageClock, StageTimes};
use crate::tensor::Tensor;

/// How faces are looked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DetectionSettings {
    /// The detector's input sides.
    pub scales: Scales,
    /// The lowest detection score reported; `None` is the pack's.
    pub score_min: Option<f32>,
}

/// The faces of a photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Detected {
    /// By falling detection score.
    pub faces: Vec<Face>,
    /// Width of the upright photo.
    pub width_px: u32,
    /// Height of the upright photo.
    pub height_px: u32,
    /// The detector's input sides.
    pub sides_px: Vec<u32>,
}

/// The faces of a photo and the templates of the chosen ones.
#[derive(Clone, Debug)]
pub struct Acquired {
    /// All faces.
    pub detected: Detected,
    /// The chosen faces' positions and templates, or why there are none: a failure to acquire.
    pub chosen: Result<Vec<(usize, Template)>, NotChosen>,
    /// The chips of the faces that could be aligned, of those chosen, by their positions.
    pub chips: BTreeMap<usize, Chip>,
}

/// Turns photos into templates. Owns its sessions: one pipeline a worker.
pub struct Pipeline {
    pack: Arc<Pack>,
    detector: DetectorSession,
    recognizer: RecognizerSession,
    decoder: Decoder,
    times: StageTimes,
    /// The detector's input. Its memory is used again.
    input: Tensor,
}

/// A worker's pipelines: one a pack, the first for whoever names none.
pub struct Pipelines {
    first: Pipeline,
    others: Vec<Pipeline>,
}

impl Pipelines {
    /// Opens the networks of some packs, with one decoder for all; limits of photos are one that decodes in this process.
    ///
    /// *Errors*: those of opening a model.
    pub fn open(first: &Arc<Pack>, others: &[Arc<Pack>], decoder: impl Into<Decoder>) -> Result<Self, PackError> {
        let decoder = decoder.into();
        let open = |pack: &Arc<Pack>| Pipeline::open(Arc::clone(pack), decoder.clone());
        Ok(Self { first: open(first)?, others: others.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// Gets ready on the thread that will use it.
    pub fn start(&self) {
        self.first.decoder.start();
    }

    /// Returns the first pack's.
    pub fn first(&mut self) -> &mut Pipeline {
        &mut self.first
    }

    /// Returns a pack's.
    ///
    /// *Errors*: [`Error::PackMismatch`] where it is not open.
    pub fn of(&mut self, pack_id: &PackId) -> Result<&mut Pipeline, Error> {
        let found = self.first.pack.id.clone();
        let mut all = std::iter::once(&mut self.first).chain(&mut self.others);
        let of_pack = all.find(|pipeline| pipeline.pack.id == *pack_id);
        of_pack.ok_or_else(|| Error::PackMismatch { expected: pack_id.clone(), found })
    }

    /// Returns how long the stages of the photos since the last call of this took.
    pub fn take_times(&mut self) -> StageTimes {
        let mut times = self.first.take_times();
        self.others.iter_mut().for_each(|pipeline| times.merge(pipeline.take_times()));
        times
    }
}

impl Pipeline {
    /// Opens the pack's networks.
    ///
    /// *Errors*: those of opening a model.
    pub fn open(pack: Arc<Pack>, decoder: impl Into<Decoder>) -> Result<Self, PackError> {
        let (detector, recognizer) = (pack.open_detector()?, pack.open_recognizer()?);
        let decoder = decoder.into();
        Ok(Self { pack, detector, recognizer, decoder, times: StageTimes::default(), input: Tensor::default() })
    }

    /// Returns how long the stages of the photos since the last call of this took.
    pub fn take_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }

    /// Finds the faces in a photo. None is an answer.
    ///
    /// *Errors*: those of [`Decoder::decode`]; [`Error::Internal`] where a network fails.
    pub fn detect(&mut self, photo: &[u8], settings: &DetectionSettings) -> Result<Detected, Error> {
        let picture = self.decode(photo)?;
        let mut detected = self.detect_in(&picture, settings)?;
        detected.faces.iter_mut().for_each(|face| face.quality = measure(&picture, face, None));
        self.decoder.take_back(picture);
        Ok(detected)
    }

    /// Finds the faces in a photo and computes the templates of those that the rule chooses.
    ///
    /// *Errors*: those of [`Decoder::decode`]; [`Error::Internal`] where a network fails. No face is no error here: see
    /// [`Acquired::chosen`].
    pub fn acquire(
        &mut self,
        photo: &[u8],
        settings: &DetectionSettings,
        selection: FaceSelection,
    ) -> Result<Acquired, Error> {
        let picture = self.decode(photo)?;
        let mut detected = self.detect_in(&picture, settings)?;
        let chosen = selection.choose(&detected.faces, detected.width_px, detected.height_px);
        let clock = StageClock::start(Stage::Align);
        let cut = |index: &usize| Some((*index, Chip::cut(&picture, &detected.faces.get(*index)?.landmarks)?));
        // A face whose landmarks coincide cannot be aligned and is left out.
        let chips: BTreeMap<usize, Chip> = chosen.iter().flatten().filter_map(cut).collect();
        for (index, face) in detected.faces.iter_mut().enumerate() {
            face.quality = measure(&picture, face, chips.get(&index));
        }
        self.decoder.take_back(picture);
        self.times.end(clock);
        let chosen = match chosen {
            Ok(_) if chips.is_empty() => Err(NotChosen::NoFace),
            Ok(_) => Ok(self.embed(&chips)?),
            Err(reason) => Err(reason),
        };
        Ok(Acquired { detected, chosen, chips })
    }

    fn decode(&mut self, photo: &[u8]) -> Result<RgbImage, Error> {
        let clock = StageClock::start(Stage::Decode);
        let picture = self.decoder.decode(photo);
        self.times.end(clock);
        picture
    }

    /// Finds the faces, by falling score; nothing is measured of them yet.
    fn detect_in(&mut self, picture: &RgbImage, settings: &DetectionSettings) -> Result<Detected, Error> {
        let clock = StageClock::start(Stage::Detect);
        let (width_px, height_px) = picture.dimensions();
        let spec = &self.pack.detector;
        // A network with one fixed input size sees a smaller scale in the corner of it, and no larger one.
        let mut sides_px = settings.scales.sides_px(width_px.max(height_px));
        sides_px.iter_mut().for_each(|side| *side = (*side).min(spec.fixed_side_px.unwrap_or(*side)));
        sides_px.dedup();
        let score_min = settings.score_min.unwrap_or(spec.score_min);
        // Whoever states the sides compares with what others find at them, in squares.
        let is_rectangle = settings.scales == Scales::Auto && spec.takes_rectangles;
        let mut candidates = Vec::new();
        for side in &sides_px {
            let letterbox = if is_rectangle {
                Letterbox::rectangle(picture, *side)
            } else {
                Letterbox::square(picture, *side, spec.fixed_side_px.unwrap_or(*side))
            };
            letterbox.fill(picture, &spec.preprocessing, &mut self.input);
            let read = |outputs: &[&[f32]]| spec.head.decode(outputs, letterbox.geometry(), score_min);
            candidates.extend(self.detector.run(&self.input, read)?);
        }
        let faces = suppress(candidates, spec.nms_iou_max);
        self.times.end(clock);
        Ok(Detected { faces, width_px, height_px, sides_px })
    }

    /// Computes the templates of chips, in their order.
    ///
    /// *Errors*: [`Error::Internal`] where the network fails.
    pub fn embed_chips(&mut self, chips: &[&Chip]) -> Result<Vec<Template>, Error> {
        let clock = StageClock::start(Stage::Embed);
        let templates = self.recognizer.embed(chips, &self.pack)?;
        self.times.end(clock);
        Ok(templates)
    }

    fn embed(&mut self, chips: &BTreeMap<usize, Chip>) -> Result<Vec<(usize, Template)>, Error> {
        let templates = self.embed_chips(&chips.values().collect::<Vec<_>>())?;
        Ok(chips.keys().copied().zip(templates).collect())
    }
}
