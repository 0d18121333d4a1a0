//! MoveGallery, DeleteGalleryCopy: galleries between the two stores of a server.

use std::sync::Arc;

use super::engine::Engine;
use super::transfer::{self, Replies};
use crate::biometrics::ids::GalleryId;
use crate::contract as proto;
use crate::error::Error;
use crate::gallery::{MovePlan, MoveState, TwoStores};

const STOPPING: &str = "the server is stopping; move the gallery once it is back";

pub(super) async fn move_gallery(
    engine: &Engine,
    request: proto::MoveGalleryRequest,
) -> Result<Replies<proto::MoveGalleryResponse>, Error> {
    let proto::MoveGalleryRequest { gallery_id, to, as_it_was, only_server } = request;
    let id = GalleryId::parse(&gallery_id)?;
    let plan = MovePlan { to, as_it_was, is_only_server: only_server };
    let states = two_stores(engine)?.move_gallery(&id, plan).await?;
    Ok(transfer::stream(engine, states, state_reply, Some(STOPPING)))
}

pub(super) async fn delete_copy(
    engine: &Engine,
    request: &proto::DeleteGalleryCopyRequest,
) -> Result<proto::DeleteGalleryCopyResponse, Error> {
    let id = GalleryId::parse(&request.gallery_id)?;
    two_stores(engine)?.delete_copy(&id).await?;
    Ok(proto::DeleteGalleryCopyResponse {})
}

fn two_stores(engine: &Engine) -> Result<&Arc<TwoStores>, Error> {
    engine.two_stores.as_ref().ok_or(Error::NoSecondStore)
}

fn state_reply(state: MoveState) -> proto::MoveGalleryResponse {
    let MoveState { identities, identities_total, compared, is_switched } = state;
    proto::MoveGalleryResponse {
        identity_count: identities,
        identity_total: identities_total,
        compared_count: compared,
        switched: is_switched,
    }
}
