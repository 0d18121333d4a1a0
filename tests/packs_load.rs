//! Every kind of pack loads and makes templates; what is wrong with one is named at the start.

mod common;

use std::path::Path;

use facematch::biometrics::face::FaceSelection;
use facematch::decode::PhotoLimits;
use facematch::model::{Pack, PackSource, Tuning};
use facematch::pipeline::{DetectionSettings, Pipeline};

#[test]
fn every_pack_tells_people_apart() {
    let Some(shared) = common::shared("every_pack_tells_people_apart") else { return };
    for name in common::PACKS {
        let mut pipeline = common::pipeline(&shared, name);
        let mut template = |person: &str, number: usize| {
            let photo = common::lfw_photo(&shared, person, number);
            let acquired = pipeline.acquire(&photo, &DetectionSettings::default(), FaceSelection::Largest);
            acquired.expect(name).chosen.expect("a face").swap_remove(0).1
        };
        let (a, b, other) = (template("Ai_Sugiyama", 1), template("Ai_Sugiyama", 2), template("Abdoulaye_Wade", 1));
        let (mated, non_mated) = (a.score(&b).expect(name).cosine(), a.score(&other).expect(name).cosine());
        println!("{name}: mated {mated:.3}, non-mated {non_mated:.3}");
        assert!(mated > 0.35 && non_mated < 0.3, "{name}: mated {mated}, non-mated {non_mated}");
    }
}

#[test]
fn plain_folder_equals_the_pack_with_a_manifest() {
    let Some(shared) = common::shared("plain_folder_equals_the_pack_with_a_manifest") else { return };
    for (pack, files) in [
        (common::STRONG_PACK, ["insightface_det_2.5g.onnx", "edgeface_xs_512.onnx"]),
        ("scrfd500named-y1raw", ["scrfd_500m_bnkps_named.onnx", "arcface_mobilefacenet_y1_128_rawinput.onnx"]),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            std::fs::copy(shared.join("models").join(file), folder.path().join(file)).expect("copy a model");
        }
        let plain = Pack::load(&source(&shared, folder.path(), None)).expect("load a plain folder");
        // The id is a hash of the recogniser and its preprocessing: told from the file, it is what the manifest states.
        assert_eq!(plain.id, common::pack(&shared, pack).id, "{pack}");
        Pipeline::open(plain.into(), PhotoLimits::default()).expect("open the pipeline");
    }
}

#[test]
fn faulty_pack_is_refused_with_file_expected_and_found() {
    let Some(shared) = common::shared("faulty_pack_is_refused_with_file_expected_and_found") else { return };
    let manifest =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs").join(common::STRONG_PACK).join("pack.toml");
    let good = std::fs::read_to_string(manifest).expect("read the manifest");
    let y1 = "80c8d81219a10e9dc7227378ee9f0bf811367180d62f7114b560ca697f51f2c8";
    let xs = "d392d625179fed82511eeeb387ed056b65a28f3c490ba7f87031dfe325880e20";
    /// What is replaced in the manifest, and what the error names.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 6] = [
        (&[("d392d6", "000000")], &["edgeface_xs_512.onnx", "expected SHA-256 000000", "found d392d6"]),
        (&[("edgeface_xs_512.onnx", "absent.onnx")], &["cannot read", "absent.onnx"]),
        (&[("dimension = 512", "dimension = 128")], &["edgeface_xs_512.onnx", "expected one output [n, 128]", "512"]),
        (&[("\"scrfd\"", "\"yunet\"")], &["insightface_det_2.5g.onnx", "layout \"yunet\"", "found"]),
        (
            &[
                ("insightface_det_2.5g.onnx", "edgeface_xs_512.onnx"),
                ("041f73f47371333d1d17a6fee6c8ab4e6aecabefe398ff32cca4e2d5eaee0af9", xs),
            ],
            &["edgeface_xs_512.onnx", "expected the outputs of layout", "found"],
        ),
        (
            &[("edgeface_xs_512.onnx", "arcface_mobilefacenet_y1_128.onnx"), (xs, y1)],
            &["arcface_mobilefacenet_y1_128.onnx", "expected one output [n, 512]", "128"],
        ),
    ];
    for (changes, named) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let text = changes.iter().fold(good.clone(), |text, (from, to)| text.replace(from, to));
        std::fs::write(folder.path().join("pack.toml"), text).expect("write the manifest");
        let Err(error) = Pack::load(&source(&shared, folder.path(), Some(&shared.join("models")))) else {
            panic!("loaded with {changes:?}")
        };
        let error = error.to_string();
        for part in named {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
    let Err(empty) = Pack::load(&source(&shared, tempfile::tempdir().expect("a folder").path(), None)) else {
        panic!("loaded an empty folder")
    };
    println!("{empty}");
}

#[test]
fn file_that_is_no_model_is_named() {
    let Some(shared) = common::shared("file_that_is_no_model_is_named") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("det_10g.onnx"), b"not a model").expect("write a file");
    let Err(error) = Pack::load(&source(&shared, folder.path(), None)) else { panic!("loaded") };
    let error = error.to_string();
    assert!(error.contains("det_10g.onnx") && error.contains("expected an ONNX model"), "{error}");
}

fn source(shared: &Path, folder: &Path, files: Option<&Path>) -> PackSource {
    PackSource {
        folder: folder.to_path_buf(),
        files: files.map(Path::to_path_buf),
        ..common::pack_source(shared, common::STRONG_PACK)
    }
}

#[test]
fn pack_that_no_longer_computes_what_it_did_is_refused() {
    let Some(shared) = common::shared("pack_that_no_longer_computes_what_it_did_is_refused") else { return };
    for name in common::PACKS {
        let mut source = common::pack_source(&shared, name);
        let manifest = std::fs::read_to_string(source.folder.join("pack.toml")).expect("a manifest");
        source.tuning = Tuning::Off;
        let golden = Pack::load(&source).expect("load").golden.section();
        // As it was made, and as it is run.
        let folder = tempfile::tempdir().expect("a folder");
        let write = |text: &str| std::fs::write(folder.path().join("pack.toml"), text).expect("write");
        let tuned = PackSource { folder: folder.path().to_path_buf(), ..common::pack_source(&shared, name) };
        write(&format!("{manifest}\n{golden}"));
        Pack::load(&tuned).unwrap_or_else(|error| panic!("{name}: {error}"));
        // The same files, fed in another way: no shape tells.
        let (from, to) = if manifest.contains("\"rgb\"") { ("\"rgb\"", "\"bgr\"") } else { ("\"bgr\"", "\"rgb\"") };
        write(&format!("{}\n{golden}", manifest.replace(from, to)));
        let refused = Pack::load(&tuned).err().expect("refused").to_string();
        assert!(refused.contains("does not compute what it did"), "{name}: {refused}");
    }
}
