//! Vectors without the bits that say nothing: an eighth less, and back to the last bit.
//!
//! The values of a unit vector differ little in size: of the eight bits of an f32's exponent, four tell how far it lies below
//! the row's largest. A row is packed as that largest exponent (1 byte) and then, of all its values one after the other, 16
//! bits of the fraction; the other 7 and the sign; the 4 bits, those of the second half above those of the first; and last,
//! whole, the few values that lie further below (1 in 20,000 of a normal distribution) or are 0.

/// The place of a value that stands whole at the end.
const WHOLE: u8 = 15;

/// Adds a packed row to bytes.
pub(super) fn pack(row: &[f32], bytes: &mut Vec<u8>) {
    let exponent = |value: &f32| (value.to_bits() >> 23 & 0xff) as u8;
    let largest = row.iter().map(exponent).max().unwrap_or(0);
    let place = |value: &f32| match exponent(value) {
        0 => WHOLE,
        exponent => (largest - exponent).min(WHOLE),
    };
    bytes.push(largest);
    bytes.extend(row.iter().flat_map(|value| (value.to_bits() as u16).to_le_bytes()));
    bytes.extend(row.iter().map(|value| (value.to_bits() >> 16 & 0x7f | value.to_bits() >> 24 & 0x80) as u8));
    let (low, high) = row.split_at(row.len().div_ceil(2));
    let high = high.iter().map(place).chain(std::iter::repeat(0));
    bytes.extend(low.iter().map(place).zip(high).map(|(low, high)| low | high << 4));
    bytes.extend(row.iter().filter(|value| place(value) == WHOLE).flat_map(|value| value.to_le_bytes()));
}

/// Adds the values of a packed row of `length`, and returns the bytes behind it; `None` where there are too few.
pub(super) fn unpack<'a>(bytes: &'a [u8], length: usize, values: &mut Vec<f32>) -> Option<&'a [u8]> {
    let (largest, bytes) = bytes.split_first()?;
    let (fractions, bytes) = bytes.split_at_checked(length * 2)?;
    let (tops, bytes) = bytes.split_at_checked(length)?;
    let half = length.div_ceil(2);
    let (places, mut bytes) = bytes.split_at_checked(half)?;
    let start = values.len();
    let (low_fractions, high_fractions) = fractions.as_chunks::<2>().0.split_at_checked(half)?;
    let (low_tops, high_tops) = tops.split_at_checked(half)?;
    let low = low_fractions.iter().zip(low_tops).zip(places);
    values.extend(low.map(|((fraction, top), place)| value(*fraction, *top, largest.wrapping_sub(place & 15))));
    let high = high_fractions.iter().zip(high_tops).zip(places);
    values.extend(high.map(|((fraction, top), place)| value(*fraction, *top, largest.wrapping_sub(place >> 4))));
    let (_, row) = values.split_at_mut_checked(start)?;
    let (low, high) = row.split_at_mut_checked(half)?;
    let whole = |place: &u8| place & 15 == WHOLE || place >> 4 == WHOLE;
    if places.iter().fold(false, |any, place| any | whole(place)) {
        let of_low = low.iter_mut().zip(places).filter(|(_, place)| **place & 15 == WHOLE);
        let of_high = high.iter_mut().zip(places).filter(|(_, place)| **place >> 4 == WHOLE);
        for (value, _) in of_low.chain(of_high) {
            let (stands, rest) = bytes.split_first_chunk()?;
            *value = f32::from_le_bytes(*stands);
            bytes = rest;
        }
    }
    Some(bytes)
}

fn value(fraction: [u8; 2], top: u8, exponent: u8) -> f32 {
    let top = u32::from(top);
    let bits = u32::from(u16::from_le_bytes(fraction)) | (top & 0x7f) << 16 | u32::from(exponent) << 23;
    f32::from_bits(bits | (top & 0x80) << 24)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::Synthetic;

    fn assert_comes_back(row: &[f32]) -> usize {
        let mut bytes = Vec::new();
        pack(row, &mut bytes);
        let packed = bytes.len();
        bytes.extend_from_slice(&[1, 2, 3]);
        let mut values = vec![7.0];
        assert_eq!(unpack(&bytes, row.len(), &mut values), Some(&[1, 2, 3][..]));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values[1..]), bits(row));
        packed
    }

    #[test]
    fn row_comes_back_to_the_last_bit_whatever_its_values() {
        let hostile = [0.0, -0.0, 1.0, -1.0, 1e-3, -1e-5, 1e-30, f32::MIN_POSITIVE / 4.0, 0.3, f32::MAX, -0.7, 1e-38];
        for length in 0..hostile.len() {
            assert_comes_back(&hostile[..length]);
            assert_comes_back(&hostile[length..]);
        }
        for length in [1, 2, 3, 127, 128, 512] {
            assert_comes_back(&vec![0.0; length]);
            assert_comes_back(&(0..length).map(|at| 0.5f32.powi(at as i32 % 40)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_networks_make_becomes_an_eighth_smaller() {
        let row = Synthetic::new(3, 512).template(1, 0);
        assert!(assert_comes_back(&row) <= 512 * 7 / 2 + 9);
    }

    #[test]
    fn row_cut_short_is_none() {
        let mut bytes = Vec::new();
        pack(&[0.0, 0.5, 1e-30], &mut bytes);
        for at in 0..bytes.len() {
            assert_eq!(unpack(&bytes[..at], 3, &mut Vec::new()), None, "cut to {at}");
        }
    }
}
