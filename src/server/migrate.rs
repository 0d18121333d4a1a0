//! MigrateGallery: the chips of a gallery become templates of another pack.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::call;
use super::engine::Engine;
use super::transfer::{self, Replies};
use crate::biometrics::ids::{GalleryId, PackId};
use crate::contract as proto;
use crate::embed::Chip;
use crate::error::Error;
use crate::gallery::{Embed, Identity, MigrationPlan, MigrationState};
use crate::model::Pack;
use crate::pipeline::Pipelines;

const LOSS_MAX_DEFAULT: f64 = 0.01;

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
    engine.galleries.gallery(&id)?;
    let embed = embed_by_workers(engine, pack.id.clone()).await?;
    Ok(transfer::stream(engine, move |galleries, reply| {
        let done = galleries.migrate(&id, plan, embed, |state| {
            // The last one is sent once it is known whether it is switched.
            if state.comparison.is_none() { reply.send(state_reply(state)) } else { Ok(()) }
        })?;
        reply.send(state_reply(done))
    }))
}

fn find_pack<'a>(engine: &'a Engine, stated: &str) -> Result<&'a Arc<Pack>, Error> {
    let named = std::iter::once(&engine.pack).chain(&engine.other_packs).find(|pack| pack.name == stated);
    match (named, PackId::parse(stated)) {
        (Some(pack), _) => Ok(pack),
        (None, Ok(id)) => engine.pack_of(&id),
        (None, Err(_)) => Err(Error::bad_field("pack", "the id or the name of a pack that the server runs")),
    }
}

/// Embeds on the workers, in turn with all other work: from a thread of its own, or from the writer's. Its place is taken now,
/// so that nothing is waited for in the writer's turn but a worker.
async fn embed_by_workers(engine: &Arc<Engine>, pack_id: PackId) -> Result<Arc<Embed>, Error> {
    let place = Mutex::new(engine.workers.wait_for_place(call::caller()).await?);
    let (engine, runtime) = (Arc::clone(engine), tokio::runtime::Handle::current());
    Ok(Arc::new(move |identities: Vec<Identity>| {
        let pack_id = pack_id.clone();
        let job = move |pipelines: &mut Pipelines| embed(pipelines, &pack_id, identities);
        runtime.block_on(async {
            let mut place = place.lock().await;
            engine.workers.run(&mut place, job).await
        })
    }))
}

fn embed(pipelines: &mut Pipelines, pack_id: &PackId, mut identities: Vec<Identity>) -> Result<Vec<Identity>, Error> {
    let pipeline = pipelines.of(pack_id)?;
    for identity in &mut identities {
        let chips = identity.templates.iter().map(|enrolled| match &enrolled.chip {
            Some(chip) => Chip::from_png(chip),
            // Enrolled since the migration began, as an embedding.
            None => Err(Error::ChipsMissing { templates: 1, identities: 1, first: identity.id.clone() }),
        });
        let chips = chips.collect::<Result<Vec<Chip>, Error>>()?;
        let templates = pipeline.embed_chips(&chips.iter().collect::<Vec<_>>())?;
        for (enrolled, template) in identity.templates.iter_mut().zip(templates) {
            enrolled.template = template;
        }
    }
    Ok(identities)
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
