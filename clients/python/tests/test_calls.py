"""What each call sends and what its reply means, against a real server."""

import datetime
import io

import pytest
from server import SAMPLES, people, stranger

import facematch
from facematch import FaceSelection, Fusion, Health, IdentifyDecision, IfExists


def test_health_says_serving(client):
    assert client.health() is Health.SERVING
    assert client.health("facematch.v1.MatchService") is Health.SERVING


def test_detect_takes_a_path_bytes_and_a_file(client):
    path = people("alex")[0]
    with path.open("rb") as file:
        found = [client.detect(photo) for photo in (path, str(path), path.read_bytes(), io.BytesIO(file.read()))]
    assert all(one == found[0] for one in found)
    (face,) = found[0].faces
    assert 0.5 < face.detection_score <= 1
    assert len(face.landmarks) == 5
    assert face.quality.face_side_px > 30
    assert face.box.x_min_px < face.landmarks[0].x_px < face.box.x_max_px
    assert (found[0].width_px, found[0].height_px) > (100, 100)


def test_detect_options_are_sent(client):
    options = facematch.DetectionOptions(input_sides_px=(320,), score_min=0.9)
    assert client.detect(SAMPLES / "groups/1.jpg", detection=options).input_sides_px == (320,)


def test_embed_gives_each_face_its_embedding(client):
    (one,) = client.embed(people("alex")[0])
    assert len(one.embedding.values) == 512
    assert sum(value * value for value in one.embedding.values) == pytest.approx(1, abs=1e-5)  # f32
    all_faces = client.embed(SAMPLES / "groups/1.jpg", face_selection=FaceSelection.ALL)
    assert len(all_faces) == 5
    assert repr(one.embedding.values[0]) not in repr(one)


def test_verify_answers_for_every_kind_of_side(client, gallery):
    first, second = people("alex")[:2]
    enrolled = client.enroll(gallery, "alex", first)
    template_id = enrolled.identity.templates[0].template_id
    sides = [
        first,
        client.embed(first)[0].embedding,
        facematch.IdentityReference(gallery, "alex"),
        facematch.TemplateReference(gallery, "alex", template_id),
    ]
    scores = [client.verify(side, second) for side in sides]
    assert all(one.matches for one in scores)
    assert max(one.score for one in scores) - min(one.score for one in scores) < 1e-5
    assert scores[0].face_a.chosen_index == 0
    assert scores[1].face_a is None
    assert not client.verify(first, people("dana")[0]).matches


def test_verify_by_cosine_and_by_rate_states_the_threshold(client):
    first, second = people("alex")[:2]
    by_cosine = client.verify(first, second, cosine=0.25)
    assert (by_cosine.threshold.cosine, by_cosine.threshold.source) == (0.25, facematch.ThresholdSource.REQUEST)
    by_rate = client.verify(first, second, fmr=1e-3)
    assert by_rate.threshold.source is facematch.ThresholdSource.CURVE
    assert by_rate.threshold.estimated_error_rate == pytest.approx(1e-3, rel=0.2)
    assert by_rate.threshold.curve_id
    with pytest.raises(ValueError, match="one of cosine, fmr"):
        client.verify(first, second, cosine=0.2, fmr=1e-3)


def test_identify_names_the_mate_and_no_stranger(client, gallery):
    for name in ("alex", "dana", "eden"):
        client.enroll(gallery, name, *people(name)[:2], display_name=name.title())
    found = client.identify(gallery, people("dana")[2], top_k=2, cosine=0.48)
    assert (found.decision, found.identity_id) == (IdentifyDecision.MATCH, "dana")
    assert len(found.candidates) == 2
    assert (found.candidates[0].display_name, found.candidates[0].matches) == ("Dana", True)
    assert (found.identity_count, found.searched_identity_count) == (3, 3)
    assert found.search_path is facematch.SearchPath.EXACT
    assert "Dana" not in repr(found)
    nobody = client.identify(gallery, stranger("morgan"), cosine=0.48)
    assert (nobody.decision, nobody.identity_id) == (IdentifyDecision.NO_MATCH, None)
    # An FPIR of 0.1 among six templates is an FMR of 1 in 60.
    by_rate = client.identify(gallery, people("dana")[2], fpir=0.1)
    assert by_rate.threshold.estimated_error_rate == pytest.approx(0.1, rel=0.3)


def test_identify_narrows_by_filter_and_candidates(client, gallery):
    for name, site in (("alex", "north"), ("dana", "south")):
        client.enroll(gallery, name, people(name)[0], metadata={"site": site})
    probe = people("alex")[1]
    assert client.identify(gallery, probe, cosine=0.48, filter='site = "south"').identity_id is None
    narrowed = client.identify(gallery, probe, cosine=0.48, candidates=["alex"])
    assert (narrowed.identity_id, narrowed.searched_identity_count) == ("alex", 1)


def test_identify_answers_for_every_face(client, gallery):
    for name in ("dana", "alex"):
        client.enroll(gallery, name, *people(name))
    everybody = client.identify(
        gallery, SAMPLES / "groups/1.jpg", cosine=0.42, face_selection=FaceSelection.ALL, each_identity_once=True
    )
    named = [answer.identity_id for answer in everybody.face_answers]
    assert sorted(filter(None, named)) == ["alex", "dana"]
    assert len(named) == 5


def test_photo_without_a_face_is_an_answer_of_a_search(client, gallery, nobody):
    found = client.identify(gallery, nobody)
    assert found.decision is IdentifyDecision.NOT_SEARCHABLE
    assert found.not_searchable_reason == "NO_FACE"


def test_identify_many_accounts_for_every_probe(client, gallery, nobody, tmp_path):
    client.enroll(gallery, "alex", people("alex")[0])
    embedding = client.embed(people("alex")[2])[0].embedding
    probes = [people("alex")[1], embedding, nobody, b"not a photo", tmp_path / "absent.jpg", stranger("noel")]
    answers = sorted(client.identify_many(gallery, probes, cosine=0.48), key=lambda answer: answer.index)
    assert [answer.index for answer in answers] == list(range(6))
    assert [answer.identification and answer.identification.identity_id for answer in answers] == [
        "alex",
        "alex",
        None,
        None,
        None,
        None,
    ]
    assert [answer.failure and answer.failure.reason for answer in answers] == [
        None,
        None,
        None,
        "PHOTO_UNSUPPORTED_FORMAT",
        "PHOTO_UNREADABLE",
        None,
    ]


def test_galleries_are_listed_changed_and_deleted(client, gallery):
    gate = facematch.QualityGate(eye_distance_px_min=5, yaw_degrees_max=40)
    changed = client.update_gallery(gallery, display_name="Staff", fusion=Fusion.MEAN, quality_gate=gate)
    assert (changed.display_name, changed.fusion, changed.quality_gate) == ("Staff", Fusion.MEAN, gate)
    assert changed.ambiguity_margin == 0.0
    client.update_gallery(gallery, identification_cosine=0.5)
    own = client.update_gallery(gallery, quality_gate=None, identification_cosine=None)
    assert (own.quality_gate, own.identification_cosine, own.fusion) == (None, None, Fusion.MEAN)
    other = client.create_gallery(f"{gallery}-other", search_policy=facematch.SearchPolicy.EXACT)
    listed = [one.gallery_id for one in client.galleries(page_size=1)]
    assert {gallery, other.gallery_id} <= set(listed)
    assert listed == sorted(listed)
    client.delete_gallery(other.gallery_id)
    with pytest.raises(facematch.NotFoundError):
        client.get_gallery(other.gallery_id)


def test_identities_are_kept_changed_and_deleted(client, gallery):
    since = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    details = {"site": "north", "age": 30.5, "guest": True, "since": since}
    made = client.enroll(gallery, "alex", people("alex")[0], display_name="Alex", metadata=details)
    assert made.created
    assert made.results[0].template.face.quality is not None
    kept = client.get_identity(gallery, "alex", include_embeddings=True)
    assert (kept.display_name, dict(kept.metadata)) == ("Alex", details)
    assert len(kept.templates[0].embedding.values) == 512
    assert "Alex" not in repr(kept)
    assert "north" not in repr(kept)
    added = client.enroll(gallery, "alex", people("alex")[1], if_exists=IfExists.ADD)
    assert not added.created
    assert len(added.identity.templates) == 2
    client.delete_template(gallery, "alex", kept.templates[0].template_id)
    changed = client.update_identity(gallery, "alex", metadata={})
    assert (changed.display_name, dict(changed.metadata), len(changed.templates)) == ("Alex", {}, 1)
    client.enroll(gallery, None, people("dana")[0])
    assert len(list(client.identities(gallery, page_size=1))) == 2
    client.delete_identity(gallery, "alex")
    assert "alex" not in [one.identity_id for one in client.identities(gallery)]


def test_enroll_reports_each_sample(client, gallery, nobody):
    good = facematch.Sample(people("alex")[0], "first")
    result = client.enroll(gallery, "alex", good, nobody)
    assert [one.failure and one.failure.reason for one in result.results] == [None, "NO_FACE"]
    assert result.results[0].template.template_id == "first"
    again = client.enroll(gallery, "alex", good, if_exists=IfExists.ADD)
    assert again.results[0].already_enrolled


def test_warnings_of_policies_are_told(client, gallery):
    client.update_gallery(gallery, duplicate_policy=facematch.CheckPolicy.WARN, duplicate_cosine=0.48)
    client.enroll(gallery, "alex", people("alex")[0])
    (warning,) = client.enroll(gallery, "alex-again", people("alex")[1]).results[0].warnings
    assert (warning.kind, warning.identity_id) == (facematch.FindingKind.DUPLICATE_IDENTITY, "alex")
    assert warning.score >= warning.cosine == pytest.approx(0.48)


def test_curves_are_measured_kept_and_taken_away(client, gallery):
    for name in ("alex", "dana", "eden", "kit", "lee"):
        client.enroll(gallery, name, *people(name))
    told = client.calibrate_gallery(gallery)
    # 5 people of 4 photos: 6 mated pairs each, 16 pairs of each two people.
    assert (told.curve.mated_count, told.curve.non_mated_count, told.is_set) == (30, 160, False)
    assert [one.fmr_max for one in told.rated_thresholds][:2] == [0.1, 0.01]
    assert told.rated_thresholds[0].cosine is not None
    assert told.rated_thresholds[3].cosine is None
    assert client.get_curve(gallery).gallery_id is None
    kept = client.calibrate_gallery(gallery, keep=True, source="samples")
    assert kept.is_set
    own = client.get_curve(gallery)
    assert (own.gallery_id, own.source) == (gallery, "samples")
    client.delete_curve(gallery)
    assert client.get_curve(gallery).gallery_id is None
    assert client.set_curve(told.curve, gallery).curve_id == told.curve.curve_id
    found = client.identify(gallery, people("alex")[0], fpir=0.5)
    assert found.threshold.curve_id == told.curve.curve_id


def test_compaction_tells_what_the_store_takes(client, gallery):
    states = []
    done = client.compact(progress=states.append)
    assert done.bytes_after > 0
    assert states
