//! `calibrate`: which threshold?

mod charts;
mod figures;
mod page;
pub(super) mod pairs;
mod people;
pub(super) mod report;
mod study;

use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;

use self::pairs::{Columns, Pair, Pairs};
use self::people::{Groups, folder_of};
use self::study::{Group, Grouping, STUDY_THRESHOLD, Study, Suspect};
use super::Answer;
use super::arguments::{Detection, Face};
use super::embeddings::{Acquired, Acquisition};
use super::local;
use super::output::Output;
use super::scoring::{score_rows, write_scores};
use crate::biometrics::calibration::{
    Comparison, CrossScores, Faces, NO_GROUP, Plan, ScoreCounts, ScoreSet, Side, Total, Unit,
};
use crate::config::Config;
use crate::decode::decode;
use crate::model::curve_section;

/// Measure which threshold has which error rates, on photos of your own. Needs no server
///
/// PAIRS.csv names two photos and a label a line: image1,image2,label. Templates are computed once a photo and kept in the
/// output folder, so that what was broken off goes on, and what is run again takes a moment. Written are report.html, its
/// figures as SVG and PNG, report.json (which `predict` and `curve set` read), scores.csv and curve.toml (for a pack's manifest). Exit code 0: done; 1: some photos gave no
/// template, and are named in the report; 2: error. With --json: the report.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Labelled pairs
    #[arg(value_name = "PAIRS.csv", required_unless_present = "all_pairs", conflicts_with = "all_pairs")]
    pairs: Option<PathBuf>,
    /// Where the photos are: the pairs' paths are below it; with --all-pairs DIR/NAME/PHOTO, a folder a person
    #[arg(long, value_name = "DIR")]
    photos: PathBuf,
    /// Compare every photo with every other, and search for each among all people
    #[arg(long)]
    all_pairs: bool,
    /// Where to write; made where there is none
    #[arg(long, short, value_name = "DIR", default_value = "calibration")]
    out: PathBuf,
    /// Where templates are kept by photo and pack [default: embeddings in the output folder]
    #[arg(long, value_name = "DIR")]
    embeddings: Option<PathBuf>,
    #[command(flatten)]
    columns: Columns,
    /// Whose a photo is, for the intervals: its folder's, or unknown; auto: its folder's where that agrees with the labels
    #[arg(long, value_enum, default_value_t = Identities::Auto)]
    identities: Identities,
    /// A file that says of each photo or identity which groups it is in: columns photo or identity, and others
    #[arg(long, value_name = "FILE.csv", requires = "group_by")]
    metadata: Option<PathBuf>,
    /// Columns of it: the same tables for each group, and their differences
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "metadata")]
    group_by: Vec<String>,
    /// The share of strangers' searches that may return anybody
    #[arg(long, value_name = "RATE", default_value_t = 0.01)]
    fpir: f64,
    /// Show the photos of suspected label errors in the report
    #[arg(long)]
    with_photos: bool,
    /// What the bootstrap's draws and the galleries' order depend on
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    face: Face,
    #[command(flatten)]
    detection: Detection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Identities {
    Auto,
    /// The folder that it is in
    Folder,
    /// Unknown
    Photo,
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    anyhow::ensure!(arguments.fpir > 0.0 && arguments.fpir < 1.0, "--fpir must be a rate between 0 and 1");
    let job = Job { config, output, arguments: &arguments };
    let study = match &arguments.pairs {
        Some(path) => job.of_pairs(path).await?,
        None => job.of_all_pairs().await?,
    };
    job.write(&study)?;
    let value = report::json(&study);
    output.value(&value, || report::text(&study, &arguments.out))?;
    Ok(Answer::yes_if(study.failures.is_empty()))
}

/// What a run is given.
struct Job<'a> {
    config: &'a Config,
    output: &'a Output,
    arguments: &'a Arguments,
}

/// A label agrees with folders in this share of the rows at least: some labels may be wrong.
const AGREEMENT_MIN: f64 = 0.99;

impl Job<'_> {
    async fn acquire(&self, photos: &[String]) -> anyhow::Result<Acquired> {
        let out = &self.arguments.out;
        std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
        let embeddings = self.arguments.embeddings.clone().unwrap_or_else(|| out.join("embeddings"));
        let acquisition = Acquisition {
            config: self.config,
            output: self.output,
            settings: self.arguments.detection.settings()?,
            selection: self.arguments.face.selection(),
            cache: Some(&embeddings),
        };
        let paths: Vec<PathBuf> = photos.iter().map(|photo| self.arguments.photos.join(photo)).collect();
        acquisition.run(&paths).await
    }

    fn groups(&self, photos: &[String]) -> anyhow::Result<Groups> {
        match &self.arguments.metadata {
            Some(path) => people::read_groups(path, &self.arguments.group_by, photos),
            None => Ok(Groups::default()),
        }
    }

    async fn of_pairs(&self, path: &Path) -> anyhow::Result<Study> {
        let pairs = pairs::read(path, &self.arguments.columns, true)?;
        pairs.check_photos(&self.arguments.photos, path)?;
        let groups = self.groups(&pairs.photos)?;
        let acquired = self.acquire(&pairs.photos).await?;
        let scores = score_rows(&pairs, &acquired, self.config.workers);
        let scores_path = self.arguments.out.join("scores.csv");
        write_scores(path, &scores_path, &pairs, &scores, &acquired, None)?;
        let (unit, of_photo, unit_text) = self.units(&pairs);
        let set = |within: &dyn Fn(&Pair) -> bool| pair_set(&pairs, &scores, unit, &of_photo, within);
        let all = set(&|_| true)?;
        let lost = |is_mated: bool| {
            let rows = pairs.rows.iter().zip(&scores);
            let rows =
                rows.filter(|(row, score)| row.is_mated == Some(is_mated) && row.repeats.is_none() && score.is_none());
            rows.count() as u64
        };
        let lost = (lost(true), lost(false));
        check_classes(&all, lost, path)?;
        let mut sets = Vec::new();
        for of_photo in &groups.of_photo {
            let group = |photo: u32| of_photo.get(photo as usize).copied().unwrap_or(NO_GROUP);
            let count = of_photo.iter().filter(|group| **group != NO_GROUP).max().map_or(0, |last| last + 1);
            let of_group = (0..count).map(|number| set(&|row: &Pair| group(row.a) == number && group(row.b) == number));
            sets.push(of_group.collect::<anyhow::Result<Vec<_>>>()?);
        }
        let source = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let repeats = pairs.rows.iter().filter_map(|row| Some((row.line, row.repeats?.get())));
        let mut study = self.study(&all, acquired, &pairs.photos, source, unit_text);
        study.lost = lost;
        study.repeats = repeats.collect();
        study.suspects = self.suspects_of_pairs(&pairs, &scores, &all)?;
        study.groupings = self.groupings(&study, groups, sets, &pairs.photos);
        Ok(study)
    }

    /// Tells what is drawn for the intervals, of each photo which one it is, and how that is known.
    fn units(&self, pairs: &Pairs) -> (Unit, Vec<u32>, String) {
        let mut numbers = std::collections::HashMap::new();
        let of_photo: Option<Vec<u32>> = pairs
            .photos
            .iter()
            .map(|photo| {
                let next = numbers.len() as u32;
                Some(*numbers.entry(folder_of(photo)?).or_insert(next))
            })
            .collect();
        let folder = |of_photo: &[u32], photo: u32| of_photo.get(photo as usize).copied();
        let agreement = of_photo.as_ref().map_or(0.0, |of_photo| {
            let agrees = |row: &&Pair| Some(folder(of_photo, row.a) == folder(of_photo, row.b)) == row.is_mated;
            pairs.rows.iter().filter(agrees).count() as f64 / pairs.rows.len().max(1) as f64
        });
        let photos = (0..pairs.photos.len() as u32).collect();
        match (self.arguments.identities, of_photo) {
            (Identities::Photo, _) | (_, None) => (
                Unit::Photos,
                photos,
                "It is not known whose a photo is, so intervals are by bootstrap over photos: of \
                 people with many photos they are too narrow."
                    .to_owned(),
            ),
            (Identities::Auto, _) if agreement < AGREEMENT_MIN => (
                Unit::Photos,
                photos,
                format!(
                    "Folders agree with {:.1} % of the labels, so they are not taken for people; intervals are by bootstrap \
                     over photos, and of people with many photos too narrow.",
                    agreement * 100.0
                ),
            ),
            (_, Some(of_photo)) => (
                Unit::Identities,
                of_photo,
                format!(
                    "A photo's folder says whose it is, which agrees with {:.2} % of the labels; intervals are by bootstrap \
                     over these identities.",
                    agreement * 100.0
                ),
            ),
        }
    }

    fn suspects_of_pairs(&self, pairs: &Pairs, scores: &[Option<f32>], set: &ScoreSet) -> anyhow::Result<Vec<Suspect>> {
        let rows = pairs.rows.iter().zip(scores).filter(|(row, _)| row.repeats.is_none());
        let scored = rows.filter_map(|(row, score)| Some((row, row.is_mated?, (*score)?)));
        let mut suspected: Vec<_> =
            scored.filter(|(_, is_mated, score)| study::is_suspected(set, *is_mated, *score)).collect();
        let suspicion = |(_, is_mated, score): &(&Pair, bool, f32)| study::suspicion(set, *is_mated, *score);
        suspected.sort_by(|a, b| suspicion(b).total_cmp(&suspicion(a)));
        suspected.truncate(study::SUSPECTS_MAX);
        let name = |photo: u32| pairs.photos.get(photo as usize).cloned().unwrap_or_default();
        suspected
            .into_iter()
            .map(|(row, is_mated, score)| {
                let names = [name(row.a), name(row.b)];
                let pictures = if self.arguments.with_photos {
                    Some([self.thumbnail(&names[0])?, self.thumbnail(&names[1])?])
                } else {
                    None
                };
                Ok(Suspect { line: Some(row.line), names, is_mated, score, pictures })
            })
            .collect()
    }

    /// A small copy of a photo, as a data URL.
    fn thumbnail(&self, photo: &str) -> anyhow::Result<String> {
        const SIDE_PX: u32 = 180;
        let picture = decode(&local::read_photo(&self.arguments.photos.join(photo))?, &self.config.photo)?;
        let picture = image::DynamicImage::ImageRgb8(picture).thumbnail(SIDE_PX, SIDE_PX);
        let mut jpeg = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut jpeg, image::ImageFormat::Jpeg)?;
        let text = base64::engine::general_purpose::STANDARD.encode(jpeg.into_inner());
        Ok(format!("data:image/jpeg;base64,{text}"))
    }

    async fn of_all_pairs(&self) -> anyhow::Result<Study> {
        let photos = people::photos_of_people(&self.arguments.photos)?;
        let groups = self.groups(&photos)?;
        let acquired = self.acquire(&photos).await?;
        let usable = Usable::of(&photos, &acquired);
        let of_row: Vec<Vec<u32>> = groups
            .of_photo
            .iter()
            .map(|of_photo| usable.photos.iter().filter_map(|photo| of_photo.get(*photo).copied()).collect())
            .collect();
        let faces = Faces {
            values: &usable.values,
            dimension: acquired.pack.recognizer.dimension,
            identities: &usable.identities,
            groupings: &of_row,
        };
        let bar = self.output.progress(usable.photos.len(), "photos compared");
        let crossed = faces.cross(self.arguments.seed, self.config.workers, |done| bar.set_position(done));
        bar.finish_and_clear();
        let CrossScores { all, groups: sets, searches } = crossed?;
        check_classes(&all, (0, 0), &self.arguments.photos)?;
        let source = format!("all pairs of {} photos", usable.photos.len());
        let unit_text =
            "A photo's folder says whose it is; intervals are by bootstrap over these identities.".to_owned();
        let mut study = self.study(&all, acquired, &photos, source, unit_text);
        study.suspects = suspects_of_people(&all, &usable.names);
        study.searches = Some(searches);
        study.groupings = self.groupings(&study, groups, sets, &photos);
        study.lost = usable.lost(&photos, &all);
        self.write_counts(&study)?;
        Ok(study)
    }

    fn plan(&self, named: &[(String, f32)]) -> Plan {
        Plan {
            thresholds: named.iter().map(|(_, threshold)| *threshold).collect(),
            seed: self.arguments.seed,
            threads: self.config.workers,
        }
    }

    fn study(&self, all: &ScoreSet, acquired: Acquired, photos: &[String], source: String, unit_text: String) -> Study {
        let pack = &acquired.pack;
        let mut named = vec![("the study's".to_owned(), STUDY_THRESHOLD)];
        for (name, threshold) in
            [("the pack's, for pairs", pack.verification), ("the pack's, for searches", pack.identification)]
        {
            named.extend(threshold.map(|threshold| (name.to_owned(), threshold.cosine())));
        }
        let failures = photos.iter().zip(&acquired.templates);
        let failures = failures.filter_map(|(photo, result)| Some((photo.clone(), result.as_ref().err()?.clone())));
        Study {
            source,
            pack_id: pack.id.to_string(),
            pack_name: pack.name.clone(),
            photos: photos.len(),
            failures: failures.collect(),
            lost: (0, 0),
            repeats: Vec::new(),
            analysis: all.analyse(&self.plan(&named)),
            unit_text,
            named,
            suspects: Vec::new(),
            groupings: Vec::new(),
            searches: None,
            fpir: self.arguments.fpir,
            embedding_seconds: acquired.seconds,
            computed: acquired.computed,
        }
    }

    /// Groups are compared where all comparisons together have an FMR of one in a thousand, or the lowest that they support.
    fn groupings(&self, study: &Study, groups: Groups, sets: Vec<Vec<ScoreSet>>, photos: &[String]) -> Vec<Grouping> {
        let mut supported = study.analysis.operating.iter().filter_map(|(_, found)| found.as_ref().ok());
        let threshold =
            supported.rfind(|found| found.fmr >= 1e-3).map_or(STUDY_THRESHOLD, |found| found.point.threshold);
        let Groups { columns, names, of_photo } = groups;
        let mut groupings = Vec::new();
        for (((column, names), of_photo), sets) in columns.into_iter().zip(names).zip(of_photo).zip(sets) {
            let mut plan = self.plan(&study.named);
            plan.thresholds.push(threshold);
            let groups = names.into_iter().zip(sets).enumerate().map(|(number, (name, set))| {
                let members = || {
                    let of = photos.iter().zip(&of_photo);
                    of.filter(move |(_, group)| **group as usize == number).map(|(photo, _)| photo.as_str())
                };
                let people: std::collections::BTreeSet<_> = members().map(folder_of).collect();
                let failed: std::collections::BTreeSet<&str> =
                    study.failures.iter().map(|(photo, _)| photo.as_str()).collect();
                Group {
                    name,
                    photos: members().count(),
                    identities: people.len(),
                    failures: members().filter(|photo| failed.contains(photo)).count(),
                    analysis: set.analyse(&plan),
                }
            });
            let groups: Vec<Group> = groups.collect();
            groupings.push(Grouping {
                without: of_photo.iter().filter(|group| **group == NO_GROUP).count(),
                differences: study::differences(&groups, threshold),
                column,
                threshold,
                groups,
            });
        }
        groupings
    }

    fn write(&self, study: &Study) -> anyhow::Result<()> {
        let out = &self.arguments.out;
        let figures = charts::figures(study);
        for figure in &figures {
            figure.write(out)?;
        }
        let write = |name: &str, text: String| {
            let path = out.join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("report.html", page::page(study, &figures)?)?;
        write("curve.toml", curve_section(&study.analysis.curve, &study.pack_id, &study.source))?;
        write("report.json", format!("{:#}\n", report::json(study)))
    }

    /// Of millions of scores, how many are at or above each cosine: all of what is known of them.
    fn write_counts(&self, study: &Study) -> anyhow::Result<()> {
        let path = self.arguments.out.join("scores.csv");
        let cannot_write = || format!("cannot write {}", path.display());
        let mut file = csv::Writer::from_path(&path).with_context(cannot_write)?;
        file.write_record(["label", "cosine", "scores_at_or_above"])?;
        let curve = study.analysis.curve.stated();
        for (label, steps) in [("1", &curve.mated), ("0", &curve.non_mated)] {
            for (cosine, count) in steps.points() {
                file.write_record([label, &cosine.to_string(), &count.to_string()])?;
            }
        }
        file.flush().with_context(cannot_write)
    }
}

/// Scores of rows, by class.
///
/// *Errors*: a score is no cosine.
fn pair_set(
    pairs: &Pairs,
    scores: &[Option<f32>],
    unit: Unit,
    of_photo: &[u32],
    within: &dyn Fn(&Pair) -> bool,
) -> anyhow::Result<ScoreSet> {
    let (mut mated, mut non_mated) = (ScoreCounts::default(), ScoreCounts::default());
    let (mut mated_list, mut non_mated_list) = (Vec::new(), Vec::new());
    let number = |photo: u32| of_photo.get(photo as usize).copied().unwrap_or_default();
    for (row, score) in pairs.rows.iter().zip(scores) {
        let (Some(score), None, true) = (score, row.repeats, within(row)) else { continue };
        let (counts, list) = match row.is_mated {
            Some(true) => (&mut mated, &mut mated_list),
            _ => (&mut non_mated, &mut non_mated_list),
        };
        counts.add(*score).with_context(|| format!("line {}", row.line))?;
        list.push(Comparison { score: *score, a: number(row.a), b: number(row.b) });
    }
    Ok(ScoreSet {
        mated,
        non_mated,
        mated_side: Side::mated(mated_list, Total::Listed),
        non_mated_side: Side::non_mated(non_mated_list, Total::Listed),
        unit,
        units: of_photo.iter().max().map_or(0, |last| *last as usize + 1),
    })
}

/// Without one of the classes there is no FMR, or no FNMR, to choose by.
fn check_classes(set: &ScoreSet, lost: (u64, u64), path: &Path) -> anyhow::Result<()> {
    for (count, lost, name, rate) in [
        (set.mated.count(), lost.0, "mated (label 1: the same person)", "FNMR"),
        (set.non_mated.count(), lost.1, "non-mated (label 0: two people)", "FMR"),
    ] {
        let why = if lost > 0 { format!(": {lost} of them have a photo without a template") } else { String::new() };
        anyhow::ensure!(count > 0, "{}: no {name} comparison, so no {rate} can be measured{why}", path.display());
    }
    Ok(())
}

/// Photos with templates, and whose they are.
struct Usable {
    /// Which photos.
    photos: Vec<usize>,
    /// Of each of them, whose.
    identities: Vec<u32>,
    /// Of each identity.
    names: Vec<String>,
    values: Vec<f32>,
}

impl Usable {
    fn of(photos: &[String], acquired: &Acquired) -> Self {
        let mut usable = Self { photos: Vec::new(), identities: Vec::new(), names: Vec::new(), values: Vec::new() };
        for (number, (photo, template)) in photos.iter().zip(&acquired.templates).enumerate() {
            let Ok(template) = template else { continue };
            let name = folder_of(photo).unwrap_or_default();
            if usable.names.last().is_none_or(|last| last != name) {
                usable.names.push(name.to_owned());
            }
            usable.photos.push(number);
            usable.identities.push(usable.names.len() as u32 - 1);
            usable.values.extend_from_slice(template.values());
        }
        usable
    }

    /// Comparisons that would have been made with all photos, less those that were.
    fn lost(&self, photos: &[String], set: &ScoreSet) -> (u64, u64) {
        let pairs = |count: usize| count as u64 * (count as u64).saturating_sub(1) / 2;
        let people = photos.chunk_by(|a, b| folder_of(a) == folder_of(b));
        let mated: u64 = people.map(|photos| pairs(photos.len())).sum();
        let non_mated = pairs(photos.len()) - mated;
        (mated.saturating_sub(set.mated.count()), non_mated.saturating_sub(set.non_mated.count()))
    }
}

/// Pairs of people, the likeliest first; of two people the worst comparison.
fn suspects_of_people(set: &ScoreSet, names: &[String]) -> Vec<Suspect> {
    let sides = [(true, &set.mated_side), (false, &set.non_mated_side)];
    let mut suspects: Vec<(f64, Suspect)> = Vec::new();
    for (is_mated, side) in sides {
        let mut seen = std::collections::HashSet::new();
        let listed = side.listed().iter();
        for comparison in listed.take_while(|comparison| study::is_suspected(set, is_mated, comparison.score)) {
            if seen.len() < study::SUSPECTS_MAX && seen.insert((comparison.a, comparison.b)) {
                let name = |number: u32| names.get(number as usize).cloned().unwrap_or_default();
                let names = [name(comparison.a), name(comparison.b)];
                let (line, score) = (None, comparison.score);
                let suspicion = study::suspicion(set, is_mated, score);
                suspects.push((suspicion, Suspect { line, names, is_mated, score, pictures: None }));
            }
        }
    }
    suspects.sort_by(|a, b| b.0.total_cmp(&a.0));
    suspects.truncate(study::SUSPECTS_MAX);
    suspects.into_iter().map(|(_, suspect)| suspect).collect()
}
