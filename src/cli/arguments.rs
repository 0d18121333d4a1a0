//! Arguments that several commands share, and how the contract and the engine say the same.

use clap::{Args, ValueEnum};

use crate::biometrics::face::FaceSelection;
use crate::biometrics::score::{ErrorRate, OperatingPoint, Threshold};
use crate::contract as proto;
use crate::detect::scales::Scales;
use crate::pipeline::DetectionSettings;

/// How faces are looked for.
#[derive(Args, Clone, Default)]
pub(super) struct Detection {
    /// Input sides of the detector, in pixels: one or two multiples of 32 from 64 to 1280, such as 640 or 640,128
    /// [default: chosen by the photo's size, two for all but tiny ones]
    #[arg(long, value_name = "PX,…", value_delimiter = ',')]
    sides: Vec<u32>,
    /// Report faces with at least this detection score [default: the pack's]
    #[arg(long, value_name = "SCORE")]
    score_min: Option<f32>,
}

impl Detection {
    pub(super) fn settings(&self) -> anyhow::Result<DetectionSettings> {
        if let Some(score) = self.score_min
            && !(0.05..=1.0).contains(&score)
        {
            anyhow::bail!("--score-min must be from 0.05 to 1, found {score}");
        }
        Ok(DetectionSettings { scales: Scales::from_sides("--sides", &self.sides)?, score_min: self.score_min })
    }

    pub(super) fn options(&self) -> proto::DetectionOptions {
        proto::DetectionOptions { input_sides_px: self.sides.clone(), score_min: self.score_min }
    }
}

/// Which of several faces in a photo is meant.
#[derive(Args, Clone, Copy)]
pub(super) struct Face {
    /// Which of several faces in a photo is meant
    #[arg(long = "face", value_enum, default_value_t = FaceRule::Largest)]
    rule: FaceRule,
}

#[derive(Clone, Copy, ValueEnum)]
enum FaceRule {
    /// The face with the largest box
    Largest,
    /// The face nearest to the middle of the photo
    Center,
    /// Refuse a photo with more than one face
    ExactlyOne,
}

impl Face {
    pub(super) fn selection(self) -> FaceSelection {
        match self.rule {
            FaceRule::Largest => FaceSelection::Largest,
            FaceRule::Center => FaceSelection::Center,
            FaceRule::ExactlyOne => FaceSelection::ExactlyOne,
        }
    }

    pub(super) fn reply(self) -> i32 {
        match self.rule {
            FaceRule::Largest => proto::FaceSelection::Largest.into(),
            FaceRule::Center => proto::FaceSelection::Center.into(),
            FaceRule::ExactlyOne => proto::FaceSelection::ExactlyOne.into(),
        }
    }
}

/// Resolves what is stated of a comparison: a cosine or an FMR.
pub(super) fn operating_point(cosine: Option<f32>, fmr: Option<f64>) -> anyhow::Result<OperatingPoint> {
    Ok(match (cosine, fmr) {
        (Some(cosine), _) => OperatingPoint::Cosine(Threshold::from_cosine("--threshold", cosine)?),
        (None, Some(fmr)) => OperatingPoint::Fmr(ErrorRate::new("--fmr", fmr)?),
        (None, None) => OperatingPoint::Default,
    })
}

/// What is stated of a search: a cosine or an FPIR.
pub(super) fn operating_point_request(cosine: Option<f32>, fpir: Option<f64>) -> Option<proto::OperatingPoint> {
    use proto::operating_point::Value;
    let value = cosine.map(Value::Cosine).or(fpir.map(Value::Fpir));
    value.map(|value| proto::OperatingPoint { value: Some(value) })
}

/// Says a threshold and where it came from.
pub(super) fn threshold_text(threshold: Option<&proto::AppliedThreshold>) -> String {
    let Some(threshold) = threshold else { return String::new() };
    let source = match threshold.source() {
        proto::ThresholdSource::Request => "as asked",
        proto::ThresholdSource::Gallery => "the gallery's",
        proto::ThresholdSource::Pack => "the pack's",
        proto::ThresholdSource::Curve => "of the calibration curve",
        proto::ThresholdSource::UncalibratedDefault | proto::ThresholdSource::Unspecified => {
            "uncalibrated default: no error rate is known for it"
        }
    };
    let rate =
        match (threshold.estimated_error_rate, threshold.estimated_error_rate_low, threshold.estimated_error_rate_high)
        {
            (Some(rate), Some(low), Some(high)) => {
                format!("; false matches {}, 95 %: {} to {}", share(rate), share(low), share(high))
            }
            _ => String::new(),
        };
    let warning = match threshold.warning() {
        proto::ThresholdWarning::GalleryOutgrewCurve => "; the gallery outgrew its curve: measure it again",
        proto::ThresholdWarning::CurveTooSmall => {
            "; the curve has too few comparisons: measure it again with more people"
        }
        proto::ThresholdWarning::Unspecified => "",
    };
    format!("threshold {:.4} ({source}{rate}{warning})", threshold.cosine)
}

/// Says a share in percent, with as many decimals as it takes.
fn share(share: f64) -> String {
    let percent = share * 100.0;
    if percent != 0.0 && percent < 0.01 { format!("{percent:.1e} %") } else { format!("{percent:.2} %") }
}

/// Says which face of a photo was used, where there were several.
pub(super) fn choice_text(name: &str, choice: Option<&proto::FaceChoice>) -> String {
    let Some(choice) = choice.filter(|choice| choice.faces.len() > 1) else { return String::new() };
    let rule = match choice.selection() {
        proto::FaceSelection::Center => "nearest to the middle",
        _ => "largest",
    };
    let chosen = choice.chosen_index.and_then(|index| choice.faces.get(index as usize)).and_then(|face| face.r#box);
    match chosen {
        Some(chosen) => {
            format!("{name}: of {} faces the {rule} was used, at {}\n", choice.faces.len(), box_text(&chosen))
        }
        None => format!("{name}: {} faces, none was used\n", choice.faces.len()),
    }
}

/// Says where a box is: its corners, in whole pixels.
pub(super) fn box_text(corners: &proto::Box) -> String {
    let proto::Box { x_min_px, y_min_px, x_max_px, y_max_px } = corners;
    format!("({x_min_px:.0}, {y_min_px:.0})-({x_max_px:.0}, {y_max_px:.0})")
}

/// Says "1 face", "2 faces".
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What a gallery's policies found of a photo that it enrolled all the same.
pub(super) fn finding_text(finding: &proto::EnrollmentFinding) -> String {
    let proto::EnrollmentFinding { identity_id, score, cosine, .. } = finding;
    match finding.kind() {
        proto::FindingKind::DuplicateIdentity => {
            format!("already enrolled as {identity_id} (score {score:.4}, duplicate from {cosine:.4})")
        }
        proto::FindingKind::UnlikeIdentity => {
            format!("it does not look like the person's other photos (best score {score:.4}, alike from {cosine:.4})")
        }
        proto::FindingKind::Unspecified => "the server found something that this version does not know".to_owned(),
    }
}
