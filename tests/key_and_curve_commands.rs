//! The commands that say who may do what, and by which curve thresholds are read, as an administrator runs them.

#[path = "common/callers.rs"]
mod callers;
mod common;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::program::{bare, run};
use common::{Running, samples};
use serde_json::Value;

/// A caller at a terminal: where the server is, and the file of the key that is shown.
struct Caller {
    endpoint: String,
    key_file: Option<String>,
}

impl Caller {
    fn call(&self, arguments: &[&str], exit_code: i32) -> String {
        let mut command = bare(arguments);
        command.args(["--endpoint", &self.endpoint]);
        if let Some(file) = &self.key_file {
            command.args(["--key-file", file]);
        }
        run(&mut command, exit_code)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let told = self.call(&[arguments, &["--json"]].concat(), 0);
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
    }
}

fn endpoint(running: &Running) -> String {
    format!("http://{}", running.server.address())
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a UTF-8 path").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_key_makes_others_which_do_what_they_may_until_they_are_revoked() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = path(folder.path(), "admin.key");
    let into = std::fs::File::create(&admin).expect("a file");
    assert!(bare(&["key", "generate"]).stdout(into).stderr(Stdio::inherit()).status().expect("run").success());
    let data = folder.path().join("data");
    let running = common::serve_starter(&data, &[("keys", "required"), ("admin_key_file", &admin)]).await;
    let administrator = Caller { endpoint: endpoint(&running), key_file: Some(admin) };
    administrator.call(&["gallery", "create", "door-1"], 0);

    let limited = ["--calls-per-second", "50", "--concurrent-calls", "4", "--bytes-per-second", "9000000"];
    let stated = ["key", "create", "front door", "--allow", "read:*", "enrol:door-*", "--identities", "70"];
    let told = administrator.call(&[&stated[..], &limited, &["--expires-days", "30"]].concat(), 0);
    let (secret, id) = told.split_once('\n').expect("two lines");
    let id = id.strip_prefix("key ").and_then(|rest| rest.split(':').next()).expect("its id");
    let line = administrator.call(&["key", "list"], 0);
    for part in [
        &format!("{id}  front door  read:* enrol:door-*, until 2"),
        ", 50 calls/s, 4 calls at a time, 9000000 bytes/s, 70 identities\n",
    ] {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
    assert!(!line.contains(secret), "{line}");

    let file = path(folder.path(), "door.key");
    common::write_secret(Path::new(&file), secret);
    let door = Caller { endpoint: endpoint(&running), key_file: Some(file) };
    assert!(door.call(&["gallery", "list"], 0).contains("door-1"));
    assert!(door.call(&["key", "list"], 2).contains("(PERMISSION_DENIED)"));
    assert_eq!(administrator.call(&["key", "revoke", id], 0), "revoked\n");
    assert!(door.call(&["gallery", "list"], 2).contains("(UNAUTHENTICATED)"));
    assert!(administrator.call(&["key", "revoke", "abcdefghijkl"], 2).contains("NOT_FOUND"), "as what is not there");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_needs_no_secret_and_a_grant_that_is_none_asks_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = callers::admin_key_file(folder.path());
    let data = folder.path().join("data");
    let running = common::serve_starter(&data, &[("keys", "required"), ("admin_key_file", &admin)]).await;
    let administrator = Caller { endpoint: endpoint(&running), key_file: Some(admin) };
    let of_certificate = ["key", "create", "door", "--allow", "admin:*", "--certificate-subject", "CN=door,O=Corp"];
    let told = administrator.call(&of_certificate, 0);
    assert!(told.ends_with(": it is the certificate of CN=door,O=Corp\n") && told.lines().count() == 1, "{told}");
    assert!(administrator.call(&["key", "list"], 0).contains("admin:*, by certificate CN=door,O=Corp\n"));
    let reply = administrator.json(&["key", "create", "other", "--allow", "delete:staff"]);
    assert_eq!(reply["key"]["grants"], serde_json::json!([{ "scope": "KEY_SCOPE_DELETE", "galleries": "staff" }]));
    assert!(reply["secret"].as_str().is_some_and(|secret| secret.len() > 30), "a secret");
    assert_eq!(administrator.json(&["key", "list"])["keys"].as_array().map(Vec::len), Some(2));
    running.stop().await;

    let nowhere = Caller { endpoint: "http://127.0.0.1:1".to_owned(), key_file: None };
    for grant in ["read", "write:*", "read:", "read:a*b"] {
        let told = nowhere.call(&["key", "create", "door", "--allow", grant], 2);
        assert!(told.contains(&format!("--allow {grant:?}")), "{told}");
    }
    assert!(nowhere.call(&["key", "list"], 2).contains("cannot reach a server at http://127.0.0.1:1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn curve_is_measured_set_shown_and_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let running = common::serve_starter(&folder.path().join("data"), &[]).await;
    let caller = Caller { endpoint: endpoint(&running), key_file: None };
    let people = samples::folder().join("people").to_str().expect("a UTF-8 path").to_owned();
    caller.call(&["gallery", "create", "staff"], 0);
    caller.call(&["enroll", "-g", "staff", &people], 0);

    let of_pack = caller.call(&["curve", "get"], 0);
    assert!(of_pack.starts_with("curve of the pack\nid       "), "{of_pack}");
    let measure = ["curve", "measure", "-g", "staff"];
    let told = caller.call(&measure, 0);
    // Each with each of the same person, and of others.
    let (persons, photos) = (samples::people().len(), samples::PHOTOS);
    let (mated, all) = (persons * photos * (photos - 1) / 2, persons * photos * (persons * photos - 1) / 2);
    for part in [
        &format!("mated    {mated}\nnon-mated {}\n", all - mated),
        "EER      ",
        "\nFMR 1e-2  threshold 0.",
        ": needs about ",
        "\nnot kept: with --set it would be\n",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert_eq!(caller.call(&["curve", "get", "-g", "staff"], 0).lines().nth(1), of_pack.lines().nth(1), "the pack's");
    assert!(caller.call(&[&measure[..], &["--set"]].concat(), 0).ends_with("\nkept\n"));
    let of_gallery = caller.call(&["curve", "get", "-g", "staff"], 0);
    let set_at = format!("the templates of gallery staff, each with each, set at {persons} identities\n");
    assert!(of_gallery.starts_with("curve of gallery staff\n") && of_gallery.contains(&set_at), "{of_gallery}");

    let report = calibrate(folder.path(), &people);
    let report = report.to_str().expect("a UTF-8 path");
    let kept = caller.call(&["curve", "set", report, "--source", "samples, by hand"], 0);
    assert!(kept.contains("source   samples, by hand\n") && kept.contains(&format!("mated    {mated}\n")), "{kept}");
    assert!(caller.call(&["curve", "get"], 0).contains("samples, by hand"));
    assert_eq!(caller.call(&["curve", "get", "-g", "staff"], 0), of_gallery, "a gallery's own stays");
    for owner in [&["-g", "staff"][..], &[]] {
        assert_eq!(caller.call(&[&["curve", "delete"], owner].concat(), 0), "deleted\n");
        assert!(caller.call(&[&["curve", "delete"], owner].concat(), 2).contains("(CURVE_NOT_FOUND)"));
    }
    assert_eq!(caller.call(&["curve", "get", "-g", "staff"], 0), of_pack);
    running.stop().await;

    // What is no report is told of before a server is asked.
    let broken = path(folder.path(), "broken.json");
    for (text, told) in [("{", "is no report.json"), ("{\"format\": 1}", "no curve of this version is in it")] {
        std::fs::write(&broken, text).expect("write");
        assert!(caller.call(&["curve", "set", &broken], 2).contains(told));
    }
}

fn calibrate(folder: &Path, people: &str) -> PathBuf {
    let out = folder.join("calibration");
    let mut command = bare(&["calibrate", "--all-pairs", "--photos", people, "--pack", "models/starter"]);
    run(command.arg("--cache").arg(common::cache_folder()).arg("--out").arg(&out), 0);
    out.join("report.json")
}
