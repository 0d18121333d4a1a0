//! What a calibration found: one value that every form of the report is made of.

use crate::biometrics::calibration::{
    Analysis, Curve, NoThreshold, Rate, ScoreSet, Searches, Unit, comparisons_needed, difference, fmr_of_fpir, holm,
    threshold_for,
};

/// A calibration.
pub(super) struct Study {
    /// Where the comparisons came from.
    pub source: String,
    pub pack_id: String,
    pub pack_name: String,
    pub photos: usize,
    /// Photos without a template, and why.
    pub failures: Vec<(String, String)>,
    /// Comparisons that failed to come about for that, mated and non-mated.
    pub lost: (u64, u64),
    /// Lines whose pair came before, and where.
    pub repeats: Vec<(u32, u32)>,
    pub analysis: Analysis,
    /// How identities are known, or that they are not.
    pub unit_text: String,
    /// Thresholds that somebody uses: whose, and the cosine.
    pub named: Vec<(String, f32)>,
    pub suspects: Vec<Suspect>,
    pub groupings: Vec<Grouping>,
    pub searches: Option<Searches>,
    /// The share of strangers' searches that may return anybody.
    pub fpir: f64,
    pub embedding_seconds: f64,
    pub computed: usize,
}

/// A comparison whose score is unlike its label.
pub(super) struct Suspect {
    pub line: Option<u32>,
    pub names: [String; 2],
    pub is_mated: bool,
    pub score: f32,
    /// JPEGs as data URLs, on request.
    pub pictures: Option<[String; 2]>,
}

/// Groups of one column of the metadata.
pub(super) struct Grouping {
    pub column: String,
    /// Photos in no group.
    pub without: usize,
    pub groups: Vec<Group>,
    /// Of all comparisons, where groups are compared.
    pub threshold: f32,
    pub differences: Vec<Difference>,
}

pub(super) struct Group {
    pub name: String,
    pub photos: usize,
    pub identities: usize,
    pub failures: usize,
    pub analysis: Analysis,
}

/// Two groups' rates at one threshold.
pub(super) struct Difference {
    pub what: &'static str,
    pub names: [String; 2],
    pub rates: [Rate; 2],
    /// How likely so large a difference is by chance, all tests of the grouping taken together.
    pub p: f64,
}

/// A label is suspected where the score is this many times likelier with the other one.
const SUSPICION: f64 = 1e4;
pub(super) const SUSPECTS_MAX: usize = 50;

/// How much likelier a score is with the other label, as a logarithm; both classes taken to be normal.
pub(super) fn suspicion(set: &ScoreSet, is_mated: bool, score: f32) -> f64 {
    let ln_density = |mean: f64, deviation: f64| {
        let deviation = deviation.max(1e-3);
        -((f64::from(score) - mean) / deviation).powi(2) / 2.0 - deviation.ln()
    };
    let mated = ln_density(set.mated.mean(), set.mated.deviation());
    let non_mated = ln_density(set.non_mated.mean(), set.non_mated.deviation());
    // Beyond the mean of the other class, its density falls off again and tells nothing.
    let is_beyond =
        if is_mated { f64::from(score) < set.non_mated.mean() } else { f64::from(score) > set.mated.mean() };
    match (is_beyond, is_mated) {
        (true, _) => f64::INFINITY,
        (false, true) => non_mated - mated,
        (false, false) => mated - non_mated,
    }
}

pub(super) fn is_suspected(set: &ScoreSet, is_mated: bool, score: f32) -> bool {
    set.mated.count() > 1 && set.non_mated.count() > 1 && suspicion(set, is_mated, score) >= SUSPICION.ln()
}

/// Tests every two groups against each other.
pub(super) fn differences(groups: &[Group], threshold: f32) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (at, a) in groups.iter().enumerate() {
        for b in groups.iter().skip(at + 1) {
            for what in ["FMR", "FNMR"] {
                let rate = |group: &Group| {
                    let curve = &group.analysis.curve;
                    if what == "FMR" { curve.fmr(threshold) } else { curve.fnmr(threshold) }
                };
                let rates = [rate(a), rate(b)];
                let p = difference(&rates[0], &rates[1]);
                differences.push(Difference { what, names: [a.name.clone(), b.name.clone()], rates, p });
            }
        }
    }
    let adjusted = holm(&differences.iter().map(|difference| difference.p).collect::<Vec<_>>());
    differences.iter_mut().zip(adjusted).for_each(|(difference, p)| difference.p = p);
    differences
}

/// How a threshold for searches was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// Searches of galleries of that size.
    Searches,
    /// Searches of the largest gallery there is, carried on: 1 − (1 − FPIR)^(N / size).
    CarriedOn,
    /// The law 1 − (1 − FMR)^N.
    Law,
}

impl Basis {
    pub fn text(self) -> &'static str {
        match self {
            Basis::Searches => "searches",
            Basis::CarriedOn => "searches, carried on",
            Basis::Law => "1 − (1 − FMR)^N",
        }
    }
}

/// What a search of a gallery of some size takes.
pub(super) struct SizeRow {
    pub size: u64,
    pub threshold: Result<(f32, Basis), NoThreshold>,
    /// FPIR at 0.2, by searches where there are any of that size, else by the law.
    pub fpir_of_study: (f64, f64, f64),
    /// Of real searches of that size: FPIR and FNIR at the threshold, and the share with the mate first.
    pub searched: Option<(Rate, Rate, Rate)>,
}

/// The threshold of the study that this engine grew from.
pub(super) const STUDY_THRESHOLD: f32 = 0.2;

impl Study {
    /// Tells of gallery sizes: those that were searched, or powers of ten, and ten times the largest.
    pub fn sizes(&self) -> Vec<SizeRow> {
        let mut sizes: Vec<u64> = match &self.searches {
            Some(searches) => searches.sizes.iter().map(|size| *size as u64).collect(),
            None => (1..=6).map(|exponent| 10u64.pow(exponent)).collect(),
        };
        if self.searches.is_some() {
            sizes.extend(sizes.last().map(|largest| largest * 10));
        }
        sizes.into_iter().map(|size| self.size(size)).collect()
    }

    fn size(&self, size: u64) -> SizeRow {
        let curve = &self.analysis.curve;
        let at =
            self.searches.as_ref().and_then(|searches| searches.sizes.iter().position(|known| *known as u64 == size));
        let searched = at.and_then(|at| Some((at, self.searches.as_ref()?)));
        let threshold = self.threshold_of_size(size);
        let fpir_of_study = match searched {
            Some((at, searches)) => {
                let rate = searches.fpir(at, STUDY_THRESHOLD);
                (rate.value(), rate.interval.low, rate.interval.high)
            }
            None => {
                let (fpir, interval) = curve.fpir(STUDY_THRESHOLD, size);
                (fpir, interval.low, interval.high)
            }
        };
        let searched = searched.and_then(|(at, searches)| {
            let (threshold, _) = threshold.as_ref().ok().copied()?;
            Some((searches.fpir(at, threshold), searches.fnir(at, threshold), searches.hit_rate(at, 1)))
        });
        SizeRow { size, threshold, fpir_of_study, searched }
    }

    /// Searches tell best; where there are too few, the law of the FMR may tell from more comparisons, for galleries with one
    /// photo a person.
    pub fn threshold_of_size(&self, size: u64) -> Result<(f32, Basis), NoThreshold> {
        let curve: &Curve = &self.analysis.curve;
        let from_searches = self.searches.as_ref().and_then(|searches| {
            let exact = searches.sizes.iter().position(|known| *known as u64 == size);
            let at = exact.or_else(|| searches.sizes.len().checked_sub(1))?;
            let largest = *searches.sizes.get(at)? as f64;
            if exact.is_none() && (size as f64) < largest {
                return None;
            }
            // Of N / size galleries of that size at once, each may err this often.
            let share = if exact.is_some() { self.fpir } else { 1.0 - (1.0 - self.fpir).powf(largest / size as f64) };
            let threshold = threshold_for(&searches.best_others(at), share, comparisons_needed(share)).ok()?;
            Some((threshold, if exact.is_some() { Basis::Searches } else { Basis::CarriedOn }))
        });
        match from_searches {
            Some(found) => Ok(found),
            None => curve.threshold_for_fmr(fmr_of_fpir(self.fpir, size)).map(|threshold| (threshold, Basis::Law)),
        }
    }

    pub fn unit_noun(&self) -> &'static str {
        match self.analysis.unit {
            Unit::Identities => "identities",
            Unit::Photos => "photos",
        }
    }
}
