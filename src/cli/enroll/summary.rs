//! What became of all photos: counts, and of what went wrong the first examples. Nothing is kept of a photo that is enrolled
//! but a hash of whose it is, so that a long run takes as much memory as a short one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use serde_json::json;

use super::super::arguments::count;
use super::super::output::printable;
use super::report::{Outcome, Row};

/// Rows that are kept for the answer, of failures and of warnings each. A report has all of them.
const EXAMPLES_MAX: usize = 1_000;

/// Names that are kept of people who have no template yet.
const NAMES_MAX: usize = 1_000;

/// Names that are told to people.
const NAMES_SHOWN: usize = 20;

/// The counts.
pub(super) struct Summary {
    started: Instant,
    photos: u64,
    enrolled: u64,
    already_enrolled: u64,
    failed: u64,
    warned: u64,
    reasons: BTreeMap<String, u64>,
    failures: Vec<serde_json::Value>,
    warnings: Vec<serde_json::Value>,
    /// Whether an identity has a template, by a hash of its id: 16 bytes each.
    identities: HashMap<u64, bool>,
    hasher: RandomState,
    without_template: BTreeSet<String>,
    pub reconnects: u64,
}

impl Summary {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            photos: 0,
            enrolled: 0,
            already_enrolled: 0,
            failed: 0,
            warned: 0,
            reasons: BTreeMap::new(),
            failures: Vec::new(),
            warnings: Vec::new(),
            identities: HashMap::new(),
            hasher: RandomState::new(),
            without_template: BTreeSet::new(),
            reconnects: 0,
        }
    }

    pub(super) fn photos(&self) -> u64 {
        self.photos
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Counts a photo that has a template.
    pub(super) fn enrolled(&mut self, identity: &str, is_new: bool) {
        self.photos += 1;
        *(if is_new { &mut self.enrolled } else { &mut self.already_enrolled }) += 1;
        self.identities.insert(self.hasher.hash_one(identity), true);
        self.without_template.remove(identity);
    }

    /// Counts what is reported.
    pub(super) fn reported(&mut self, row: &Row) {
        if row.outcome == Outcome::Warned {
            self.warned += 1;
            keep(&mut self.warnings, row);
            return;
        }
        self.photos += 1;
        self.failed += 1;
        *self.reasons.entry(row.reason.clone()).or_default() += 1;
        keep(&mut self.failures, row);
        if !row.identity.is_empty() {
            let has_template = self.identities.entry(self.hasher.hash_one(row.identity.as_str())).or_default();
            if !*has_template && self.without_template.len() < NAMES_MAX {
                self.without_template.insert(row.identity.clone());
            }
        }
    }

    fn without_template_count(&self) -> usize {
        self.identities.values().filter(|has_template| !**has_template).count()
    }

    pub(super) fn json(&self, end: &str) -> serde_json::Value {
        json!({
            "end": end,
            "photos": self.photos,
            "identities": self.identities.len(),
            "enrolled": self.enrolled,
            "already_enrolled": self.already_enrolled,
            "failed": self.failed,
            "failed_by_reason": self.reasons,
            "warned": self.warned,
            "identities_without_template": self.without_template,
            "identities_without_template_count": self.without_template_count(),
            "failures": self.failures,
            "warnings": self.warnings,
            "reconnects": self.reconnects,
            "seconds": self.started.elapsed().as_secs_f64(),
        })
    }

    pub(super) fn text(&self) -> String {
        let people = count(self.identities.len(), "person", "people");
        let photos = format!("{} {}", self.photos, if self.photos == 1 { "photo" } else { "photos" });
        let no_face = self.reasons.get("NO_FACE").copied().unwrap_or(0);
        let mut text = format!("{photos} of {people}: {} enrolled", self.enrolled);
        if self.already_enrolled > 0 {
            text.push_str(&format!(", {} already enrolled", self.already_enrolled));
        }
        text.push_str(&format!(", {no_face} without a face, {} failed otherwise", self.failed - no_face));
        if self.warned > 0 {
            text.push_str(&format!(", {} {}", self.warned, if self.warned == 1 { "warning" } else { "warnings" }));
        }
        text.push('\n');
        for (reason, number) in &self.reasons {
            text.push_str(&format!("  {number} {reason}\n"));
        }
        let without = self.without_template_count();
        if without > 0 {
            let shown: Vec<&str> = self.without_template.iter().take(NAMES_SHOWN).map(String::as_str).collect();
            text.push_str(&format!("not enrolled at all: {}", printable(&shown.join(", "))));
            if without > shown.len() {
                text.push_str(&format!(" and {} more", without - shown.len()));
            }
            text.push('\n');
        }
        text
    }
}

fn keep(examples: &mut Vec<serde_json::Value>, row: &Row) {
    if examples.len() < EXAMPLES_MAX {
        examples.push(row.json());
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Place;
    use super::*;

    #[test]
    fn summary_of_many_failures_keeps_few() {
        let mut summary = Summary::new();
        for number in 0..5_000 {
            let outcome = if number % 2 == 0 { Outcome::Refused } else { Outcome::Warned };
            summary.reported(&Row {
                place: Place::of_photo(format!("{number}.jpg")),
                identity: format!("p{number:04}"),
                key: String::new(),
                outcome,
                reason: "NO_FACE".to_owned(),
                message: String::new(),
                shortfalls: Vec::new(),
                finding: None,
            });
        }
        summary.enrolled("p0000", true);
        let json = summary.json("finished");
        let length = |name: &str| json[name].as_array().map(Vec::len);
        assert_eq!([length("failures"), length("warnings")], [Some(EXAMPLES_MAX); 2]);
        assert_eq!(length("identities_without_template"), Some(NAMES_MAX - 1));
        assert_eq!((&json["failed"], &json["warned"], &json["photos"]), (&2_500.into(), &2_500.into(), &2_501.into()));
        assert_eq!(json["identities_without_template_count"], 2_499);
        assert!(summary.text().contains("p0002") && summary.text().contains(" and 2479 more"), "{}", summary.text());
    }
}
