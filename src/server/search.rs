//! A search that was asked for, and its answer for one probe: what Identify and IdentifyStream share.

use std::sync::Arc;

use super::engine::{Engine, Look};
use super::{call, convert};
use crate::biometrics::calibration::GallerySize;
use crate::biometrics::decision::{AmbiguityMargin, Identification};
use crate::biometrics::face::{FaceSelection, NotChosen};
use crate::biometrics::fusion::Fusion;
use crate::biometrics::ids::{GalleryId, IdentityId, PackId};
use crate::biometrics::score::{AppliedThreshold, OperatingPoint, Score};
use crate::biometrics::template::Template;
use crate::contract as proto;
use crate::error::{Entity, Error};
use crate::gallery::filter::Filter;
use crate::gallery::{Galleries, GallerySettings, Ranked, Scope, Search, SearchOutcome};
use crate::matching;
use crate::pipeline::{Acquired, DetectionSettings};

const TOP_K_DEFAULT: usize = 5;
const TOP_K_MAX: usize = 100;

/// A checked search, without its probe.
pub(super) struct Question {
    gallery: GalleryId,
    top_k: usize,
    operating_point: OperatingPoint,
    margin: Option<AmbiguityMargin>,
    exact: bool,
    settings: DetectionSettings,
    selection: FaceSelection,
    scope: Scope,
    each_identity_once: bool,
}

/// What is done where there is no place for a probe.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Waits {
    /// It is refused at once.
    Not,
    /// It waits: its caller is kept from sending more meanwhile.
    InTurn,
}

/// How the answers of a search are decided.
#[derive(Clone, Copy)]
struct Rule {
    threshold: AppliedThreshold,
    margin: AmbiguityMargin,
}

/// Somebody who may be meant, with the display name.
type Candidate = (Ranked, String);

impl Question {
    pub(super) fn check(request: proto::IdentifyRequest) -> Result<Self, Error> {
        let selection = convert::face_selection(request.face_selection)?;
        if request.each_identity_once && selection != FaceSelection::All {
            return Err(Error::bad_field("each_identity_once", "false, but with FACE_SELECTION_ALL"));
        }
        Ok(Self {
            gallery: GalleryId::parse(&request.gallery_id)?,
            top_k: top_k(request.top_k)?,
            operating_point: convert::operating_point(request.operating_point)?,
            margin: request
                .ambiguity_margin
                .map(|margin| AmbiguityMargin::new("ambiguity_margin", margin))
                .transpose()?,
            exact: request.exact,
            settings: convert::detection(request.detection)?,
            selection,
            scope: scope(&request.filter, &request.candidate_identity_ids)?,
            each_identity_once: request.each_identity_once,
        })
    }

    /// Answers for one probe.
    ///
    /// *Errors*: the probe's own, the gallery's; [`Error::Overloaded`] where it does not wait.
    pub(super) async fn answer(
        &self,
        engine: &Engine,
        probe: Option<proto::Probe>,
        waits: Waits,
    ) -> Result<proto::IdentifyResponse, Error> {
        let probe = probe.and_then(|probe| probe.probe);
        let probe = probe.ok_or_else(|| Error::bad_field("probe", "a photo or an embedding"))?;
        let (rule, identity_count, pack_id) = self.rule(engine).await?;
        let no_answer = proto::IdentifyResponse {
            threshold: Some(convert::threshold_reply(rule.threshold)),
            identity_count,
            ..Default::default()
        };
        match probe {
            proto::probe::Probe::Embedding(embedding) => {
                let template = convert::embedding(&embedding, engine).map_err(|error| error.at("probe"))?;
                if *template.pack_id() != pack_id {
                    // Not left to the search: the gallery may move in between, and the rule would be of another pack.
                    let found = template.pack_id().clone();
                    return Err(Error::PackMismatch { expected: pack_id, found });
                }
                self.answer_for_one(engine, template, rule, waits, no_answer).await
            }
            proto::probe::Probe::Photo(photo) => {
                let mut place = match waits {
                    Waits::Not => engine.workers.reserve(call::caller())?,
                    Waits::InTurn => engine.workers.wait_for_place(call::caller()).await?,
                };
                let look = Look { settings: self.settings.clone(), selection: self.selection, pack_id };
                let acquired = engine.acquire(&mut place, photo.data, look).await;
                drop(place);
                let acquired = acquired.map_err(|error| error.at("probe.photo"))?;
                let face_choice = Some(convert::face_choice_reply(&acquired, self.selection));
                let no_answer = proto::IdentifyResponse { face_choice, ..no_answer };
                let Acquired { detected, chosen, .. } = acquired;
                match chosen.map(|mut chosen| (chosen.pop(), chosen)) {
                    Err(reason) => Ok(not_searchable(reason, no_answer)),
                    Ok((None, _)) => Ok(not_searchable(NotChosen::NoFace, no_answer)),
                    Ok((Some((_, template)), _)) if self.selection != FaceSelection::All => self
                        .answer_for_one(engine, template, rule, waits, no_answer)
                        .await
                        .map_err(Error::of_moved_gallery),
                    Ok((Some(last), mut faces)) => {
                        faces.push(last);
                        let face_count = detected.faces.len();
                        let answered =
                            self.answer_for_every_face(engine, face_count, faces, rule, waits, no_answer).await;
                        answered.map_err(Error::of_moved_gallery)
                    }
                }
            }
        }
    }

    /// Checks that there is such a gallery, and that it has a threshold to decide by.
    pub(super) async fn check_gallery(&self, engine: &Engine) -> Result<(), Error> {
        self.rule(engine).await.map(drop)
    }

    /// By the gallery as it is now; with how many identities it holds, and of which pack.
    async fn rule(&self, engine: &Engine) -> Result<(Rule, u64, PackId), Error> {
        let (gallery, status) = engine.galleries.gallery(&self.gallery).await?;
        let of_pack = engine.pack_of(&gallery.pack_id).ok().and_then(|pack| pack.identification);
        let GallerySettings { identification, ambiguity_margin, fusion, .. } = gallery.settings;
        let comparisons = match fusion {
            Fusion::Max => status.counts.templates,
            Fusion::Mean | Fusion::QualityWeightedMean => status.counts.identities,
        };
        let curve = engine.curve(&[&self.gallery], &gallery.pack_id).await?;
        let size = GallerySize { identities: status.counts.identities, comparisons };
        let searched = matching::Searched { size, curve: curve.as_deref() };
        let threshold = matching::identification_threshold(self.operating_point, identification, of_pack, searched)?;
        let rule = Rule { threshold, margin: self.margin.unwrap_or(ambiguity_margin) };
        Ok((rule, status.counts.identities, gallery.pack_id))
    }

    async fn answer_for_one(
        &self,
        engine: &Engine,
        probe: Template,
        rule: Rule,
        waits: Waits,
        no_answer: proto::IdentifyResponse,
    ) -> Result<proto::IdentifyResponse, Error> {
        let pack_id = probe.pack_id().as_str().to_owned();
        let found = self.search(engine, vec![probe], waits, matching::RANKED_MIN).await?;
        let Some((outcome, candidates)) = found.into_iter().next() else { return Ok(no_answer) };
        let (decision, candidates) = self.decide(candidates, rule);
        Ok(proto::IdentifyResponse { decision, candidates, pack_id, ..with_outcome(no_answer, &outcome) })
    }

    async fn answer_for_every_face(
        &self,
        engine: &Engine,
        face_count: usize,
        chosen: Vec<(usize, Template)>,
        rule: Rule,
        waits: Waits,
        no_answer: proto::IdentifyResponse,
    ) -> Result<proto::IdentifyResponse, Error> {
        let pack_id = chosen.first().map_or_else(String::new, |(_, probe)| probe.pack_id().as_str().to_owned());
        let (indices, probes): (Vec<usize>, Vec<Template>) = chosen.into_iter().unzip();
        // Each other face may take one candidate away.
        let taken_max = if self.each_identity_once { probes.len() } else { 0 };
        let found = self.search(engine, probes, waits, matching::RANKED_MIN + taken_max).await?;
        let (outcomes, mut candidates): (Vec<SearchOutcome>, Vec<Vec<Candidate>>) = found.into_iter().unzip();
        if self.each_identity_once {
            leave_each_identity_once(&mut candidates, rule.threshold);
        }
        let mut face_answers: Vec<proto::FaceAnswer> = (0..face_count).map(face_not_searchable).collect();
        for (index, candidates) in indices.into_iter().zip(candidates) {
            let (decision, candidates) = self.decide(candidates, rule);
            if let Some(answer) = face_answers.get_mut(index) {
                let face_index = answer.face_index;
                *answer = proto::FaceAnswer { face_index, decision, candidates, ..Default::default() };
            }
        }
        let answered = outcomes.first().map(|outcome| with_outcome(no_answer, outcome)).unwrap_or_default();
        Ok(proto::IdentifyResponse { face_answers, pack_id, ..answered })
    }

    /// Ranks and names the candidates of each probe: `top_k` of them, and `capacity_min` at least. The probes share passes.
    async fn search(
        &self,
        engine: &Engine,
        probes: Vec<Template>,
        waits: Waits,
        capacity_min: usize,
    ) -> Result<Vec<(SearchOutcome, Vec<Candidate>)>, Error> {
        let capacity = self.top_k.max(capacity_min);
        let search = |probe| Search { probe, capacity, exact: self.exact, scope: self.scope.clone() };
        let searches: Vec<Search> = probes.into_iter().map(search).collect();
        let gallery = self.gallery.clone();
        let search = move |galleries: Arc<dyn Galleries>| async move {
            let mut named = Vec::with_capacity(searches.len());
            for mut outcome in galleries.search(&gallery, searches).await? {
                let ranked = std::mem::take(&mut outcome.ranked);
                named.push((outcome, name_candidates(galleries.as_ref(), &gallery, ranked).await?));
            }
            Ok(named)
        };
        let turn = async {
            match waits {
                Waits::Not => engine.searches.enter(call::caller()),
                Waits::InTurn => Ok(engine.searches.wait(call::caller()).await),
            }
        };
        engine.search(turn, search).await
    }

    /// Decides by all candidates and returns those that were asked for.
    fn decide(&self, candidates: Vec<Candidate>, rule: Rule) -> (i32, Vec<proto::Candidate>) {
        let scores: Vec<Score> = candidates.iter().map(|(ranked, _)| ranked.score).collect();
        let decision: Identification = matching::identify(&scores, rule.threshold, rule.margin);
        let shown = candidates.into_iter().take(self.top_k);
        let shown = shown.map(|candidate| candidate_reply(candidate, rule.threshold)).collect();
        (convert::identification_reply(decision), shown)
    }
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
    galleries: &dyn Galleries,
    gallery: &GalleryId,
    ranked: Vec<Ranked>,
) -> Result<Vec<Candidate>, Error> {
    let ids: Vec<IdentityId> = ranked.iter().map(|candidate| candidate.identity.clone()).collect();
    let mut named = Vec::with_capacity(ranked.len());
    for (candidate, identity) in ranked.into_iter().zip(galleries.identities(gallery, &ids).await?) {
        match identity {
            Ok(identity) => named.push((candidate, identity.details.display_name)),
            Err(Error::NotFound(Entity::Identity | Entity::Gallery)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(named)
}

fn leave_each_identity_once(candidates: &mut [Vec<Candidate>], threshold: AppliedThreshold) {
    let of_face = |candidates: &Vec<Candidate>| {
        candidates.iter().map(|(ranked, _)| (ranked.identity.clone(), ranked.score)).collect()
    };
    let scores: Vec<Vec<(IdentityId, Score)>> = candidates.iter().map(of_face).collect();
    let face_of = matching::settle_each_identity_once(&scores, threshold);
    for (face, candidates) in candidates.iter_mut().enumerate() {
        candidates.retain(|(ranked, _)| face_of.get(&ranked.identity).is_none_or(|owner| *owner == face));
    }
}

fn candidate_reply((ranked, display_name): Candidate, threshold: AppliedThreshold) -> proto::Candidate {
    proto::Candidate {
        identity_id: ranked.identity.as_str().to_owned(),
        display_name,
        score: ranked.score.cosine(),
        template_id: ranked.template.as_str().to_owned(),
        matches: threshold.threshold.admits(ranked.score),
    }
}

fn with_outcome(reply: proto::IdentifyResponse, outcome: &SearchOutcome) -> proto::IdentifyResponse {
    proto::IdentifyResponse {
        identity_count: outcome.identities,
        searched_identity_count: outcome.searched,
        search_path: convert::search_path_reply(outcome.path),
        ..reply
    }
}

fn not_searchable(reason: NotChosen, no_answer: proto::IdentifyResponse) -> proto::IdentifyResponse {
    proto::IdentifyResponse {
        decision: proto::IdentifyDecision::NotSearchable.into(),
        not_searchable_reason: reason.reason().to_owned(),
        ..no_answer
    }
}

/// The answer for a face that cannot be aligned.
fn face_not_searchable(index: usize) -> proto::FaceAnswer {
    proto::FaceAnswer {
        face_index: index as u32,
        decision: proto::IdentifyDecision::NotSearchable.into(),
        not_searchable_reason: NotChosen::NoFace.reason().to_owned(),
        ..Default::default()
    }
}
