//! A row → four bits a value, a scale, and the length of what that loses. Every row passes here once when it is enrolled and
//! again when an index is built, so it is compiled for wide registers too.

use super::{CLIPS, CODE_MAX, CODE_ZERO};

/// Adding it to a number from 0 to 2²² leaves that number, rounded, in the lowest bits: rounding and conversion in one
/// instruction that every machine has.
const TO_BITS: f32 = 8_388_608.0;

/// What side by side sums are kept in, so that compilers may use registers of this width.
const LANES: usize = 16;

/// Codes a row and leaves in it what the codes lose. `unpacked` is as long as the padded row and 0 beyond the row;
/// `packed` takes two codes a byte. Returns the scale and the length of what is lost, rounded up.
pub(super) fn quantize(row: &mut [f32], unpacked: &mut [u8], packed: &mut [u8]) -> (f32, f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
            #[expect(unsafe_code, reason = "compiled for an instruction set told at run time")]
            // SAFETY: the processor has the instruction sets that the function is compiled for.
            return unsafe { avx512(row, unpacked, packed) };
        }
        if has!("avx2") {
            #[expect(unsafe_code, reason = "compiled for an instruction set told at run time")]
            // SAFETY: as above.
            return unsafe { avx2(row, unpacked, packed) };
        }
    }
    portable(row, unpacked, packed)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn avx512(row: &mut [f32], unpacked: &mut [u8], packed: &mut [u8]) -> (f32, f32) {
    portable(row, unpacked, packed)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(row: &mut [f32], unpacked: &mut [u8], packed: &mut [u8]) -> (f32, f32) {
    portable(row, unpacked, packed)
}

#[inline(always)]
fn portable(row: &mut [f32], unpacked: &mut [u8], packed: &mut [u8]) -> (f32, f32) {
    let scale = best_scale(row);
    let inverse = 1.0 / scale;
    for (value, code) in row.iter().zip(unpacked.iter_mut()) {
        *code = (on_levels(*value, inverse) + TO_BITS).to_bits() as u8;
    }
    // The two halves of a row share bytes, so that a kernel meets the values of a register in order.
    let (low, high) = unpacked.split_at(unpacked.len() / 2);
    for ((byte, low), high) in packed.iter_mut().zip(low).zip(high) {
        *byte = low | high << 4;
    }
    (scale, take_kept(row, unpacked, scale))
}

/// Returns the scale of the clipping point that loses least.
#[inline(always)]
fn best_scale(row: &[f32]) -> f32 {
    let mean_square = sum(row, |value| value * value) / row.len().max(1) as f32;
    let deviation = mean_square.sqrt();
    let mut best = (1.0, f32::INFINITY);
    for clip in CLIPS {
        let scale = 2.0 * clip * deviation / CODE_MAX;
        if !scale.is_normal() {
            continue;
        }
        let inverse = 1.0 / scale;
        let lost = sum(row, |value| {
            let code = (on_levels(value, inverse) + TO_BITS) - TO_BITS;
            let rest = value - scale * (code - CODE_ZERO);
            rest * rest
        });
        if lost < best.1 {
            best = (scale, lost);
        }
    }
    best.0
}

/// Subtracts what the codes keep, and returns the length of the rest.
#[inline(always)]
fn take_kept(row: &mut [f32], codes: &[u8], scale: f32) -> f32 {
    let (scale, zero) = (f64::from(scale), f64::from(CODE_ZERO));
    let mut sums = [0.0f64; LANES];
    let (chunks, tail) = row.as_chunks_mut::<LANES>();
    let (code_chunks, code_tail) = codes.split_at(chunks.len() * LANES);
    for (chunk, codes) in chunks.iter_mut().zip(code_chunks.as_chunks::<LANES>().0) {
        for ((value, code), sum) in chunk.iter_mut().zip(codes).zip(&mut sums) {
            let rest = f64::from(*value) - scale * (f64::from(*code) - zero);
            *sum += rest * rest;
            *value = rest as f32;
        }
    }
    let mut lost: f64 = sums.iter().sum();
    for (value, code) in tail.iter_mut().zip(code_tail) {
        let rest = f64::from(*value) - scale * (f64::from(*code) - zero);
        lost += rest * rest;
        *value = rest as f32;
    }
    // Rounded up, so that it stays a bound.
    (lost.sqrt() as f32).next_up()
}

/// Where a value lies among the levels, from 0 to 15.
#[inline(always)]
fn on_levels(value: f32, inverse: f32) -> f32 {
    (value * inverse + CODE_ZERO).clamp(0.0, CODE_MAX)
}

#[inline(always)]
fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (chunks, tail) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (value, sum) in chunk.iter().zip(&mut sums) {
            *sum += of(*value);
        }
    }
    sums.iter().sum::<f32>() + tail.iter().map(|value| of(*value)).sum::<f32>()
}
