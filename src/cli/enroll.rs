//! `enroll`: a folder of people. One call a photo, several at a time; never more photos in memory than calls.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use super::Answer;
use super::arguments::{Detection, Face, count, finding_text};
use super::local::read_photo;
use super::output::{Output, complain};
use super::remote::{self, REPLY_BYTES_MAX};
use crate::config::Config;
use crate::contract as proto;
use crate::contract::enrollment_service_client::EnrollmentServiceClient;

/// Enrol a folder of people: each folder in it is an identity, each photo in that a template
///
/// Photos are enrolled under their file names, so that the same command again enrols only what is new. Exit code 0: every
/// photo gave a template; 1: some did not, and are named; 2: error. What the gallery's policies warn of is told, and is no
/// failure. With --json: one object with the counts, a list of photos without a template with the reason of each, and the
/// warnings.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The folder of people: DIR/NAME/PHOTO
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The gallery to enrol into
    #[arg(long, short, value_name = "ID")]
    gallery: String,
    /// Photos on their way at a time
    #[arg(long, value_name = "COUNT", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    in_flight: u16,
    #[command(flatten)]
    face: Face,
    #[command(flatten)]
    detection: Detection,
}

/// File names that are photos, also those that are refused: then with a reason.
const PHOTO_EXTENSIONS: [&str; 12] =
    ["jpg", "jpeg", "jpe", "png", "webp", "bmp", "gif", "tif", "tiff", "avif", "heic", "heif"];

/// Reasons that are one photo's, besides those of unusable photos: the next may do better.
const PHOTO_FAULTS: [&str; 8] = [
    "NO_FACE",
    "SEVERAL_FACES",
    "QUALITY_TOO_LOW",
    "DUPLICATE_IDENTITY",
    "UNLIKE_IDENTITY",
    "TOO_MANY_TEMPLATES",
    "INTERNAL",
    "RECORD_DAMAGED",
];

/// As long as an id may be.
const TEMPLATE_ID_BYTES_MAX: usize = 128;

/// Tries of one photo while the server is overloaded: minutes, even at the shortest delay.
const TRIES_MAX: usize = 1_000;

/// A photo and whose it is.
struct Photo {
    identity: String,
    template_id: String,
    path: PathBuf,
}

/// What became of a photo.
enum Outcome {
    Enrolled { warnings: Vec<String> },
    AlreadyEnrolled,
    Failed { reason: String, message: String },
}

/// What became of all photos.
#[derive(Default)]
struct Summary {
    photos: usize,
    enrolled: usize,
    already_enrolled: usize,
    identities: BTreeSet<String>,
    identities_with_template: BTreeSet<String>,
    failures: Vec<serde_json::Value>,
    warnings: Vec<serde_json::Value>,
    reasons: BTreeMap<String, usize>,
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    let photos = find_photos(&arguments.folder)?;
    let channel = remote::connect(config).await?;
    let client = EnrollmentServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
    let bar = output.progress(photos.len(), "photos");
    let mut summary = Summary::default();
    let mut waiting = photos.into_iter();
    let mut calls: JoinSet<anyhow::Result<(Photo, Outcome)>> = JoinSet::new();
    loop {
        while calls.len() < usize::from(arguments.in_flight)
            && let Some(photo) = waiting.next()
        {
            let request = arguments.request(&photo);
            calls.spawn(enroll(client.clone(), photo, request));
        }
        let Some(done) = calls.join_next().await else { break };
        let (photo, outcome) = done??;
        summary.note(photo, outcome, &bar);
    }
    bar.finish_and_clear();
    output.value(&summary.json(), || summary.text())?;
    Ok(Answer::yes_if(summary.failures.is_empty()))
}

impl Arguments {
    /// Everything but the photo's bytes, which are read when its call begins.
    fn request(&self, photo: &Photo) -> proto::EnrollRequest {
        proto::EnrollRequest {
            gallery_id: self.gallery.clone(),
            identity_id: photo.identity.clone(),
            if_exists: proto::IfExists::Add.into(),
            face_selection: self.face.reply(),
            detection: Some(self.detection.options()),
            ..Default::default()
        }
    }
}

/// Enrols one photo, waiting as the server asks where it is overloaded.
///
/// *Errors*: what is not the photo's fault, and so would fail the next one too.
async fn enroll(
    mut client: EnrollmentServiceClient<Channel>,
    photo: Photo,
    mut request: proto::EnrollRequest,
) -> anyhow::Result<(Photo, Outcome)> {
    let path = photo.path.clone();
    let data = tokio::task::spawn_blocking(move || read_photo(&path)).await?;
    let data = match data {
        Ok(data) => data,
        Err(error) => {
            let outcome = Outcome::Failed { reason: "UNREADABLE".to_owned(), message: format!("{error:#}") };
            return Ok((photo, outcome));
        }
    };
    let source = Some(proto::sample::Source::Photo(proto::Photo { data }));
    request.samples = vec![proto::Sample { source, template_id: photo.template_id.clone() }];
    for _ in 0..TRIES_MAX {
        let status = match client.enroll(request.clone()).await {
            Ok(reply) => {
                let results = reply.into_inner().results;
                let already = results.iter().any(|result| result.already_enrolled);
                let warnings = results.iter().flat_map(|result| &result.warnings).map(finding_text).collect();
                return Ok((photo, if already { Outcome::AlreadyEnrolled } else { Outcome::Enrolled { warnings } }));
            }
            Err(status) => status,
        };
        if let Some(delay) = remote::retry_delay(&status) {
            tokio::time::sleep(delay).await;
            continue;
        }
        let reason = remote::reason(&status).unwrap_or_else(|| format!("{:?}", status.code()));
        let is_photos_fault = reason.starts_with("PHOTO_")
            || PHOTO_FAULTS.contains(&reason.as_str())
            || status.code() == Code::OutOfRange; // larger than a message may be
        if !is_photos_fault {
            return Err(remote::failed(status).context(format!("stopped at {}", photo.path.display())));
        }
        let outcome = Outcome::Failed { reason, message: status.message().to_owned() };
        return Ok((photo, outcome));
    }
    anyhow::bail!("the server stayed overloaded; run this again to enrol the rest")
}

impl Summary {
    fn note(&mut self, photo: Photo, outcome: Outcome, bar: &ProgressBar) {
        self.photos += 1;
        self.identities.insert(photo.identity.clone());
        match outcome {
            Outcome::Failed { reason, message } => {
                complain(bar, &format!("{}: {message} ({reason})", photo.path.display()));
                *self.reasons.entry(reason.clone()).or_default() += 1;
                self.failures.push(
                    serde_json::json!({ "photo": photo.path.to_string_lossy(), "reason": reason, "message": message }),
                );
                bar.set_message(count(self.failures.len(), "failure", "failures"));
            }
            Outcome::Enrolled { warnings } => {
                self.enrolled += 1;
                for warning in warnings {
                    complain(bar, &format!("{}: enrolled, but {warning}", photo.path.display()));
                    let photo = photo.path.to_string_lossy();
                    self.warnings.push(serde_json::json!({ "photo": photo, "message": warning }));
                }
                self.identities_with_template.insert(photo.identity);
            }
            Outcome::AlreadyEnrolled => {
                self.already_enrolled += 1;
                self.identities_with_template.insert(photo.identity);
            }
        }
        bar.inc(1);
    }

    fn without_template(&self) -> Vec<&String> {
        self.identities.difference(&self.identities_with_template).collect()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "photos": self.photos,
            "identities": self.identities.len(),
            "enrolled": self.enrolled,
            "already_enrolled": self.already_enrolled,
            "failed": self.failures.len(),
            "failed_by_reason": self.reasons,
            "identities_without_template": self.without_template(),
            "failures": self.failures,
            "warnings": self.warnings,
        })
    }

    fn text(&self) -> String {
        let people = count(self.identities.len(), "person", "people");
        let photos = count(self.photos, "photo", "photos");
        let no_face = self.reasons.get("NO_FACE").copied().unwrap_or(0);
        let mut text = format!("{photos} of {people}: {} enrolled", self.enrolled);
        if self.already_enrolled > 0 {
            text.push_str(&format!(", {} already enrolled", self.already_enrolled));
        }
        text.push_str(&format!(", {no_face} without a face, {} failed otherwise", self.failures.len() - no_face));
        if !self.warnings.is_empty() {
            text.push_str(&format!(", {}", count(self.warnings.len(), "warning", "warnings")));
        }
        text.push('\n');
        for (reason, number) in &self.reasons {
            text.push_str(&format!("  {number} {reason}\n"));
        }
        let without = self.without_template();
        if !without.is_empty() {
            let names: Vec<&str> = without.iter().map(|name| name.as_str()).collect();
            text.push_str(&format!("not enrolled at all: {}\n", names.join(", ")));
        }
        text
    }
}

/// Lists the photos of a folder of people, by name.
fn find_photos(folder: &Path) -> anyhow::Result<Vec<Photo>> {
    let mut photos = Vec::new();
    let mut astray = 0;
    for person in entries(folder)? {
        if !person.is_dir() {
            astray += usize::from(is_photo(&person));
            continue;
        }
        // One folder that cannot be used is told and passed over: the others are not its fault.
        match photos_of(&person) {
            Ok(found) => photos.extend(found),
            Err(error) => eprintln!("facematch: passed over: {error:#}"),
        }
    }
    if astray > 0 {
        let (astray, folder) = (count(astray, "photo", "photos"), folder.display());
        eprintln!("facematch: passed over: {astray} in {folder} itself; the photos of a person go into a folder");
    }
    anyhow::ensure!(!photos.is_empty(), "no photos in the folders of {}: expected DIR/NAME/PHOTO", folder.display());
    Ok(photos)
}

fn photos_of(person: &Path) -> anyhow::Result<Vec<Photo>> {
    let identity = name(person)?;
    let mut photos = Vec::new();
    let mut others = 0;
    for path in entries(person)? {
        if !(is_photo(&path) && path.is_file()) {
            others += 1;
            continue;
        }
        photos.push(Photo { identity: identity.clone(), template_id: template_id(&name(&path)?), path });
    }
    if others > 0 {
        let others = count(others, "other thing", "other things");
        eprintln!("facematch: passed over: {others} in {}", person.display());
    }
    Ok(photos)
}

/// A photo's file name, so that enrolling it again is noticed; of a name too long for an id its beginning and a hash.
fn template_id(file_name: &str) -> String {
    if file_name.len() <= TEMPLATE_ID_BYTES_MAX {
        return file_name.to_owned();
    }
    let hash: String = Sha256::digest(file_name).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let kept = file_name.floor_char_boundary(TEMPLATE_ID_BYTES_MAX - hash.len() - 1);
    format!("{}~{hash}", file_name.get(..kept).unwrap_or_default())
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot read the folder {}", folder.display());
    let entries = std::fs::read_dir(folder).with_context(unreadable)?;
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>().with_context(unreadable)?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).with_context(|| format!("{} is not a UTF-8 name", path.display()))
}

fn is_photo(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    extension.is_some_and(|extension| PHOTO_EXTENSIONS.iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_id_of_a_long_name_is_short_and_its_own() {
        let long = |end: &str| template_id(&format!("{}{end}", "é".repeat(120)));
        assert!(long("a.jpg").len() <= 128 && long("a.jpg") != long("b.jpg") && long("a.jpg") == long("a.jpg"));
        assert_eq!(template_id("a.jpg"), "a.jpg");
    }

    #[test]
    fn photos_are_found_a_folder_an_identity() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in ["zoe/b.JPG", "zoe/a.png", "ann/1.webp", "ann/notes.txt", "stray.jpg"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, b"x").expect("a file");
        }
        let found = find_photos(folder.path()).expect("photos");
        let found: Vec<_> = found.iter().map(|photo| (photo.identity.as_str(), photo.template_id.as_str())).collect();
        assert_eq!(found, [("ann", "1.webp"), ("zoe", "a.png"), ("zoe", "b.JPG")]);
        assert!(find_photos(&folder.path().join("ann")).is_err());
    }
}
