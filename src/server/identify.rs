//! MatchService: identify.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert;
use super::engine::Engine;
use super::status::status;
use crate::biometrics::decision::AmbiguityMargin;
use crate::biometrics::face::NotChosen;
use crate::biometrics::ids::{GalleryId, IdentityId};
use crate::biometrics::score::{AppliedThreshold, Score};
use crate::contract as proto;
use crate::error::{Entity, Error};
use crate::gallery::filter::Filter;
use crate::gallery::{Ranked, Scope, Search, SearchOutcome};
use crate::matching;

const TOP_K_DEFAULT: usize = 5;
const TOP_K_MAX: usize = 100;

pub(super) struct MatchServer(pub Arc<Engine>);

#[tonic::async_trait]
impl proto::match_service_server::MatchService for MatchServer {
    async fn identify(
        &self,
        request: Request<proto::IdentifyRequest>,
    ) -> Result<Response<proto::IdentifyResponse>, Status> {
        identify(&self.0, request.into_inner()).await.map(Response::new).map_err(status)
    }
}

async fn identify(engine: &Engine, request: proto::IdentifyRequest) -> Result<proto::IdentifyResponse, Error> {
    let gallery_id = GalleryId::parse(&request.gallery_id)?;
    let top_k = top_k(request.top_k)?;
    let (gallery, status) = engine.galleries.gallery(&gallery_id)?;
    let operating_point = convert::operating_point(request.operating_point)?;
    let of_pack = engine.pack.identification.filter(|_| gallery.pack_id == engine.pack.id);
    let threshold = matching::identification_threshold(operating_point, gallery.settings.identification, of_pack)?;
    let margin = match request.ambiguity_margin {
        Some(margin) => AmbiguityMargin::new("ambiguity_margin", margin)?,
        None => gallery.settings.ambiguity_margin,
    };
    let settings = convert::detection(request.detection)?;
    let selection = convert::one_face_selection(request.face_selection)?;
    let scope = scope(&request.filter, &request.candidate_identity_ids)?;

    let probe = request.probe.and_then(|probe| probe.probe);
    let (template, choice) = match probe.ok_or_else(|| Error::bad_field("probe", "a photo or an embedding"))? {
        proto::probe::Probe::Embedding(embedding) => {
            (convert::embedding(&embedding, &engine.pack).map_err(|error| error.at("probe"))?, None)
        }
        proto::probe::Probe::Photo(photo) => {
            let mut place = engine.workers.reserve()?;
            let acquired = engine.acquire(&mut place, photo.data, settings, selection).await;
            let acquired = acquired.map_err(|error| error.at("probe.photo"))?;
            let choice = Some(convert::face_choice_reply(&acquired, selection));
            match acquired.chosen.map(|chosen| chosen.into_iter().next()) {
                Ok(Some((_, template))) => (template, choice),
                Ok(None) => return Ok(not_searchable(NotChosen::NoFace, threshold, status.counts.identities, choice)),
                Err(reason) => return Ok(not_searchable(reason, threshold, status.counts.identities, choice)),
            }
        }
    };

    let pack_id = template.pack_id().as_str().to_owned();
    let capacity = top_k.max(matching::RANKED_MIN);
    let search = Search { probe: template, capacity, exact: request.exact, scope };
    let outcome = engine.search(gallery_id.clone(), search).await?;
    let SearchOutcome { ranked, identities, searched, path } = outcome;
    let named = name_candidates(engine, gallery_id, ranked).await?;
    let scores: Vec<Score> = named.iter().map(|(ranked, _)| ranked.score).collect();
    Ok(proto::IdentifyResponse {
        decision: convert::identification_reply(matching::identify(&scores, threshold, margin)),
        candidates: named.into_iter().take(top_k).map(|candidate| candidate_reply(candidate, threshold)).collect(),
        threshold: Some(convert::threshold_reply(threshold)),
        identity_count: identities,
        searched_identity_count: searched,
        search_path: convert::search_path_reply(path),
        face_choice: choice,
        not_searchable_reason: String::new(),
        pack_id,
    })
}

/// Among whom to search: no filter and no candidates mean everyone.
fn scope(filter: &str, candidates: &[String]) -> Result<Scope, Error> {
    if candidates.len() > Scope::CANDIDATES_MAX {
        return Err(Error::bad_field("candidate_identity_ids", "at most 100,000"));
    }
    let parse = |(index, id): (usize, &String)| {
        IdentityId::parse(id).map_err(|error| error.at(&format!("candidate_identity_ids[{index}]")))
    };
    let candidates: Vec<IdentityId> = candidates.iter().enumerate().map(parse).collect::<Result<_, Error>>()?;
    Ok(Scope {
        filter: (!filter.trim().is_empty()).then(|| Filter::parse("filter", filter)).transpose()?,
        candidates: Some(candidates).filter(|candidates| !candidates.is_empty()),
    })
}

fn top_k(stated: u32) -> Result<usize, Error> {
    match stated as usize {
        0 => Ok(TOP_K_DEFAULT),
        top_k if top_k <= TOP_K_MAX => Ok(top_k),
        _ => Err(Error::bad_field("top_k", "from 1 to 100")),
    }
}

/// Looks up display names. A candidate who was deleted meanwhile is no candidate any more.
async fn name_candidates(
    engine: &Engine,
    gallery: GalleryId,
    ranked: Vec<Ranked>,
) -> Result<Vec<(Ranked, String)>, Error> {
    let look_up = move |galleries: &crate::gallery::Galleries| {
        let mut named = Vec::with_capacity(ranked.len());
        for candidate in ranked {
            match galleries.identity(&gallery, &candidate.identity) {
                Ok(identity) => named.push((candidate, identity.details.display_name)),
                Err(Error::NotFound(Entity::Identity | Entity::Gallery)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(named)
    };
    engine.with_galleries(look_up).await
}

fn candidate_reply((ranked, display_name): (Ranked, String), threshold: AppliedThreshold) -> proto::Candidate {
    proto::Candidate {
        identity_id: ranked.identity.as_str().to_owned(),
        display_name,
        score: ranked.score.cosine(),
        template_id: ranked.template.as_str().to_owned(),
        matches: threshold.threshold.admits(ranked.score),
    }
}

fn not_searchable(
    reason: NotChosen,
    threshold: AppliedThreshold,
    identity_count: u64,
    face_choice: Option<proto::FaceChoice>,
) -> proto::IdentifyResponse {
    proto::IdentifyResponse {
        decision: proto::IdentifyDecision::NotSearchable.into(),
        candidates: Vec::new(),
        threshold: Some(convert::threshold_reply(threshold)),
        identity_count,
        searched_identity_count: 0,
        search_path: proto::SearchPath::Unspecified.into(),
        face_choice,
        not_searchable_reason: Error::from(reason).reason().to_owned(),
        pack_id: String::new(),
    }
}
