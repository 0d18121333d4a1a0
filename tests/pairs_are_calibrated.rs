//! `calibrate`, `score` and `predict` on real photos: whole reports, every photo and row accounted for, faults by line.

mod common;

use std::path::{Path, PathBuf};

use common::program::{program, run};
use serde_json::Value;

/// The first people with so many photos, and those photos, below `faces/`.
fn people(shared: &Path, count: usize, photos: usize) -> Vec<(String, Vec<String>)> {
    let folder = shared.join("faces/lfw/photos");
    let names = |path: &Path| {
        let entries = std::fs::read_dir(path).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    };
    let all = names(&folder).into_iter().map(|person| {
        let of_person = names(&folder.join(&person));
        let paths = of_person.into_iter().map(|photo| format!("lfw/photos/{person}/{photo}")).collect::<Vec<_>>();
        (person, paths)
    });
    let enough = all.filter(|(_, paths)| paths.len() >= photos);
    enough.take(count).map(|(person, paths)| (person, paths.into_iter().take(photos).collect())).collect()
}

fn write(path: &Path, rows: &[String]) -> PathBuf {
    std::fs::write(path, format!("image1,image2,label\n{}\n", rows.join("\n"))).expect("write");
    path.to_path_buf()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("the report")).expect("json")
}

const FACELESS: &str = "hard/black.jpg";

#[test]
fn pairs_become_a_report_a_curve_and_predictions() {
    let Some(shared) = common::shared("pairs_become_a_report_a_curve_and_predictions") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let people = people(&shared, 12, 2);
    let mut rows: Vec<String> = people.iter().map(|(_, photos)| format!("{},{},1", photos[0], photos[1])).collect();
    for (at, (_, photos)) in people.iter().enumerate() {
        rows.extend(people[at + 1..].iter().map(|(_, others)| format!("{},{},0", photos[0], others[1])));
    }
    rows.push(format!("{},{},0", people[0].1[0], FACELESS));
    rows.push(format!("{},{},1", people[0].1[1], people[0].1[0]));
    let pairs = write(&folder.path().join("pairs.csv"), &rows);
    let calibrate = || {
        let mut command = program(&shared);
        command.arg("calibrate").arg(&pairs).arg("--out").arg(&out).arg("--photos").arg(shared.join("faces"));
        command
    };
    let told = run(calibrate().arg("--with-photos"), 1);
    for part in [
        "25 photos, 1 without a template (1 NO_FACE); 25 embedded now",
        "12 mated and 66 non-mated comparisons; 0 mated and 1 non-mated ones could not be made",
        "1 line that came before, counted once",
        "not enough comparisons: needs about 300 non-mated ones, has 66",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let again = run(&mut calibrate(), 1);
    assert!(again.contains("; 0 embedded now"), "{again}");

    let report = json(&out.join("report.json"));
    assert_eq!(report["failures_to_acquire"]["photos"][0]["reason"], "NO_FACE");
    assert_eq!(report["repeated_lines"], serde_json::json!([[81, 2]]));
    assert_eq!(report["results"]["intervals"]["units"], "identities");
    let found = &report["results"]["at_fmr"][0];
    assert_eq!((&found["target_fmr"], &found["fmr"]["of"]), (&0.1.into(), &66.into()));
    let page = std::fs::read_to_string(out.join("report.html")).expect("the page");
    for name in ["histogram", "histogram-mated", "histogram-non-mated", "errors", "det", "roc", "threshold-by-size"] {
        assert!(page.contains(&format!("<figure id=\"{name}\"><svg")), "{name}");
        assert!(std::fs::metadata(out.join(format!("{name}.svg"))).expect("the SVG").len() > 1_000);
        assert!(image::open(out.join(format!("{name}.png"))).expect("the PNG").width() > 1_000);
    }
    let scores = std::fs::read_to_string(out.join("scores.csv")).expect("the scores");
    let lines: Vec<&str> = scores.lines().collect();
    assert_eq!((lines.len(), lines[0]), (81, "image1,image2,label,score,reason"));
    assert!(lines[79].ends_with(&format!("{FACELESS},0,,image2 NO_FACE")), "{}", lines[79]);

    let predicted = folder.path().join("predicted.csv");
    let predict = || {
        let mut command = program(&shared);
        command.arg("predict").arg(&pairs).arg("--out").arg(&predicted).arg("--photos").arg(shared.join("faces"));
        command.arg("--embeddings").arg(out.join("embeddings"));
        command
    };
    let told = run(predict().args(["--fmr", "0.1", "--curve"]).arg(out.join("report.json")), 1);
    let threshold = found["threshold"].as_f64().expect("a threshold");
    assert!(told.contains(&format!("at a threshold of {threshold} (FMR ")), "{told}");
    let mut reader = csv::Reader::from_path(&predicted).expect("the predictions");
    let mut accepted = 0;
    for row in reader.deserialize::<(String, String, u8, u8, Option<f64>, String)>() {
        let (_, _, label, label_pred, score, reason) = row.expect("a row");
        // The study's rule: without a face, 0.
        assert_eq!(label_pred == 1, score.is_some_and(|score| score >= threshold));
        assert_eq!(score.is_none(), !reason.is_empty());
        accepted += u64::from(label == 0 && label_pred == 1);
    }
    assert_eq!(found["fmr"]["events"].as_u64(), Some(accepted));
    let unsupported = run(predict().args(["--fmr", "1e-3", "--curve"]).arg(out.join("report.json")), 2);
    assert!(unsupported.contains("not enough comparisons: needs about 3000 non-mated ones, has 66"), "{unsupported}");
    let other = run(
        predict()
            .env("FACEMATCH_PACK", "tests/packs/yunet-foamliu")
            .args(["--fmr", "0.1", "--curve"])
            .arg(out.join("report.json")),
        2,
    );
    assert!(other.contains("their scores mean different things"), "{other}");

    run(
        program(&shared).arg("score").arg(&pairs).arg("-o").arg(&predicted).arg("--photos").arg(shared.join("faces")),
        1,
    );
    let scored = std::fs::read_to_string(&predicted).expect("the scores");
    assert_eq!(scored, scores, "as calibrate wrote them");
}

#[test]
fn faults_of_a_file_are_told_with_their_lines_before_anything_is_computed() {
    let Some(shared) = common::shared("faults_of_a_file_are_told_with_their_lines_before_anything_is_computed") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let people = people(&shared, 2, 2);
    let ((_, a), (_, b)) = (&people[0], &people[1]);
    let calibrate = |rows: &[String]| {
        let pairs = write(&folder.path().join("pairs.csv"), rows);
        let mut command = program(&shared);
        command.arg("calibrate").arg(pairs).arg("--photos").arg(shared.join("faces"));
        run(command.arg("--out").arg(folder.path().join("out")), 2)
    };
    let mated = format!("{},{},1", a[0], a[1]);
    for (rows, expected) in [
        (vec![mated.clone(), format!("{},lfw/absent.jpg,0", b[0])], "line 3: no photo "),
        (vec![mated.clone()], "no non-mated (label 0: two people) comparison, so no FMR can be measured"),
        (vec![format!("{},{},0", a[0], b[0])], "no mated (label 1: the same person) comparison, so no FNMR"),
        (
            vec![mated.clone(), format!("{},{FACELESS},0", a[0])],
            "no FMR can be measured: 1 of them have a photo without a template",
        ),
        (vec![mated.clone(), format!("{},{},0", a[1], a[0])], "line 3: the pair of line 2 again, with another label"),
        (vec![], "no pairs below the header"),
    ] {
        let told = calibrate(&rows);
        assert!(told.contains(expected), "{rows:?}: {told}");
    }
}

#[test]
fn folders_of_people_are_compared_searched_and_grouped() {
    let Some(shared) = common::shared("folders_of_people_are_compared_searched_and_grouped") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (photos, out) = (folder.path().join("people"), folder.path().join("out"));
    let people = people(&shared, 16, 3);
    let mut metadata = "identity,half\n".to_owned();
    for (number, (person, paths)) in people.iter().enumerate() {
        std::fs::create_dir_all(photos.join(person)).expect("a folder");
        for path in paths {
            let name = Path::new(path).file_name().expect("a name");
            std::fs::copy(shared.join("faces").join(path), photos.join(person).join(name)).expect("copy");
        }
        metadata += &format!("{person},{}\n", if number % 2 == 0 { "even" } else { "odd" });
    }
    std::fs::create_dir(photos.join("nobody")).expect("a folder");
    std::fs::copy(shared.join("faces").join(FACELESS), photos.join("nobody/black.jpg")).expect("copy");
    std::fs::write(folder.path().join("metadata.csv"), metadata).expect("write");
    let mut command = program(&shared);
    command.args(["calibrate", "--all-pairs", "--group-by", "half", "--json", "--photos"]).arg(&photos);
    command.arg("--metadata").arg(folder.path().join("metadata.csv")).arg("--out").arg(&out);
    run(&mut command, 1);
    let report = json(&out.join("report.json"));
    let count = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}"));
    assert_eq!((count("/results/mated/count"), count("/results/non_mated/count")), (48, 48 * 47 / 2 - 48));
    assert_eq!(count("/comparisons_lost/non_mated"), 48);
    assert_eq!(count("/groupings/0/photos_without"), 1);
    for group in [0, 1] {
        let of = |what: &str| count(&format!("/groupings/0/groups/{group}/{what}"));
        assert_eq!((of("identities"), of("photos")), (8, 24));
        assert_eq!((of("results/mated/count"), of("results/non_mated/count")), (24, 24 * 23 / 2 - 24));
    }
    assert_eq!(report["groupings"][0]["differences"].as_array().map(Vec::len), Some(2));
    // Galleries of 10 and of all 15 others; strangers of LFW are far below a person's other photos.
    let sizes: Vec<u64> = (0..2).map(|at| count(&format!("/identification/{at}/gallery_size"))).collect();
    assert_eq!((sizes, count("/identification/2/gallery_size")), (vec![10, 15], 150));
    let page = std::fs::read_to_string(out.join("report.html")).expect("the page");
    for part in ["<figure id=\"searches\">", "<figure id=\"ranks\">", "By half", "<h3>even</h3>"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("data:image"), "photos are shown only on request");
}
