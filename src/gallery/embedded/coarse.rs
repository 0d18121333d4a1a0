//! Upper bounds of scores from few bits, so that the exact search reads few rows in full.
//!
//! A row `v` is kept in two planes of four bits a value. The first holds codes `c` from 0 to 15 and a scale `s`, so that
//! `v = s·(c − 7.5) + e`; the second holds `e` in the same way, with a scale of its own, and loses `e′`. The lengths `‖e‖` and
//! `‖e′‖` are computed exactly and kept. A probe `q` becomes whole numbers `p` from −127 to 127 and a scale `t`, so that
//! `q = t·p + f`. Then
//!
//! ```text
//! q·v = t·s·p·(c − 7.5) + t·p·e + f·v
//!     ≤ t·s·(p·c − 7.5·Σp) + ‖t·p‖·‖e‖ + ‖f‖·‖v‖        (Cauchy and Schwarz, twice)
//! ```
//! and likewise with both planes and `‖e′‖`. `p·c` is a whole number below 2²⁴ and so exact; `slack` covers the rounding of
//! the bound itself and of the f32 score that it bounds. So a row whose bound is below the worst of the k best scores known
//! so far cannot be among the k best: it is passed over, and the result is that of a full f32 scan, to the last bit.
//!
//! What it saves, among a million rows of 512: the first plane is an eighth of the f32 bytes, and with `‖e‖` about .1 it
//! leaves one row in 200 for the second, which leaves some hundred to score in f32. Fewer bits do not pay: with three, `‖e‖`
//! is .19 and one row in thirty is left; with one it is .6, above every non-mated score, and nothing is passed over.

mod kernel;
mod quantize;

use std::ops::Range;

use super::exact::cores;
use super::memory;

/// Zero of the codes.
const CODE_ZERO: f32 = 7.5;
const CODE_MAX: f32 = 15.0;

/// The clipping points tried for each row, in standard deviations of its values; the one that loses least is kept. For
/// values that are normally distributed the best of 16 levels is near 2.7 (J. Max, "Quantizing for minimum distortion", IRE
/// Trans. IT 6, 1960: a step of .335).
const CLIPS: [f32; 4] = [2.3, 2.6, 2.9, 3.4];

/// The largest dimension whose `p·c` stays below 2²⁴: 8,806 · 127 · 15.
const DIMENSION_MAX: usize = 8_806;
const _: () = assert!(crate::biometrics::template::Template::DIMENSION_MAX <= DIMENSION_MAX);

/// Rows from which coding is shared by all cores: a thread is started in the time of some dozen rows.
const SHARED_ROWS_MIN: usize = 4_096;

/// Rows are worked on in blocks whose bounds fit the first cache.
pub(super) const BLOCK_ROWS: usize = 1_024;

/// The codes of all rows.
pub(super) struct Coarse {
    dimension: usize,
    /// Bytes of a row in a plane.
    row_bytes: usize,
    first: Plane,
    second: Plane,
}

/// Four bits of every value, row by row.
#[derive(Default)]
struct Plane {
    codes: Vec<u8>,
    /// `s` of each row.
    scales: Vec<f32>,
    /// `‖e‖` of each row.
    lost: Vec<f32>,
}

/// As many of a probe's values as a register takes, at an address from which it is filled at once: from others the scan
/// took up to a third longer.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lane([i8; LANE]);

const LANE: usize = 64;

/// A probe in the form that kernels take.
pub(super) struct CoarseProbe {
    values: Vec<Lane>,
    scale: f32,
    /// 7.5 · Σp.
    zero: f32,
    /// `‖t·p‖`.
    length: f32,
    /// `‖f‖`, and the slack.
    lost: f32,
}

/// What the first plane tells of a block of rows.
pub(super) struct Block {
    rows: usize,
    dots: [i32; BLOCK_ROWS],
    /// Upper bounds of the scores.
    bounds: [f32; BLOCK_ROWS],
    /// The largest bound of each group of rows: most groups are passed over by one comparison.
    largest: [f32; BLOCK_ROWS / GROUP_ROWS],
}

/// Rows that share a largest bound.
const GROUP_ROWS: usize = 16;

impl Block {
    pub(super) fn new() -> Self {
        Self { rows: 0, dots: [0; BLOCK_ROWS], bounds: [0.0; BLOCK_ROWS], largest: [0.0; BLOCK_ROWS / GROUP_ROWS] }
    }

    /// Returns the product of the row at a place.
    pub(super) fn dot(&self, at: usize) -> i32 {
        self.dots.get(at).copied().unwrap_or(i32::MAX)
    }

    /// Iterates over the places of the rows whose bound reaches a floor.
    pub(super) fn reaching(&self, floor: f32) -> impl Iterator<Item = usize> {
        let groups = self.bounds.as_chunks::<GROUP_ROWS>().0.iter().zip(&self.largest).enumerate();
        let groups = groups.filter(move |(_, (_, largest))| **largest >= floor);
        let places = groups.flat_map(move |(group, (bounds, _))| {
            let places = bounds.iter().enumerate().filter(move |(_, bound)| **bound >= floor);
            places.map(move |(at, _)| group * GROUP_ROWS + at)
        });
        places.take_while(|at| *at < self.rows)
    }
}

/// What rounding can add: of the f32 score, `dot`'s error is at most (d/16 + 18)·2⁻²⁴·‖q‖·‖v‖ (N. Higham, "Accuracy and
/// Stability of Numerical Algorithms", eq. 3.5, for 16 sums side by side); of the bound, eight operations on numbers below 2;
/// the lengths of unit vectors in f32 are within 2⁻²⁰ of 1, and the second plane starts from `e` in f32, within 2⁻²⁴ of it.
/// Doubled.
fn slack(dimension: usize) -> f32 {
    (dimension as f32 / 16.0 + 64.0) * f32::EPSILON
}

impl Coarse {
    pub(super) fn new(dimension: usize) -> Self {
        let row_bytes = dimension.next_multiple_of(2 * LANE) / 2;
        Self { dimension, row_bytes, first: Plane::default(), second: Plane::default() }
    }

    /// Adds rows that lie one after the other, on all cores where there are many. *Cost*: about 1 µs a row of 512.
    pub(super) fn extend(&mut self, values: &[f32]) {
        let (dimension, row_bytes) = (self.dimension, self.row_bytes);
        let rows = values.len() / dimension;
        let mut first = self.first.grow(rows, row_bytes);
        let mut second = self.second.grow(rows, row_bytes);
        if rows < SHARED_ROWS_MIN {
            return quantize_rows(values, dimension, row_bytes, first, second);
        }
        let share = rows.div_ceil(cores());
        std::thread::scope(|scope| {
            for values in values.chunks(share * dimension) {
                let rows = values.len() / dimension;
                let (first, second) = (first.split_off(rows, row_bytes), second.split_off(rows, row_bytes));
                scope.spawn(move || quantize_rows(values, dimension, row_bytes, first, second));
            }
        });
    }

    /// Takes a row out; the last one moves into the gap.
    pub(super) fn swap_remove(&mut self, row: usize) {
        self.first.swap_remove(row, self.row_bytes);
        self.second.swap_remove(row, self.row_bytes);
    }

    pub(super) fn probe(&self, probe: &[f32]) -> CoarseProbe {
        let largest = probe.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        let code = |value: &f32| (value / scale).round().clamp(-127.0, 127.0) as i8;
        let mut values: Vec<i8> = probe.iter().map(code).collect();
        let kept = |value: i8| f64::from(scale) * f64::from(value);
        let length = values.iter().map(|value| kept(*value).powi(2)).sum::<f64>().sqrt();
        let lost = probe.iter().zip(&values).map(|(q, p)| (f64::from(*q) - kept(*p)).powi(2)).sum::<f64>().sqrt();
        let sum: i32 = values.iter().map(|value| i32::from(*value)).sum();
        values.resize(self.row_bytes * 2, 0);
        CoarseProbe {
            values: values.as_chunks().0.iter().map(|lane| Lane(*lane)).collect(),
            scale,
            zero: CODE_ZERO * sum as f32,
            length: (length as f32).next_up(),
            lost: (lost as f32).next_up() + slack(self.dimension),
        }
    }

    /// Bounds a probe's scores with the rows of a range, a block's at most, by the first plane.
    pub(super) fn bound_block(&self, probe: &CoarseProbe, rows: Range<usize>, block: &mut Block) {
        let rows = rows.start..rows.end.min(rows.start + BLOCK_ROWS).min(self.first.scales.len());
        let codes = self.first.codes.get(rows.start * self.row_bytes..rows.end * self.row_bytes);
        let (scales, lost) = (self.first.scales.get(rows.clone()), self.first.lost.get(rows.clone()));
        block.rows = rows.len();
        kernel::dots(&probe.values, codes.unwrap_or_default(), &mut block.dots);
        kernel::bounds(probe, scales.unwrap_or_default(), lost.unwrap_or_default(), block);
    }

    /// Tells whether the bounds of a row's score reach a floor, first by one plane, then by both.
    pub(super) fn reaches(&self, probe: &CoarseProbe, row: usize, floor: f32) -> bool {
        let dot = self.first.dot(probe, row, self.row_bytes);
        let (Some(scale), Some(lost)) = (self.first.scales.get(row), self.first.lost.get(row)) else { return true };
        let bound = probe.estimate(dot, *scale) + probe.length * lost + probe.lost;
        bound >= floor && self.bound_row(probe, row, dot) >= floor
    }

    /// Bounds the score with a row by both planes; its product with the first is known.
    pub(super) fn bound_row(&self, probe: &CoarseProbe, row: usize, first_dot: i32) -> f32 {
        let second_dot = self.second.dot(probe, row, self.row_bytes);
        let scales = (self.first.scales.get(row), self.second.scales.get(row));
        match (scales, self.second.lost.get(row)) {
            ((Some(first_scale), Some(second_scale)), Some(lost)) => {
                let estimate = probe.estimate(first_dot, *first_scale) + probe.estimate(second_dot, *second_scale);
                estimate + probe.length * lost + probe.lost
            }
            _ => f32::INFINITY,
        }
    }
}

impl CoarseProbe {
    fn estimate(&self, dot: i32, row_scale: f32) -> f32 {
        self.scale * row_scale * (dot as f32 - self.zero)
    }
}

impl Plane {
    fn dot(&self, probe: &CoarseProbe, row: usize, row_bytes: usize) -> i32 {
        let codes = self.codes.get(row * row_bytes..(row + 1) * row_bytes).unwrap_or_default();
        let mut dot = [0];
        kernel::dots(&probe.values, codes, &mut dot);
        let [dot] = dot;
        dot
    }

    fn swap_remove(&mut self, row: usize, row_bytes: usize) {
        let last = self.codes.len().saturating_sub(row_bytes);
        self.codes.copy_within(last.., row * row_bytes);
        self.codes.truncate(last);
        self.scales.swap_remove(row);
        self.lost.swap_remove(row);
    }

    /// Makes room for more rows and returns it.
    fn grow(&mut self, rows: usize, row_bytes: usize) -> PlaneRows<'_> {
        let before = self.scales.len();
        memory::grow(&mut self.codes, |codes| codes.resize((before + rows) * row_bytes, 0));
        self.scales.resize(before + rows, 0.0);
        self.lost.resize(before + rows, 0.0);
        let (_, codes) = self.codes.split_at_mut(before * row_bytes);
        PlaneRows { codes, scales: self.scales.split_at_mut(before).1, lost: self.lost.split_at_mut(before).1 }
    }
}

/// Rows of a plane that are to be filled in.
struct PlaneRows<'a> {
    codes: &'a mut [u8],
    scales: &'a mut [f32],
    lost: &'a mut [f32],
}

impl<'a> PlaneRows<'a> {
    /// Splits the first rows off.
    fn split_off(&mut self, rows: usize, row_bytes: usize) -> PlaneRows<'a> {
        PlaneRows {
            codes: self.codes.split_off_mut(..rows * row_bytes).unwrap_or_default(),
            scales: self.scales.split_off_mut(..rows).unwrap_or_default(),
            lost: self.lost.split_off_mut(..rows).unwrap_or_default(),
        }
    }
}

/// Fills in both planes of some rows.
fn quantize_rows(values: &[f32], dimension: usize, row_bytes: usize, first: PlaneRows<'_>, second: PlaneRows<'_>) {
    let mut unpacked = vec![0; row_bytes * 2];
    let mut rest = vec![0.0; dimension];
    let planes = [first, second]
        .map(|plane| plane.codes.chunks_exact_mut(row_bytes).zip(plane.scales.iter_mut().zip(plane.lost.iter_mut())));
    let [first, second] = planes;
    for ((row, first), second) in values.chunks_exact(dimension).zip(first).zip(second) {
        rest.copy_from_slice(row);
        for (packed, (scale, lost)) in [first, second] {
            (*scale, *lost) = quantize::quantize(&mut rest, &mut unpacked, packed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::ids::PackId;
    use crate::biometrics::template::{Template, dot};

    fn numbers(seed: u64) -> impl FnMut() -> f32 {
        let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        }
    }

    fn unit(values: &[f32]) -> Vec<f32> {
        Template::from_vector(values, PackId::from_digits("0".repeat(32))).expect("a template").values().to_vec()
    }

    /// Vectors made to hurt: one value alone, equal values, tiny beside large ones, values on the codes' borders.
    fn hostile(dimension: usize) -> Vec<Vec<f32>> {
        let mut next = numbers(7);
        let mut rows: Vec<Vec<f32>> = vec![
            (0..dimension).map(|at| f32::from(u8::from(at == 0))).collect(),
            (0..dimension).map(|at| -f32::from(u8::from(at == dimension - 1))).collect(),
            vec![1.0; dimension],
            (0..dimension).map(|at| if at % 2 == 0 { 1.0 } else { -1.0 }).collect(),
            (0..dimension).map(|at| if at < 3 { 1.0 } else { 1e-30 }).collect(),
            (0..dimension).map(|at| 0.9f32.powi(at as i32)).collect(),
            (0..dimension).map(|at| (at % 16) as f32 - 7.5).collect(),
            (0..dimension).map(|at| (at % 15) as f32 - 7.0).collect(),
        ];
        for _ in 0..24 {
            let sharp = next().abs() * 12.0;
            rows.push((0..dimension).map(|_| next() * (sharp * next()).exp()).collect());
        }
        rows.iter().map(|row| unit(row)).collect()
    }

    #[test]
    fn bound_is_never_below_the_score() {
        for dimension in [1, 3, 64, 127, 128, 129, 512, 1_000] {
            let rows = hostile(dimension);
            let mut coarse = Coarse::new(dimension);
            rows.iter().for_each(|row| coarse.extend(row));
            for probe in &rows {
                let (coded, mut block) = (coarse.probe(probe), Block::new());
                coarse.bound_block(&coded, 0..rows.len(), &mut block);
                for (at, row) in rows.iter().enumerate() {
                    let score = dot(probe, row);
                    for bound in [block.bounds[at], coarse.bound_row(&coded, at, block.dot(at))] {
                        assert!(bound >= score, "{bound} is no bound of {score} in {dimension} dimensions");
                    }
                    assert!(coarse.reaches(&coded, at, score), "a row that was looked up, of {score}");
                }
            }
        }
    }

    #[test]
    fn bound_is_tight_for_what_networks_make() {
        let mut next = numbers(3);
        // Sums of uniform numbers: nearly normal, as the values of embeddings are.
        let mut row = || unit(&(0..512).map(|_| (0..6).map(|_| next()).sum()).collect::<Vec<f32>>());
        let rows: Vec<Vec<f32>> = (0..64).map(|_| row()).collect();
        let mut coarse = Coarse::new(512);
        rows.iter().for_each(|row| coarse.extend(row));
        let (coded, mut block) = (coarse.probe(&rows[0]), Block::new());
        coarse.bound_block(&coded, 0..rows.len(), &mut block);
        for (at, row) in rows.iter().enumerate() {
            let score = dot(&rows[0], row);
            let (first, both) = (block.bounds[at] - score, coarse.bound_row(&coded, at, block.dot(at)) - score);
            assert!(first < 0.2 && both < 0.05, "{first} {both}");
        }
    }

    #[test]
    fn every_kernel_computes_the_same() {
        let mut next = numbers(5);
        for values in [128, 256, 512, 1_024] {
            let mut value = |at: usize| if at.is_multiple_of(9) { -127 } else { (next() * 254.0) as i8 };
            let probe: Vec<Lane> = (0..values / LANE).map(|_| Lane(std::array::from_fn(&mut value))).collect();
            let mut codes: Vec<u8> = (0..values / 2 * 37).map(|_| (next() * 256.0) as i32 as u8).collect();
            codes[..values / 2].fill(0xff);
            let mut expected = [0; 40];
            kernel::portable(&probe, &codes, &mut expected);
            let mut found = [0; 40];
            kernel::dots(&probe, &codes, &mut found);
            assert_eq!(found, expected);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                let mut found = [0; 40];
                #[expect(unsafe_code, reason = "a kernel for an instruction set told at run time")]
                // SAFETY: the processor has AVX2.
                unsafe {
                    kernel::avx2(&probe, &codes, &mut found);
                }
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn reaching_finds_exactly_the_rows_that_do() {
        let rows = hostile(64);
        let mut coarse = Coarse::new(64);
        rows.iter().cycle().take(100).for_each(|row| coarse.extend(row));
        let mut block = Block::new();
        for range in [0..100, 3..40, 96..100, 50..51] {
            coarse.bound_block(&coarse.probe(&rows[3]), range.clone(), &mut block);
            for floor in [-2.0, 0.0, 0.5, 1.0, 2.0] {
                let expected: Vec<usize> = (0..range.len()).filter(|at| block.bounds[*at] >= floor).collect();
                assert_eq!(block.reaching(floor).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn removed_row_is_replaced_by_the_last() {
        let rows = hostile(128);
        let mut coarse = Coarse::new(128);
        rows.iter().for_each(|row| coarse.extend(row));
        coarse.swap_remove(2);
        coarse.swap_remove(rows.len() - 2);
        let mut kept = rows.clone();
        kept.swap_remove(2);
        kept.swap_remove(rows.len() - 2);
        let mut fresh = Coarse::new(128);
        kept.iter().for_each(|row| fresh.extend(row));
        assert!(coarse.first.codes == fresh.first.codes && coarse.second.codes == fresh.second.codes);
    }
}
