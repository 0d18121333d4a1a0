//! Templates: unit-length embeddings stamped with the pack that made them.

use std::fmt;
use std::sync::Arc;

use super::ids::PackId;
use super::score::Score;
use crate::error::Error;

/// A unit-length vector and the pack that made it. Templates of different packs are never compared.
#[derive(Clone, PartialEq)]
pub struct Template {
    values: Arc<[f32]>,
    pack_id: PackId,
}

/// 2⁻²⁰.
const LENGTH_ERROR_MAX: f64 = 1.0 / 1_048_576.0;

impl Template {
    /// The longest template accepted from outside, far above every recogniser in use (128 to 1,024).
    pub const DIMENSION_MAX: usize = 4_096;

    /// Scales a vector to unit length.
    ///
    /// *Errors*: [`Error::BadField`] where it is empty, too long, has a non-finite value or no length.
    pub fn from_vector(values: &[f32], pack_id: PackId) -> Result<Self, Error> {
        if values.is_empty() || values.len() > Self::DIMENSION_MAX {
            return Err(Error::bad_field("embedding.values", "as many numbers as the pack's dimension"));
        }
        // f64, so that the sum neither overflows nor loses the small values of a long vector.
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if !norm.is_finite() || norm < 1e-12 {
            return Err(Error::bad_field("embedding.values", "finite numbers, not all zero"));
        }
        let values = values.iter().map(|v| (f64::from(*v) / norm) as f32).collect();
        Ok(Self { values, pack_id })
    }

    /// Takes a vector that is of unit length already, bit for bit, as the store kept it.
    ///
    /// *Errors*: [`Error::BadField`] where its length is not 1 within rounding, 2⁻²⁰: the exact search's bounds rest on it.
    pub fn from_unit_vector(values: &[f32], pack_id: PackId) -> Result<Self, Error> {
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if values.len() > Self::DIMENSION_MAX
            || (norm - 1.0).abs().partial_cmp(&LENGTH_ERROR_MAX) != Some(std::cmp::Ordering::Less)
        {
            return Err(Error::bad_field("embedding.values", "a vector of length 1"));
        }
        Ok(Self { values: values.into(), pack_id })
    }

    /// Returns the unit-length vector.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the pack that made it.
    pub fn pack_id(&self) -> &PackId {
        &self.pack_id
    }

    /// Scores two templates of one pack.
    ///
    /// *Errors*: [`Error::PackMismatch`] where the packs differ; [`Error::BadField`] where the lengths do.
    pub fn score(&self, other: &Template) -> Result<Score, Error> {
        self.check_fits(&other.pack_id, other.values.len())?;
        Ok(Score::from_cosine(dot(&self.values, &other.values)))
    }

    /// Checks that this template may be compared with those of a pack.
    ///
    /// *Errors*: [`Error::PackMismatch`] where the packs differ; [`Error::BadField`] where the lengths do.
    pub fn check_fits(&self, pack_id: &PackId, dimension: usize) -> Result<(), Error> {
        if self.pack_id != *pack_id {
            return Err(Error::PackMismatch { expected: pack_id.clone(), found: self.pack_id.clone() });
        }
        if self.values.len() != dimension {
            return Err(Error::bad_field("embedding.values", format!("{dimension} numbers")));
        }
        Ok(())
    }
}

// A template identifies a person: its values never reach a log through `Debug`.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({} values, pack {})", self.values.len(), self.pack_id)
    }
}

/// Returns the dot product of two vectors of one length: the cosine, for unit vectors.
///
/// Every score the engine reports comes from this one function, so that verification, both searches and every store
/// agree to the last bit. Sixteen sums side by side let the compiler use vector registers.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(digit: char) -> PackId {
        PackId::parse(&digit.to_string().repeat(32)).expect("32 digits")
    }

    #[test]
    fn template_of_unusable_vector_is_bad_field() {
        let cases: [&[f32]; 5] = [&[], &[0.0, 0.0], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[0.0; 4_097]];
        for values in cases {
            assert!(Template::from_vector(values, pack('a')).is_err());
        }
    }

    #[test]
    fn vector_is_taken_as_it_is_only_if_of_unit_length_and_not_too_long() {
        let taken = |values: &[f32]| Template::from_unit_vector(values, pack('a'));
        assert_eq!(taken(&[0.6, 0.8]).expect("a template").values(), [0.6, 0.8]);
        let mut longest = vec![0.0; Template::DIMENSION_MAX];
        longest[7] = 1.0;
        assert!(taken(&longest).is_ok());
        longest.push(0.0);
        for values in [&longest[..], &[0.6, 0.79], &[f32::NAN, 1.0], &[]] {
            assert!(taken(values).is_err());
        }
    }

    #[test]
    fn template_has_unit_length_for_any_scale() -> Result<(), Error> {
        for scale in [1e-9, 1.0, 1e18] {
            let template = Template::from_vector(&[3.0 * scale, 4.0 * scale], pack('a'))?;
            assert!((template.values()[0] - 0.6).abs() < 1e-6 && (template.values()[1] - 0.8).abs() < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn score_of_another_pack_is_mismatch() -> Result<(), Error> {
        let a = Template::from_vector(&[1.0, 0.0], pack('a'))?;
        let b = Template::from_vector(&[1.0, 0.0], pack('b'))?;
        assert!(matches!(a.score(&b), Err(Error::PackMismatch { .. })));
        assert_eq!(a.score(&a)?.cosine(), 1.0);
        Ok(())
    }

    #[test]
    fn dot_equals_the_plain_sum() {
        for length in [1, 15, 16, 17, 128, 512, 513] {
            let a: Vec<f32> = (0..length).map(|i| (i as f32 * 0.37).sin()).collect();
            let b: Vec<f32> = (0..length).map(|i| (i as f32 * 0.73).cos()).collect();
            let plain: f64 = a.iter().zip(&b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
            // f32 rounding of at most 513 products of magnitude 1.
            assert!((f64::from(dot(&a, &b)) - plain).abs() < 1e-4);
        }
    }
}
