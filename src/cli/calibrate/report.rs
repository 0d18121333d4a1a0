//! A study as JSON and as text, and how numbers are written.

use std::fmt::Write;

use serde_json::{Value, json};

use super::study::{Group, STUDY_THRESHOLD, Study};
use crate::biometrics::calibration::{Analysis, Curve, Inflation, Interval, Method, Rate, Steps};
use crate::cli::arguments::count;
use crate::cli::embeddings::by_reason;

/// Of `report.json`.
const FORMAT: u64 = 1;

/// Writes a share: percent where that is readable, else in powers of ten.
pub(super) fn share_text(share: f64) -> String {
    let percent = share * 100.0;
    match share {
        0.0 => "0".to_owned(),
        _ if percent >= 99.95 => format!("{percent:.2} %"),
        _ if percent >= 9.95 => format!("{percent:.1} %"),
        _ if percent >= 0.095 => format!("{percent:.2} %"),
        _ => format!("{share:.1e}"),
    }
}

pub(super) fn interval_text(interval: Interval) -> String {
    format!("[{}, {}]", share_text(interval.low), share_text(interval.high))
}

/// A rate, its interval and what it rests on.
pub(super) fn rate_text(rate: Rate) -> String {
    format!("{} {}", share_text(rate.value()), interval_text(rate.interval))
}

/// Groups digits.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A cosine with the digits that f32 needs, so that it is the same number when it is read again.
pub(in crate::cli) fn cosine(value: f32) -> Value {
    json!(value.to_string().parse::<f64>().unwrap_or_else(|_| f64::from(value)))
}

fn interval_json(interval: Interval) -> Value {
    json!([interval.low, interval.high])
}

fn rate_json(rate: Rate) -> Value {
    let method = match rate.method {
        Method::Exact => "exact",
        Method::Bootstrap => "bootstrap",
    };
    json!({
        "rate": rate.value(), "events": rate.events, "of": rate.of, "effective": rate.effective,
        "interval95": interval_json(rate.interval), "method": method,
    })
}

fn steps_json(steps: &Steps) -> Value {
    let points: Vec<Value> = steps.points().map(|(at, at_least)| json!([cosine(at), at_least])).collect();
    json!({ "total": steps.total(), "at_least": points })
}

fn curve_json(curve: &Curve) -> Value {
    let curve = curve.stated();
    let inflation: Vec<Value> =
        curve.inflation.iter().map(|at| json!([cosine(at.threshold), at.fmr, at.fnmr])).collect();
    json!({
        "mated": steps_json(&curve.mated), "non_mated": steps_json(&curve.non_mated), "inflation": inflation,
    })
}

/// Reads the curve of a report, and the id of the pack that it is of.
///
/// *Errors*: it is none.
pub(in crate::cli) fn read_curve(report: &Value) -> anyhow::Result<(Curve, String)> {
    let steps = |class: &str| {
        let of = report.pointer(&format!("/curve/{class}"))?;
        let point = |point: &Value| Some((point.get(0)?.as_f64()? as f32, point.get(1)?.as_u64()?));
        let points: Option<Vec<(f32, u64)>> = of.get("at_least")?.as_array()?.iter().map(point).collect();
        Steps::stored(&points?, of.get("total")?.as_u64()?)
    };
    let inflation = || {
        let of = |at: &Value| {
            let number = |place: usize| at.get(place).and_then(Value::as_f64);
            Some(Inflation { threshold: number(0)? as f32, fmr: number(1)?, fnmr: number(2)? })
        };
        report.pointer("/curve/inflation")?.as_array()?.iter().map(of).collect::<Option<Vec<_>>>()
    };
    let is_known = report.get("format").and_then(Value::as_u64) == Some(FORMAT);
    let pack = report.pointer("/pack/id").and_then(Value::as_str);
    let curve = || Some(Curve { mated: steps("mated")?, non_mated: steps("non_mated")?, inflation: inflation()? });
    match (is_known, pack, curve()) {
        (true, Some(pack), Some(curve)) => Ok((curve, pack.to_owned())),
        _ => anyhow::bail!("no curve of this version is in it"),
    }
}

fn analysis_json(analysis: &Analysis, named: &[(String, f32)]) -> Value {
    let distribution = |of: &crate::biometrics::calibration::Distribution| {
        let quantiles: Vec<Value> = of.quantiles.iter().map(|(share, score)| json!([share, cosine(*score)])).collect();
        json!({ "count": of.count, "mean": of.mean, "deviation": of.deviation, "quantiles": quantiles })
    };
    let operating = analysis.operating.iter().map(|(fmr, found)| match found {
        Ok(found) => {
            let (low, high) = found.threshold_interval;
            json!({
                "target_fmr": fmr, "threshold": cosine(found.point.threshold),
                "threshold_interval95": [cosine(low), high.map(cosine)],
                "fmr": rate_json(found.point.fmr), "fnmr": rate_json(found.point.fnmr),
            })
        }
        Err(error) => json!({ "target_fmr": fmr, "not_supported": error.to_string() }),
    });
    let named = named.iter().map(|(name, at)| {
        let point = analysis.curve.at(*at);
        json!({ "name": name, "threshold": cosine(*at), "fmr": rate_json(point.fmr), "fnmr": rate_json(point.fnmr) })
    });
    json!({
        "mated": distribution(&analysis.mated),
        "non_mated": distribution(&analysis.non_mated),
        "d_prime": analysis.d_prime,
        "area_under_roc": analysis.area,
        "equal_error": analysis.equal_error.map(|equal| json!({
            "rate": equal.rate, "interval95": interval_json(equal.interval), "threshold": cosine(equal.threshold),
        })),
        "best_accuracy": analysis.best_accuracy.map(|(point, right)| json!({
            "threshold": cosine(point.threshold), "accuracy": rate_json(right),
            "fmr": rate_json(point.fmr), "fnmr": rate_json(point.fnmr),
        })),
        "at_fmr": operating.collect::<Vec<_>>(),
        "named_thresholds": named.collect::<Vec<_>>(),
        "intervals": {
            "units": if analysis.unit == crate::biometrics::calibration::Unit::Identities { "identities" } else { "photos" },
            "unit_count": analysis.units, "replicates": analysis.replicates, "seed": analysis.seed,
        },
    })
}

fn group_json(group: &Group, named: &[(String, f32)]) -> Value {
    json!({
        "name": group.name, "photos": group.photos, "identities": group.identities,
        "failures_to_acquire": group.failures, "results": analysis_json(&group.analysis, named),
    })
}

/// The whole report.
pub(super) fn json(study: &Study) -> Value {
    let failures: Vec<Value> =
        study.failures.iter().map(|(photo, reason)| json!({ "photo": photo, "reason": reason })).collect();
    let repeats: Vec<Value> = study.repeats.iter().map(|(line, first)| json!([line, first])).collect();
    let suspects = study.suspects.iter().map(|suspect| {
        json!({
            "line": suspect.line, "names": suspect.names, "label": u8::from(suspect.is_mated), "score": cosine(suspect.score),
        })
    });
    let groupings = study.groupings.iter().map(|grouping| {
        let differences = grouping.differences.iter().map(|difference| {
            json!({
                "rate": difference.what, "groups": difference.names, "p_adjusted": difference.p,
                "rates": difference.rates.map(rate_json),
            })
        });
        json!({
            "column": grouping.column, "photos_without": grouping.without, "threshold": cosine(grouping.threshold),
            "groups": grouping.groups.iter().map(|group| group_json(group, &study.named)).collect::<Vec<_>>(),
            "differences": differences.collect::<Vec<_>>(),
        })
    });
    let sizes = study.sizes().into_iter().map(|row| {
        let (threshold, basis) = match &row.threshold {
            Ok((threshold, basis)) => (cosine(*threshold), json!(basis.text())),
            Err(error) => (Value::Null, json!(error.to_string())),
        };
        json!({
            "gallery_size": row.size, "target_fpir": study.fpir, "threshold": threshold, "basis": basis,
            "fpir_at_0.2": { "rate": row.fpir_of_study.0, "interval95": [row.fpir_of_study.1, row.fpir_of_study.2] },
            "searched": row.searched.map(|(fpir, fnir, first)| json!({
                "fpir": rate_json(fpir), "fnir_rank1": rate_json(fnir), "rank1": rate_json(first),
            })),
        })
    });
    json!({
        "format": FORMAT,
        "source": study.source,
        "pack": { "id": study.pack_id, "name": study.pack_name },
        "photos": study.photos,
        "failures_to_acquire": { "count": study.failures.len(), "photos": failures },
        "comparisons_lost": { "mated": study.lost.0, "non_mated": study.lost.1 },
        "repeated_lines": repeats,
        "units": study.unit_text,
        "results": analysis_json(&study.analysis, &study.named),
        "identification": sizes.collect::<Vec<_>>(),
        "suspected_label_errors": suspects.collect::<Vec<_>>(),
        "groupings": groupings.collect::<Vec<_>>(),
        "curve": curve_json(&study.analysis.curve),
    })
}

/// The few lines that say most.
pub(super) fn text(study: &Study, folder: &std::path::Path) -> String {
    let analysis = &study.analysis;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} photos, {} without a template{}; {} embedded now, {:.1} s",
        number(study.photos as u64),
        number(study.failures.len() as u64),
        reasons_text(study),
        number(study.computed as u64),
        study.embedding_seconds,
    );
    let _ = writeln!(
        text,
        "{} mated and {} non-mated comparisons{}",
        number(analysis.mated.count),
        number(analysis.non_mated.count),
        lost_text(study)
    );
    if !study.repeats.is_empty() {
        let _ = writeln!(text, "{} that came before, counted once", count(study.repeats.len(), "line", "lines"));
    }
    if let Some(equal) = analysis.equal_error {
        let (rate, interval) = (share_text(equal.rate), interval_text(equal.interval));
        let _ =
            writeln!(text, "equal error rate {rate} {interval} at {:.4}; d' {:.2}", equal.threshold, analysis.d_prime);
    }
    let _ = writeln!(text, "{:>8}  {:>9}  FNMR", "FMR", "threshold");
    for (fmr, found) in &analysis.operating {
        let told = match found {
            Ok(found) => format!("{:>9.4}  {}", found.point.threshold, rate_text(found.point.fnmr)),
            Err(error) => error.to_string(),
        };
        let _ = writeln!(text, "{fmr:>8e}  {told}");
    }
    for (name, at) in &study.named {
        let point = analysis.curve.at(*at);
        let _ = writeln!(text, "at {at} ({name}): FMR {}, FNMR {}", rate_text(point.fmr), rate_text(point.fnmr));
    }
    for row in study.sizes() {
        let told = match &row.threshold {
            Ok((threshold, basis)) => format!("threshold {threshold:.4} ({})", basis.text()),
            Err(error) => error.to_string(),
        };
        let _ = writeln!(
            text,
            "search of {} for FPIR {}: {told}; at {STUDY_THRESHOLD} FPIR {}",
            number(row.size),
            share_text(study.fpir),
            share_text(row.fpir_of_study.0)
        );
    }
    let _ = writeln!(text, "{}: see {}", suspects_text(study), folder.join("report.html").display());
    text
}

fn suspects_text(study: &Study) -> String {
    count(study.suspects.len(), "suspected label error", "suspected label errors")
}

pub(super) fn reasons_text(study: &Study) -> String {
    let reasons = by_reason(study.failures.iter().map(|(_, reason)| reason));
    if reasons.is_empty() {
        return String::new();
    }
    let told: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!(" ({})", told.join(", "))
}

pub(super) fn lost_text(study: &Study) -> String {
    match study.lost {
        (0, 0) => "; none lost to photos without a face".to_owned(),
        (mated, non_mated) => format!(
            "; {} mated and {} non-mated ones could not be made, for a photo without a template",
            number(mated),
            number(non_mated)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::biometrics::calibration::ScoreCounts;

    #[test]
    fn curve_that_was_written_is_read_again() {
        let (mut mated, mut non_mated) = (ScoreCounts::default(), ScoreCounts::default());
        for at in 0..2_000 {
            mated.add(0.4 + at as f32 * 1e-4).expect("a score");
            non_mated.add(at as f32 * 1.3e-4).expect("a score");
        }
        let inflation = vec![Inflation { threshold: 0.2, fmr: 2.0, fnmr: 1.5 }];
        let curve = Curve { inflation, ..Curve::of(&mated, &non_mated) };
        let report = json!({ "format": 1, "pack": { "id": "p" }, "curve": curve_json(&curve) });
        let text: Value = serde_json::from_str(&report.to_string()).expect("json");
        let (read, pack) = read_curve(&text).expect("a curve");
        assert_eq!((pack.as_str(), &read), ("p", &curve.stated()));
        assert_eq!(read.threshold_for_fmr(0.01), curve.threshold_for_fmr(0.01));
        assert!(read_curve(&json!({ "format": 2 })).is_err());
    }

    #[test]
    fn numbers_are_readable() {
        let shares = [0.0, 1e-6, 0.000_94, 0.000_95, 0.0123, 0.5, 1.0].map(share_text);
        assert_eq!(shares, ["0", "1.0e-6", "9.4e-4", "0.10 %", "1.23 %", "50.0 %", "100.00 %"]);
        assert_eq!((number(7), number(1_234), number(12_345_678)), ("7".into(), "1,234".into(), "12,345,678".into()));
        assert_eq!(cosine(0.2).to_string(), "0.2");
    }
}
