//! Probes whose mate is known: what an index is measured with, whichever store has it.

use crate::biometrics::template::dot;

/// The cosine from which a sibling counts as a mate that must be found, and of a probe made by moving a row. Just above the
/// identification thresholds in use (.40): easier probes, at .6, make a graph look twice as good as it is.
pub(super) const MATE_COSINE: f32 = 0.45;

/// Moves a unit vector in a random direction until its cosine to where it was is [`MATE_COSINE`].
pub(super) fn moved(row: &[f32], random: &mut Random) -> Vec<f32> {
    let noise: Vec<f32> = row.iter().map(|_| random.next()).collect();
    let along = dot(&noise, row);
    let across: Vec<f32> = noise.iter().zip(row).map(|(noise, value)| noise - along * value).collect();
    let length = dot(&across, &across).sqrt().max(f32::MIN_POSITIVE);
    let share = (1.0 - MATE_COSINE * MATE_COSINE).sqrt() / length;
    row.iter().zip(across).map(|(value, across)| MATE_COSINE * value + share * across).collect()
}

/// Numbers between −½ and ½ by xorshift: the same probes for the same rows.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_row_is_a_unit_vector_at_the_cosine_of_a_mate() {
        let row = crate::gallery::Synthetic::new(1, 128).template(3, 0);
        let probe = moved(&row, &mut Random::new());
        assert!((dot(&probe, &probe) - 1.0).abs() < 1e-5 && (dot(&probe, &row) - MATE_COSINE).abs() < 1e-5);
    }
}
