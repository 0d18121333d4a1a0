//! A model pack: one detector, one recogniser, how to feed them, and the defaults that go with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::environment::Environment;
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::folder;
use super::golden::Golden;
use super::installed::{Record, RecordError};
use super::library::{self, LibraryError};
use super::manifest::{self, CurveEntry, Manifest, ModelEntry};
use super::session::{DetectorSession, Network, RecognizerSession, Signature};
use super::tune::{self, Purpose, Subject};
use crate::biometrics::calibration::{Curve, CurveOf, KnownCurve};
use crate::biometrics::ids::PackId;
use crate::biometrics::score::Threshold;
use crate::detect::head::{Geometry, Head};
use crate::embed::CHIP_SIDE_PX;
use crate::tensor::{ChannelOrder, Preprocessing, Tensor};

/// Where a pack's files lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackSource {
    /// The folder with `pack.toml`, or a plain folder of model files.
    pub folder: PathBuf,
    /// Where the model files lie, when not beside the manifest.
    pub files: Option<PathBuf>,
    /// `ORT_DYLIB_PATH`, where it is set.
    pub runtime_library: Option<PathBuf>,
    /// Whether the networks are made faster.
    pub tuning: Tuning,
}

/// Whether a pack's networks are made faster when it is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tuning {
    /// They run as the files have them.
    #[default]
    Off,
    /// Rewrites that compute the same are tried, and those that take less time on this machine are kept.
    Auto {
        /// Where tuned networks are kept for the next start; without, each start tunes.
        cache: Option<PathBuf>,
    },
}

/// Why a pack could not be loaded. Each names the file, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The ONNX Runtime is not there.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// A file or folder that cannot be read.
    #[error("cannot read {}; files that lie elsewhere than pack.toml are found with --pack-files", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A manifest with a fault.
    #[error("{}: {fault}", path.display())]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// A file with another content than the manifest states.
    #[error("{}: expected SHA-256 {expected}, found {found}", path.display())]
    WrongHash {
        /// The file.
        path: PathBuf,
        /// As the manifest states it.
        expected: String,
        /// As computed.
        found: String,
    },
    /// What was recorded of an installed pack cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A model whose inputs or outputs are not what they must be.
    #[error("{file}: expected {expected}, found {found}")]
    WrongShape {
        /// The file.
        file: String,
        /// What it must have.
        expected: String,
        /// What it has.
        found: String,
    },
    /// A file that the runtime cannot open.
    #[error("{}: expected an ONNX model, found a file that cannot be opened as one", path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
        /// What the runtime said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A pack whose networks no longer compute what they did when it was made.
    #[error(
        "{}: the {network} does not compute what it did when the pack was made ({distance:.1e} of it differs): use another \
         runtime library, or --tune off, or get the pack anew",
        folder.display()
    )]
    NotGolden {
        /// The pack.
        folder: PathBuf,
        /// Detector or recogniser.
        network: &'static str,
        /// How much of the sums' length.
        distance: f64,
    },
    /// A plain folder without, or with more than one, model of a kind.
    #[error(
        "{}: expected pack.toml, or one {kind} among the *.onnx files, found {}",
        folder.display(),
        if found.is_empty() { "none".to_owned() } else { found.join(", ") }
    )]
    NotOne {
        /// Detector or recogniser.
        kind: &'static str,
        /// The folder.
        folder: PathBuf,
        /// The files that are of the kind.
        found: Vec<String>,
    },
}

/// How to feed and read the detector.
#[derive(Clone, Debug)]
pub struct DetectorSpec {
    /// How its outputs are read.
    pub head: Head,
    /// How its input is made.
    pub preprocessing: Preprocessing,
    /// The side of its input, where the file fixes it.
    pub fixed_side_px: Option<u32>,
    /// Whether its input may be wider than high, and higher than wide.
    pub takes_rectangles: bool,
    /// Faces with a lower score are not reported, unless a call says otherwise.
    pub score_min: f32,
    /// Of candidates that overlap more than this the best is kept.
    pub nms_iou_max: f32,
}

/// How to feed and read the recogniser.
#[derive(Clone, Debug)]
pub struct RecognizerSpec {
    /// How its input is made.
    pub preprocessing: Preprocessing,
    /// Length of an embedding.
    pub dimension: usize,
    /// Faces a run, where the file fixes it.
    pub batch: Option<usize>,
}

/// A checked pack.
pub struct Pack {
    /// Identifies what computes a template: a hash of the recogniser and its preprocessing.
    pub id: PackId,
    /// For people.
    pub name: String,
    /// As the manifest states it.
    pub licence: String,
    /// How to feed and read the detector.
    pub detector: DetectorSpec,
    /// How to feed and read the recogniser.
    pub recognizer: RecognizerSpec,
    /// Default threshold of verification.
    pub verification: Option<Threshold>,
    /// Default threshold of identification.
    pub identification: Option<Threshold>,
    /// The calibration curve of its manifest.
    pub curve: Option<Arc<KnownCurve>>,
    /// What both networks compute.
    pub golden: Golden,
    /// Whether the manifest says what they must compute; then they do.
    pub golden_is_stated: bool,
    detector_file: ModelFile,
    recognizer_file: ModelFile,
    environment: &'static Environment,
}

/// A model file in memory; every worker opens it from there, so that a file changed on disk changes nothing.
pub(super) struct ModelFile {
    pub name: String,
    /// Of the file, whatever tuning makes of it.
    pub sha256: String,
    pub network: Network,
}

/// What a manifest or a plain folder comes down to.
pub(super) struct PackParts {
    pub name: String,
    pub licence: String,
    pub detector_file: ModelFile,
    pub detector: DetectorSpec,
    pub recognizer_file: ModelFile,
    pub recognizer: RecognizerSpec,
    pub verification: Option<Threshold>,
    pub identification: Option<Threshold>,
    pub curve: Option<(Curve, String)>,
    /// The pack that the curve is of, as it says.
    pub curve_pack: Option<String>,
    /// What both networks must compute.
    pub golden: Option<Golden>,
}

impl Pack {
    /// Reads a pack, checks every file against its manifest and against what the networks really take and give.
    ///
    /// *Errors*: [`PackError`]; tuning makes none. *Cost*: opens each model once, about a second for a large pack; tuning
    /// a few seconds where the cache has nothing.
    pub fn load(source: &PackSource) -> Result<Self, PackError> {
        let environment = library::environment(source.runtime_library.as_deref())?;
        let parts = PackParts::read(source, environment)?;
        let golden = Golden::compute(&parts, environment)?;
        if let Some(stated) = &parts.golden {
            stated.check(&golden).map_err(|(network, distance)| PackError::NotGolden {
                folder: source.folder.clone(),
                network,
                distance,
            })?;
        }
        let id = pack_id(&parts.recognizer_file.sha256, &parts.recognizer);
        if let Some(of) = parts.curve_pack.filter(|of| of != id.as_str()) {
            let fault = format!("curve.pack is {of}; this pack is {id}: calibrate it anew");
            return Err(PackError::BadManifest { path: source.folder.join(manifest::FILE_NAME), fault });
        }
        let known = |(curve, source)| KnownCurve::new(id.clone(), &curve, CurveOf::Pack, source, None);
        Ok(Self {
            golden,
            golden_is_stated: parts.golden.is_some(),
            curve: parts.curve.map(known).map(Arc::new),
            id,
            name: parts.name,
            licence: parts.licence,
            detector: parts.detector,
            recognizer: parts.recognizer,
            verification: parts.verification,
            identification: parts.identification,
            detector_file: parts.detector_file,
            recognizer_file: parts.recognizer_file,
            environment,
        })
    }

    /// Computes what the networks of a pack compute now, whatever its manifest says that they did.
    ///
    /// *Errors*: [`PackError`], but for [`PackError::NotGolden`].
    pub fn golden(source: &PackSource) -> Result<Golden, PackError> {
        let environment = library::environment(source.runtime_library.as_deref())?;
        Golden::compute(&PackParts::read(source, environment)?, environment)
    }

    /// Returns the SHA-256 of the detector's file: it decides which faces there are, and is not in the pack's id.
    pub fn detector_sha256(&self) -> &str {
        &self.detector_file.sha256
    }

    /// Opens the detector for one worker.
    ///
    /// *Errors*: [`PackError::NotAModel`] where the runtime refuses, short of memory for one.
    pub fn open_detector(&self) -> Result<DetectorSession, PackError> {
        self.detector_file.open(self.environment).map(DetectorSession::new)
    }

    /// Opens the recogniser for one worker.
    ///
    /// *Errors*: [`PackError::NotAModel`] where the runtime refuses, short of memory for one.
    pub fn open_recognizer(&self) -> Result<RecognizerSession, PackError> {
        self.recognizer_file.open(self.environment).map(RecognizerSession::new)
    }
}

/// The side at which a detector with a free one is tried: large enough for what counts at 640, in a quarter of the time.
const TUNING_SIDE_PX: u32 = 320;

impl PackParts {
    /// Reads and checks what a pack is made of, all but what its networks compute.
    fn read(source: &PackSource, environment: &Environment) -> Result<Self, PackError> {
        let manifest_path = source.folder.join(manifest::FILE_NAME);
        let mut parts = if manifest_path.is_file() {
            from_manifest(&manifest_path, source.files.as_deref().unwrap_or(&source.folder), environment)?
        } else {
            folder::read(&source.folder, environment)?
        };
        if source.files.is_none()
            && let Some(record) = Record::read(&source.folder)?
        {
            parts.check_recorded(&source.folder, &record)?;
        }
        check_detector_input(&parts.detector_file, &mut parts.detector, environment)?;
        parts.recognizer.batch = recognizer_batch(&parts.recognizer_file, parts.recognizer.dimension, environment)?;
        if let Tuning::Auto { cache } = &source.tuning {
            parts.tune(environment, cache.as_deref().map(Cache::new).as_ref());
        }
        Ok(parts)
    }

    /// Checks that the files are those that were installed. A plain folder states no hashes, nor a licence: the record does.
    fn check_recorded(&mut self, folder: &Path, record: &Record) -> Result<(), PackError> {
        for ModelFile { name, sha256, .. } in [&self.detector_file, &self.recognizer_file] {
            let expected = record.files.get(name).map_or("none", String::as_str);
            if expected != sha256 {
                let (path, expected, found) = (folder.join(name), expected.to_owned(), sha256.clone());
                return Err(PackError::WrongHash { path, expected, found });
            }
        }
        if !folder.join(manifest::FILE_NAME).is_file() {
            self.licence.clone_from(&record.licence);
        }
        Ok(())
    }

    fn tune(&mut self, environment: &Environment, cache: Option<&Cache>) {
        let detector =
            (Purpose::Detector, &self.detector.preprocessing, self.detector.fixed_side_px.unwrap_or(TUNING_SIDE_PX));
        let purpose = Purpose::Recognizer { batch: self.recognizer.batch.unwrap_or(1) };
        let recognizer = (purpose, &self.recognizer.preprocessing, CHIP_SIDE_PX);
        for (file, of) in [(&mut self.detector_file, detector), (&mut self.recognizer_file, recognizer)] {
            let ModelFile { name, sha256, network } = &*file;
            let (purpose, preprocessing, side_px) = of;
            let subject = Subject { name, sha256, network, purpose, preprocessing, side_px };
            if let Some(tuned) = tune::tuned(&subject, environment, cache) {
                file.network = tuned;
            }
        }
    }
}

impl ModelFile {
    pub fn read(path: &Path) -> Result<Self, PackError> {
        let bytes = std::fs::read(path).map_err(|source| PackError::Unreadable { path: path.to_path_buf(), source })?;
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { name, sha256: hex(&Sha256::digest(&bytes)), network: Network::plain(bytes) })
    }

    fn read_checked(folder: &Path, entry: &ModelEntry) -> Result<Self, PackError> {
        let path = folder.join(&entry.file);
        let file = Self::read(&path)?;
        if !file.sha256.eq_ignore_ascii_case(&entry.sha256) {
            return Err(PackError::WrongHash { path, expected: entry.sha256.clone(), found: file.sha256 });
        }
        Ok(file)
    }

    pub(super) fn open(&self, environment: &Environment) -> Result<ort::session::Session, PackError> {
        self.network
            .open(environment)
            .map_err(|source| PackError::NotAModel { path: PathBuf::from(&self.name), source: source.into() })
    }

    fn wrong_shape(&self, expected: impl Into<String>, found: impl std::fmt::Debug) -> PackError {
        PackError::WrongShape { file: self.name.clone(), expected: expected.into(), found: format!("{found:?}") }
    }
}

fn from_manifest(path: &Path, files: &Path, environment: &Environment) -> Result<PackParts, PackError> {
    let bad = |fault: String| PackError::BadManifest { path: path.to_path_buf(), fault };
    let text =
        std::fs::read_to_string(path).map_err(|source| PackError::Unreadable { path: path.to_path_buf(), source })?;
    let manifest = Manifest::parse(&text).map_err(bad)?;

    let detector_file = ModelFile::read_checked(files, &manifest.detector.model)?;
    let signature = Signature::of(&detector_file.open(environment)?);
    let head = Head::from_outputs(&signature.head_outputs())
        .filter(|head| head.kind().name() == manifest.detector.layout)
        .ok_or_else(|| {
            let outputs: Vec<&String> = signature.outputs.iter().map(|(name, _)| name).collect();
            detector_file.wrong_shape(format!("the outputs of layout {:?}", manifest.detector.layout), outputs)
        })?;
    let threshold = |name: &'static str, cosine: Option<f32>| {
        let checked = cosine.map(|cosine| Threshold::from_cosine(name, cosine)).transpose();
        checked.map_err(|error| bad(format!("thresholds.{error}")))
    };
    Ok(PackParts {
        recognizer_file: ModelFile::read_checked(files, &manifest.recognizer.model)?,
        detector_file,
        detector: DetectorSpec {
            head,
            preprocessing: manifest.detector.model.preprocessing(),
            fixed_side_px: None,
            takes_rectangles: false,
            score_min: manifest.detector.score_min,
            nms_iou_max: manifest.detector.nms_iou_max,
        },
        recognizer: RecognizerSpec {
            preprocessing: manifest.recognizer.model.preprocessing(),
            dimension: manifest.recognizer.dimension,
            batch: None,
        },
        verification: threshold("verification_cosine", manifest.thresholds.verification_cosine)?,
        identification: threshold("identification_cosine", manifest.thresholds.identification_cosine)?,
        golden: manifest.golden.map(|golden| Golden { detector: golden.detector, recognizer: golden.recognizer }),
        curve_pack: manifest.curve.as_ref().map(|curve| curve.pack.clone()),
        curve: manifest.curve.map(CurveEntry::read).transpose().map_err(bad)?,
        name: manifest.name,
        licence: manifest.licence,
    })
}

/// Checks that the detector takes `[1, 3, side, side]` and tells whether the side is fixed and the two sides must be equal.
fn check_detector_input(file: &ModelFile, spec: &mut DetectorSpec, environment: &Environment) -> Result<(), PackError> {
    let opened = file.open(environment)?;
    let inputs = Signature::of(&opened).inputs;
    let expected = "one input [1, 3, side, side] with a free side or a multiple of 32";
    let [axes] = inputs.as_slice() else { return Err(file.wrong_shape(expected, inputs)) };
    spec.fixed_side_px = match axes.as_slice() {
        [None | Some(1), None | Some(3), None, None] => None,
        [None | Some(1), None | Some(3), Some(height), Some(width)] if height == width && height % 32 == 0 => {
            u32::try_from(*height).ok()
        }
        _ => return Err(file.wrong_shape(expected, axes)),
    };
    // The declared outputs of a free network may be wrong (InsightFace's det_500m is one): only a run tells.
    let mut session = DetectorSession::new(opened);
    let mut run = |width_px: usize, height_px: usize| {
        let input = Tensor { shape: vec![1, 3, height_px, width_px], values: vec![0.0; 3 * height_px * width_px] };
        let geometry = Geometry { width_px, height_px, x_scale: 1.0, y_scale: 1.0 };
        session.run(&input, |outputs| spec.head.decode(outputs, geometry, spec.score_min))
    };
    let side = spec.fixed_side_px.unwrap_or(64) as usize;
    run(side, side).map_err(|error| file.wrong_shape(format!("a run at {side} x {side}"), error_text(&error)))?;
    spec.takes_rectangles = spec.fixed_side_px.is_none() && run(96, 64).is_ok() && run(32, 96).is_ok();
    Ok(())
}

/// Checks that the recogniser takes `[n, 3, 112, 112]` and gives `[n, dimension]`; returns `n` where it is fixed.
fn recognizer_batch(file: &ModelFile, dimension: usize, environment: &Environment) -> Result<Option<usize>, PackError> {
    let signature = Signature::of(&file.open(environment)?);
    let side = CHIP_SIDE_PX as usize;
    let fits = |axis: &Option<usize>, expected: usize| axis.is_none_or(|axis| axis == expected);
    let batch = match signature.inputs.as_slice() {
        [axes] => match axes.as_slice() {
            [batch, c, h, w] if fits(c, 3) && fits(h, side) && fits(w, side) && *batch != Some(0) => *batch,
            _ => return Err(file.wrong_shape("an input [n, 3, 112, 112]", axes)),
        },
        inputs => return Err(file.wrong_shape("one input [n, 3, 112, 112]", inputs)),
    };
    match signature.outputs.as_slice() {
        [(_, axes)] if axes.len() == 2 && axes.last().is_some_and(|axis| fits(axis, dimension)) => Ok(batch),
        outputs => {
            let axes: Vec<_> = outputs.iter().map(|(_, axes)| axes).collect();
            Err(file.wrong_shape(format!("one output [n, {dimension}]"), axes))
        }
    }
}

/// The first 128 bits of a hash over everything that shapes a template.
fn pack_id(recognizer_sha256: &str, spec: &RecognizerSpec) -> PackId {
    let mut hash = Sha256::new();
    hash.update(recognizer_sha256.to_ascii_lowercase());
    // The spelling is part of every id there is.
    hash.update(match spec.preprocessing.channels {
        ChannelOrder::Rgb => "Rgb",
        ChannelOrder::Bgr => "Bgr",
    });
    for value in spec.preprocessing.mean.iter().chain(&spec.preprocessing.std) {
        hash.update(value.to_bits().to_le_bytes());
    }
    let mut digits = hex(&hash.finalize());
    digits.truncate(32);
    PackId::from_digits(digits)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn error_text(error: &crate::error::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string())
}
