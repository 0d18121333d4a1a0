//! What a pack's networks computed when it was made: a pack that no longer computes it is not used.
//!
//! Each network is run on a picture that is the same everywhere (`samples.rs`), and its outputs are boiled down to a few sums.

use ort::environment::Environment;

use super::pack::{ModelFile, PackError, PackParts};
use super::samples::samples;
use super::session::run;
use crate::biometrics::calibration::Random;
use crate::embed::CHIP_SIDE_PX;
use crate::tensor::Tensor;

/// Sums of a network's outputs.
const SUMS: usize = 16;

/// The side that a detector with a free one is run at.
const DETECTOR_SIDE_PX: u32 = 128;

/// How far sums may be from what they were, relative to their length. Rewrites move those of the test packs by 1e-6 at most,
/// swapped channels by .15 at least; between lies room for the arithmetic of other processors.
const DISTANCE_MAX: f64 = 1e-2;

/// What both networks compute.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Sums of the detector's outputs.
    pub detector: Vec<f32>,
    /// Sums of the recogniser's.
    pub recognizer: Vec<f32>,
}

impl Golden {
    /// Runs both networks, as tuning left them.
    ///
    /// *Errors*: those of opening and running a network.
    pub(super) fn compute(parts: &PackParts, environment: &Environment) -> Result<Self, PackError> {
        let PackParts { detector, recognizer, .. } = parts;
        let side_px = detector.fixed_side_px.unwrap_or(DETECTOR_SIDE_PX);
        let of_detector = samples(&detector.preprocessing, side_px, 1, 1);
        let of_recognizer = samples(&recognizer.preprocessing, CHIP_SIDE_PX, recognizer.batch.unwrap_or(1), 1);
        Ok(Self {
            detector: sums_of(&parts.detector_file, &of_detector, environment)?,
            recognizer: sums_of(&parts.recognizer_file, &of_recognizer, environment)?,
        })
    }

    /// Tells whether this is what was computed before, and if not, which network differs and by how much of its length.
    pub(super) fn check(&self, computed: &Self) -> Result<(), (&'static str, f64)> {
        for (network, stated, found) in
            [("detector", &self.detector, &computed.detector), ("recognizer", &self.recognizer, &computed.recognizer)]
        {
            let distance = distance(stated, found);
            // Not a number is no less than anything.
            if !distance.is_some_and(|distance| distance <= DISTANCE_MAX) {
                return Err((network, distance.unwrap_or(f64::INFINITY)));
            }
        }
        Ok(())
    }

    /// Writes the section of a manifest.
    pub fn section(&self) -> String {
        let list = |sums: &[f32]| sums.iter().map(|sum| format!("{sum:.5}")).collect::<Vec<_>>().join(", ");
        format!(
            "[golden]                        # sums of what the networks computed on a picture of the engine's own\n\
             detector = [{}]\nrecognizer = [{}]\n",
            list(&self.detector),
            list(&self.recognizer)
        )
    }
}

fn sums_of(file: &ModelFile, inputs: &[Tensor], environment: &Environment) -> Result<Vec<f32>, PackError> {
    let mut session = file.open(environment)?;
    let mut outputs = Vec::new();
    for input in inputs {
        outputs.extend(run(&mut session, input).map_err(|error| PackError::WrongShape {
            file: file.name.clone(),
            expected: "a run on a sample".to_owned(),
            found: error.to_string(),
        })?);
    }
    Ok(sums(&outputs.iter().map(|output| output.values.as_slice()).collect::<Vec<_>>()))
}

/// Sums of all values, each with a sign by chance, over the root of how many there are.
fn sums(outputs: &[&[f32]]) -> Vec<f32> {
    let mut random = Random::new(1);
    let mut sums = [0f64; SUMS];
    let mut count = 0usize;
    for value in outputs.iter().flat_map(|output| output.iter()) {
        let bits = random.bits();
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum += if bits >> at & 1 == 1 { f64::from(*value) } else { -f64::from(*value) };
        }
        count += 1;
    }
    sums.iter().map(|sum| (sum / (count.max(1) as f64).sqrt()) as f32).collect()
}

/// The length of the difference over the length of what is stated; `None` where they are not alike in number.
fn distance(stated: &[f32], found: &[f32]) -> Option<f64> {
    let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let whole = length(&mut stated.iter().map(|value| f64::from(*value)));
    let apart = length(&mut stated.iter().zip(found).map(|(a, b)| f64::from(a - b)));
    (stated.len() == SUMS && found.len() == SUMS && whole > 0.0).then_some(apart / whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_numbers_are_told_apart_and_a_processors_noise_is_not() {
        let values: Vec<f32> = (0..512).map(|at| ((at * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let golden = |values: &[f32]| Golden { detector: sums(&[values, &values[..7]]), recognizer: sums(&[values]) };
        let stated = golden(&values);
        let noisy: Vec<f32> = values.iter().map(|value| value * (1.0 + 1e-5)).collect();
        assert_eq!(stated.check(&golden(&noisy)), Ok(()));
        let mut swapped = values.clone();
        swapped.swap(3, 300);
        assert!(stated.check(&golden(&swapped)).is_err());
        let not_a_number = Golden { recognizer: vec![f32::NAN; SUMS], ..stated.clone() };
        assert_eq!(stated.check(&not_a_number).map_err(|(network, _)| network), Err("recognizer"));
        let short = Golden { detector: vec![1.0], ..stated.clone() };
        assert_eq!(short.check(&stated), Err(("detector", f64::INFINITY)));
    }
}
