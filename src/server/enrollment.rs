//! EnrollmentService: the identities of a gallery.

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::bulk_enroll::BulkEnroll;
use super::engine::Engine;
use super::enroll::enroll;
use super::items::Replies;
use super::status::status;
use super::{convert, items};
use crate::biometrics::ids::{GalleryId, IdentityId, TemplateId};
use crate::contract as proto;
use crate::error::Error;
use crate::gallery::{IdentityChange, IdentityOutline, PersonDetails};

pub(super) struct EnrollmentServer(pub Arc<Engine>);

#[tonic::async_trait]
impl proto::enrollment_service_server::EnrollmentService for EnrollmentServer {
    async fn enroll(&self, request: Request<proto::EnrollRequest>) -> Result<Response<proto::EnrollResponse>, Status> {
        enroll(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    type BulkEnrollStream = Replies<proto::BulkEnrollResponse>;

    async fn bulk_enroll(
        &self,
        request: Request<Streaming<proto::BulkEnrollRequest>>,
    ) -> Result<Response<Self::BulkEnrollStream>, Status> {
        Ok(Response::new(items::answer::<BulkEnroll>(&self.0, request.into_inner())))
    }

    async fn get_identity(
        &self,
        request: Request<proto::GetIdentityRequest>,
    ) -> Result<Response<proto::GetIdentityResponse>, Status> {
        let identity = get(&self.0, request.into_inner()).await.map_err(status)?;
        Ok(Response::new(proto::GetIdentityResponse { identity: Some(identity) }))
    }

    async fn list_identities(
        &self,
        request: Request<proto::ListIdentitiesRequest>,
    ) -> Result<Response<proto::ListIdentitiesResponse>, Status> {
        list(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn update_identity(
        &self,
        request: Request<proto::UpdateIdentityRequest>,
    ) -> Result<Response<proto::UpdateIdentityResponse>, Status> {
        let identity = update(&self.0, request.into_inner()).await.map_err(status)?;
        Ok(Response::new(proto::UpdateIdentityResponse { identity: Some(identity) }))
    }

    async fn delete_identity(
        &self,
        request: Request<proto::DeleteIdentityRequest>,
    ) -> Result<Response<proto::DeleteIdentityResponse>, Status> {
        let request = request.into_inner();
        let (gallery, id) = names(&request.gallery_id, &request.identity_id).map_err(status)?;
        let deletion = self.0.galleries.delete_identity(gallery, id).await.map_err(status)?;
        let delete_time = Some(convert::time_reply(deletion.time));
        Ok(Response::new(proto::DeleteIdentityResponse { sequence: deletion.sequence, delete_time }))
    }

    async fn delete_template(
        &self,
        request: Request<proto::DeleteTemplateRequest>,
    ) -> Result<Response<proto::DeleteTemplateResponse>, Status> {
        let request = request.into_inner();
        let (gallery, id) = names(&request.gallery_id, &request.identity_id).map_err(status)?;
        let template = TemplateId::parse(&request.template_id).map_err(status)?;
        let deletion = self.0.galleries.delete_template(gallery, id, template).await.map_err(status)?;
        let delete_time = Some(convert::time_reply(deletion.time));
        Ok(Response::new(proto::DeleteTemplateResponse { sequence: deletion.sequence, delete_time }))
    }
}

fn names(gallery: &str, identity: &str) -> Result<(GalleryId, IdentityId), Error> {
    Ok((GalleryId::parse(gallery)?, IdentityId::parse(identity)?))
}

async fn get(engine: &Engine, request: proto::GetIdentityRequest) -> Result<proto::Identity, Error> {
    let (gallery, id) = names(&request.gallery_id, &request.identity_id)?;
    let identity = engine.galleries.identity(&gallery, &id).await?;
    Ok(convert::identity_reply(&identity, request.include_embeddings))
}

async fn list(engine: &Engine, request: proto::ListIdentitiesRequest) -> Result<proto::ListIdentitiesResponse, Error> {
    let gallery = GalleryId::parse(&request.gallery_id)?;
    let count = convert::page_size(request.page_size)?;
    let after = convert::page_after(&request.page_token)?.map(|id| IdentityId::parse(&id)).transpose();
    let after = after.map_err(|_| Error::bad_field("page_token", "next_page_token of the page before"))?;
    let page = engine.galleries.list_identities(&gallery, after.as_ref(), count).await?;
    let last = page.items.last().filter(|_| page.more);
    Ok(proto::ListIdentitiesResponse {
        next_page_token: last.map_or_else(String::new, |identity| convert::page_token(identity.id.as_str())),
        identities: page.items.iter().map(listed_reply).collect(),
    })
}

fn listed_reply(listed: &IdentityOutline) -> proto::Identity {
    let id = listed.id.as_str().to_owned();
    match &listed.known {
        Some(known) => convert::outline_reply(id, known),
        None => proto::Identity { identity_id: id, damaged: true, ..Default::default() },
    }
}

async fn update(engine: &Engine, request: proto::UpdateIdentityRequest) -> Result<proto::Identity, Error> {
    let stated = request.identity.ok_or_else(|| Error::bad_field("identity", "present"))?;
    let gallery = GalleryId::parse(&request.gallery_id)?;
    let id = IdentityId::parse(&stated.identity_id).map_err(|error| error.at("identity"))?;
    let mask = request.update_mask.unwrap_or_default();
    if mask.paths.is_empty() {
        return Err(Error::bad_field("update_mask", "the fields to change"));
    }
    let details = person_details(stated.display_name, stated.metadata).map_err(|error| error.at("identity"))?;
    let mut change = IdentityChange::default();
    for path in mask.paths {
        match path.as_str() {
            "display_name" => change.display_name = Some(details.display_name.clone()),
            "metadata" => change.metadata = Some(details.metadata.clone()),
            _ => return Err(Error::bad_field("update_mask", "any of display_name, metadata")),
        }
    }
    let identity = engine.galleries.update_identity(gallery, id, change).await?;
    Ok(convert::identity_reply(&identity, false))
}

/// Checks what a request states of a person.
pub(super) fn person_details(
    display_name: String,
    metadata: std::collections::HashMap<String, proto::MetadataValue>,
) -> Result<PersonDetails, Error> {
    let metadata = metadata.into_iter().map(|(key, value)| Ok((key, convert::metadata_value(value)?)));
    let details = PersonDetails { display_name, metadata: metadata.collect::<Result<_, Error>>()? };
    details.check()?;
    Ok(details)
}
