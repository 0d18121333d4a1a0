//! FaceService: detect, embed, verify.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::engine::{Engine, Look};
use super::status::status;
use super::{call, convert};
use crate::biometrics::calibration::KnownCurve;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId, TemplateId};
use crate::biometrics::score::OperatingPoint;
use crate::biometrics::template::Template;
use crate::contract as proto;
use crate::error::{Entity, Error};
use crate::matching;

pub(super) struct FaceServer(pub Arc<Engine>);

#[tonic::async_trait]
impl proto::face_service_server::FaceService for FaceServer {
    async fn detect(&self, request: Request<proto::DetectRequest>) -> Result<Response<proto::DetectResponse>, Status> {
        detect(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn embed(&self, request: Request<proto::EmbedRequest>) -> Result<Response<proto::EmbedResponse>, Status> {
        embed(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn verify(&self, request: Request<proto::VerifyRequest>) -> Result<Response<proto::VerifyResponse>, Status> {
        verify(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }
}

async fn detect(engine: &Engine, request: proto::DetectRequest) -> Result<proto::DetectResponse, Error> {
    let settings = convert::detection(request.detection)?;
    let photo = convert::photo(request.photo)?;
    let detected = engine.detect(photo, settings).await.map_err(|error| error.at("photo"))?;
    Ok(convert::detect_reply(&detected, &engine.pack.id))
}

async fn embed(engine: &Engine, request: proto::EmbedRequest) -> Result<proto::EmbedResponse, Error> {
    let settings = convert::detection(request.detection)?;
    let selection = convert::face_selection(request.face_selection)?;
    let photo = convert::photo(request.photo)?;
    let mut place = engine.workers.reserve(call::caller())?;
    let look = Look { settings, selection, pack_id: engine.pack.id.clone() };
    let acquired = engine.acquire(&mut place, photo, look).await.map_err(|error| error.at("photo"))?;
    let chosen = acquired.chosen.map_err(|reason| Error::from(reason).at("photo"))?;
    let embedded_faces = chosen.iter().map(|(index, template)| proto::EmbeddedFace {
        face_index: *index as u32,
        embedding: Some(convert::embedding_reply(template)),
    });
    Ok(proto::EmbedResponse {
        embedded_faces: embedded_faces.collect(),
        faces: acquired.detected.faces.iter().map(convert::face_reply).collect(),
        face_selection: convert::face_selection_reply(selection),
    })
}

async fn verify(engine: &Engine, request: proto::VerifyRequest) -> Result<proto::VerifyResponse, Error> {
    let operating_point = convert::operating_point(request.operating_point)?;
    let (a, b) = (required_side("a", request.a)?, required_side("b", request.b)?);
    let galleries = [gallery_of(&a), gallery_of(&b)].map(|gallery| gallery.map(GalleryId::parse).and_then(Result::ok));
    let galleries: Vec<&GalleryId> = galleries.iter().flatten().collect();
    let look = Look {
        settings: convert::detection(request.detection)?,
        selection: convert::one_face_selection(request.face_selection)?,
        pack_id: pack_for(engine, &galleries).await,
    };
    if [&a, &b].into_iter().any(|side| matches!(side, proto::verify_side::Side::Photo(_))) {
        // Asked for what cannot be answered: said before any photo is looked at.
        let curve = engine.curve(&galleries, &look.pack_id).await?;
        matching::verification_threshold(operating_point, None, curve.as_deref())?;
    }
    let (a, b) = tokio::try_join!(async { side(engine, a, &look).await.map_err(|error| error.at("a")) }, async {
        side(engine, b, &look).await.map_err(|error| error.at("b"))
    },)?;
    let first = a.templates.first().ok_or_else(|| Error::internal("a side without a template"))?;
    let of_pack = engine.pack_of(first.pack_id()).ok().and_then(|pack| pack.verification);
    let curve = stricter_curve(engine, &galleries, first.pack_id(), operating_point).await?;
    let verified = matching::verify(&a.templates, &b.templates, operating_point, of_pack, curve.as_deref())?;
    Ok(convert::verify_reply(&verified, first.pack_id(), a.choice, b.choice))
}

/// The curve that a comparison goes by: of two galleries with curves of their own the one with the higher threshold, so that
/// the sides may be exchanged.
async fn stricter_curve(
    engine: &Engine,
    galleries: &[&GalleryId],
    pack_id: &PackId,
    operating_point: OperatingPoint,
) -> Result<Option<Arc<KnownCurve>>, Error> {
    let mut stricter: Option<(f32, Arc<KnownCurve>)> = None;
    for gallery in galleries {
        let Some(curve) = engine.curve(&[gallery], pack_id).await? else { continue };
        let cosine = matching::verification_threshold(operating_point, None, Some(&curve))?.threshold.cosine();
        if stricter.as_ref().is_none_or(|(highest, _)| cosine > *highest) {
            stricter = Some((cosine, curve));
        }
    }
    match stricter {
        Some((_, curve)) => Ok(Some(curve)),
        None => engine.curve(&[], pack_id).await,
    }
}

/// The pack that photos are compared by: that of the first gallery of the other side, if it runs.
async fn pack_for(engine: &Engine, galleries: &[&GalleryId]) -> PackId {
    for id in galleries {
        if let Ok((gallery, _)) = engine.galleries.gallery(id).await
            && engine.pack_of(&gallery.pack_id).is_ok()
        {
            return gallery.pack_id;
        }
    }
    engine.pack.id.clone()
}

/// The gallery of a side that is enrolled.
fn gallery_of(side: &proto::verify_side::Side) -> Option<&str> {
    match side {
        proto::verify_side::Side::Identity(reference) => Some(&reference.gallery_id),
        proto::verify_side::Side::Template(reference) => Some(&reference.gallery_id),
        proto::verify_side::Side::Photo(_) | proto::verify_side::Side::Embedding(_) => None,
    }
}

fn required_side(field: &str, side: Option<proto::VerifySide>) -> Result<proto::verify_side::Side, Error> {
    side.and_then(|side| side.side).ok_or_else(|| Error::bad_field(field, "a photo, embedding, template or identity"))
}

/// One side's templates and, where it was a photo, its faces.
struct Side {
    templates: Vec<Template>,
    choice: Option<proto::FaceChoice>,
}

async fn side(engine: &Engine, side: proto::verify_side::Side, look: &Look) -> Result<Side, Error> {
    use proto::verify_side::Side as Stated;
    let templates = match side {
        Stated::Photo(photo) => return photo_side(engine, photo.data, look).await,
        Stated::Embedding(embedding) => vec![convert::embedding(&embedding, engine)?],
        Stated::Identity(reference) => {
            let gallery = GalleryId::parse(&reference.gallery_id).map_err(|error| error.at("identity"))?;
            let id = IdentityId::parse(&reference.identity_id).map_err(|error| error.at("identity"))?;
            let fusion = engine.galleries.gallery(&gallery).await?.0.settings.fusion;
            let identity = engine.galleries.identity(&gallery, &id).await?;
            identity.compared_by(fusion).into_iter().map(|(_, template)| template).collect()
        }
        Stated::Template(reference) => {
            let gallery = GalleryId::parse(&reference.gallery_id).map_err(|error| error.at("template"))?;
            let id = IdentityId::parse(&reference.identity_id).map_err(|error| error.at("template"))?;
            let template = TemplateId::parse(&reference.template_id).map_err(|error| error.at("template"))?;
            let identity = engine.galleries.identity(&gallery, &id).await?;
            let found = identity.templates.into_iter().find(|enrolled| enrolled.id == template);
            vec![found.ok_or(Error::NotFound(Entity::Template))?.template]
        }
    };
    Ok(Side { templates, choice: None })
}

async fn photo_side(engine: &Engine, photo: Vec<u8>, look: &Look) -> Result<Side, Error> {
    let mut place = engine.workers.reserve(call::caller())?;
    let acquired = engine.acquire(&mut place, photo, look.clone()).await;
    let acquired = acquired.map_err(|error| error.at("photo"))?;
    let choice = convert::face_choice_reply(&acquired, look.selection);
    let chosen = acquired.chosen.map_err(|reason| Error::from(reason).at("photo"))?;
    Ok(Side { templates: chosen.into_iter().map(|(_, template)| template).collect(), choice: Some(choice) })
}
