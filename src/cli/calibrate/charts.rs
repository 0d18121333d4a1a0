//! Which figures a study has.

use super::figures::{Axis, Corner, Figure, Ink, SERIES_INKS, Series, Shape};
use super::study::{STUDY_THRESHOLD, Study};
use crate::biometrics::calibration::{Curve, Rate, Steps};
use crate::cli::calibrate::report::share_text;

/// Bins of histograms, in cosine.
const BIN: f32 = 0.02;

/// Places of a curve.
const PLACES: usize = 300;

pub(super) fn figures(study: &Study) -> Vec<Figure> {
    let mut figures = histograms(study);
    figures.extend([errors(study), det(study), roc(study), thresholds_by_size(study)]);
    if study.searches.is_some() {
        figures.extend([searches(study), ranks(study)]);
    }
    figures
}

/// Thresholds that somebody uses; the caption says whose.
fn marks(study: &Study) -> Vec<(f64, String)> {
    study.named.iter().map(|(_, cosine)| (f64::from(*cosine), cosine.to_string())).collect()
}

fn marks_text(study: &Study) -> String {
    let told: Vec<String> = study.named.iter().map(|(name, cosine)| format!("{cosine}, {name}")).collect();
    format!("Dashed: {}.", told.join("; "))
}

fn range(study: &Study) -> (f32, f32) {
    let Curve { mated, non_mated, .. } = &study.analysis.curve;
    let ends = [mated, non_mated].map(|steps| steps.range().unwrap_or((0.0, 1.0)));
    let low = ends.iter().map(|(low, _)| *low).fold(1.0, f32::min);
    let high = ends.iter().map(|(_, high)| *high).fold(-1.0, f32::max);
    ((low / BIN).floor() * BIN, (high / BIN).ceil() * BIN)
}

/// The share of scores in each bin.
fn bars(steps: &Steps, (low, high): (f32, f32)) -> Vec<(f64, f64)> {
    let bins = ((high - low) / BIN).round() as usize + 1;
    let total = steps.total().max(1) as f64;
    let edge = |bin: usize| low + bin as f32 * BIN;
    let within = |bin: usize| {
        let count = steps.at_least_at_most(edge(bin)).saturating_sub(steps.at_least_at_most(edge(bin + 1)));
        (f64::from(edge(bin)), 100.0 * count as f64 / total)
    };
    (0..bins).map(within).collect()
}

fn histograms(study: &Study) -> Vec<Figure> {
    let range = range(study);
    let Curve { mated, non_mated, .. } = &study.analysis.curve;
    let series = |label: &str, ink, steps: &Steps| Series {
        label: format!("{label}, {} comparisons", steps.total()),
        ink,
        shape: Shape::Bars(f64::from(BIN)),
        points: bars(steps, range),
    };
    let histogram = |name, title: &str, caption: &str, series: Vec<Series>| {
        let highest = series.iter().flat_map(|series| &series.points).map(|(_, y)| *y).fold(1.0, f64::max);
        Figure {
            name,
            title: title.to_owned(),
            caption: format!("{caption} {}", marks_text(study)),
            x: Axis {
                title: "score (cosine)".into(),
                range: f64::from(range.0)..f64::from(range.1 + BIN),
                is_log: false,
            },
            y: Axis { title: "% of the scores".into(), range: 0.0..highest * 1.3, is_log: false },
            series,
            marks: marks(study),
            legend: Corner::UpperRight,
        }
    };
    let (one, two) = (series("mated", Ink::Mated, mated), series("non-mated", Ink::NonMated, non_mated));
    let both = vec![series("mated", Ink::Mated, mated), series("non-mated", Ink::NonMated, non_mated)];
    vec![
        histogram("histogram", "Mated and non-mated scores", "Where the two overlap, any threshold errs.", both),
        histogram("histogram-mated", "Mated scores", "Two photos of the same person.", vec![one]),
        histogram("histogram-non-mated", "Non-mated scores", "Photos of two people.", vec![two]),
    ]
}

fn thresholds(study: &Study) -> impl Iterator<Item = f32> {
    let (low, high) = range(study);
    (0..=PLACES).map(move |place| low + (high - low) * place as f32 / PLACES as f32)
}

/// The lowest decade that the comparisons reach.
fn decades(study: &Study) -> f64 {
    let most = study.analysis.mated.count.max(study.analysis.non_mated.count).max(10);
    -(most as f64).log10().ceil()
}

fn errors(study: &Study) -> Figure {
    let curve = &study.analysis.curve;
    let low = decades(study);
    let both = |label: &str, ink, rate: &dyn Fn(f32) -> Rate| {
        let rates: Vec<(f64, Rate)> = thresholds(study).map(|at| (f64::from(at), rate(at))).collect();
        let log = |share: f64| share.max(1e-12).log10();
        let counted = || rates.iter().filter(|(_, rate)| rate.events > 0 && rate.events < rate.of);
        let band = counted().map(|(x, rate)| (*x, log(rate.interval.low), log(rate.interval.high))).collect();
        let points = counted().map(|(x, rate)| (*x, log(rate.value()))).collect();
        [
            Series { label: String::new(), ink, shape: Shape::Band(band), points: Vec::new() },
            Series { label: label.to_owned(), ink, shape: Shape::Line, points },
        ]
    };
    let (start, end) = range(study);
    Figure {
        name: "errors",
        title: "Error rates by threshold".into(),
        caption: format!(
            "FMR falls and FNMR rises with the threshold; the bands are 95 % intervals, by bootstrap over {}. {}",
            study.unit_noun(),
            marks_text(study)
        ),
        x: Axis { title: "threshold (cosine)".into(), range: f64::from(start)..f64::from(end), is_log: false },
        y: Axis { title: "rate".into(), range: low..0.0, is_log: true },
        series: both("FMR", Ink::NonMated, &|at| curve.fmr(at))
            .into_iter()
            .chain(both("FNMR", Ink::Mated, &|at| curve.fnmr(at)))
            .collect(),
        marks: marks(study),
        legend: Corner::LowerRight,
    }
}

/// FMR and FNMR at every threshold that is a mated score, or above all non-mated ones.
fn pairs_of_rates(curve: &Curve) -> Vec<(f64, f64)> {
    let (mated, non_mated) = (curve.mated.total().max(1) as f64, curve.non_mated.total().max(1) as f64);
    let thresholds = curve.mated.points().chain(curve.non_mated.points()).map(|(cosine, _)| cosine);
    let mut thresholds: Vec<f32> = thresholds.collect();
    thresholds.sort_by(f32::total_cmp);
    let step = thresholds.len().div_ceil(4_000).max(1);
    let rates = |at: f32| {
        let rejected = curve.mated.total() - curve.mated.at_least_at_least(at);
        (curve.non_mated.at_least_at_most(at) as f64 / non_mated, rejected as f64 / mated)
    };
    thresholds.into_iter().step_by(step).map(rates).collect()
}

fn operating_dots(study: &Study, of: impl Fn(f64, f64) -> (f64, f64)) -> Series {
    let points = study.analysis.operating.iter().filter_map(|(_, found)| found.as_ref().ok());
    let points = points.map(|operating| (operating.point.fmr.value(), operating.point.fnmr.value()));
    Series {
        label: "thresholds of the table".into(),
        ink: Ink::Second,
        shape: Shape::Dots,
        points: points.filter(|(fmr, _)| *fmr > 0.0).map(|(fmr, fnmr)| of(fmr, fnmr)).collect(),
    }
}

fn det(study: &Study) -> Figure {
    let low = decades(study);
    let curve = pairs_of_rates(&study.analysis.curve);
    let log = |(fmr, fnmr): (f64, f64)| (fmr.log10(), fnmr.log10());
    let points: Vec<_> = curve.into_iter().filter(|(fmr, fnmr)| *fmr > 0.0 && *fnmr > 0.0).map(log).collect();
    Figure {
        name: "det",
        title: "Detection error trade-off".into(),
        caption: "FNMR against FMR, both axes logarithmic. Nearer to the lower left corner is better.".into(),
        x: Axis { title: "FMR".into(), range: low..0.0, is_log: true },
        y: Axis {
            title: "FNMR".into(),
            range: -(study.analysis.mated.count.max(10) as f64).log10().ceil()..0.0,
            is_log: true,
        },
        series: vec![
            Series { label: String::new(), ink: Ink::First, shape: Shape::Line, points },
            operating_dots(study, |fmr, fnmr| (fmr.log10(), fnmr.log10())),
        ],
        marks: Vec::new(),
        legend: Corner::UpperRight,
    }
}

fn roc(study: &Study) -> Figure {
    let curve = pairs_of_rates(&study.analysis.curve);
    let points: Vec<_> =
        curve.into_iter().filter(|(fmr, _)| *fmr > 0.0).map(|(fmr, fnmr)| (fmr.log10(), 1.0 - fnmr)).collect();
    let lowest = points.iter().map(|(_, right)| *right).fold(1.0, f64::min);
    Figure {
        name: "roc",
        title: "Receiver operating characteristic".into(),
        caption: format!("1 − FNMR against FMR; the area under it, in plain axes, is {:.5}.", study.analysis.area),
        x: Axis { title: "FMR".into(), range: decades(study)..0.0, is_log: true },
        y: Axis { title: "1 − FNMR".into(), range: (lowest - 0.02).clamp(0.0, 0.98)..1.0, is_log: false },
        series: vec![
            Series { label: String::new(), ink: Ink::First, shape: Shape::Line, points },
            operating_dots(study, |fmr, fnmr| (fmr.log10(), 1.0 - fnmr)),
        ],
        marks: Vec::new(),
        legend: Corner::LowerRight,
    }
}

fn thresholds_by_size(study: &Study) -> Figure {
    let curve = &study.analysis.curve;
    let sizes: Vec<u64> = (0..=24).map(|quarter| 10f64.powf(f64::from(quarter) / 4.0).round() as u64).collect();
    let log = |size: u64| (size as f64).log10();
    let law = |fpir: f64| -> Vec<(f64, f64)> {
        let of = |size: &u64| Some((log(*size), f64::from(curve.threshold_for_fpir(fpir, *size).ok()?)));
        sizes.iter().filter_map(of).collect()
    };
    let mut series: Vec<Series> = [(study.fpir, Ink::First), (study.fpir / 10.0, Ink::Third)]
        .into_iter()
        .map(|(fpir, ink)| Series {
            label: format!("FPIR {} by 1 − (1 − FMR)^N", share_text(fpir)),
            ink,
            shape: Shape::Line,
            points: law(fpir),
        })
        .collect();
    if study.searches.is_some() {
        let found = study.sizes().into_iter().filter_map(|row| Some((log(row.size), f64::from(row.threshold.ok()?.0))));
        series.push(Series {
            label: format!("FPIR {} by searches", share_text(study.fpir)),
            ink: Ink::Second,
            shape: Shape::Dots,
            points: found.collect(),
        });
    }
    series.push(Series {
        label: "0.2, the study's".into(),
        ink: Ink::NonMated,
        shape: Shape::Dashed,
        points: vec![(0.0, f64::from(STUDY_THRESHOLD)), (6.0, f64::from(STUDY_THRESHOLD))],
    });
    let all = || series.iter().flat_map(|series| &series.points).map(|(_, y)| *y);
    let (low, high) = (all().fold(STUDY_THRESHOLD.into(), f64::min), all().fold(0.3, f64::max));
    Figure {
        name: "threshold-by-size",
        title: "How the threshold must rise with the gallery".into(),
        caption: "It ends where there are too few comparisons to tell.".into(),
        x: Axis { title: "identities in the gallery".into(), range: 0.0..6.0, is_log: true },
        y: Axis { title: "threshold (cosine)".into(), range: low - 0.05..high + 0.15, is_log: false },
        series,
        marks: Vec::new(),
        legend: Corner::UpperLeft,
    }
}

fn searches(study: &Study) -> Figure {
    let mut series = Vec::new();
    let (mut low, mut probes) = (-2.0, 0);
    if let Some(searches) = &study.searches {
        probes = searches.searches.len();
        low = -(probes.max(10) as f64).log10().ceil();
        let count = searches.sizes.len();
        let shown = (0..count).rev().step_by(2).take(3).collect::<Vec<_>>();
        for (ink, at) in SERIES_INKS.iter().zip(shown.into_iter().rev()) {
            let size = searches.sizes.get(at).copied().unwrap_or_default();
            let best = searches.best_others(at);
            let total = best.total().max(1) as f64;
            let fpir = thresholds(study).map(|t| (f64::from(t), (best.at_least_at_most(t) as f64 / total).log10()));
            let fnir = thresholds(study).map(|t| (f64::from(t), searches.fnir(at, t).value().log10()));
            let line = |label: String, shape, points: Vec<(f64, f64)>| Series { label, ink: *ink, shape, points };
            series.push(line(format!("{size} enrolled"), Shape::Line, fpir.collect()));
            series.push(line(String::new(), Shape::Dashed, fnir.collect()));
        }
    }
    let (start, end) = range(study);
    Figure {
        name: "searches",
        title: "Errors of searches by threshold".into(),
        caption: format!(
            "{probes} photos, each searched for among other people (FPIR, falling: anybody is returned) and among them and its \
             own person's other photos (FNIR at rank 1, dashed, rising)."
        ),
        x: Axis { title: "threshold (cosine)".into(), range: f64::from(start)..f64::from(end), is_log: false },
        y: Axis { title: "rate".into(), range: low..0.0, is_log: true },
        series,
        marks: Vec::new(),
        legend: Corner::LowerLeft,
    }
}

fn ranks(study: &Study) -> Figure {
    const RANKS: u32 = 20;
    let mut series = Vec::new();
    if let Some(searches) = &study.searches {
        let count = searches.sizes.len();
        for (ink, at) in SERIES_INKS.iter().zip((0..count).rev().step_by(2).take(3)) {
            let rates = (1..=RANKS).map(|rank| (f64::from(rank), searches.hit_rate(at, rank).value()));
            let label = format!("{} enrolled", searches.sizes.get(at).copied().unwrap_or_default());
            series.push(Series { label, ink: *ink, shape: Shape::Line, points: rates.collect() });
        }
    }
    let lowest = series.iter().flat_map(|series| &series.points).map(|(_, y)| *y).fold(1.0, f64::min);
    Figure {
        name: "ranks",
        title: "Cumulative match characteristic".into(),
        caption: "The share of searches for somebody enrolled that has that person within a rank; no threshold.".into(),
        x: Axis { title: "rank".into(), range: 1.0..f64::from(RANKS), is_log: false },
        y: Axis { title: "share".into(), range: (lowest - 0.05).max(0.0)..1.0, is_log: false },
        series,
        marks: Vec::new(),
        legend: Corner::LowerRight,
    }
}
