//! ONNX Runtime sessions. Each has one thread of its own: on a CPU one single-threaded session a core beats one session
//! with many threads (measured on two cores: 206 against 82 faces a second).

use std::path::Path;
use std::sync::Arc;

use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionOutputs};
use ort::value::{TensorRef, ValueType};

use super::pack::Pack;
use crate::biometrics::template::Template;
use crate::detect::head::Output;
use crate::embed::{CHIP_SIDE_PX, Chip};
use crate::error::Error;
use crate::tensor::Tensor;

/// Inputs and outputs of a network as its file declares them; `None` is a free axis.
pub(super) struct Signature {
    pub inputs: Vec<Vec<Option<usize>>>,
    pub outputs: Vec<(String, Vec<Option<usize>>)>,
}

impl Signature {
    pub fn of(session: &Session) -> Self {
        let axes = |dtype: &ValueType| match dtype {
            ValueType::Tensor { shape, .. } => shape.iter().map(|axis| usize::try_from(*axis).ok()).collect(),
            _ => Vec::new(),
        };
        Self {
            inputs: session.inputs().iter().map(|input| axes(input.dtype())).collect(),
            outputs: session.outputs().iter().map(|output| (output.name().to_owned(), axes(output.dtype()))).collect(),
        }
    }

    /// Returns the outputs as the detector heads want to see them.
    pub fn head_outputs(&self) -> Vec<Output> {
        let outputs = self.outputs.iter();
        outputs.map(|(name, axes)| Output { name: name.clone(), last_axis: axes.last().copied().flatten() }).collect()
    }
}

/// A network in memory, from which every worker opens a session of its own.
#[derive(Clone)]
pub(super) struct Network {
    pub bytes: Arc<[u8]>,
    /// Whether the runtime saved it with all its optimisations done, for this processor.
    pub is_optimized: bool,
}

impl Network {
    /// A network as files have it.
    pub fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), is_optimized: false }
    }

    /// Opens a session with one thread and no spinning.
    pub fn open(&self, environment: &Environment) -> ort::Result<Session> {
        builder(environment, self)?.commit_from_memory(&self.bytes)
    }
}

/// Saves a network as the runtime optimises it. Only this processor and version of the runtime can use the file.
pub(super) fn save_optimized(environment: &Environment, network: &Network, path: &Path) -> ort::Result<()> {
    let mut builder = builder(environment, network)?.with_optimized_model_path(path)?;
    builder.commit_from_memory(&network.bytes).map(drop)
}

fn builder(environment: &Environment, network: &Network) -> ort::Result<SessionBuilder> {
    let level = if network.is_optimized { GraphOptimizationLevel::Disable } else { GraphOptimizationLevel::All };
    let builder = Session::builder(environment)?.with_optimization_level(level)?;
    Ok(builder.with_intra_threads(1)?.with_inter_threads(1)?.with_intra_op_spinning(false)?)
}

/// Runs a session on one tensor and copies its outputs.
pub(super) fn run(session: &mut Session, input: &Tensor) -> Result<Vec<Tensor>, Error> {
    let outputs = outputs(session, input)?;
    let mut tensors = Vec::with_capacity(outputs.len());
    for value in outputs.values() {
        let (shape, values) = value.try_extract_tensor::<f32>().map_err(Error::internal)?;
        let shape = shape.iter().map(|axis| usize::try_from(*axis).unwrap_or(0)).collect();
        tensors.push(Tensor { shape, values: values.to_vec() });
    }
    Ok(tensors)
}

/// Runs a session on one tensor and reads its outputs where the runtime has them.
fn run_and_read<T>(
    session: &mut Session,
    input: &Tensor,
    read: impl FnOnce(&[&[f32]]) -> Result<T, Error>,
) -> Result<T, Error> {
    let outputs = outputs(session, input)?;
    let outputs: Vec<_> = outputs.values().collect();
    let values = outputs.iter().map(|output| output.try_extract_tensor::<f32>().map(|(_, values)| values));
    read(&values.collect::<Result<Vec<&[f32]>, _>>().map_err(Error::internal)?)
}

fn outputs<'a>(session: &'a mut Session, input: &Tensor) -> Result<SessionOutputs<'a>, Error> {
    let view = TensorRef::from_array_view((input.shape.clone(), input.values.as_slice())).map_err(Error::internal)?;
    session.run(ort::inputs![view]).map_err(Error::internal)
}

/// A detector network.
pub struct DetectorSession {
    session: Session,
}

impl DetectorSession {
    pub(super) fn new(session: Session) -> Self {
        Self { session }
    }

    /// Runs the network and reads its outputs. *Shape*: `[1, 3, height, width]` in; the values of the head's maps out, in the
    /// order of the file.
    ///
    /// *Errors*: [`Error::Internal`] where the runtime fails; those of `read`.
    pub fn run<T>(&mut self, input: &Tensor, read: impl FnOnce(&[&[f32]]) -> Result<T, Error>) -> Result<T, Error> {
        run_and_read(&mut self.session, input, read)
    }
}

/// Faces a run at most. On a CPU a larger batch gains nothing (12.5 ms a face at 8 as at 1), and the runtime keeps the memory
/// of the largest batch it ever saw: 900 faces at once took 4 GB.
const BATCH_MAX: usize = 8;

/// A recogniser network.
pub struct RecognizerSession {
    session: Session,
    /// Its memory is used again.
    input: Tensor,
}

impl RecognizerSession {
    pub(super) fn new(session: Session) -> Self {
        Self { session, input: Tensor::default() }
    }

    /// Runs the network on an input that is ready and reads its outputs. *Shape*: `[n, 3, 112, 112]` in.
    ///
    /// *Errors*: [`Error::Internal`] where the runtime fails; those of `read`.
    pub fn run<T>(&mut self, input: &Tensor, read: impl FnOnce(&[&[f32]]) -> Result<T, Error>) -> Result<T, Error> {
        run_and_read(&mut self.session, input, read)
    }

    /// Computes the templates of chips, in as many runs as the network's batch axis asks for.
    ///
    /// *Errors*: [`Error::Internal`] where the runtime fails or answers with another shape than the pack states.
    pub fn embed(&mut self, chips: &[&Chip], pack: &Pack) -> Result<Vec<Template>, Error> {
        let spec = &pack.recognizer;
        let batch = spec.batch.unwrap_or(BATCH_MAX).max(1);
        let mut templates = Vec::with_capacity(chips.len());
        for group in chips.chunks(batch) {
            let mut pixels: Vec<&[u8]> = group.iter().map(|chip| chip.pixels()).collect();
            if let (Some(fixed), Some(last)) = (spec.batch, pixels.last().copied()) {
                pixels.resize(fixed, last); // a fixed batch is filled up; the surplus rows are not read
            }
            spec.preprocessing.fill(&pixels, CHIP_SIDE_PX, &mut self.input);
            run_and_read(&mut self.session, &self.input, |outputs| {
                let rows = outputs.first().filter(|output| output.len() == pixels.len() * spec.dimension);
                let rows = rows.ok_or_else(|| Error::internal("recogniser output has an unexpected length"))?;
                for row in rows.chunks_exact(spec.dimension).take(group.len()) {
                    templates.push(Template::from_vector(row, pack.id.clone()).map_err(Error::internal)?);
                }
                Ok(())
            })?;
        }
        Ok(templates)
    }
}
