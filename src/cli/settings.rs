//! A gallery's settings as flags, and how they are told.

use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::biometrics::quality::{LIMITS, QualityGate};
use crate::contract as proto;
use crate::server::{quality_gate, quality_gate_reply};

/// The settings that are stated.
#[derive(Args)]
pub(super) struct Settings {
    /// Free text
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// How it is searched [default of a new gallery: auto]
    #[arg(long, value_enum)]
    policy: Option<Policy>,
    /// How far a match must be above a runner-up who matches too: a difference of cosines from 0 to 1; of a
    /// new gallery 0.05
    #[arg(long, value_name = "COSINE")]
    margin: Option<f32>,
    /// Its own identification threshold: a cosine from -1 to 1
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    threshold: Option<f32>,
    /// How the templates of a person become one score [default of a new gallery: max]
    #[arg(long, value_enum)]
    fusion: Option<Fusion>,
    /// What it does about a photo of somebody who is enrolled under another id [default of a new gallery: off]
    #[arg(long, value_enum)]
    duplicates: Option<CheckPolicy>,
    /// From which score it is a duplicate: a cosine from -1 to 1 [default: the identification threshold]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    duplicate_cosine: Option<f32>,
    /// What it does about a photo that does not look like the person's others [default of a new gallery: off]
    #[arg(long, value_enum)]
    consistency: Option<CheckPolicy>,
    /// Below which score it does not: a cosine from -1 to 1 [default: the pack's verification threshold]
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true)]
    consistency_cosine: Option<f32>,
    /// The share of mates that a graph must find to be used, from 0.9 to 0.9999; of a new gallery 0.999
    #[arg(long, value_name = "SHARE")]
    recall_target: Option<f64>,
    /// Whether the aligned chips of photos enrolled from now on are kept, so that it can move to another pack: true or false
    #[arg(long, value_name = "BOOL")]
    keep_chips: Option<bool>,
    /// What it asks of the photos it enrols, such as eye_distance_px_min=30,sharpness_min=0.15,yaw_degrees_max=35; all
    /// limits at once. `facematch detect` prints what is measured
    #[arg(long, value_name = "LIMIT=VALUE,…", value_delimiter = ',', long_help = gate_help())]
    quality_gate: Vec<String>,
}

fn gate_help() -> String {
    let names: Vec<&str> = LIMITS.iter().map(|limit| limit.name).collect();
    format!(
        "What it asks of the photos it enrols, such as eye_distance_px_min=30,sharpness_min=0.15; all limits at once.\n\
         Limits: {}. `facematch detect` prints what is measured",
        names.join(", ")
    )
}

#[derive(Clone, Copy, ValueEnum)]
enum Policy {
    /// Exactly up to four million templates, by graph beyond
    Auto,
    /// Score every template: nobody is missed
    Exact,
    /// Let an HNSW graph propose candidates, where it is measured to miss few enough
    Graph,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fusion {
    /// The best template's
    Max,
    /// That of the templates' mean
    Mean,
    /// That of their mean, good photos counting more
    QualityWeightedMean,
}

impl From<Fusion> for proto::Fusion {
    fn from(fusion: Fusion) -> Self {
        match fusion {
            Fusion::Max => proto::Fusion::Max,
            Fusion::Mean => proto::Fusion::Mean,
            Fusion::QualityWeightedMean => proto::Fusion::QualityWeightedMean,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum CheckPolicy {
    /// Not looked for
    Off,
    /// Enrol it, and tell
    Warn,
    /// Do not enrol it
    Reject,
}

impl From<CheckPolicy> for proto::CheckPolicy {
    fn from(policy: CheckPolicy) -> Self {
        match policy {
            CheckPolicy::Off => proto::CheckPolicy::Off,
            CheckPolicy::Warn => proto::CheckPolicy::Warn,
            CheckPolicy::Reject => proto::CheckPolicy::Reject,
        }
    }
}

impl Settings {
    /// The gallery that states them.
    pub(super) fn gallery(&self, gallery_id: String) -> anyhow::Result<proto::Gallery> {
        let policy = self.policy.map_or(proto::SearchPolicy::Unspecified, |policy| match policy {
            Policy::Auto => proto::SearchPolicy::Auto,
            Policy::Exact => proto::SearchPolicy::Exact,
            Policy::Graph => proto::SearchPolicy::Graph,
        });
        Ok(proto::Gallery {
            gallery_id,
            display_name: self.display_name.clone().unwrap_or_default(),
            search_policy: policy.into(),
            ambiguity_margin: self.margin,
            identification_cosine: self.threshold,
            quality_gate: (!self.quality_gate.is_empty()).then(|| gate(&self.quality_gate)).transpose()?,
            fusion: self.fusion.map_or(proto::Fusion::Unspecified, Into::into).into(),
            duplicate_policy: self.duplicates.map_or(proto::CheckPolicy::Unspecified, Into::into).into(),
            duplicate_cosine: self.duplicate_cosine,
            consistency_policy: self.consistency.map_or(proto::CheckPolicy::Unspecified, Into::into).into(),
            consistency_cosine: self.consistency_cosine,
            graph_recall_target: self.recall_target,
            keep_chips: self.keep_chips.unwrap_or_default(),
            ..Default::default()
        })
    }

    /// Names the fields that are stated.
    pub(super) fn mask(&self) -> Vec<String> {
        let stated = [
            (self.display_name.is_some(), "display_name"),
            (self.policy.is_some(), "search_policy"),
            (self.margin.is_some(), "ambiguity_margin"),
            (self.threshold.is_some(), "identification_cosine"),
            (!self.quality_gate.is_empty(), "quality_gate"),
            (self.fusion.is_some(), "fusion"),
            (self.duplicates.is_some(), "duplicate_policy"),
            (self.duplicate_cosine.is_some(), "duplicate_cosine"),
            (self.consistency.is_some(), "consistency_policy"),
            (self.consistency_cosine.is_some(), "consistency_cosine"),
            (self.recall_target.is_some(), "graph_recall_target"),
            (self.keep_chips.is_some(), "keep_chips"),
        ];
        stated.into_iter().filter(|(is_stated, _)| *is_stated).map(|(_, field)| field.to_owned()).collect()
    }
}

fn gate(entries: &[String]) -> anyhow::Result<proto::QualityGate> {
    let limits = entries.iter().map(|entry| {
        let (name, value) = entry.split_once('=').with_context(|| format!("expected LIMIT=VALUE, found {entry:?}"))?;
        Ok((name, value.parse().with_context(|| format!("{name} must be a number, found {value:?}"))?))
    });
    let limits: Vec<(&str, f32)> = limits.collect::<anyhow::Result<_>>().context("--quality-gate")?;
    Ok(quality_gate_reply(&QualityGate::named(limits).context("--quality-gate")?))
}

/// The settings in words: those of searches always, those of enrolment where they are not the default.
pub(super) fn text(gallery: &proto::Gallery) -> String {
    let policy = match gallery.search_policy() {
        proto::SearchPolicy::Exact => "exact",
        proto::SearchPolicy::Graph => "graph",
        _ => "auto",
    };
    let threshold =
        gallery.identification_cosine.map_or_else(|| "the pack's".to_owned(), |cosine| format!("{cosine:.4}"));
    let margin = gallery.ambiguity_margin.unwrap_or_default();
    let mut text = format!("{policy} search, threshold {threshold}, margin {margin:.4}");
    match gallery.fusion() {
        proto::Fusion::Mean => text.push_str(", fusion mean"),
        proto::Fusion::QualityWeightedMean => text.push_str(", fusion quality-weighted mean"),
        proto::Fusion::Unspecified | proto::Fusion::Max => {}
    }
    let checks = [
        ("duplicates", gallery.duplicate_policy(), "from", gallery.duplicate_cosine),
        ("unlike photos", gallery.consistency_policy(), "below", gallery.consistency_cosine),
    ];
    for (what, policy, limit, cosine) in checks {
        let done = match policy {
            proto::CheckPolicy::Warn => "warned of",
            proto::CheckPolicy::Reject => "rejected",
            proto::CheckPolicy::Unspecified | proto::CheckPolicy::Off => continue,
        };
        let cosine = cosine.map(|cosine| format!(" {limit} {cosine:.4}")).unwrap_or_default();
        text.push_str(&format!(", {what} {done}{cosine}"));
    }
    if let Some(gate) = &gallery.quality_gate {
        text.push_str(&format!(", quality gate {}", gate_text(gate)));
    }
    text
}

fn gate_text(gate: &proto::QualityGate) -> String {
    let gate = quality_gate(gate).unwrap_or_default(); // a server states no gate that it would refuse
    let limits: Vec<String> = gate.stated().map(|(limit, value)| format!("{}={value}", limit.name)).collect();
    limits.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_is_read_and_told_the_same() {
        let entries = ["sharpness_min=0.15", "yaw_degrees_max=35"].map(str::to_owned);
        let read = gate(&entries).expect("a gate");
        assert_eq!((read.sharpness_min, read.yaw_degrees_max), (Some(0.15), Some(35.0)));
        assert_eq!(gate_text(&read), entries.join(","));
        for entry in ["sharpness_min", "sharpness_min=x", "sharpness_min=2", "sharpness=0.1"] {
            assert!(gate(&[entry.to_owned()]).is_err(), "{entry}");
        }
    }
}
