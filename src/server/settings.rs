//! A gallery's settings: contract ↔ domain. One table of them serves creating and changing.

use super::convert;
use crate::biometrics::decision::AmbiguityMargin;
use crate::biometrics::enrolment::CheckPolicy;
use crate::biometrics::fusion::Fusion;
use crate::biometrics::quality::QualityGate;
use crate::biometrics::score::Threshold;
use crate::contract as proto;
use crate::error::Error;
use crate::gallery::{GalleryChange, GallerySettings, RecallTarget, check_display_name};

/// A setting: its field in the contract, and how what is stated of it is checked and noted.
type Setting = (&'static str, fn(&proto::Gallery, &mut GalleryChange) -> Result<(), Error>);

const SETTINGS: [Setting; 12] = [
    ("display_name", |stated, change| {
        check_display_name("gallery.display_name", &stated.display_name)?;
        change.display_name = Some(stated.display_name.clone());
        Ok(())
    }),
    ("search_policy", |stated, change| {
        change.search_policy = Some(convert::search_policy(stated.search_policy)?);
        Ok(())
    }),
    ("ambiguity_margin", |stated, change| {
        let margin = stated.ambiguity_margin.map(|margin| AmbiguityMargin::new("gallery.ambiguity_margin", margin));
        change.ambiguity_margin = Some(margin.transpose()?.unwrap_or_default());
        Ok(())
    }),
    ("identification_cosine", |stated, change| {
        change.identification = Some(cosine("gallery.identification_cosine", stated.identification_cosine)?);
        Ok(())
    }),
    ("quality_gate", |stated, change| {
        let gate = quality_gate(&stated.quality_gate.unwrap_or_default());
        change.quality_gate = Some(gate.map_err(|error| error.at("gallery.quality_gate"))?);
        Ok(())
    }),
    ("fusion", |stated, change| {
        change.fusion = Some(fusion(stated.fusion)?);
        Ok(())
    }),
    ("duplicate_policy", |stated, change| {
        change.duplicate_policy = Some(check_policy("gallery.duplicate_policy", stated.duplicate_policy)?);
        Ok(())
    }),
    ("duplicate_cosine", |stated, change| {
        change.duplicate_cosine = Some(cosine("gallery.duplicate_cosine", stated.duplicate_cosine)?);
        Ok(())
    }),
    ("consistency_policy", |stated, change| {
        change.consistency_policy = Some(check_policy("gallery.consistency_policy", stated.consistency_policy)?);
        Ok(())
    }),
    ("consistency_cosine", |stated, change| {
        change.consistency_cosine = Some(cosine("gallery.consistency_cosine", stated.consistency_cosine)?);
        Ok(())
    }),
    ("graph_recall_target", |stated, change| {
        let target = stated.graph_recall_target.map(|share| RecallTarget::new("gallery.graph_recall_target", share));
        change.recall_target = Some(target.transpose()?.unwrap_or_default());
        Ok(())
    }),
    ("keep_chips", |stated, change| {
        change.keep_chips = Some(stated.keep_chips);
        Ok(())
    }),
];

/// The settings of a new gallery: what is not stated has its default.
pub(super) fn settings(stated: &proto::Gallery) -> Result<GallerySettings, Error> {
    let mut change = GalleryChange::default();
    SETTINGS.iter().try_for_each(|(_, note)| note(stated, &mut change))?;
    let mut settings = GallerySettings::default();
    change.apply_to(&mut settings);
    Ok(settings)
}

/// A change of the settings that a mask names.
pub(super) fn change(stated: &proto::Gallery, mask: &[String]) -> Result<GalleryChange, Error> {
    if mask.is_empty() {
        return Err(Error::bad_field("update_mask", "the fields to change"));
    }
    let mut change = GalleryChange::default();
    for path in mask {
        let Some((_, note)) = SETTINGS.iter().find(|(field, _)| field == path) else {
            let fields: Vec<&str> = SETTINGS.iter().map(|(field, _)| *field).collect();
            return Err(Error::bad_field("update_mask", format!("any of {}", fields.join(", "))));
        };
        note(stated, &mut change)?;
    }
    Ok(change)
}

/// A gallery of which only the settings are filled in.
pub(super) fn reply(settings: &GallerySettings) -> proto::Gallery {
    proto::Gallery {
        display_name: settings.display_name.clone(),
        search_policy: convert::search_policy_reply(settings.search_policy),
        ambiguity_margin: Some(settings.ambiguity_margin.cosine_difference()),
        identification_cosine: settings.identification.map(Threshold::cosine),
        quality_gate: (settings.quality_gate != QualityGate::default())
            .then(|| quality_gate_reply(&settings.quality_gate)),
        fusion: fusion_reply(settings.fusion),
        duplicate_policy: check_policy_reply(settings.duplicates.policy),
        duplicate_cosine: settings.duplicates.cosine.map(Threshold::cosine),
        consistency_policy: check_policy_reply(settings.consistency.policy),
        consistency_cosine: settings.consistency.cosine.map(Threshold::cosine),
        graph_recall_target: Some(settings.recall_target.share()),
        keep_chips: settings.keep_chips,
        ..Default::default()
    }
}

fn cosine(field: &'static str, stated: Option<f32>) -> Result<Option<Threshold>, Error> {
    stated.map(|cosine| Threshold::from_cosine(field, cosine)).transpose()
}

fn fusion(value: i32) -> Result<Fusion, Error> {
    match proto::Fusion::try_from(value) {
        Ok(proto::Fusion::Unspecified | proto::Fusion::Max) => Ok(Fusion::Max),
        Ok(proto::Fusion::Mean) => Ok(Fusion::Mean),
        Ok(proto::Fusion::QualityWeightedMean) => Ok(Fusion::QualityWeightedMean),
        Err(_) => Err(Error::bad_field("gallery.fusion", "a value of Fusion")),
    }
}

fn fusion_reply(fusion: Fusion) -> i32 {
    match fusion {
        Fusion::Max => proto::Fusion::Max.into(),
        Fusion::Mean => proto::Fusion::Mean.into(),
        Fusion::QualityWeightedMean => proto::Fusion::QualityWeightedMean.into(),
    }
}

fn check_policy(field: &'static str, value: i32) -> Result<CheckPolicy, Error> {
    match proto::CheckPolicy::try_from(value) {
        Ok(proto::CheckPolicy::Unspecified | proto::CheckPolicy::Off) => Ok(CheckPolicy::Off),
        Ok(proto::CheckPolicy::Warn) => Ok(CheckPolicy::Warn),
        Ok(proto::CheckPolicy::Reject) => Ok(CheckPolicy::Reject),
        Err(_) => Err(Error::bad_field(field, "a value of CheckPolicy")),
    }
}

fn check_policy_reply(policy: CheckPolicy) -> i32 {
    match policy {
        CheckPolicy::Off => proto::CheckPolicy::Off.into(),
        CheckPolicy::Warn => proto::CheckPolicy::Warn.into(),
        CheckPolicy::Reject => proto::CheckPolicy::Reject.into(),
    }
}

/// Reads a gate. Fields in the order of [`crate::biometrics::quality::LIMITS`].
///
/// *Errors*: [`Error::BadField`] that names the limit.
pub(crate) fn quality_gate(stated: &proto::QualityGate) -> Result<QualityGate, Error> {
    QualityGate::new([
        stated.eye_distance_px_min,
        stated.face_side_px_min,
        stated.detection_score_min,
        stated.sharpness_min,
        stated.brightness_min,
        stated.brightness_max,
        stated.contrast_min,
        stated.clipped_share_max,
        stated.yaw_degrees_max,
        stated.pitch_degrees_max,
        stated.roll_degrees_max,
    ])
}

/// A gate in the contract's words.
pub(crate) fn quality_gate_reply(gate: &QualityGate) -> proto::QualityGate {
    let [
        eye_distance_px_min,
        face_side_px_min,
        detection_score_min,
        sharpness_min,
        brightness_min,
        brightness_max,
        contrast_min,
        clipped_share_max,
        yaw_degrees_max,
        pitch_degrees_max,
        roll_degrees_max,
    ] = gate.limits();
    proto::QualityGate {
        eye_distance_px_min,
        face_side_px_min,
        detection_score_min,
        sharpness_min,
        brightness_min,
        brightness_max,
        contrast_min,
        clipped_share_max,
        yaw_degrees_max,
        pitch_degrees_max,
        roll_degrees_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::quality::LIMITS;
    use prost_reflect::{DescriptorPool, DynamicMessage, Value};

    #[test]
    fn limits_have_the_names_of_the_contract() {
        let pool = DescriptorPool::decode(crate::contract::DESCRIPTORS).expect("descriptors");
        let descriptor = pool.get_message_by_name("facematch.v1.QualityGate").expect("a message");
        let fields: Vec<String> = descriptor.fields().map(|field| field.name().to_owned()).collect();
        assert_eq!(fields, LIMITS.map(|limit| limit.name.to_owned()));
        // Each limit goes into its own field and comes out of it.
        for (at, limit) in LIMITS.iter().enumerate() {
            let gate = QualityGate::named([(limit.name, 0.25)]).expect("a gate");
            let message = quality_gate_reply(&gate);
            let mut dynamic = DynamicMessage::new(descriptor.clone());
            dynamic.transcode_from(&message).expect("a message");
            let value = dynamic.get_field_by_name(limit.name);
            assert_eq!(value.as_deref(), Some(&Value::F32(0.25)), "{}", limit.name);
            assert_eq!(dynamic.fields().count(), 1);
            assert_eq!(quality_gate(&message).expect("a gate").limits()[at], Some(0.25));
        }
    }

    #[test]
    fn mask_of_what_is_no_setting_is_bad_field() {
        let gallery = proto::Gallery::default();
        for mask in [&[][..], &["identity_count".to_owned()], &["display_name".to_owned(), "x".to_owned()]] {
            assert!(matches!(change(&gallery, mask), Err(Error::BadField { field, .. }) if field == "update_mask"));
        }
    }
}
