//! `gallery`: make, show, change and delete galleries. What reads or writes files is in `gallery_file`.

use clap::{Args, Subcommand};
use prost_types::FieldMask;

use super::output::Output;
use super::settings::{self, Settings};
use super::{Answer, gallery_file, remote};
use crate::client::Client;
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
        /// Set fields of the contract back to their defaults, such as quality_gate
        #[arg(long, value_name = "FIELD,…", value_delimiter = ',')]
        reset: Vec<String>,
    },
    /// Delete a gallery. With --json: DeleteGalleryResponse
    Delete {
        /// Its id
        gallery: String,
        /// Delete it with all the people in it
        #[arg(long)]
        force: bool,
    },
    /// Write a gallery to a file, as a backup or for another server; the file is plain, also where the store is encrypted. With
    /// --json: identities, damaged_identities, bytes
    Export(gallery_file::Export),
    /// Make a gallery from a file of `gallery export`; run it again where it broke off. With --json: ImportGalleryResponse
    Import(gallery_file::Import),
    /// Rewrite the server's data folder so that nothing that was deleted is left in any file of it. With --json:
    /// CompactGalleriesResponse
    Compact,
    /// Move a gallery to another pack that the server runs (`other_packs`): new templates of its kept chips, compared, and
    /// switched to in one step. Exit code 0: done. With --json: MigrateGalleryResponse
    Migrate(gallery_file::Migrate),
    /// Move a gallery to the server's other store (`second_store`) while it is served: copied, compared, and switched to in one step;
    /// the copy that is left behind is the way back. Exit code 0: done. With --json: MoveGalleryResponse
    Move(gallery_file::Move),
    /// Delete the copy that a move left in the store that does not serve the gallery. With --json: DeleteGalleryCopyResponse
    DropCopy {
        /// Its id
        gallery: String,
    },
    /// Write a gallery file of people who do not exist, to measure with; needs no server. With --json: identities,
    /// templates, bytes
    Synthesize(gallery_file::Synthesize),
}

pub(super) async fn run(config: &Config, output: &Output, arguments: Arguments) -> anyhow::Result<Answer> {
    if let Action::Synthesize(arguments) = &arguments.action {
        return gallery_file::synthesize(output, arguments);
    }
    let client = remote::client(config).await?;
    let streams = GalleryServiceClient::new(client.channel()).max_decoding_message_size(remote::REPLY_BYTES_MAX);
    match arguments.action {
        Action::Export(arguments) => return gallery_file::export(streams, output, &arguments).await,
        Action::Import(arguments) => {
            let reply = gallery_file::import(streams, output, &arguments).await?;
            output.reply(&reply, |reply| reply.gallery.as_ref().map(text).unwrap_or_default())?;
        }
        Action::Compact => return gallery_file::compact(streams, output).await,
        Action::Migrate(arguments) => return gallery_file::migrate(streams, output, arguments).await,
        Action::Move(arguments) => return gallery_file::move_gallery(streams, output, arguments).await,
        Action::DropCopy { gallery } => {
            let request = proto::DeleteGalleryCopyRequest { gallery_id: gallery };
            let reply = client.delete_gallery_copy(request).await.map_err(remote::failed)?;
            output.reply(&reply, |_| "deleted".to_owned())?;
        }
        Action::Synthesize(_) => {}
        Action::Create { gallery, settings } => {
            let request = proto::CreateGalleryRequest { gallery: Some(settings.gallery(gallery)?) };
            let reply = client.create_gallery(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| reply.gallery.as_ref().map(text).unwrap_or_default())?;
        }
        Action::Get { gallery } => {
            let request = proto::GetGalleryRequest { gallery_id: gallery };
            let reply = client.get_gallery(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| reply.gallery.as_ref().map(text).unwrap_or_default())?;
        }
        Action::List => list(&client, output).await?,
        Action::Update { gallery, settings, no_threshold, reset } => {
            let mut paths = settings.mask();
            if let Some(both) = reset.iter().find(|field| paths.contains(field)) {
                anyhow::bail!("{both} is both stated and reset");
            }
            paths.extend(reset);
            if no_threshold {
                paths.push("identification_cosine".to_owned());
            }
            anyhow::ensure!(!paths.is_empty(), "state what to change; see `facematch gallery update --help`");
            let request = proto::UpdateGalleryRequest {
                gallery: Some(settings.gallery(gallery)?),
                update_mask: Some(FieldMask { paths }),
            };
            let reply = client.update_gallery(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| reply.gallery.as_ref().map(text).unwrap_or_default())?;
        }
        Action::Delete { gallery, force } => {
            let request = proto::DeleteGalleryRequest { gallery_id: gallery, force };
            let reply = client.delete_gallery(request).await.map_err(remote::failed)?;
            output.reply(&reply, |reply| format!("deleted (write {})", reply.sequence))?;
        }
    }
    Ok(Answer::Yes)
}

async fn list(client: &Client, output: &Output) -> anyhow::Result<()> {
    let mut page_token = String::new();
    loop {
        let request = proto::ListGalleriesRequest { page_size: 1_000, page_token };
        let reply = client.list_galleries(request).await.map_err(remote::failed)?;
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
    let mut text = format!(
        "{}  {} identities, {} templates, {}",
        gallery.gallery_id,
        gallery.identity_count,
        gallery.template_count,
        settings::text(gallery),
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
