//! Galleries of people who do not exist, for benchmarks, load tests and tests: as many as wanted, the same for a seed.

use std::time::SystemTime;

use super::archive::{Encoder, Header, PART_BYTES};
use super::record;
use super::types::{EnrolledTemplate, Gallery, Identity, MetadataValue, PersonDetails};
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::biometrics::template::{Template, dot};
use crate::error::Error;

/// How many dimensions carry most of a template's variance: at 128 of 512 the best scores among strangers resemble those
/// of the networks in use (a mean of .33 for the best of 50,000).
const STRONG_SHARE: usize = 4;
/// Standard deviation of the other dimensions, the strong ones' being 1.
const WEAK: f32 = 0.25;
/// How far a template lies from its identity's middle: two templates of one identity then score .65 on average.
const SPREAD: f32 = 0.73;

/// Makes templates of identities by number.
///
/// *Shape*: unit vectors of `dimension`, a power of two. Each identity is a random direction and each of its templates lies
/// around it, at a mean cosine of .65 to the others and a standard deviation of .05; different identities are about as
/// close as networks make them.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    seed: u64,
    dimension: usize,
}

impl Synthetic {
    /// Takes a seed and a dimension, which is rounded up to a power of two.
    pub fn new(seed: u64, dimension: usize) -> Self {
        Self { seed, dimension: dimension.next_power_of_two() }
    }

    /// Returns how many templates an identity has: 1 to 5.
    pub fn template_count(&self, identity: u64) -> u64 {
        1 + Random::new([self.seed, identity, u64::MAX]).next() % 5
    }

    /// Makes a template of an identity. Any number is one; those below [`Synthetic::template_count`] are the enrolled
    /// ones by convention, others are probes.
    pub fn template(&self, identity: u64, number: u64) -> Vec<f32> {
        let mut middle = Random::new([self.seed, identity, u64::MAX - 1]);
        let mut around = Random::new([self.seed, identity, number]);
        let spread = SPREAD * (0.85 + 0.3 * (around.next() >> 40) as f32 / (1u64 << 24) as f32);
        let strong = self.dimension / STRONG_SHARE;
        let mut values: Vec<f32> = (0..self.dimension)
            .map(|at| (middle.normal() + spread * around.normal()) * if at < strong { 1.0 } else { WEAK })
            .collect();
        // A rotation spreads the strong dimensions over all values, as networks do.
        hadamard(&mut values);
        let length = dot(&values, &values).sqrt();
        values.iter_mut().for_each(|value| *value /= length);
        values
    }

    fn identity(&self, number: u64, templates: u64, pack_id: &PackId, time: SystemTime) -> Result<Identity, Error> {
        let enrolled = |template| -> Result<EnrolledTemplate, Error> {
            Ok(EnrolledTemplate {
                id: TemplateId::parse(&format!("{template}"))?,
                template: Template::from_vector(&self.template(number, template), pack_id.clone())?,
                face: None,
                chip: None,
                created: time,
            })
        };
        let metadata = [
            ("number".to_owned(), MetadataValue::Number(number as f64)),
            ("group".to_owned(), MetadataValue::Text(format!("{:02}", number % 100))),
        ];
        Ok(Identity {
            id: IdentityId::parse(&format!("{number:08}"))?,
            details: PersonDetails { display_name: String::new(), metadata: metadata.into() },
            templates: (0..templates).map(enrolled).collect::<Result<_, Error>>()?,
            created: time,
            updated: time,
        })
    }
}

/// A gallery of people who do not exist.
#[derive(Clone, Debug)]
pub struct SyntheticGallery {
    /// Its id.
    pub gallery: GalleryId,
    /// The pack that its templates claim to be of.
    pub pack_id: PackId,
    /// Length of a template, a power of two.
    pub dimension: usize,
    /// See [`Synthetic::new`].
    pub seed: u64,
    /// How many templates there are in all.
    pub templates: u64,
}

/// Writes a synthetic gallery as a file, part by part; `take` is given a part and how many templates have been written.
/// Returns how many identities there are. Identities are called by their numbers, eight digits or more; their templates by
/// theirs; and each has metadata to filter by: `number`, its own, and `group`, a text that a hundredth of all share.
///
/// *Errors*: those of `take`.
pub fn write_synthetic<E: From<Error>>(
    wanted: &SyntheticGallery,
    mut take: impl FnMut(&[u8], u64) -> Result<(), E>,
) -> Result<u64, E> {
    let time = record::now();
    let gallery = Gallery::with_defaults(wanted.gallery.clone(), wanted.pack_id.clone(), wanted.dimension, time);
    let mut encoder = Encoder::default();
    encoder.header(&Header::new(&gallery));
    let people = Synthetic::new(wanted.seed, wanted.dimension);
    let (mut identities, mut templates) = (0, 0);
    while templates < wanted.templates {
        let count = people.template_count(identities).min(wanted.templates - templates);
        encoder.identity(&people.identity(identities, count, &wanted.pack_id, time)?);
        identities += 1;
        templates += count;
        if encoder.waiting() >= PART_BYTES {
            take(&encoder.take(), templates)?;
        }
    }
    encoder.end(record::gallery_record(0, &gallery), 0);
    take(&encoder.take(), templates)?;
    Ok(identities)
}

/// Numbers that look random, from xorshift (G. Marsaglia, J. Stat. Softw. 8(14), 2003), seeded through splitmix64.
struct Random(u64);

impl Random {
    fn new(parts: [u64; 3]) -> Self {
        let mixed = parts.iter().fold(0u64, |state, part| {
            let z = state.wrapping_add(*part).wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Self(mixed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A nearly normal number of mean 0 and variance 1: the bits of a word are 64 coin tosses, whose count has a standard
    /// deviation of 4; a little of the next word makes it continuous.
    fn normal(&mut self) -> f32 {
        let word = self.next();
        let fraction = (word.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1u64 << 24) as f32;
        (word.count_ones() as f32 - 32.5 + fraction) / 4.0
    }
}

/// The Walsh-Hadamard transform: a rotation and a scale. The length must be a power of two.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for block in values.chunks_exact_mut(half * 2) {
            let (low, high) = block.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_is_the_same_for_a_seed_and_another_for_another() {
        let people = Synthetic::new(1, 128);
        assert_eq!(people.template(7, 2), people.template(7, 2));
        assert_ne!(people.template(7, 2), Synthetic::new(2, 128).template(7, 2));
        assert_eq!(people.template(7, 2).len(), 128);
        assert!((0..100).all(|identity| (1..=5).contains(&people.template_count(identity))));
    }

    #[test]
    fn scores_are_those_of_networks() {
        let people = Synthetic::new(3, 512);
        let mated: Vec<f32> =
            (0..500).map(|identity| dot(&people.template(identity, 0), &people.template(identity, 9))).collect();
        let mean = mated.iter().sum::<f32>() / 500.0;
        assert!((0.6..0.7).contains(&mean), "{mean}");
        let first = people.template(0, 0);
        let best = (1..5_000).map(|identity| dot(&first, &people.template(identity, 0))).fold(-1.0, f32::max);
        assert!((0.2..0.45).contains(&best), "best of 5,000 strangers: {best}");
    }
}
