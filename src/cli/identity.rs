//! `identity`: enrol one person, show, change and delete people of a gallery.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use prost_types::FieldMask;

use super::Answer;
use super::arguments::{Detection, Face, count, finding_text};
use super::local::read_photo;
use super::output::Output;
use super::remote;
use crate::client::Client;
use crate::config::Config;
use crate::contract as proto;

/// Enrol one person, show, change and delete the people of a gallery
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Args)]
struct InGallery {
    /// The gallery
    #[arg(long, short, value_name = "ID")]
    gallery: String,
}

#[derive(Subcommand)]
enum Action {
    /// Enrol one person from photos, or add templates to one. Exit code 1: a photo gave no template. With --json:
    /// EnrollResponse
    Add {
        #[command(flatten)]
        of: InGallery,
        /// 1 to 128 bytes
        identity: String,
        /// Photos of this person alone, or with --face the face that is meant
        #[arg(required = true, value_name = "PHOTO")]
        photos: Vec<PathBuf>,
        #[command(flatten)]
        details: Details,
        #[command(flatten)]
        face: Face,
        #[command(flatten)]
        detection: Detection,
    },
    /// Show a person and the templates. With --json: GetIdentityResponse
    Get {
        #[command(flatten)]
        of: InGallery,
        /// The person's id
        identity: String,
        /// With the embeddings themselves
        #[arg(long, requires = "json")]
        embeddings: bool,
    },
    /// List all people of the gallery. With --json: one Identity a line
    List {
        #[command(flatten)]
        of: InGallery,
    },
    /// Change what is stated of a person. With --json: UpdateIdentityResponse
    Update {
        #[command(flatten)]
        of: InGallery,
        /// The person's id
        identity: String,
        #[command(flatten)]
        details: Details,
    },
    /// Delete a person and all templates: in force for every search that begins afterwards. With --json:
    /// DeleteIdentityResponse
    Delete {
        #[command(flatten)]
        of: InGallery,
        /// The person's id
        identity: String,
    },
    /// Delete one template of a person who has several. With --json: DeleteTemplateResponse
    DeleteTemplate {
        #[command(flatten)]
        of: InGallery,
        /// The person's id
        identity: String,
        /// The template's id, as `get` shows it
        template: String,
    },
}

#[derive(Args)]
struct Details {
    /// Free text
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// KEY=TEXT, or KEY:=VALUE for a number, true or false; replaces all metadata. May be given several times
    #[arg(long, value_name = "KEY=TEXT")]
    metadata: Vec<String>,
}

impl Details {
    fn values(&self) -> anyhow::Result<HashMap<String, proto::MetadataValue>> {
        self.metadata.iter().map(|entry| metadata_entry(entry)).collect()
    }
}

/// Reads `key=text` or `key:=value`.
fn metadata_entry(entry: &str) -> anyhow::Result<(String, proto::MetadataValue)> {
    use proto::metadata_value::Value;
    let (key, value) =
        entry.split_once('=').with_context(|| format!("--metadata must be KEY=TEXT, found {entry:?}"))?;
    let Some(key) = key.strip_suffix(':') else {
        return Ok((key.to_owned(), proto::MetadataValue { value: Some(Value::StringValue(value.to_owned())) }));
    };
    let value = match value {
        "true" => Value::BoolValue(true),
        "false" => Value::BoolValue(false),
        number => Value::NumberValue(
            number.parse().with_context(|| format!("--metadata {key}:= must be a number, true or false"))?,
        ),
    };
    Ok((key.to_owned(), proto::MetadataValue { value: Some(value) }))
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    let action = arguments.action;
    let client = remote::client(config).await?;
    match action {
        Action::Add { of: InGallery { gallery: gallery_id }, identity, photos, details, face, detection } => {
            let mut request = add_request(&photos, &details)?;
            request.gallery_id = gallery_id;
            request.identity_id = identity;
            request.face_selection = face.reply();
            request.detection = Some(detection.options());
            let reply = client.enroll(request).await.map_err(remote::failed)?;
            let failed = reply.results.iter().filter(|result| failure(result).is_some()).count();
            output.reply(&reply, |reply| add_text(&photos, reply))?;
            return Ok(Answer::yes_if(failed == 0));
        }
        Action::Get { of: InGallery { gallery: gallery_id }, identity, embeddings } => {
            let request =
                proto::GetIdentityRequest { gallery_id, identity_id: identity, include_embeddings: embeddings };
            let reply = client.get_identity(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| reply.identity.as_ref().map(long_text).unwrap_or_default())?;
        }
        Action::List { of: InGallery { gallery: gallery_id } } => list(&client, output, gallery_id).await?,
        Action::Update { of: InGallery { gallery: gallery_id }, identity, details } => {
            let request = update_request(gallery_id, identity, details)?;
            let reply = client.update_identity(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| reply.identity.as_ref().map(long_text).unwrap_or_default())?;
        }
        Action::Delete { of: InGallery { gallery: gallery_id }, identity } => {
            let request = proto::DeleteIdentityRequest { gallery_id, identity_id: identity };
            let reply = client.delete_identity(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| format!("deleted (write {})", reply.sequence))?;
        }
        Action::DeleteTemplate { of: InGallery { gallery: gallery_id }, identity, template } => {
            let request = proto::DeleteTemplateRequest { gallery_id, identity_id: identity, template_id: template };
            let reply = client.delete_template(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| format!("deleted (write {})", reply.sequence))?;
        }
    }
    Ok(Answer::Yes)
}

fn add_request(photos: &[PathBuf], details: &Details) -> anyhow::Result<proto::EnrollRequest> {
    let samples = photos.iter().map(|photo| {
        let data = read_photo(photo)?;
        let source = Some(proto::sample::Source::Photo(proto::Photo { data }));
        Ok(proto::Sample { source, template_id: String::new() })
    });
    Ok(proto::EnrollRequest {
        display_name: details.display_name.clone().unwrap_or_default(),
        metadata: details.values()?,
        samples: samples.collect::<anyhow::Result<_>>()?,
        if_exists: proto::IfExists::Add.into(),
        ..Default::default()
    })
}

fn update_request(
    gallery_id: String,
    identity_id: String,
    details: Details,
) -> anyhow::Result<proto::UpdateIdentityRequest> {
    let stated = [(details.display_name.is_some(), "display_name"), (!details.metadata.is_empty(), "metadata")];
    let paths = stated.into_iter().filter(|(is_stated, _)| *is_stated).map(|(_, field)| field.to_owned());
    let paths: Vec<String> = paths.collect();
    anyhow::ensure!(!paths.is_empty(), "state what to change; see `facematch identity update --help`");
    let metadata = details.values()?;
    let display_name = details.display_name.unwrap_or_default();
    Ok(proto::UpdateIdentityRequest {
        gallery_id,
        identity: Some(proto::Identity { identity_id, display_name, metadata, ..Default::default() }),
        update_mask: Some(FieldMask { paths }),
    })
}

async fn list(client: &Client, output: &Output, gallery_id: String) -> anyhow::Result<()> {
    let mut page_token = String::new();
    loop {
        let request = proto::ListIdentitiesRequest { gallery_id: gallery_id.clone(), page_size: 1_000, page_token };
        let reply = client.list_identities(request).await.map_err(remote::failed)?;
        for identity in &reply.identities {
            output.reply(identity, text)?;
        }
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

fn failure(result: &proto::SampleResult) -> Option<&proto::SampleFailure> {
    match &result.outcome {
        Some(proto::sample_result::Outcome::Failure(failure)) => Some(failure),
        _ => None,
    }
}

fn add_text(photos: &[PathBuf], reply: &proto::EnrollResponse) -> String {
    let mut text = reply.identity.as_ref().map(text).unwrap_or_default();
    text.push('\n');
    for (photo, result) in photos.iter().zip(&reply.results) {
        if let Some(failure) = failure(result) {
            text.push_str(&format!(
                "  no template from {}: {} ({})\n",
                photo.display(),
                failure.message,
                failure.reason
            ));
        }
        for warning in &result.warnings {
            text.push_str(&format!("  {}: enrolled, but {}\n", photo.display(), finding_text(warning)));
        }
    }
    text
}

fn text(identity: &proto::Identity) -> String {
    if identity.damaged {
        return format!("{}  DAMAGED: delete and enrol again, or restore the data folder", identity.identity_id);
    }
    let templates = count(identity.templates.len(), "template", "templates");
    let name = Some(&identity.display_name).filter(|name| !name.is_empty());
    let name = name.map(|name| format!("  ({name})")).unwrap_or_default();
    format!("{}  {templates}{name}", identity.identity_id)
}

fn long_text(identity: &proto::Identity) -> String {
    use proto::metadata_value::Value;
    let mut lines = vec![text(identity)];
    let mut metadata: Vec<_> = identity.metadata.iter().collect();
    metadata.sort_by_key(|(key, _)| key.as_str());
    for (key, value) in metadata {
        let value = match &value.value {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::NumberValue(number)) => number.to_string(),
            Some(Value::BoolValue(flag)) => flag.to_string(),
            Some(Value::TimeValue(time)) => time.to_string(),
            None => String::new(),
        };
        lines.push(format!("  {key}: {value}"));
    }
    for template in &identity.templates {
        let time = template.create_time.map(|time| time.to_string()).unwrap_or_default();
        let origin = match &template.face {
            Some(face) => format!("photo, eyes {:.0} px apart", face.eye_distance_px),
            None => "embedding".to_owned(),
        };
        lines.push(format!("  template {}  {origin}  {time}", template.template_id));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::metadata_value::Value;

    #[test]
    fn metadata_entry_is_text_unless_marked() {
        let value = |entry: &str| metadata_entry(entry).expect(entry).1.value;
        assert!(matches!(value("a=1"), Some(Value::StringValue(text)) if text == "1"));
        assert!(matches!(value("a=b=c"), Some(Value::StringValue(text)) if text == "b=c"));
        assert!(matches!(value("a:=1.5"), Some(Value::NumberValue(1.5))));
        assert!(matches!(value("a:=true"), Some(Value::BoolValue(true))));
        assert!(metadata_entry("a").is_err() && metadata_entry("a:=x").is_err());
    }
}
