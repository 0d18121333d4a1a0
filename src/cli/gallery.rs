//! `gallery`: make, show, change and delete galleries. What reads or writes files is in `gallery_file`.

use clap::{Args, Subcommand, ValueEnum};
use prost_types::FieldMask;
use tonic::transport::Channel;

use super::output::Output;
use super::{Answer, gallery_file, remote};
use crate::config::Config;
use crate::contract as proto;
use crate::contract::gallery_service_client::GalleryServiceClient;

/// Make, show, change, move and delete galleries: sets of people that are searched together
#[derive(Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make an empty gallery. With --json: CreateGalleryResponse
    Create {
        /// 1 to 64 of a-z, 0-9, '-', '_' and '.', starting with a letter or digit
        gallery: String,
        #[command(flatten)]
        settings: Settings,
    },
    /// Show a gallery. With --json: GetGalleryResponse
    Get {
        /// Its id
        gallery: String,
    },
    /// List all galleries. With --json: one Gallery a line
    List,
    /// Change what is stated of a gallery's settings. With --json: UpdateGalleryResponse
    Update {
        /// Its id
        gallery: String,
        #[command(flatten)]
        settings: Settings,
        /// Take the gallery's own threshold away: the pack's applies again
        #[arg(long, conflicts_with = "threshold")]
        no_threshold: bool,
    },
    /// Delete a gallery. With --json: DeleteGalleryResponse
    Delete {
        /// Its id
        gallery: String,
        /// Delete it with all the people in it
        #[arg(long)]
        force: bool,
    },
    /// Write a gallery to a file, as a backup or for another server. With --json: identities, damaged_identities, bytes
    Export(gallery_file::Export),
    /// Make a gallery from a file of `gallery export`; run it again where it broke off. With --json: ImportGalleryResponse
    Import(gallery_file::Import),
    /// Rewrite the server's data folder so that nothing that was deleted is left in any file of it. With --json:
    /// CompactGalleriesResponse
    Compact,
    /// Write a gallery file of people who do not exist, to measure with; needs no server. With --json: identities,
    /// templates, bytes
    Synthesize(gallery_file::Synthesize),
}

#[derive(Args)]
struct Settings {
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

impl Settings {
    fn gallery(self, gallery_id: String) -> proto::Gallery {
        let policy = self.policy.map_or(proto::SearchPolicy::Unspecified, |policy| match policy {
            Policy::Auto => proto::SearchPolicy::Auto,
            Policy::Exact => proto::SearchPolicy::Exact,
            Policy::Graph => proto::SearchPolicy::Graph,
        });
        proto::Gallery {
            gallery_id,
            display_name: self.display_name.unwrap_or_default(),
            search_policy: policy.into(),
            ambiguity_margin: self.margin,
            identification_cosine: self.threshold,
            ..Default::default()
        }
    }

    /// Names the fields that are stated.
    fn mask(&self) -> Vec<&'static str> {
        let stated = [
            (self.display_name.is_some(), "display_name"),
            (self.policy.is_some(), "search_policy"),
            (self.margin.is_some(), "ambiguity_margin"),
            (self.threshold.is_some(), "identification_cosine"),
        ];
        stated.into_iter().filter_map(|(is_stated, field)| is_stated.then_some(field)).collect()
    }
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    if let Action::Synthesize(arguments) = &arguments.action {
        return gallery_file::synthesize(output, arguments);
    }
    let mut client = GalleryServiceClient::new(remote::connect(config).await?);
    match arguments.action {
        Action::Export(arguments) => return gallery_file::export(client, output, &arguments).await,
        Action::Import(arguments) => {
            let reply = gallery_file::import(client, output, &arguments).await?;
            output.reply(&reply, |reply| reply.gallery.as_ref().map(text).unwrap_or_default())?;
        }
        Action::Compact => return gallery_file::compact(client, output).await,
        Action::Synthesize(_) => {}
        Action::Create { gallery, settings } => {
            let request = proto::CreateGalleryRequest { gallery: Some(settings.gallery(gallery)) };
            let reply = client.create_gallery(request).await.map_err(remote::failed)?.into_inner();
            output.reply(&reply, |reply| reply.gallery.as_ref().map(text).unwrap_or_default())?;
        }
        Action::Get { gallery } => {
            let request = proto::GetGalleryRequest { gallery_id: gallery };
            let reply = client.get_gallery(request).await.map_err(remote::failed)?.into_inner();
            output.reply(&reply, |reply| reply.gallery.as_ref().map(text).unwrap_or_default())?;
        }
        Action::List => list(&mut client, output).await?,
        Action::Update { gallery, settings, no_threshold } => {
            let mut paths = settings.mask();
            if no_threshold {
                paths.push("identification_cosine");
            }
            anyhow::ensure!(!paths.is_empty(), "state what to change; see `facematch gallery update --help`");
            let request = proto::UpdateGalleryRequest {
                gallery: Some(settings.gallery(gallery)),
                update_mask: Some(FieldMask { paths: paths.into_iter().map(str::to_owned).collect() }),
            };
            let reply = client.update_gallery(request).await.map_err(remote::failed)?.into_inner();
            output.reply(&reply, |reply| reply.gallery.as_ref().map(text).unwrap_or_default())?;
        }
        Action::Delete { gallery, force } => {
            let request = proto::DeleteGalleryRequest { gallery_id: gallery, force };
            let reply = client.delete_gallery(request).await.map_err(remote::failed)?.into_inner();
            output.reply(&reply, |reply| format!("deleted (write {})", reply.sequence))?;
        }
    }
    Ok(Answer::Yes)
}

async fn list(client: &mut GalleryServiceClient<Channel>, output: &Output) -> anyhow::Result<()> {
    let mut page_token = String::new();
    loop {
        let request = proto::ListGalleriesRequest { page_size: 1_000, page_token };
        let reply = client.list_galleries(request).await.map_err(remote::failed)?.into_inner();
        for gallery in &reply.galleries {
            output.reply(gallery, text)?;
        }
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return Ok(());
        }
    }
}

fn text(gallery: &proto::Gallery) -> String {
    let policy = match gallery.search_policy() {
        proto::SearchPolicy::Exact => "exact",
        proto::SearchPolicy::Graph => "graph",
        _ => "auto",
    };
    let threshold =
        gallery.identification_cosine.map_or_else(|| "the pack's".to_owned(), |cosine| format!("{cosine:.4}"));
    let mut text = format!(
        "{}  {} identities, {} templates, {policy} search, threshold {threshold}, margin {:.4}",
        gallery.gallery_id,
        gallery.identity_count,
        gallery.template_count,
        gallery.ambiguity_margin.unwrap_or_default(),
    );
    if let Some(progress) = gallery.graph_build_progress {
        text.push_str(&format!(", graph {:.0} % built", progress * 100.0));
    }
    if let Some(recall) = &gallery.graph_recall {
        let used = if gallery.search_path() == proto::SearchPath::Graph { "in use" } else { "NOT in use" };
        text.push_str(&format!(
            ", graph {used}: misses {} of {} mates [{:.4}, {:.4}]",
            recall.missed_count, recall.probe_count, recall.miss_rate_low, recall.miss_rate_high
        ));
    }
    if gallery.damaged_identity_count > 0 {
        text.push_str(&format!(", {} DAMAGED identities are not searched", gallery.damaged_identity_count));
    }
    if !gallery.display_name.is_empty() {
        text.push_str(&format!("  ({})", gallery.display_name));
    }
    text
}
