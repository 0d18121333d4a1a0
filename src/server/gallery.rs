//! GalleryService: create, get, list, update, delete; what lasts is in `transfer`.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::engine::Engine;
use super::migrate::migrate;
use super::move_gallery::{delete_copy, move_gallery};
use super::settings;
use super::status::status;
use super::{call, convert, transfer};
use crate::access::Scope;
use crate::biometrics::ids::GalleryId;
use crate::biometrics::interval::wilson;
use crate::contract as proto;
use crate::error::Error;
use crate::gallery::{Gallery, GalleryStatus, GraphRecall};

pub(super) struct GalleryServer(pub Arc<Engine>);

#[tonic::async_trait]
impl proto::gallery_service_server::GalleryService for GalleryServer {
    async fn create_gallery(
        &self,
        request: Request<proto::CreateGalleryRequest>,
    ) -> Result<Response<proto::CreateGalleryResponse>, Status> {
        let gallery = create(&self.0, request.into_inner()).await.map_err(status)?;
        Ok(Response::new(proto::CreateGalleryResponse { gallery: Some(gallery) }))
    }

    async fn get_gallery(
        &self,
        request: Request<proto::GetGalleryRequest>,
    ) -> Result<Response<proto::GetGalleryResponse>, Status> {
        let id = GalleryId::parse(&request.into_inner().gallery_id).map_err(status)?;
        let (gallery, standing) = self.0.galleries.gallery(&id).await.map_err(status)?;
        Ok(Response::new(proto::GetGalleryResponse { gallery: Some(reply(&gallery, standing)) }))
    }

    async fn list_galleries(
        &self,
        request: Request<proto::ListGalleriesRequest>,
    ) -> Result<Response<proto::ListGalleriesResponse>, Status> {
        list(&self.0, &request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn update_gallery(
        &self,
        request: Request<proto::UpdateGalleryRequest>,
    ) -> Result<Response<proto::UpdateGalleryResponse>, Status> {
        let gallery = update(&self.0, request.into_inner()).await.map_err(status)?;
        Ok(Response::new(proto::UpdateGalleryResponse { gallery: Some(gallery) }))
    }

    async fn delete_gallery(
        &self,
        request: Request<proto::DeleteGalleryRequest>,
    ) -> Result<Response<proto::DeleteGalleryResponse>, Status> {
        let proto::DeleteGalleryRequest { gallery_id, force } = request.into_inner();
        let id = GalleryId::parse(&gallery_id).map_err(status)?;
        let deletion = self.0.galleries.delete_gallery(id, force).await.map_err(status)?;
        let delete_time = Some(convert::time_reply(deletion.time));
        Ok(Response::new(proto::DeleteGalleryResponse { sequence: deletion.sequence, delete_time }))
    }

    type ExportGalleryStream = transfer::Replies<proto::ExportGalleryResponse>;

    async fn export_gallery(
        &self,
        request: Request<proto::ExportGalleryRequest>,
    ) -> Result<Response<Self::ExportGalleryStream>, Status> {
        transfer::export(&self.0, &request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn import_gallery(
        &self,
        request: Request<Streaming<proto::ImportGalleryRequest>>,
    ) -> Result<Response<proto::ImportGalleryResponse>, Status> {
        let imported = transfer::import(&self.0, request.into_inner()).await?;
        let (gallery, standing) = self.0.galleries.gallery(&imported.id).await.map_err(status)?;
        Ok(Response::new(proto::ImportGalleryResponse { gallery: Some(reply(&gallery, standing)) }))
    }

    async fn get_import(
        &self,
        request: Request<proto::GetImportRequest>,
    ) -> Result<Response<proto::GetImportResponse>, Status> {
        transfer::import_state(&self.0, &request.into_inner()).await.map(Response::new).map_err(status)
    }

    type CompactGalleriesStream = transfer::Replies<proto::CompactGalleriesResponse>;

    async fn compact_galleries(
        &self,
        _request: Request<proto::CompactGalleriesRequest>,
    ) -> Result<Response<Self::CompactGalleriesStream>, Status> {
        transfer::compact(&self.0).await.map(Response::new).map_err(status)
    }

    type MoveGalleryStream = transfer::Replies<proto::MoveGalleryResponse>;

    async fn move_gallery(
        &self,
        request: Request<proto::MoveGalleryRequest>,
    ) -> Result<Response<Self::MoveGalleryStream>, Status> {
        move_gallery(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn delete_gallery_copy(
        &self,
        request: Request<proto::DeleteGalleryCopyRequest>,
    ) -> Result<Response<proto::DeleteGalleryCopyResponse>, Status> {
        delete_copy(&self.0, &request.into_inner()).await.map(Response::new).map_err(status)
    }

    type MigrateGalleryStream = transfer::Replies<proto::MigrateGalleryResponse>;

    async fn migrate_gallery(
        &self,
        request: Request<proto::MigrateGalleryRequest>,
    ) -> Result<Response<Self::MigrateGalleryStream>, Status> {
        migrate(&self.0, &request.into_inner()).await.map(Response::new).map_err(status)
    }
}

async fn create(engine: &Engine, request: proto::CreateGalleryRequest) -> Result<proto::Gallery, Error> {
    let stated = request.gallery.ok_or_else(|| Error::bad_field("gallery", "present"))?;
    let id = GalleryId::parse(&stated.gallery_id).map_err(|error| error.at("gallery"))?;
    let settings = settings::settings(&stated)?;
    let pack = &engine.pack;
    let created = engine.galleries.create_gallery(id, settings, pack.id.clone(), pack.recognizer.dimension).await?;
    let (gallery, status) = engine.galleries.gallery(&created.id).await?;
    Ok(reply(&gallery, status))
}

async fn list(engine: &Engine, request: &proto::ListGalleriesRequest) -> Result<proto::ListGalleriesResponse, Error> {
    let count = convert::page_size(request.page_size)?;
    let after = convert::page_after(&request.page_token)?.map(|id| GalleryId::parse(&id)).transpose();
    let after = after.map_err(|_| Error::bad_field("page_token", "next_page_token of the page before"))?;
    // What the caller may not read is not there, in the pages and in their tokens.
    let grants = call::with_principal(|principal| Ok(principal.grants()?.clone()))?;
    let is_listed = |id: &GalleryId| grants.allow(Scope::Read, id.as_str());
    let page = engine.galleries.list_galleries(after.as_ref(), count, &is_listed).await?;
    let last = page.items.last().filter(|_| page.more);
    Ok(proto::ListGalleriesResponse {
        next_page_token: last.map_or_else(String::new, |(gallery, _)| convert::page_token(gallery.id.as_str())),
        galleries: page.items.iter().map(|(gallery, standing)| reply(gallery, *standing)).collect(),
    })
}

async fn update(engine: &Engine, request: proto::UpdateGalleryRequest) -> Result<proto::Gallery, Error> {
    let stated = request.gallery.ok_or_else(|| Error::bad_field("gallery", "present"))?;
    let id = GalleryId::parse(&stated.gallery_id).map_err(|error| error.at("gallery"))?;
    let change = settings::change(&stated, &request.update_mask.unwrap_or_default().paths)?;
    engine.galleries.update_gallery(id.clone(), change).await?;
    let (gallery, standing) = engine.galleries.gallery(&id).await?;
    Ok(reply(&gallery, standing))
}

fn reply(gallery: &Gallery, status: GalleryStatus) -> proto::Gallery {
    let GalleryStatus { counts, path, build_progress, recall } = status;
    proto::Gallery {
        gallery_id: gallery.id.as_str().to_owned(),
        pack_id: gallery.pack_id.as_str().to_owned(),
        identity_count: counts.identities,
        template_count: counts.templates,
        create_time: Some(convert::time_reply(gallery.created)),
        update_time: Some(convert::time_reply(gallery.updated)),
        damaged_identity_count: counts.damaged_identities,
        search_path: convert::search_path_reply(path),
        graph_build_progress: build_progress,
        graph_recall: recall.map(recall_reply),
        ..settings::reply(&gallery.settings)
    }
}

fn recall_reply(recall: GraphRecall) -> proto::GraphRecall {
    let (miss_rate_low, miss_rate_high) = wilson(recall.missed, recall.probes);
    proto::GraphRecall {
        probe_count: recall.probes,
        missed_count: recall.missed,
        miss_rate: recall.missed as f64 / recall.probes.max(1) as f64,
        miss_rate_low,
        miss_rate_high,
        expansion: u32::try_from(recall.expansion).unwrap_or(u32::MAX),
        measure_time: Some(convert::time_reply(recall.time)),
    }
}
