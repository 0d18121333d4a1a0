//! MigrateGallery: the chips of a gallery become templates of another pack.

use std::sync::Arc;

use super::call;
use super::engine::Engine;
use super::transfer::{self, Replies};
use crate::biometrics::ids::{GalleryId, PackId};
use crate::contract as proto;
use crate::embed::Chip;
use crate::error::Error;
use crate::gallery::{Embed, EnrolledTemplate, Identity, MigrationPlan, MigrationState};
use crate::model::Pack;
use crate::pipeline::Pipelines;

const LOSS_MAX_DEFAULT: f64 = 0.01;

const STOPPING: &str = "the server is stopping; move the gallery once it is back";

pub(super) async fn migrate(
    engine: &Arc<Engine>,
    request: &proto::MigrateGalleryRequest,
) -> Result<Replies<proto::MigrateGalleryResponse>, Error> {
    let id = GalleryId::parse(&request.gallery_id)?;
    let pack = Arc::clone(find_pack(engine, &request.pack)?);
    let loss_max = request.loss_max.unwrap_or(LOSS_MAX_DEFAULT);
    if !(0.0..=1.0).contains(&loss_max) {
        return Err(Error::bad_field("loss_max", "from 0 to 1"));
    }
    let plan = MigrationPlan {
        pack_id: pack.id.clone(),
        dimension: pack.recognizer.dimension,
        loss_max,
        is_trial: request.trial,
    };
    let embed = embed_by_workers(engine, pack.id.clone());
    engine.galleries.gallery(&id).await?;
    let states = engine.galleries.migrate(&id, plan, embed).await?;
    Ok(transfer::stream(engine, states, state_reply, Some(STOPPING)))
}

fn find_pack<'a>(engine: &'a Engine, stated: &str) -> Result<&'a Arc<Pack>, Error> {
    let named = std::iter::once(&engine.pack).chain(&engine.other_packs).find(|pack| pack.name == stated);
    match (named, PackId::parse(stated)) {
        (Some(pack), _) => Ok(pack),
        (None, Ok(id)) => engine.pack_of(&id),
        (None, Err(_)) => Err(Error::bad_field("pack", "the id or the name of a pack that the server runs")),
    }
}

/// Chips of a job: other work waits for one job at most.
const JOB_CHIPS: usize = 8;

/// Embeds on the workers, in turn with all other work: from a thread of its own, or from the writer's, for which no work waits
/// that has a place.
fn embed_by_workers(engine: &Arc<Engine>, pack_id: PackId) -> Arc<Embed> {
    let (engine, runtime, caller) = (Arc::clone(engine), tokio::runtime::Handle::current(), call::caller());
    Arc::new(move |mut identities: Vec<Identity>| {
        let mut enrolled: Vec<&mut EnrolledTemplate> = Vec::new();
        for identity in &mut identities {
            if identity.templates.iter().any(|enrolled| enrolled.chip.is_none()) {
                // Enrolled since the migration began, as an embedding.
                return Err(Error::ChipsMissing { templates: 1, identities: 1, first: identity.id.clone() });
            }
            enrolled.extend(&mut identity.templates);
        }
        for group in enrolled.chunks_mut(JOB_CHIPS) {
            let chips: Vec<Arc<[u8]>> = group.iter().filter_map(|enrolled| enrolled.chip.clone()).collect();
            let pack_id = pack_id.clone();
            let job = move |pipelines: &mut Pipelines| {
                let chips = chips.iter().map(|chip| Chip::from_png(chip)).collect::<Result<Vec<Chip>, Error>>()?;
                pipelines.of(&pack_id)?.embed_chips(&chips.iter().collect::<Vec<_>>())
            };
            let templates = runtime.block_on(async {
                let mut place = engine.workers.wait_for_place(caller).await?;
                engine.workers.run(&mut place, job).await
            })?;
            for (enrolled, template) in group.iter_mut().zip(templates) {
                enrolled.template = template;
            }
        }
        Ok(identities)
    })
}

fn state_reply(state: MigrationState) -> proto::MigrateGalleryResponse {
    let MigrationState { identities, identities_total, comparison, is_switched } = state;
    proto::MigrateGalleryResponse {
        identity_count: identities,
        identity_total: identities_total,
        comparison: comparison.map(|comparison| proto::MigrationComparison {
            probe_count: comparison.probes,
            found_before_count: comparison.found_before,
            found_after_count: comparison.found_after,
        }),
        switched: is_switched,
    }
}
