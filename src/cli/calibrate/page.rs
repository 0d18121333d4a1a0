//! The report as a page that needs nothing else: on a phone, on paper, in light and in dark.

use std::fmt::Write;

use super::figures::{Figure, INKS};
use super::report::{interval_text, lost_text, number, rate_text, reasons_text, share_text};
use super::study::{Group, Grouping, STUDY_THRESHOLD, Study, Suspect};
use crate::biometrics::calibration::{Analysis, Distribution};
use plotters::style::RGBColor;

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Each ink in the dark: as far from the background as its like is in print.
const DARK: [(&str, &str); 9] = [
    ("paper", "#14181e"),
    ("text", "#e6eaf0"),
    ("grid", "#39424e"),
    ("mated", "#4cc38a"),
    ("non-mated", "#ff8a70"),
    ("first", "#77b2ff"),
    ("second", "#f0b35b"),
    ("third", "#cf9bf0"),
    ("fourth", "#5fcbd6"),
];

const STYLE: &str = "\
*{box-sizing:border-box}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--paper);margin:0 auto;padding:1rem;max-width:72rem}\
h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.25rem;margin-top:2.2rem}h3{font-size:1.05rem}\
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,29rem),1fr));gap:1rem}\
figure{margin:0;min-width:0}figure svg{width:100%;height:auto;display:block}figcaption{font-size:.9rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.95rem}\
th,td{padding:.3rem .7rem;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\
th:first-child,td:first-child{text-align:left}td.words{white-space:normal;text-align:left}td small{display:inline-block;white-space:normal;max-width:17rem}\
.suspect img{height:7rem;margin-right:.3rem;vertical-align:middle}\
@media print{body{max-width:none;font-size:10pt}.wide{overflow:visible}table{font-size:7.5pt}th,td{padding:.2rem .35rem}.figures{grid-template-columns:1fr 1fr}figure,table{break-inside:avoid}h2{break-after:avoid}}";

fn theme() -> String {
    let light: String = INKS
        .iter()
        .map(|(_, RGBColor(red, green, blue), name)| format!("--{name}:#{red:02x}{green:02x}{blue:02x};"))
        .collect();
    let dark: String = DARK.iter().map(|(name, color)| format!("--{name}:{color};")).collect();
    format!(
        ":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{STYLE}"
    )
}

/// Makes the page.
pub(super) fn page(study: &Study, figures: &[Figure]) -> anyhow::Result<String> {
    let mut html = String::new();
    let title = format!("Which threshold? {}", escape(&study.source));
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><link rel=\"icon\" href=\"data:,\">\
         <title>{title}</title><style>{}</style></head><body><h1>{title}</h1>",
        theme()
    );
    summary(&mut html, study);
    html.push_str("<h2>Scores and errors</h2><div class=\"figures\">");
    for figure in figures {
        let _ = write!(
            html,
            "<figure id=\"{}\">{}<figcaption>{}</figcaption></figure>",
            figure.name,
            figure.svg_of_page()?,
            escape(&figure.caption)
        );
    }
    html.push_str("</div><h2>Which threshold?</h2>");
    operating_table(&mut html, &study.analysis, &study.named);
    html.push_str("<h2>How scores are distributed</h2>");
    distributions(&mut html, &study.analysis);
    sizes(&mut html, study);
    study.groupings.iter().for_each(|grouping| grouping_section(&mut html, grouping, study));
    failures(&mut html, study);
    suspects(&mut html, &study.suspects);
    method(&mut html, study);
    html.push_str("</body></html>\n");
    Ok(html)
}

fn row(html: &mut String, cells: &[String]) {
    html.push_str("<tr>");
    cells.iter().for_each(|cell| {
        let _ = write!(html, "<td>{cell}</td>");
    });
    html.push_str("</tr>");
}

fn table(html: &mut String, head: &[&str], rows: impl FnOnce(&mut String)) {
    html.push_str("<div class=\"wide\"><table><thead><tr>");
    head.iter().for_each(|cell| {
        let _ = write!(html, "<th>{cell}</th>");
    });
    html.push_str("</tr></thead><tbody>");
    rows(html);
    html.push_str("</tbody></table></div>");
}

fn summary(html: &mut String, study: &Study) {
    let analysis = &study.analysis;
    let _ = write!(
        html,
        "<p>Pack {} (<code>{}</code>). {} photos, of which <strong>{} gave no template</strong>{}. {} mated and {} \
         non-mated comparisons{}.",
        escape(&study.pack_name),
        escape(&study.pack_id),
        number(study.photos as u64),
        number(study.failures.len() as u64),
        escape(&reasons_text(study)),
        number(analysis.mated.count),
        number(analysis.non_mated.count),
        lost_text(study)
    );
    if !study.repeats.is_empty() {
        let lines: Vec<String> =
            study.repeats.iter().take(20).map(|(line, first)| format!("{line} (as {first})")).collect();
        let more = if study.repeats.len() > 20 { ", …" } else { "" };
        let _ = write!(html, " Pairs that came before were counted once: line {}{more}.", lines.join(", "));
    }
    html.push_str("</p><ul>");
    if let Some(equal) = analysis.equal_error {
        let _ = write!(
            html,
            "<li>Equal error rate <strong>{}</strong> {} at a threshold of {:.4}; d′ {:.2}; area under the ROC {:.5}.</li>",
            share_text(equal.rate),
            interval_text(equal.interval),
            equal.threshold,
            analysis.d_prime,
            analysis.area
        );
    }
    if let Some((point, right)) = analysis.best_accuracy {
        let _ = write!(
            html,
            "<li>Most of these comparisons are decided rightly at {:.4}: {}. That is for this mix of mated and non-mated \
             ones, and no guide to another.</li>",
            point.threshold,
            rate_text(right)
        );
    }
    html.push_str(
        "</ul><p>A comparison matches when its score is at or above the threshold. Square brackets hold 95 % \
                   intervals.</p>",
    );
}

fn operating_table(html: &mut String, analysis: &Analysis, named: &[(String, f32)]) {
    table(html, &["wanted", "threshold", "true one between", "FMR", "FNMR"], |html| {
        for (fmr, found) in &analysis.operating {
            match found {
                Ok(found) => {
                    let (low, high) = found.threshold_interval;
                    let high = high.map_or("?".to_owned(), |high| format!("{high:.4}"));
                    let cells = [
                        format!("FMR {fmr:e}"),
                        format!("<strong>{:.4}</strong>", found.point.threshold),
                        format!("{low:.4} and {high}"),
                        rate_text(found.point.fmr),
                        rate_text(found.point.fnmr),
                    ];
                    row(html, &cells);
                }
                Err(error) => {
                    let _ = write!(
                        html,
                        "<tr><td>FMR {fmr:e}</td><td class=\"words\" colspan=\"4\">{}</td></tr>",
                        escape(&error.to_string())
                    );
                }
            }
        }
        for (name, at) in named {
            let point = analysis.curve.at(*at);
            row(
                html,
                &[
                    escape(name),
                    format!("<strong>{at}</strong>"),
                    String::new(),
                    rate_text(point.fmr),
                    rate_text(point.fnmr),
                ],
            );
        }
    });
}

fn distributions(html: &mut String, analysis: &Analysis) {
    let mut head = vec!["scores".to_owned(), "count".to_owned(), "mean".to_owned(), "deviation".to_owned()];
    let quantile_name = |share: f64| match share {
        0.0 => "lowest".to_owned(),
        1.0 => "highest".to_owned(),
        share => format!("{} %", (share * 1e5).round() / 1e3),
    };
    let any = if analysis.mated.count > 0 { &analysis.mated } else { &analysis.non_mated };
    head.extend(any.quantiles.iter().map(|(share, _)| quantile_name(*share)));
    let cells = |name: &str, of: &Distribution| {
        let mut cells =
            vec![name.to_owned(), number(of.count), format!("{:.4}", of.mean), format!("{:.4}", of.deviation)];
        cells.extend(of.quantiles.iter().map(|(_, score)| format!("{score:.4}")));
        cells
    };
    table(html, &head.iter().map(String::as_str).collect::<Vec<_>>(), |html| {
        row(html, &cells("mated", &analysis.mated));
        row(html, &cells("non-mated", &analysis.non_mated));
    });
}

fn sizes(html: &mut String, study: &Study) {
    let _ = write!(
        html,
        "<h2>Searches of a gallery</h2><p>A search of N people makes N comparisons, so its threshold must rise with N. \
         Wanted: at most {} of strangers' searches return anybody (FPIR). The last column says what the study's threshold for \
         pairs, {STUDY_THRESHOLD}, would do.</p>",
        share_text(study.fpir)
    );
    let is_searched = study.searches.is_some();
    let mut head = vec!["enrolled", "threshold", "found by"];
    if is_searched {
        head.extend(["FPIR", "FNIR, rank 1", "mate first"]);
    }
    head.push("FPIR at 0.2");
    table(html, &head, |html| {
        for found in study.sizes() {
            let mut cells = vec![number(found.size)];
            match &found.threshold {
                Ok((threshold, basis)) => {
                    cells.extend([format!("<strong>{threshold:.4}</strong>"), basis.text().to_owned()]);
                }
                Err(error) => cells.extend(["–".to_owned(), format!("<small>{}</small>", escape(&error.to_string()))]),
            }
            if is_searched {
                match found.searched {
                    Some((fpir, fnir, first)) => cells.extend([fpir, fnir, first].map(rate_text)),
                    None => cells.extend(["", "", ""].map(str::to_owned)),
                }
            }
            let (rate, low, high) = found.fpir_of_study;
            cells.push(format!("{} [{}, {}]", share_text(rate), share_text(low), share_text(high)));
            row(html, &cells);
        }
    });
    if let Some(searches) = &study.searches {
        let _ = write!(
            html,
            "<p>{} photos were each searched for twice: among other people alone, and with their own person's other photos \
             enrolled; a person scores by the best photo. Intervals are over the people searched for; the people enrolled \
             are taken as given. Where 1 − (1 − FMR)^N is used, it is for one photo a person.</p>",
            number(searches.searches.len() as u64)
        );
    } else {
        html.push_str("<p>By 1 − (1 − FMR)^N, for one photo a person. Real searches, with <code>--all-pairs</code>, tell better.</p>");
    }
}

fn grouping_section(html: &mut String, grouping: &Grouping, study: &Study) {
    let column = escape(&grouping.column);
    let _ = write!(
        html,
        "<h2>By {column}</h2><p>Comparisons within each group. {} photos are in no group. The first table is at one \
         threshold for all, {:.4}.</p>",
        number(grouping.without as u64),
        grouping.threshold
    );
    table(html, &[&column, "people", "photos", "no template", "mated", "non-mated", "FMR", "FNMR"], |html| {
        for group in &grouping.groups {
            let point = group.analysis.curve.at(grouping.threshold);
            row(
                html,
                &[
                    escape(&group.name),
                    number(group.identities as u64),
                    number(group.photos as u64),
                    number(group.failures as u64),
                    number(group.analysis.mated.count),
                    number(group.analysis.non_mated.count),
                    rate_text(point.fmr),
                    rate_text(point.fnmr),
                ],
            );
        }
    });
    html.push_str(
        "<h3>Differences</h3><p>How likely so large a difference is by chance, all tests of this table taken together \
         (Holm): below .05 it is hardly chance.</p>",
    );
    table(html, &["rate", "groups", "one", "other", "p"], |html| {
        for difference in &grouping.differences {
            let p = if difference.p < 1e-4 { "&lt; 1e-4".to_owned() } else { format!("{:.4}", difference.p) };
            let p = if difference.p < 0.05 { format!("<strong>{p}</strong>") } else { p };
            let [one, other] = difference.rates.map(rate_text);
            let names = escape(&difference.names.join(", "));
            row(html, &[difference.what.to_owned(), names, one, other, p]);
        }
    });
    for Group { name, analysis, .. } in &grouping.groups {
        let _ = write!(html, "<h3>{}</h3>", escape(name));
        operating_table(html, analysis, &study.named);
    }
}

/// Photos that are listed on the page; `report.json` has all.
const FAILURES_SHOWN: usize = 100;

fn failures(html: &mut String, study: &Study) {
    let _ = write!(html, "<h2>Failures to acquire</h2><p>{} of {} photos", study.failures.len(), study.photos);
    if study.photos > 0 {
        let rate = crate::biometrics::calibration::Rate::independent(study.failures.len() as u64, study.photos as u64);
        let _ = write!(html, ": {}", rate_text(rate));
    }
    html.push_str(".</p>");
    if study.failures.is_empty() {
        return;
    }
    table(html, &["photo", "reason"], |html| {
        for (photo, reason) in study.failures.iter().take(FAILURES_SHOWN) {
            row(html, &[escape(photo), escape(reason)]);
        }
    });
    if study.failures.len() > FAILURES_SHOWN {
        html.push_str("<p>All are in report.json.</p>");
    }
}

fn suspects(html: &mut String, suspects: &[Suspect]) {
    html.push_str(
        "<h2>Suspected label errors</h2><p>Comparisons whose score is far likelier with the other label: 10,000 times, if \
         scores are normally distributed. A suspicion, no proof.</p>",
    );
    if suspects.is_empty() {
        html.push_str("<p>None.</p>");
        return;
    }
    table(html, &["photos", "line", "label", "score"], |html| {
        for suspect in suspects {
            let pictures = suspect.pictures.as_ref().map(|pictures| {
                let tag =
                    |(picture, name): (&String, &String)| format!("<img src=\"{picture}\" alt=\"{}\">", escape(name));
                pictures.iter().zip(&suspect.names).map(tag).collect::<String>() + "<br>"
            });
            let label = if suspect.is_mated { "same person" } else { "two people" };
            let _ = write!(
                html,
                "<tr class=\"suspect\"><td>{}{}</td><td>{}</td><td>{label}</td><td>{:.4}</td></tr>",
                pictures.unwrap_or_default(),
                escape(&suspect.names.join(" – ")),
                suspect.line.map_or(String::new(), |line| line.to_string()),
                suspect.score
            );
        }
    });
}

fn method(html: &mut String, study: &Study) {
    let analysis = &study.analysis;
    let _ = write!(
        html,
        "<h2>How this was computed</h2><p>{} Intervals: where fewer than ten errors were counted, exact binomial bounds \
         (Clopper and Pearson); else Wilson's, with as many comparisons as {} draws with replacement of {} {} (the bootstrap, \
         seed {}) show these to be worth. An error rate is stated only where at least 3 / rate comparisons were counted (the \
         rule of three). Thresholds are rounded up to four decimals, and rates counted at the rounded ones.</p>",
        escape(&study.unit_text),
        analysis.replicates,
        number(analysis.units as u64),
        study.unit_noun(),
        analysis.seed
    );
}
