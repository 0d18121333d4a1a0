//! What runs for every row, for each instruction set. Whole-number products are the same on every machine; bounds may differ
//! in their last bits, which `slack` allows for.

use super::{Block, CoarseProbe, GROUP_ROWS, LANE, Lane};

/// Fills in as many products as there are rows in `codes`; a row has half as many bytes as the probe values, of which
/// the first half meets the lower four bits.
pub(super) fn dots(probe: &[Lane], codes: &[u8], dots: &mut [i32]) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx512f") && has!("avx512bw") && has!("avx512vnni") {
            #[expect(unsafe_code, reason = "a kernel for an instruction set told at run time")]
            // SAFETY: the processor has the instruction sets that the kernel is compiled for.
            return unsafe { vnni(probe, codes, dots) };
        }
        if has!("avx2") {
            #[expect(unsafe_code, reason = "a kernel for an instruction set told at run time")]
            // SAFETY: as above.
            return unsafe { avx2(probe, codes, dots) };
        }
    }
    portable(probe, codes, dots);
}

/// Turns a block's products into bounds.
pub(super) fn bounds(probe: &CoarseProbe, scales: &[f32], lost: &[f32], block: &mut Block) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "a kernel for an instruction set told at run time")]
        // SAFETY: the processor has the instruction set that the kernel is compiled for.
        return unsafe { bounds_avx2(probe, scales, lost, block) };
    }
    bounds_portable(probe, scales, lost, block);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn bounds_avx2(probe: &CoarseProbe, scales: &[f32], lost: &[f32], block: &mut Block) {
    bounds_portable(probe, scales, lost, block);
}

#[inline(always)]
fn bounds_portable(probe: &CoarseProbe, scales: &[f32], lost: &[f32], block: &mut Block) {
    let rows = block.bounds.iter_mut().zip(&block.dots).zip(scales).zip(lost);
    for (((bound, dot), scale), lost) in rows {
        *bound = probe.estimate(*dot, *scale) + probe.length * lost + probe.lost;
    }
    for (largest, bounds) in block.largest.iter_mut().zip(block.bounds.as_chunks::<GROUP_ROWS>().0) {
        // Not `f32::max`, whose care for NaN keeps compilers from using the one instruction that there is.
        *largest = bounds.iter().fold(f32::NEG_INFINITY, |most, bound| if *bound > most { *bound } else { most });
    }
}

/// For every other machine; compilers turn it into its vector instructions.
pub(super) fn portable(probe: &[Lane], codes: &[u8], dots: &mut [i32]) {
    let (low, high) = probe.split_at(probe.len() / 2);
    for (row, dot) in codes.chunks_exact(low.len() * LANE).zip(dots) {
        let lanes = row.as_chunks::<LANE>().0.iter().zip(low).zip(high);
        let sums = lanes.map(|((bytes, low), high)| {
            let products = bytes.iter().zip(&low.0).zip(&high.0).map(|((byte, low), high)| {
                i32::from(byte & 15) * i32::from(*low) + i32::from(byte >> 4) * i32::from(*high)
            });
            products.sum::<i32>()
        });
        *dot = sums.sum();
    }
}

/// Bytes that are asked for ahead of need: with them the scan keeps up with a plain read of the same bytes, without
/// it takes 1.25 times as long.
#[cfg(target_arch = "x86_64")]
const PREFETCH_BYTES: usize = 4_096;

// Both kernels walk by plain pointers: iterators are not always inlined into a function with instruction sets of its
// own, and then cost more than the arithmetic.

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn vnni(probe: &[Lane], codes: &[u8], dots: &mut [i32]) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm512_add_epi32, _mm512_and_si512, _mm512_dpbusd_epi32, _mm512_loadu_si512,
        _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_srli_epi16,
    };
    const STEP: usize = LANE;
    let row_bytes = probe.len() * LANE / 2;
    let rows = dots.len().min(codes.len() / row_bytes.max(1));
    let nibble = _mm512_set1_epi8(15);
    // A row alone has no neighbours that will be wanted next.
    let is_scan = rows > 1;
    for (row, dot) in dots.iter_mut().enumerate().take(rows) {
        let (mut low_sums, mut high_sums) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for at in (0..row_bytes / STEP * STEP).step_by(STEP) {
            #[expect(unsafe_code, reason = "vector loads have no safe form")]
            // SAFETY: `at + STEP` is at most `row_bytes`, so the loads end within the row, which lies within `codes`,
            // and within the two halves of the probe. They need no alignment.
            let (bytes, low, high) = unsafe {
                let bytes = codes.as_ptr().add(row * row_bytes + at);
                let values = probe.as_ptr().cast::<i8>().add(at);
                if is_scan {
                    // Beyond the end of all rows it asks for an address that is not ours, which does nothing.
                    _mm_prefetch::<_MM_HINT_T0>(bytes.wrapping_add(PREFETCH_BYTES).cast());
                }
                (
                    _mm512_loadu_si512(bytes.cast()),
                    _mm512_loadu_si512(values.cast()),
                    _mm512_loadu_si512(values.add(row_bytes).cast()),
                )
            };
            low_sums = _mm512_dpbusd_epi32(low_sums, _mm512_and_si512(bytes, nibble), low);
            let high_codes = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), nibble);
            high_sums = _mm512_dpbusd_epi32(high_sums, high_codes, high);
        }
        *dot = _mm512_reduce_add_epi32(_mm512_add_epi32(low_sums, high_sums));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
pub(super) fn avx2(probe: &[Lane], codes: &[u8], dots: &mut [i32]) {
    use std::arch::x86_64::{
        _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
        _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
        _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_srli_epi16,
    };
    const STEP: usize = 32;
    let row_bytes = probe.len() * LANE / 2;
    let rows = dots.len().min(codes.len() / row_bytes.max(1));
    let (nibble, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    for (row, dot) in dots.iter_mut().enumerate().take(rows) {
        let mut sums = _mm256_setzero_si256();
        for at in (0..row_bytes / STEP * STEP).step_by(STEP) {
            #[expect(unsafe_code, reason = "vector loads have no safe form")]
            // SAFETY: as in `vnni`.
            let (bytes, low, high) = unsafe {
                let values = probe.as_ptr().cast::<i8>().add(at);
                (
                    _mm256_loadu_si256(codes.as_ptr().add(row * row_bytes + at).cast()),
                    _mm256_loadu_si256(values.cast()),
                    _mm256_loadu_si256(values.add(row_bytes).cast()),
                )
            };
            let low_codes = _mm256_and_si256(bytes, nibble);
            let high_codes = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
            // Four products of at most 15 · 127 each: 7,620 fits 16 bits.
            let low_pairs = _mm256_maddubs_epi16(low_codes, low);
            let pairs = _mm256_add_epi16(low_pairs, _mm256_maddubs_epi16(high_codes, high));
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, ones));
        }
        let four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0x4e>(four));
        *dot = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0xb1>(two)));
    }
}
