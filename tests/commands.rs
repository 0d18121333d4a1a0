//! The program as a user runs it: answers, JSON, exit codes.

mod common;

use std::path::Path;
use std::process::Command;

use common::program::{Served, json, lfw, program, run, text};
use serde_json::Value;

#[test]
fn verify_exits_like_grep() {
    let Some(shared) = common::shared("verify_exits_like_grep") else { return };
    let verify = |a: &Path, b: &Path| {
        let mut command = program(&shared);
        command.arg("verify").arg(a).arg(b);
        command
    };
    let (a, same, other) =
        (lfw(&shared, "Ai_Sugiyama", 1), lfw(&shared, "Ai_Sugiyama", 2), lfw(&shared, "Abdullah", 1));
    assert!(run(&mut verify(&a, &same), 0).starts_with("MATCH  score 0."));
    assert!(run(&mut verify(&a, &other), 1).starts_with("NO MATCH  score "));
    let faceless = run(&mut verify(&a, &shared.join("faces/hard/black.jpg")), 2);
    assert!(faceless.contains("black.jpg: no face was found in the photo (NO_FACE)"), "{faceless}");
    let absent = run(&mut verify(&a, Path::new("absent.jpg")), 2);
    assert!(absent.contains("cannot read absent.jpg"), "{absent}");
    // A threshold that the same pair does not reach, and one beyond every cosine.
    run(verify(&a, &same).args(["--threshold", "0.99"]), 1);
    let beyond = run(verify(&a, &same).args(["--threshold", "1.5"]), 2);
    assert!(beyond.contains("--threshold must be a cosine from -1 to 1"), "{beyond}");
    run(program(&shared).arg("verify").arg(&a), 2);
    let no_pack = run(verify(&a, &same).env_remove("FACEMATCH_PACK"), 2);
    assert!(no_pack.contains("--pack or FACEMATCH_PACK"), "{no_pack}");

    let reply = json(&verify(&a, &same).arg("--json").output().expect("run"));
    assert_eq!(reply["decision"], "VERIFY_DECISION_MATCH");
    assert_eq!(reply["threshold"]["source"], "THRESHOLD_SOURCE_PACK");
}

#[test]
fn detect_draws_and_accounts_for_every_photo() {
    let Some(shared) = common::shared("detect_draws_and_accounts_for_every_photo") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let drawn = folder.path().join("drawn.png");
    let photo = shared.join("faces/hard/exif_orient_6.jpg");
    let found = run(program(&shared).arg("detect").arg(&photo).arg("--draw").arg(&drawn), 0);
    assert!(found.contains("1 face in 888 x 1200 px"), "{found}");
    let picture = image::open(&drawn).expect("the drawing").to_rgb8();
    assert_eq!(picture.dimensions(), (888, 1_200), "drawn on the upright photo");
    let green = picture.pixels().filter(|pixel| pixel.0 == [0, 220, 90]).count();
    assert!(green > 500, "{green} pixels of a box");

    let (faceless, broken) = (shared.join("faces/hard/black.jpg"), shared.join("faces/hard/just_soi.jpg"));
    run(program(&shared).arg("detect").args([&photo, &faceless]), 1);
    let output = program(&shared).args(["detect", "--json"]).args([&photo, &faceless, &broken]).output().expect("run");
    assert_eq!(output.status.code(), Some(2));
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
    assert_eq!(lines[0]["detected"]["faces"].as_array().map(Vec::len), Some(1));
    assert_eq!(lines[1]["detected"]["faces"].as_array().map(Vec::len), Some(0));
    assert!(lines[2]["error"].as_str().is_some_and(|error| error.contains("PHOTO_TRUNCATED")));
}

#[test]
fn people_are_enrolled_identified_and_deleted() {
    let Some(shared) = common::shared("people_are_enrolled_identified_and_deleted") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let people = folder.path().join("people");
    for (person, numbers) in [("Ai_Sugiyama", 1..=3), ("Abdoulaye_Wade", 1..=2)] {
        std::fs::create_dir_all(people.join(person)).expect("a folder");
        for number in numbers {
            let photo = lfw(&shared, person, number);
            std::fs::copy(&photo, people.join(person).join(photo.file_name().expect("a name"))).expect("copy");
        }
    }
    std::fs::create_dir(people.join("nobody")).expect("a folder");
    std::fs::copy(shared.join("faces/hard/black.jpg"), people.join("nobody/black.jpg")).expect("copy");
    let served = Served::start(&shared, &folder.path().join("data"));
    let people = people.to_str().expect("a path");

    let missing = run(&mut served.client(&shared, &["enroll", people, "--gallery", "staff"]), 2);
    assert!(missing.contains("gallery not found (GALLERY_NOT_FOUND)"), "{missing}");
    run(&mut served.client(&shared, &["gallery", "create", "staff"]), 0);
    let enrolled = run(&mut served.client(&shared, &["enroll", people, "--gallery", "staff"]), 1);
    for part in [
        "6 photos of 3 people: 5 enrolled, 1 without a face, 0 failed otherwise",
        "not enrolled at all: nobody",
        "black.jpg: ",
    ] {
        assert!(enrolled.contains(part), "{part:?} is not in {enrolled}");
    }
    let again = served.client(&shared, &["enroll", people, "--gallery", "staff", "--json"]).output().expect("run");
    let again = json(&again);
    assert_eq!((&again["enrolled"], &again["already_enrolled"], &again["failed"]), (&0.into(), &5.into(), &1.into()));
    assert_eq!(again["failed_by_reason"]["NO_FACE"], 1);

    let known = lfw(&shared, "Ai_Sugiyama", 4);
    let identify = |photo: &Path| served.client(&shared, &["identify", "-g", "staff", photo.to_str().expect("a path")]);
    let found = run(&mut identify(&known), 0);
    assert!(found.starts_with("MATCH  Ai_Sugiyama  2 identities searched exactly"), "{found}");
    assert!(run(&mut identify(&lfw(&shared, "Abdullah", 1)), 1).starts_with("NO MATCH"));
    let faceless = run(&mut identify(&shared.join("faces/hard/black.jpg")), 2);
    assert!(faceless.starts_with("NOT SEARCHABLE  NO_FACE"), "{faceless}");

    let listed = run(&mut served.client(&shared, &["identity", "list", "-g", "staff"]), 0);
    assert_eq!(listed, "Abdoulaye_Wade  2 templates\nAi_Sugiyama  3 templates\n");
    let update = ["identity", "update", "Ai_Sugiyama", "-g", "staff", "--display-name", "Ai", "--metadata", "age:=3"];
    assert!(run(&mut served.client(&shared, &update), 0).contains("(Ai)\n  age: 3\n"));
    run(&mut served.client(&shared, &["identity", "delete", "Ai_Sugiyama", "-g", "staff"]), 0);
    run(&mut identify(&known), 1);
    let photo = known.to_str().expect("a path");
    run(&mut served.client(&shared, &["identity", "add", "new", photo, "-g", "staff"]), 0);
    assert!(run(&mut identify(&known), 0).starts_with("MATCH  new"));

    let update = ["gallery", "update", "staff", "--threshold", "0.9", "--policy", "graph"];
    assert!(run(&mut served.client(&shared, &update), 0).contains("graph search, threshold 0.9000"));
    let refused = run(&mut served.client(&shared, &["gallery", "delete", "staff"]), 2);
    assert!(refused.contains("gallery holds 2 identities"), "{refused}");
    run(&mut served.client(&shared, &["gallery", "delete", "staff", "--force"]), 0);
    let gone = served.client(&shared, &["gallery", "list", "--json"]).output().expect("run");
    assert_eq!(text(&gone.stdout), "");
    served.stop();
    let unreachable = run(program(&shared).args(["gallery", "list", "--endpoint", "http://127.0.0.1:9"]), 2);
    assert!(unreachable.contains("cannot reach a server at http://127.0.0.1:9"), "{unreachable}");
}

#[test]
fn enrolment_policies_are_set_shown_and_told_of() {
    let Some(shared) = common::shared("enrolment_policies_are_set_shown_and_told_of") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&shared, &folder.path().join("data"));
    let path = |person: &str, number| lfw(&shared, person, number).to_str().expect("a path").to_owned();
    let enroll = |person: &str, photo: (&str, usize), exit_code| {
        let people = folder.path().join(format!("{person} by {}", photo.0));
        std::fs::create_dir_all(people.join(person)).expect("a folder");
        std::fs::copy(lfw(&shared, photo.0, photo.1), people.join(person).join(format!("{}.jpg", photo.1)))
            .expect("copy");
        let people = people.to_str().expect("a path").to_owned();
        run(&mut served.client(&shared, &["enroll", &people, "--gallery", "staff"]), exit_code)
    };
    let gallery = |arguments: &[&str], exit_code| {
        run(&mut served.client(&shared, &[&["gallery"], arguments].concat()), exit_code)
    };

    let faulty = gallery(&["create", "staff", "--quality-gate", "sharpness_min=2"], 2);
    assert!(faulty.contains("sharpness_min must be from 0 to 1"), "{faulty}");
    let gate = "eye_distance_px_min=25,yaw_degrees_max=60";
    let created =
        gallery(&["create", "staff", "--duplicates", "reject", "--fusion", "mean", "--quality-gate", gate], 0);
    assert!(created.contains(&format!(", fusion mean, duplicates rejected, quality gate {gate}")), "{created}");
    enroll("ai", ("Ai_Sugiyama", 1), 0);
    let refused = enroll("al", ("Ai_Sugiyama", 2), 1);
    for part in ["already enrolled as \"ai\" (score 0.", "(DUPLICATE_IDENTITY)", "1 failed otherwise"] {
        assert!(refused.contains(part), "{part:?} is not in {refused}");
    }
    gallery(&["update", "staff", "--duplicates", "warn", "--consistency", "warn"], 0);
    let warned = enroll("al", ("Ai_Sugiyama", 3), 0);
    for part in ["enrolled, but already enrolled as ai", "2 enrolled", ", 2 warnings"] {
        assert!(warned.contains(part), "{part:?} is not in {warned}");
    }
    let other = path("Abdoulaye_Wade", 1);
    let added = run(&mut served.client(&shared, &["identity", "add", "ai", &other, "-g", "staff"]), 0);
    assert!(added.contains("enrolled, but it does not look like the person's other photos"), "{added}");

    gallery(&["update", "staff", "--quality-gate", "eye_distance_px_min=200"], 0);
    assert!(enroll("al", ("Al_Sharpton", 1), 1).contains("where at least 200 is asked for (QUALITY_TOO_LOW)"));
    let both = gallery(&["update", "staff", "--fusion", "max", "--reset", "fusion"], 2);
    assert!(both.contains("fusion is both stated and reset"), "{both}");
    let plain = gallery(&["update", "staff", "--reset", "quality_gate,fusion,duplicate_policy,consistency_policy"], 0);
    assert!(plain.trim_end().ends_with("margin 0.0500"), "{plain}");
    served.stop();
}

#[test]
fn every_fault_of_the_settings_is_told_at_once() {
    let faults = run(
        Command::new(env!("CARGO_BIN_EXE_facematch")).args([
            "serve",
            "--listen",
            "nowhere",
            "--calls-max",
            "1000000",
            "--workers",
            "many",
        ]),
        2,
    );
    for part in
        ["--listen must be an address", "calls_max must be from 0 to 100000", "--workers must be a whole number"]
    {
        assert!(faults.contains(part), "{part:?} is not in {faults}");
    }
}

#[test]
fn help_teaches() {
    let help = run(Command::new(env!("CARGO_BIN_EXE_facematch")).arg("--help"), 0);
    assert!(help.contains("Exit codes:") && help.contains("facematch enroll --gallery staff people/"));
    for command in ["serve", "detect", "verify", "enroll", "identify", "gallery", "identity"] {
        let help = run(Command::new(env!("CARGO_BIN_EXE_facematch")).args([command, "--help"]), 0);
        assert!(help.contains("[env: FACEMATCH_"), "{command}");
    }
}

/// What `gallery` does with files: made up, imported, exported, imported again, compacted; and with another store.
#[test]
fn gallery_commands_move_whole_galleries() {
    let Some(shared) = common::shared("gallery_commands_move_whole_galleries") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (data, other) = (folder.path().join("data"), folder.path().join("other").display().to_string());
    let server = Served::start_with(&shared, &data, &["--second-store", &other]);
    let call = |arguments: &[&str], exit_code| {
        let mut command = program(&shared);
        run(command.args(arguments).args(["--endpoint", &server.endpoint]), exit_code)
    };
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (made, exported) = (path("made.gallery"), path("exported.gallery"));

    let text = run(program(&shared).args(["gallery", "synthesize", &made, "--templates", "3000"]), 0);
    assert!(text.contains("3000 templates"), "{text}");
    let text = call(&["gallery", "import", &made], 0);
    assert!(text.contains("synthetic") && text.contains("3000 templates"), "{text}");
    let text = call(&["gallery", "import", &made], 2);
    assert!(text.contains("GALLERY_EXISTS"), "{text}");
    call(&["gallery", "export", "synthetic", &exported], 0);
    assert!(!Path::new(&format!("{exported}.part")).exists(), "the file is there once it is whole");
    let text = call(&["gallery", "import", &exported, "--as", "copy"], 0);
    assert!(text.contains("copy") && text.contains("3000 templates"), "{text}");
    let show = |gallery: &str| call(&["identity", "get", "--gallery", gallery, "00000007", "--json"], 0);
    assert_eq!(show("synthetic"), show("copy"));

    let mut damaged = std::fs::read(&exported).expect("read");
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(path("damaged.gallery"), damaged).expect("write");
    let text = call(&["gallery", "import", &path("damaged.gallery"), "--as", "broken"], 2);
    assert!(text.contains("GALLERY_FILE_DAMAGED"), "{text}");
    call(&["gallery", "get", "broken"], 2);
    // What broke off is resumed by the same command with the whole file.
    let text = call(&["gallery", "import", &exported, "--as", "broken"], 0);
    assert!(text.contains("3000 templates"), "{text}");
    let text = call(&["gallery", "export", "nobody", &path("nothing")], 2);
    assert!(text.contains("GALLERY_NOT_FOUND") && !Path::new(&path("nothing")).exists(), "{text}");
    call(&["gallery", "import", &path("no such file")], 2);

    call(&["gallery", "delete", "copy", "--force"], 0);
    let reply: Value = serde_json::from_str(&call(&["gallery", "compact", "--json"], 0)).expect("JSON");
    assert!(reply["bytes_after"].as_u64().is_some_and(|bytes| bytes > 0), "{reply}");
    assert!(call(&["gallery", "list"], 0).contains("broken"));

    let moved = call(&["gallery", "move", "synthetic", "--to", &other], 0);
    assert!(moved.contains("500 compared, switched"), "{moved}");
    let text = call(&["gallery", "move", "synthetic", "--to", &other], 2);
    assert!(text.contains("to must be the other store"), "{text}");
    let text = call(&["gallery", "move", "synthetic", "--to", data.to_str().expect("UTF-8")], 2);
    assert!(text.contains("COPY_EXISTS"), "{text}");
    assert_eq!(show("synthetic"), show("broken"));
    call(&["gallery", "drop-copy", "synthetic"], 0);
    assert!(call(&["gallery", "drop-copy", "synthetic"], 2).contains("COPY_NOT_FOUND"));
    assert_eq!(call(&["gallery", "list"], 0).lines().count(), 2);
    server.stop();
    // What is left in the other store is a store as any.
    let server = Served::start(&shared, Path::new(&other));
    let listed = run(&mut server.client(&shared, &["gallery", "list"]), 0);
    assert!(listed.contains("synthetic") && listed.lines().count() == 1, "{listed}");
    let text = run(&mut server.client(&shared, &["gallery", "move", "synthetic", "--to", &other]), 2);
    assert!(text.contains("NO_SECOND_STORE"), "{text}");
}

#[test]
fn load_times_calls_and_counts_what_failed() {
    let Some(shared) = common::shared("load_times_calls_and_counts_what_failed") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    // On a machine that does other things too, nothing is to be refused for that.
    let server = Served::start_with(
        &shared,
        &folder.path().join("data"),
        &["--search-wait-max-ms", "10000", "--queue-max", "64"],
    );
    let load = |arguments: &[&str], exit_code| -> Value {
        let mut command = program(&shared);
        command.args(["load", "--json", "--warm-up", "0.1", "--endpoint", &server.endpoint]).args(arguments);
        let text = run(&mut command, exit_code);
        serde_json::from_str(text.lines().next().expect("a line")).unwrap_or(Value::Null)
    };
    let page = folder.path().join("load.html").to_str().expect("UTF-8").to_owned();
    let photos = shared.join("faces/lfw/photos/Ai_Sugiyama").to_str().expect("UTF-8").to_owned();

    assert_eq!(load(&["identify", "--duration", "0.5"], 2), Value::Null, "no gallery, and none is to be made");
    assert_eq!(load(&["verify", "--duration", "0.5"], 2), Value::Null, "no photos");
    // The gallery's templates are of the server's pack, so that photos can be sent to it too.
    let both = ["--synthetic", "1000", "--photos", &photos, "--duration", "0.5"];
    let mixed = load(&[&["mixed", "--rate", "50,100", "--report", &page], &both[..]].concat(), 0);
    let steps = mixed["steps"].as_array().expect("steps");
    assert_eq!(steps.iter().map(|step| step["rate"].as_f64()).collect::<Vec<_>>(), [Some(50.0), Some(100.0)]);
    for step in steps {
        let (answered, rate) = (step["answered"].as_f64().expect("a number"), step["rate"].as_f64().expect("a rate"));
        assert!((answered - rate * 0.5).abs() <= 2.0, "{step}");
        let latency = |name: &str| step["latency_ms"][name].as_f64().expect("a number");
        assert!(0.0 < latency("p50") && latency("p50") <= latency("p99") && latency("p99") <= latency("max"), "{step}");
    }
    assert!(std::fs::read_to_string(&page).expect("the page").contains("<polyline"));
    let photo = load(&[&["identify-photo", "--concurrency", "2"], &both[..]].concat(), 0);
    assert!(photo["steps"][0]["answered"].as_u64().is_some_and(|answered| answered > 2), "{photo}");
    let knee = load(&["enroll", "--find-knee", "0.001", "--rate", "20", "--duration", "0.2", "--photos", &photos], 1);
    assert!(knee["knee_rate"].is_null() && knee["steps"].as_array().is_some_and(|steps| steps.len() > 1), "{knee}");

    // Calls that fail are counted by their reason, and make the exit code.
    call_to_delete(&shared, &server.endpoint);
    let failed = load(&["identify-photo", "--photos", &photos, "--duration", "0.3"], 1);
    assert!(failed["steps"][0]["failed_by_reason"]["GALLERY_NOT_FOUND"].as_u64().is_some_and(|count| count > 0));
}

fn call_to_delete(shared: &Path, endpoint: &str) {
    run(program(shared).args(["gallery", "delete", "load", "--force", "--endpoint", endpoint]), 0);
}
