//! How good a photo of a face is: what is measured, and what a gallery asks for. Terms as in ISO/IEC 29794-5.

use std::fmt;
use std::ops::RangeInclusive;

use super::face::Face;
use super::pose::Pose;
use crate::error::Error;

/// What is measured of a face besides its detection score and eye distance. All values are finite.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FaceQuality {
    /// The smaller side of the box, in pixels, as far as the photo shows it.
    pub face_side_px: f32,
    /// Fine detail in relation to contrast, from 0 to 1: the standard deviation of the Laplacian of the chip's levels over
    /// that of the levels themselves.
    ///
    /// Measured in the chip, so that it says what the network sees, whatever the photo's size, and it does not change with
    /// the exposure. Photos of LFW have .20 to .68 (1st to 99th percentile; median .35), the same blurred by a Gaussian of
    /// 2 px .06 to .18. Noise counts as detail.
    pub sharpness: f32,
    /// The mean level of the face (luma), from 0, black, to 1.
    pub brightness: f32,
    /// The standard deviation of the levels, from 0, one level, to 1, half black and half white.
    pub contrast: f32,
    /// The share of pixels that are as good as black or white, from 0 to 1: detail there is lost to the exposure.
    pub clipped_share: f32,
    /// How the head is turned.
    pub pose: Pose,
}

/// Eye distance and sharpness from which a face counts in full: the eye distance of a chip, which a smaller face is enlarged
/// to, and a little below the median sharpness of LFW.
const FULL_EYE_DISTANCE_PX: f32 = 35.0;
const FULL_SHARPNESS: f32 = 0.3;

/// What a face counts at least, so that no template is left out of its identity's mean.
const WEIGHT_MIN: f32 = 0.01;

impl FaceQuality {
    /// Returns what a template of this face counts in a quality-weighted mean, from 0.01 to 1.
    ///
    /// The product of the detection score, the eye distance over 35 px (at most 1), the sharpness over .3 (at most 1), the
    /// share that is not clipped, and the cosines of yaw and pitch (at least 0): each is 1 for a good photo, and what makes
    /// a template of little worth is far below.
    pub fn weight(&self, face: &Face) -> f32 {
        let full = |value: f32, full: f32| (value / full).clamp(0.0, 1.0);
        let cosine = |degrees: f32| degrees.to_radians().cos().max(0.0);
        let weight = full(face.detection_score, 1.0)
            * full(face.eye_distance_px(), FULL_EYE_DISTANCE_PX)
            * full(self.sharpness, FULL_SHARPNESS)
            * (1.0 - self.clipped_share)
            * cosine(self.pose.yaw_degrees)
            * cosine(self.pose.pitch_degrees);
        // Written so that what is not a number counts least.
        if weight > WEIGHT_MIN { weight.min(1.0) } else { WEIGHT_MIN }
    }
}

/// Whether a limit is the least or the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    AtLeast,
    /// Of angles either way.
    AtMost,
}

/// Something that a gallery can ask of the photos it enrols.
#[derive(Debug)]
pub struct Limit {
    /// The name of the limit, in the contract, the store and the commands.
    pub name: &'static str,
    /// The name of what is measured.
    pub measure: &'static str,
    bound: Bound,
    range: RangeInclusive<f32>,
    value: fn(&Face, &FaceQuality) -> f32,
}

const LIMIT_COUNT: usize = 11;

/// Every limit there is: the one table of them.
pub const LIMITS: [Limit; LIMIT_COUNT] = [
    at_least("eye_distance_px_min", "eye_distance_px", 0.0..=16_384.0, |face, _| face.eye_distance_px()),
    at_least("face_side_px_min", "face_side_px", 0.0..=16_384.0, |_, quality| quality.face_side_px),
    at_least("detection_score_min", "detection_score", 0.0..=1.0, |face, _| face.detection_score),
    at_least("sharpness_min", "sharpness", 0.0..=1.0, |_, quality| quality.sharpness),
    at_least("brightness_min", "brightness", 0.0..=1.0, |_, quality| quality.brightness),
    at_most("brightness_max", "brightness", 0.0..=1.0, |_, quality| quality.brightness),
    at_least("contrast_min", "contrast", 0.0..=1.0, |_, quality| quality.contrast),
    at_most("clipped_share_max", "clipped_share", 0.0..=1.0, |_, quality| quality.clipped_share),
    at_most("yaw_degrees_max", "yaw_degrees", 0.0..=180.0, |_, quality| quality.pose.yaw_degrees),
    at_most("pitch_degrees_max", "pitch_degrees", 0.0..=90.0, |_, quality| quality.pose.pitch_degrees),
    at_most("roll_degrees_max", "roll_degrees", 0.0..=180.0, |_, quality| quality.pose.roll_degrees),
];

type Value = fn(&Face, &FaceQuality) -> f32;

const fn at_least(name: &'static str, measure: &'static str, range: RangeInclusive<f32>, value: Value) -> Limit {
    Limit { name, measure, bound: Bound::AtLeast, range, value }
}

const fn at_most(name: &'static str, measure: &'static str, range: RangeInclusive<f32>, value: Value) -> Limit {
    Limit { name, measure, bound: Bound::AtMost, range, value }
}

/// What a gallery asks of the photos it enrols. The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QualityGate {
    /// In the order of [`LIMITS`].
    limits: [Option<f32>; LIMIT_COUNT],
}

/// A measure that does not reach its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shortfall {
    /// What was measured.
    pub measure: &'static str,
    /// Which limit it does not reach.
    pub limit_name: &'static str,
    /// The measured value; of angles with its sign.
    pub value: f32,
    /// The limit.
    pub limit: f32,
    bound: Bound,
}

impl QualityGate {
    /// Takes limits in the order of [`LIMITS`]; `None` does not ask.
    ///
    /// *Errors*: [`Error::BadField`] that names the limit.
    pub fn new(limits: [Option<f32>; LIMIT_COUNT]) -> Result<Self, Error> {
        let stated = LIMITS.iter().zip(limits).filter_map(|(limit, stated)| Some((limit, stated?)));
        Self::default().with(stated)
    }

    /// Takes limits by name.
    ///
    /// *Errors*: [`Error::BadField`] that names the limit, where there is none of this name, or its value is out of range.
    pub fn named<'a>(stated: impl IntoIterator<Item = (&'a str, f32)>) -> Result<Self, Error> {
        let limit = |name: &str| LIMITS.iter().find(|limit| limit.name == name);
        let stated = stated.into_iter().map(|(name, value)| {
            limit(name).map(|limit| (limit, value)).ok_or_else(|| Error::bad_field(name, "the name of a limit"))
        });
        Self::default().with(stated.collect::<Result<Vec<_>, Error>>()?)
    }

    fn with(mut self, stated: impl IntoIterator<Item = (&'static Limit, f32)>) -> Result<Self, Error> {
        for (limit, value) in stated {
            if !limit.range.contains(&value) {
                let expected = format!("from {} to {}", limit.range.start(), limit.range.end());
                return Err(Error::bad_field(limit.name, expected));
            }
            let places = LIMITS.iter().zip(&mut self.limits);
            places.filter(|(known, _)| known.name == limit.name).for_each(|(_, place)| *place = Some(value));
        }
        let stated = |name| self.stated().find(|(limit, _)| limit.name == name).map(|(_, value)| value);
        if let (Some(min), Some(max)) = (stated("brightness_min"), stated("brightness_max"))
            && min > max
        {
            return Err(Error::bad_field("brightness_min", "at most brightness_max"));
        }
        Ok(self)
    }

    /// Returns the limits in the order of [`LIMITS`].
    pub fn limits(&self) -> [Option<f32>; LIMIT_COUNT] {
        self.limits
    }

    /// Returns the limits that are stated.
    pub fn stated(&self) -> impl Iterator<Item = (&'static Limit, f32)> {
        LIMITS.iter().zip(self.limits).filter_map(|(limit, stated)| Some((limit, stated?)))
    }

    /// Returns what a face falls short of, in the order of [`LIMITS`]. A value at its limit is good enough.
    ///
    /// A face that was not measured has no chip and so no template: there is nothing to refuse.
    pub fn shortfalls(&self, face: &Face) -> Vec<Shortfall> {
        let Some(quality) = &face.quality else { return Vec::new() };
        let measured = self.stated().map(|(limit, stated)| (limit, stated, (limit.value)(face, quality)));
        let short = measured.filter(|(limit, stated, value)| match limit.bound {
            Bound::AtLeast => value < stated,
            Bound::AtMost => value.abs() > *stated,
        });
        let shortfall = |(limit, stated, value): (&Limit, f32, f32)| Shortfall {
            measure: limit.measure,
            limit_name: limit.name,
            value,
            limit: stated,
            bound: limit.bound,
        };
        short.map(shortfall).collect()
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortfall { measure, value, limit, bound, .. } = self;
        let bound = if *bound == Bound::AtLeast { "least" } else { "most" };
        write!(f, "{measure} is {value:.3} where at {bound} {limit} is asked for")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::face::{Landmarks, Point, Rectangle};

    fn face(eye_distance_px: f32, quality: FaceQuality) -> Face {
        let mut landmarks = Landmarks::default();
        landmarks[1] = Point { x_px: eye_distance_px, y_px: 0.0 };
        Face { rectangle: Rectangle::default(), detection_score: 0.9, landmarks, quality: Some(quality) }
    }

    fn good() -> FaceQuality {
        FaceQuality {
            face_side_px: 90.0,
            sharpness: 0.4,
            brightness: 0.5,
            contrast: 0.3,
            clipped_share: 0.0,
            pose: Pose::default(),
        }
    }

    #[test]
    fn limit_out_of_its_range_is_bad_field_and_named() {
        for (name, value) in [
            ("sharpness_min", 1.1),
            ("sharpness_min", f32::NAN),
            ("eye_distance_px_min", -1.0),
            ("yaw_degrees_max", f32::INFINITY),
            ("pitch_degrees_max", 91.0),
            ("nothing_min", 0.5),
        ] {
            let refused = QualityGate::named([(name, value)]).expect_err("refused");
            assert!(matches!(refused, Error::BadField { field, .. } if field == name), "{name}");
        }
        assert!(QualityGate::named([("brightness_min", 0.7), ("brightness_max", 0.6)]).is_err());
    }

    #[test]
    fn shortfall_is_told_with_value_and_limit_and_the_limit_itself_passes() {
        let gate = QualityGate::named([("sharpness_min", 0.4), ("yaw_degrees_max", 30.0), ("brightness_max", 0.5)]);
        let gate = gate.expect("a gate");
        assert_eq!(gate.shortfalls(&face(40.0, good())), []);
        let turned = FaceQuality { sharpness: 0.39, pose: Pose { yaw_degrees: -31.0, ..Pose::default() }, ..good() };
        let found = gate.shortfalls(&face(40.0, turned));
        let told: Vec<_> = found.iter().map(|short| (short.measure, short.value, short.limit)).collect();
        assert_eq!(told, [("sharpness", 0.39, 0.4), ("yaw_degrees", -31.0, 30.0)]);
        assert_eq!(found[0].to_string(), "sharpness is 0.390 where at least 0.4 is asked for");
        assert_eq!(QualityGate::default().shortfalls(&face(1.0, FaceQuality::default())), []);
    }

    #[test]
    fn every_limit_is_found_by_name_and_refuses_what_it_names() {
        let worst = FaceQuality {
            brightness: 0.5,
            clipped_share: 1.0,
            pose: Pose { yaw_degrees: 90.0, pitch_degrees: -80.0, roll_degrees: 120.0 },
            ..FaceQuality::default()
        };
        for limit in &LIMITS {
            let value = match limit.bound {
                Bound::AtLeast => *limit.range.end(),
                Bound::AtMost => *limit.range.start(),
            };
            let gate = QualityGate::named([(limit.name, value)]).expect(limit.name);
            let found = gate.shortfalls(&face(1.0, worst));
            assert_eq!(found.iter().map(|short| short.limit_name).collect::<Vec<_>>(), [limit.name]);
            assert_eq!(QualityGate::new(gate.limits()).expect("a gate"), gate);
        }
    }

    #[test]
    fn weight_falls_with_each_measure_and_never_to_nothing() {
        let full = good().weight(&face(40.0, good()));
        assert_eq!(full, 0.9);
        let turned = Pose { yaw_degrees: 60.0, ..Pose::default() };
        for worse in [
            FaceQuality { sharpness: 0.1, ..good() },
            FaceQuality { clipped_share: 0.5, ..good() },
            FaceQuality { pose: turned, ..good() },
        ] {
            assert!(worse.weight(&face(40.0, worse)) < full * 0.6);
        }
        assert!(good().weight(&face(10.0, good())) < full * 0.3);
        let nothing = FaceQuality { pose: Pose { yaw_degrees: 170.0, ..turned }, ..FaceQuality::default() };
        assert_eq!(nothing.weight(&face(0.0, nothing)), 0.01);
        let broken = FaceQuality { sharpness: f32::NAN, ..good() };
        assert_eq!(broken.weight(&face(40.0, broken)), 0.01);
    }
}
