//! `detect`: the faces in photos, without a server.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Answer;
use super::arguments::{Detection, box_text, count};
use super::draw;
use super::local;
use super::output::{Output, complain, reply_json};
use crate::config::Config;
use crate::contract as proto;
use crate::decode::decode;
use crate::pipeline::Pipeline;
use crate::server::detect_reply;

/// Find the faces in photos: boxes, landmarks, detection scores and how good the photo is. Needs no server
///
/// Exit code 0: every photo has a face; 1: one has none; 2: one could not be read. With --json one line a photo:
/// {"photo": path, "detected": DetectResponse} or {"photo": path, "error": text}.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Photos: JPEG, PNG, WebP, BMP, GIF or TIFF
    #[arg(required = true, value_name = "PHOTO")]
    photos: Vec<PathBuf>,
    /// Draw boxes and landmarks on a copy of the photo: a file, .png or .jpg; a folder where there are several photos
    #[arg(long, value_name = "OUT")]
    draw: Option<PathBuf>,
    #[command(flatten)]
    detection: Detection,
}

pub(super) fn run(config: &Config, output: &Output, arguments: &Arguments) -> anyhow::Result<Answer> {
    let settings = arguments.detection.settings()?;
    let drawings = arguments.draw.as_deref().map(|out| draw::targets(out, &arguments.photos)).transpose()?;
    let (pack, mut pipeline) = local::open(config)?;
    let bar = output.progress(arguments.photos.len(), "photos");
    let (mut without_face, mut failed) = (0usize, 0usize);
    for (index, photo) in arguments.photos.iter().enumerate() {
        let one = One { config, photo, drawing: drawings.as_ref().and_then(|paths| paths.get(index)) };
        let detected = one.detect(&mut pipeline, &settings);
        let detected = detected.map(|detected| detect_reply(&detected, &pack.id));
        match &detected {
            Ok(reply) if reply.faces.is_empty() => without_face += 1,
            Ok(_) => {}
            Err(_) => failed += 1,
        }
        bar.inc(1);
        match detected {
            Ok(reply) => {
                let line = serde_json::json!({ "photo": photo.to_string_lossy(), "detected": reply_json(&reply)? });
                bar.suspend(|| output.value(&line, || text(photo, &reply)))?;
            }
            Err(error) if output.is_json() => {
                output.value(
                    &serde_json::json!({ "photo": photo.to_string_lossy(), "error": format!("{error:#}") }),
                    String::new,
                )?;
            }
            Err(error) => complain(&bar, &format!("{error:#}")),
        }
    }
    bar.finish_and_clear();
    if failed > 0 {
        anyhow::bail!("{} of {} could not be used", failed, count(arguments.photos.len(), "photo", "photos"));
    }
    Ok(Answer::yes_if(without_face == 0))
}

/// One photo and where its drawing goes.
struct One<'a> {
    config: &'a Config,
    photo: &'a Path,
    drawing: Option<&'a PathBuf>,
}

impl One<'_> {
    fn detect(
        &self,
        pipeline: &mut Pipeline,
        settings: &crate::pipeline::DetectionSettings,
    ) -> anyhow::Result<crate::pipeline::Detected> {
        let bytes = local::read_photo(self.photo)?;
        let detected = pipeline.detect(&bytes, settings).map_err(|error| local::photo_fault(self.photo, error))?;
        if let Some(target) = self.drawing {
            let mut picture = decode(&bytes, &self.config.photo)?;
            draw::draw_faces(&mut picture, &detected.faces);
            picture.save(target).with_context(|| format!("cannot write {}", target.display()))?;
        }
        Ok(detected)
    }
}

fn text(photo: &Path, reply: &proto::DetectResponse) -> String {
    let faces = count(reply.faces.len(), "face", "faces");
    let mut text = format!("{}: {faces} in {} x {} px\n", photo.display(), reply.width_px, reply.height_px);
    for face in &reply.faces {
        let place = face.r#box.as_ref().map(box_text).unwrap_or_default();
        let (score, eyes) = (face.detection_score, face.eye_distance_px);
        text.push_str(&format!("  score {score:.3}  box {place}  eyes {eyes:.0} px apart\n"));
        if let Some(quality) = &face.quality {
            text.push_str(&format!("    {}\n", quality_text(quality)));
        }
    }
    text
}

fn quality_text(quality: &proto::FaceQuality) -> String {
    let proto::FaceQuality { sharpness, brightness, contrast, clipped_share, .. } = quality;
    let proto::FaceQuality { yaw_degrees, pitch_degrees, roll_degrees, face_side_px, weight, .. } = quality;
    format!(
        "side {face_side_px:.0} px, yaw {yaw_degrees:.0}°, pitch {pitch_degrees:.0}°, roll {roll_degrees:.0}°, sharpness \
         {sharpness:.2}, brightness {brightness:.2}, contrast {contrast:.2}, clipped {:.0} %, weight {weight:.2}",
        clipped_share * 100.0
    )
}
