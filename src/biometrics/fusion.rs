//! How the templates of one identity become the score of that identity.

use super::template::Template;

/// A gallery's fusion rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fusion {
    /// An identity scores as its best template.
    #[default]
    Max,
    /// It scores as the mean of its templates: one vector, scaled to unit length. Cheaper to search, and steadier against
    /// one odd template; but a mean of very different photos resembles none of them.
    Mean,
    /// The mean, each template counting by the quality of its face (`FaceQuality::weight`); one without measures counts 1.
    QualityWeightedMean,
}

/// A mean of unit vectors that is shorter than this points nowhere: it is rounding. Templates of one person make means of
/// .7 and longer, of nearly orthogonal strangers 1/√n: .125 of 64, the most that an identity may have.
const LENGTH_MIN: f64 = 1e-3;

impl Fusion {
    /// Makes the one template by which an identity is compared, of its templates and what each counts. `None` where it is
    /// compared by each of them, and of no templates.
    ///
    /// Templates that cancel each other out, such as two opposite ones, have no mean: the first stands for all.
    pub fn fuse<'a>(self, templates: impl IntoIterator<Item = (&'a Template, f32)>) -> Option<Template> {
        let mut templates = templates.into_iter();
        let (first, first_weight) = templates.next().filter(|_| self != Fusion::Max)?;
        let weight_of = |weight: f32| if self == Fusion::Mean { 1.0 } else { f64::from(weight) };
        let mut total = weight_of(first_weight);
        let mut sum: Vec<f64> = first.values().iter().map(|value| total * f64::from(*value)).collect();
        let mut is_alone = true;
        for (template, weight) in templates {
            is_alone = false;
            let weight = weight_of(weight);
            total += weight;
            sum.iter_mut().zip(template.values()).for_each(|(sum, value)| *sum += weight * f64::from(*value));
        }
        let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt() / total;
        let mean: Vec<f32> = sum.iter().map(|value| (value / total) as f32).collect();
        // Alone it stays what it is, to the last bit.
        let fused = (!is_alone && length >= LENGTH_MIN).then(|| Template::from_vector(&mean, first.pack_id().clone()));
        Some(fused.and_then(Result::ok).unwrap_or_else(|| first.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::ids::PackId;

    fn template(values: &[f32]) -> Template {
        Template::from_vector(values, PackId::from_digits("0a".repeat(16))).expect("a template")
    }

    fn fuse(fusion: Fusion, templates: &[(&[f32], f32)]) -> Option<Vec<f32>> {
        let templates: Vec<_> = templates.iter().map(|(values, weight)| (template(values), *weight)).collect();
        let fused = fusion.fuse(templates.iter().map(|(template, weight)| (template, *weight)));
        fused.map(|fused| fused.values().to_vec())
    }

    #[test]
    fn nothing_and_max_are_not_fused() {
        assert_eq!(fuse(Fusion::Mean, &[]), None);
        assert_eq!(fuse(Fusion::Max, &[(&[1.0, 0.0], 1.0), (&[0.0, 1.0], 1.0)]), None);
    }

    #[test]
    fn opposite_templates_are_compared_by_the_first() {
        let opposite: &[(&[f32], f32)] = &[(&[0.6, 0.8], 0.5), (&[-0.6, -0.8], 0.5)];
        for fusion in [Fusion::Mean, Fusion::QualityWeightedMean] {
            assert_eq!(fuse(fusion, opposite), Some(vec![0.6, 0.8]));
        }
    }

    #[test]
    fn mean_is_of_unit_length_and_weighted_where_asked() {
        let two: &[(&[f32], f32)] = &[(&[1.0, 0.0], 0.3), (&[0.0, 1.0], 0.4)];
        let half = std::f32::consts::FRAC_1_SQRT_2;
        for (fusion, expected) in [(Fusion::Mean, [half, half]), (Fusion::QualityWeightedMean, [0.6, 0.8])] {
            let fused = fuse(fusion, two).expect("a template");
            // f32 rounding of the weights.
            assert!(fused.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{fused:?}");
        }
    }

    #[test]
    fn mean_of_negative_values_is_as_long_as_of_positive_ones() {
        let two: &[(&[f32], f32)] = &[(&[-1.0, 0.0], 0.3), (&[0.0, -1.0], 0.4)];
        let fused = fuse(Fusion::QualityWeightedMean, two).expect("a template");
        assert!((fused[0] + 0.6).abs() < 1e-6 && (fused[1] + 0.8).abs() < 1e-6, "{fused:?}");
    }

    #[test]
    fn template_alone_is_itself_to_the_last_bit() {
        let alone = [0.123_456_7, -0.765_432_1, 0.3];
        let itself = template(&alone).values().to_vec();
        assert_eq!(fuse(Fusion::QualityWeightedMean, &[(&alone, 0.013)]), Some(itself));
    }
}
