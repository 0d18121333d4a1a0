//! One photo through decode, detect, align, embed.

use std::sync::Arc;

use image::RgbImage;

use crate::biometrics::face::{Face, FaceSelection, NotChosen};
use crate::biometrics::template::Template;
use crate::decode::{PhotoLimits, decode};
use crate::detect::head::Geometry;
use crate::detect::input::Letterbox;
use crate::detect::scales::Scales;
use crate::detect::suppress::suppress;
use crate::embed::{Chip, measure};
use crate::error::Error;
use crate::model::{DetectorSession, Pack, PackError, RecognizerSession};
use crate::telemetry::{Stage, StageClock, StageTimes};

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
}

/// Turns photos into templates. Owns its sessions: one pipeline a worker.
pub struct Pipeline {
    pack: Arc<Pack>,
    detector: DetectorSession,
    recognizer: RecognizerSession,
    limits: PhotoLimits,
    times: StageTimes,
}

impl Pipeline {
    /// Opens the pack's networks.
    ///
    /// *Errors*: those of opening a model.
    pub fn open(pack: Arc<Pack>, limits: PhotoLimits) -> Result<Self, PackError> {
        let (detector, recognizer) = (pack.open_detector()?, pack.open_recognizer()?);
        Ok(Self { pack, detector, recognizer, limits, times: StageTimes::default() })
    }

    /// Returns how long the stages of the photos since the last call of this took.
    pub fn take_times(&mut self) -> StageTimes {
        std::mem::take(&mut self.times)
    }

    /// Finds the faces in a photo. None is an answer.
    ///
    /// *Errors*: [`Error::Photo`]; [`Error::Internal`] where a network fails.
    pub fn detect(&mut self, photo: &[u8], settings: &DetectionSettings) -> Result<Detected, Error> {
        let picture = self.decode(photo)?;
        self.detect_in(&picture, settings)
    }

    /// Finds the faces in a photo and computes the templates of those that the rule chooses.
    ///
    /// *Errors*: [`Error::Photo`]; [`Error::Internal`] where a network fails. No face is no error here: see
    /// [`Acquired::chosen`].
    pub fn acquire(
        &mut self,
        photo: &[u8],
        settings: &DetectionSettings,
        selection: FaceSelection,
    ) -> Result<Acquired, Error> {
        let picture = self.decode(photo)?;
        let detected = self.detect_in(&picture, settings)?;
        let chosen = match selection.choose(&detected.faces, detected.width_px, detected.height_px) {
            Ok(indices) => self.embed_in(&picture, &detected.faces, indices)?,
            Err(reason) => Err(reason),
        };
        Ok(Acquired { detected, chosen })
    }

    fn decode(&mut self, photo: &[u8]) -> Result<RgbImage, Error> {
        let clock = StageClock::start(Stage::Decode);
        let picture = decode(photo, &self.limits);
        self.times.end(clock);
        Ok(picture?)
    }

    fn detect_in(&mut self, picture: &RgbImage, settings: &DetectionSettings) -> Result<Detected, Error> {
        let clock = StageClock::start(Stage::Detect);
        let (width_px, height_px) = picture.dimensions();
        let spec = &self.pack.detector;
        // A network with one fixed input size sees a smaller scale in the corner of it, and no larger one.
        let mut sides_px = settings.scales.sides_px(width_px.max(height_px));
        sides_px.iter_mut().for_each(|side| *side = (*side).min(spec.fixed_side_px.unwrap_or(*side)));
        sides_px.dedup();
        let score_min = settings.score_min.unwrap_or(spec.score_min);
        let mut candidates = Vec::new();
        for side in &sides_px {
            let canvas = spec.fixed_side_px.unwrap_or(*side);
            let letterbox = Letterbox::new(picture, *side, canvas);
            let outputs = self.detector.run(&letterbox.tensor(&spec.preprocessing))?;
            let geometry = Geometry { canvas_px: canvas as usize, scale: letterbox.scale() };
            candidates.extend(spec.head.decode(&outputs, geometry, score_min)?);
        }
        let mut faces = suppress(candidates, spec.nms_iou_max);
        faces.iter_mut().for_each(|face| face.quality = measure(picture, face));
        self.times.end(clock);
        Ok(Detected { faces, width_px, height_px, sides_px })
    }

    /// A face whose landmarks coincide cannot be aligned and is left out; where none is left, no face was found.
    fn embed_in(
        &mut self,
        picture: &RgbImage,
        faces: &[Face],
        indices: Vec<usize>,
    ) -> Result<Result<Vec<(usize, Template)>, NotChosen>, Error> {
        let clock = StageClock::start(Stage::Align);
        let cut = |index: usize| Some((index, Chip::cut(picture, &faces.get(index)?.landmarks)?));
        let (indices, chips): (Vec<usize>, Vec<Chip>) = indices.into_iter().filter_map(cut).unzip();
        self.times.end(clock);
        if chips.is_empty() {
            return Ok(Err(NotChosen::NoFace));
        }
        let clock = StageClock::start(Stage::Embed);
        let templates = self.recognizer.embed(&chips, &self.pack)?;
        self.times.end(clock);
        Ok(Ok(indices.into_iter().zip(templates).collect()))
    }
}
