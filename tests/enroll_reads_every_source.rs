//! `enroll`: every kind of source, what is told of each photo, and going on after an interruption.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::Proxy;
use common::program::{Served, json, lfw, program, run, text};
use serde_json::Value;

/// People of five photos with a face, one without, and one that is cut short.
fn people(shared: &Path, folder: &Path) -> PathBuf {
    let people = folder.join("people");
    for (person, numbers) in [("Ai_Sugiyama", 1..=3), ("Abdoulaye_Wade", 1..=2)] {
        std::fs::create_dir_all(people.join(person)).expect("a folder");
        for number in numbers {
            let photo = lfw(shared, person, number);
            std::fs::copy(&photo, people.join(person).join(format!("{number}.jpg"))).expect("copy");
        }
    }
    std::fs::create_dir(people.join("nobody")).expect("a folder");
    std::fs::copy(shared.join("faces/hard/black.jpg"), people.join("nobody/black.jpg")).expect("copy");
    std::fs::copy(shared.join("faces/hard/just_soi.jpg"), people.join("nobody/cut.jpg")).expect("copy");
    people
}

fn tar_of(people: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all("people", people).expect("append");
    builder.into_inner().expect("an archive")
}

fn append(builder: &mut tar::Builder<impl Write>, name: &str, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, data).expect("append");
}

fn create_gallery(served: &Served, shared: &Path, gallery: &str) {
    run(&mut served.client(shared, &["gallery", "create", gallery]), 0);
}

fn templates(endpoint: &str, shared: &Path, gallery: &str) -> u64 {
    let mut command = program(shared);
    command.args(["gallery", "get", gallery, "--json", "--endpoint", endpoint]);
    let gallery = json(&command.output().expect("run"));
    gallery["gallery"]["template_count"].as_u64().unwrap_or_else(|| panic!("{gallery}"))
}

fn wait_for_templates(endpoint: &str, shared: &Path, gallery: &str, count: u64) {
    let started = std::time::Instant::now();
    while templates(endpoint, shared, gallery) < count {
        assert!(started.elapsed() < std::time::Duration::from_secs(60), "{count} are enrolled");
    }
}

/// Starts a command that reads its stdin.
fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start")
}

#[test]
fn every_source_gives_the_same_people() {
    let Some(shared) = common::shared("every_source_gives_the_same_people") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let people = people(&shared, folder.path());
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let mut lines = vec!["path,identity,key,metadata.age:number".to_owned()];
    let mut objects = Vec::new();
    for (person, photo) in [
        ("Ai_Sugiyama", "1"),
        ("Ai_Sugiyama", "2"),
        ("Ai_Sugiyama", "3"),
        ("Abdoulaye_Wade", "1"),
        ("Abdoulaye_Wade", "2"),
        ("nobody", "black"),
        ("nobody", "cut"),
    ] {
        lines.push(format!("people/{person}/{photo}.jpg,{person},{photo}.jpg,33"));
        objects.push(format!(
            r#"{{"path":"people/{person}/{photo}.jpg","identity":"{person}","key":"{photo}.jpg","metadata":{{"age":33}}}}"#
        ));
    }
    std::fs::write(path("people.csv"), lines.join("\n")).expect("write");
    std::fs::write(path("people.jsonl"), objects.join("\n")).expect("write");
    let archive = tar_of(&people);
    std::fs::write(path("people.tar"), &archive).expect("write");

    let served = Served::start(&shared, &folder.path().join("data"));
    for (gallery, source) in
        [("folder", "people"), ("csv", "people.csv"), ("jsonl", "people.jsonl"), ("tar", "people.tar"), ("stdin", "-")]
    {
        create_gallery(&served, &shared, gallery);
        // Everything is new, and then nothing is.
        for (enrolled, already) in [(5, 0), (0, 5)] {
            let report = path(&format!("{gallery}.csv.report.csv"));
            let source = if source == "-" { source.to_owned() } else { path(source) };
            let mut command =
                served.client(&shared, &["enroll", &source, "-g", gallery, "--json", "--report", &report]);
            let mut child = spawn(&mut command);
            let mut stdin = child.stdin.take().expect("its stdin");
            if source == "-" {
                stdin.write_all(&archive).expect("write");
            }
            drop(stdin);
            let output = child.wait_with_output().expect("run");
            assert_eq!(output.status.code(), Some(1), "{gallery}: {}", text(&output.stderr));
            let told = json(&output);
            let counts =
                ["photos", "identities", "enrolled", "already_enrolled", "failed"].map(|name| told[name].as_u64());
            assert_eq!(counts, [7, 3, enrolled, already, 2].map(Some), "{gallery}");
            assert_eq!(told["identities_without_template"], serde_json::json!(["nobody"]));
            let rows = std::fs::read_to_string(&report).expect("the report");
            assert_eq!(rows.lines().count(), 3, "{rows}");
            assert!(rows.contains("black.jpg") && rows.contains(",refused,NO_FACE,"), "{rows}");
            assert!(rows.contains(",refused,PHOTO_TRUNCATED,"), "{rows}");
        }
        let person = ["identity", "get", "Ai_Sugiyama", "-g", gallery];
        let shown = run(&mut served.client(&shared, &person), 0);
        assert_eq!(shown.contains("age: 33"), ["csv", "jsonl"].contains(&gallery), "{shown}");
    }
    served.stop();
}

#[test]
fn source_that_is_none_is_an_error() {
    let Some(shared) = common::shared("source_that_is_none_is_an_error") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&shared, &folder.path().join("data"));
    create_gallery(&served, &shared, "g");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    std::fs::create_dir(path("empty")).expect("a folder");
    for (name, data) in [("x.zip", ""), ("none.csv", "a,b\n"), ("bare.csv", "path,identity\n"), ("junk.tar", "junk")] {
        std::fs::write(path(name), data).expect("write");
    }
    let photo = lfw(&shared, "Ai_Sugiyama", 1);
    std::fs::write(path("one.csv"), format!("path,identity\n{},ai\n", photo.display())).expect("write");
    let enroll = |source: &str, more: &[&str]| {
        let arguments = [&["enroll", source, "-g", "g"], more].concat();
        run(&mut served.client(&shared, &arguments), 2)
    };
    for (source, more, message) in [
        ("absent", &[][..], "cannot read "),
        ("x.zip", &[], "state --format"),
        ("empty", &[], "expected DIR/NAME/PHOTO"),
        ("empty", &["--columns", "path=x"], "are for manifests"),
        ("none.csv", &[], "no column is called \"path\""),
        ("bare.csv", &[], "no photos in "),
        ("junk.tar", &[], "cut short, damaged or no TAR"),
        ("one.csv", &["--report", "x.txt"], ".csv or .jsonl"),
        ("one.csv", &["--columns", "name=x"], "--columns knows path"),
    ] {
        let told = enroll(&path(source), more);
        assert!(told.contains(message), "{source}: {message:?} is not in {told}");
    }
    let refused = ["enroll", &path("one.csv"), "-g", "g", "--if-exists", "refuse"].map(str::to_owned);
    let refuse = || served.client(&shared, &refused.each_ref().map(String::as_str));
    run(&mut refuse(), 0);
    assert!(run(&mut refuse(), 0).contains("1 already enrolled"));
    let another = lfw(&shared, "Ai_Sugiyama", 2);
    std::fs::write(path("one.csv"), format!("path,identity\n{},ai\n", another.display())).expect("write");
    assert!(run(&mut refuse(), 1).contains("(IDENTITY_EXISTS)"));
    served.stop();
}

#[test]
fn message_that_the_server_does_not_take_fails_alone() {
    let Some(shared) = common::shared("message_that_the_server_does_not_take_fails_alone") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let limits = ["--message-bytes-max", "100000", "--photo-bytes-max", "100000"];
    let served = Served::start_with(&shared, &folder.path().join("data"), &limits);
    create_gallery(&served, &shared, "g");
    let ann = folder.path().join("people/ann");
    std::fs::create_dir_all(&ann).expect("a folder");
    std::fs::write(ann.join("0.jpg"), vec![0; 300_000]).expect("write");
    for number in 1..=3 {
        std::fs::copy(lfw(&shared, "Ai_Sugiyama", number), ann.join(format!("{number}.jpg"))).expect("copy");
    }
    let people = folder.path().join("people").to_str().expect("UTF-8").to_owned();
    let output = served.client(&shared, &["enroll", &people, "-g", "g", "--json"]).output().expect("run");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let told = json(&output);
    assert_eq!((&told["enrolled"], &told["failed_by_reason"]["PHOTO_TOO_LARGE"]), (&3.into(), &1.into()));
    served.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_killed_and_back_has_every_photo_once() {
    let Some(shared) = common::shared("server_that_is_killed_and_back_has_every_photo_once") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let address = |served: &Served| served.endpoint.trim_start_matches("http://").parse().expect("an address");
    let mut served = Served::start(&shared, &data);
    create_gallery(&served, &shared, "g");
    let proxy = Proxy::start(address(&served)).await;
    let endpoint = format!("http://{}", proxy.address);
    let photos: Vec<PathBuf> = (1..=5).map(|number| lfw(&shared, "Ai_Sugiyama", number)).collect();
    let counted = tokio::task::spawn_blocking(move || {
        let enroll = || {
            let mut command = program(&shared);
            command.args(["enroll", "-", "-g", "g", "--json", "--in-flight", "8", "--endpoint", &endpoint]);
            spawn(&mut command)
        };
        let write = |child: &mut Child, people: std::ops::Range<usize>, is_last: bool| {
            let mut builder = tar::Builder::new(Vec::new());
            for person in people {
                for photo in &photos {
                    let name = photo.file_name().and_then(|name| name.to_str()).expect("a name");
                    append(&mut builder, &format!("p{person}/{name}"), &std::fs::read(photo).expect("a photo"));
                }
            }
            let mut archive = builder.into_inner().expect("an archive");
            if !is_last {
                archive.truncate(archive.len() - 1_024); // its end
            }
            child.stdin.as_mut().expect("its stdin").write_all(&archive).expect("write");
        };
        let mut child = enroll();
        write(&mut child, 0..4, false);
        wait_for_templates(&endpoint, &shared, "g", 3);
        served.kill();
        served = Served::start(&shared, &data);
        proxy.lead_to(address(&served));
        write(&mut child, 4..6, true);
        let output = child.wait_with_output().expect("run");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let told = json(&output);
        let count = |told: &Value, name: &str| told[name].as_u64().expect("a count");
        assert!(count(&told, "reconnects") >= 1, "{told}");
        assert_eq!(count(&told, "enrolled") + count(&told, "already_enrolled"), 30, "{told}");
        assert_eq!(templates(&endpoint, &shared, "g"), 30);

        let mut again = enroll();
        write(&mut again, 0..6, true);
        let told = json(&again.wait_with_output().expect("run"));
        assert_eq!((count(&told, "already_enrolled"), count(&told, "reconnects")), (30, 0));
        served.stop();

        // Nobody is there any more: it is given up, and what was done is told.
        let mut command = program(&shared);
        command.args(["enroll", "-", "-g", "g", "--patience", "0", "--endpoint", &endpoint]);
        let mut child = spawn(&mut command);
        write(&mut child, 0..1, true);
        let output = child.wait_with_output().expect("run");
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    });
    counted.await.expect("no panic");
}

#[test]
fn interrupted_command_finishes_what_is_on_its_way() {
    let Some(shared) = common::shared("interrupted_command_finishes_what_is_on_its_way") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&shared, &folder.path().join("data"));
    create_gallery(&served, &shared, "g");
    let mut child = spawn(&mut served.client(&shared, &["enroll", "-", "-g", "g", "--json"]));
    let mut builder = tar::Builder::new(child.stdin.as_mut().expect("its stdin"));
    for number in 1..=3 {
        let photo = std::fs::read(lfw(&shared, "Ai_Sugiyama", number)).expect("a photo");
        append(&mut builder, &format!("ai/{number}.jpg"), &photo);
    }
    std::mem::forget(builder); // its end is not written: more may come
    wait_for_templates(&served.endpoint, &shared, "g", 3);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("send SIGINT");
    assert!(sent.success());
    let stdin = child.stdin.take(); // and stays open
    let output = child.wait_with_output().expect("run");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let told = json(&output);
    assert_eq!((&told["end"], &told["enrolled"]), (&"interrupted".into(), &3.into()));
    drop(stdin);
    served.stop();
}

#[cfg(target_os = "linux")]
#[test]
fn twenty_thousand_photos_take_no_more_memory_than_a_few() {
    const PHOTOS: usize = 20_000;
    const PEAK_KIB_MAX: u64 = 96 << 10;
    let Some(shared) = common::shared("twenty_thousand_photos_take_no_more_memory_than_a_few") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let served = Served::start(&shared, &folder.path().join("data"));
    create_gallery(&served, &shared, "g");
    let report = folder.path().join("report.jsonl");
    let report_text = report.to_str().expect("UTF-8");
    let mut child = spawn(&mut served.client(&shared, &["enroll", "-", "-g", "g", "--json", "--report", report_text]));
    // 8 KiB each, 160 MiB in all, and none is a photo.
    let data = vec![7; 8 << 10];
    let mut builder = tar::Builder::new(child.stdin.take().expect("its stdin"));
    for number in 0..PHOTOS {
        append(&mut builder, &format!("p{:05}/{number}.jpg", number / 2), &data);
    }
    // All but what is in pipes and in flight has passed by now.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("its status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak").trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < PEAK_KIB_MAX, "{peak} KiB");
    drop(builder.into_inner().expect("the end"));
    let output = child.wait_with_output().expect("run");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let told = json(&output);
    assert_eq!(told["failed_by_reason"]["PHOTO_UNSUPPORTED_FORMAT"], PHOTOS, "{}", told["failed_by_reason"]);
    assert_eq!(told["identities_without_template_count"], PHOTOS / 2);
    assert_eq!(std::fs::read_to_string(&report).expect("the report").lines().count(), PHOTOS);
    println!("peak {peak} KiB, {} s", told["seconds"]);
    served.stop();
}
