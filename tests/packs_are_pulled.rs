//! Packs are fetched, checked and used by their names; a server that cuts, lies or changes its mind leaves nothing.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::packs::{BELIEVED, House, no_model, sha256, stored};
use common::program::{json, lfw, run, text};
use common::site::{self, Reply, Request, Site};
use serde_json::Value;

/// The smallest pack there is: SCRFD-500m and EdgeFace-XXS, as InsightFace packs them, in a folder and with other things.
fn real_pack(shared: &Path) -> Vec<u8> {
    let read = |name: &str| std::fs::read(shared.join("models").join(name)).expect("a model");
    let (detector, recognizer) = (read("insightface_det_500m.onnx"), read("edgeface_xxs_512.onnx"));
    stored(&[
        ("two/det_500m.onnx", &detector),
        ("two/recognizer.onnx", &recognizer),
        ("two/LICENSE.txt", b"do what you like"),
        ("two/run.sh", b"rm -r /"),
        ("__MACOSX/two/._det_500m.onnx", b"x"),
    ])
}

#[test]
fn pack_is_pulled_and_used_by_its_name_until_it_is_changed() {
    let Some(shared) = common::shared("pack_is_pulled_and_used_by_its_name_until_it_is_changed") else { return };
    let house = House::with_models(&shared);
    let zip = Arc::new(real_pack(&shared));
    let served = Arc::clone(&zip);
    let site = Site::start(move |_, request| site::file(request, &served, "\"a\""));
    house.catalogue(&format!("{}/one.zip", site.address), &zip, None);

    let photo = lfw(&shared, "Ai_Sugiyama", 1);
    let detect = || {
        let mut command = house.command(&["detect", "--pack", "one"]);
        command.arg(&photo);
        command
    };
    let absent = run(&mut detect(), 2);
    assert!(absent.contains("no pack \"one\" is installed") && absent.contains("models pull one"), "{absent}");

    let pulled = run(&mut house.of_models(&["pull", "one"]), 0);
    assert!(pulled.contains(&format!("SHA-256 {} is recorded", sha256(&zip))), "{pulled}");
    assert!(pulled.contains("one is installed in") && pulled.contains("512 numbers"), "{pulled}");
    let mut left = house.leftovers();
    left.sort();
    let files = ["LICENSE.txt", "det_500m.onnx", "installed.toml", "recognizer.onnx"].map(|file| format!("one/{file}"));
    assert_eq!(left[1..], files, "{left:?}");
    assert_eq!(left[0], "checksums.toml");

    assert!(run(&mut detect(), 0).contains("1 face"));
    let again = run(&mut house.of_models(&["pull", "one"]), 0);
    assert!(again.contains("installed already") && site.requests().len() == 1, "{again}");
    let listed = json(&house.of_models(&["list", "--json"]).output().expect("run"));
    assert_eq!((&listed["name"], &listed["installed"]), (&"one".into(), &true.into()));
    let info = json(&house.of_models(&["info", "one", "--json"]).output().expect("run"));
    assert_eq!(info["installed"]["loaded"]["dimension"], 512);
    assert_eq!(
        info["installed"]["files"][1]["sha256"],
        "5e4447f50245bbd7966bd6c0fa52938c61474a04ec7def48753668a9d8b4ea3a"
    );
    assert!(run(&mut house.of_models(&["verify"]), 0).contains("one: as it was installed, 3 files"));

    let untried = run(house.of_models(&["verify", "one"]).env("ORT_DYLIB_PATH", "/nonexistent"), 2);
    assert!(untried.contains("no ONNX Runtime library found"), "{untried}");

    // A file that is changed is told, and not used.
    let recognizer = house.models().join("one/recognizer.onnx");
    let mut bytes = std::fs::read(&recognizer).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&recognizer, bytes).expect("write");
    let damaged = run(&mut house.of_models(&["verify", "one"]), 1);
    assert!(damaged.contains("recognizer.onnx: expected SHA-256 eda5dc62"), "{damaged}");
    let refused = run(&mut detect(), 2);
    assert!(refused.contains("recognizer.onnx: expected SHA-256 eda5dc62"), "{refused}");

    // Nobody is at a terminal to be asked.
    assert!(run(&mut house.of_models(&["remove", "one"]), 2).contains("--yes"));
    assert!(run(&mut house.of_models(&["remove", "one", "--yes"]), 0).contains("one is removed"));
    assert!(run(&mut house.of_models(&["verify", "one"]), 2).contains("no pack one is installed"));
    assert_eq!(house.leftovers(), ["checksums.toml"]);

    // The same file is taken again, another is not.
    run(&mut house.of_models(&["pull", "one"]), 0);
    run(&mut house.of_models(&["remove", "one", "--yes"]), 0);
    let other = stored(&[("a.onnx", b"x")]);
    let site = Site::start(move |_, request| site::file(request, &other, "\"b\""));
    house.catalogue(&format!("{}/one.zip", site.address), &zip, None);
    let changed = run(&mut house.of_models(&["pull", "one"]), 2);
    assert!(
        changed.contains("recorded in") && changed.contains(&format!("expected SHA-256 {}", sha256(&zip))),
        "{changed}"
    );
    assert_eq!(house.leftovers(), ["checksums.toml"]);
}

#[test]
fn pack_is_pulled_once_by_two_at_a_time() {
    let Some(shared) = common::shared("pack_is_pulled_once_by_two_at_a_time") else { return };
    let house = House::with_models(&shared);
    let zip = Arc::new(real_pack(&shared));
    let served = Arc::clone(&zip);
    let site = Site::start(move |_, request| site::file(request, &served, "\"a\""));
    house.catalogue(&format!("{}/one.zip", site.address), &zip, Some(&sha256(&zip)));
    let pull = || house.of_models(&["pull", "one"]).output().expect("run");
    let outputs = std::thread::scope(|scope| {
        let threads = [scope.spawn(pull), scope.spawn(pull)];
        threads.map(|thread| thread.join().expect("a thread"))
    });
    for output in &outputs {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let said = outputs.map(|output| text(&output.stdout));
    assert_eq!(said.iter().filter(|said| said.contains("installed already")).count(), 1, "{said:?}");
    assert_eq!(site.requests().len(), 1);
}

#[test]
fn files_without_a_manifest_get_that_of_the_catalogue() {
    let Some(shared) = common::shared("files_without_a_manifest_get_that_of_the_catalogue") else { return };
    let house = House::with_models(&shared);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packs/yunet-foamliu/pack.toml");
    let manifest = std::fs::read_to_string(manifest).expect("the manifest");
    let names = ["face_detection_yunet_2023mar.onnx", "foamliu_mobilefacenet_128_b1.onnx"];
    let files = names.map(|name| {
        let bytes = std::fs::read(shared.join("models").join(name)).expect("a model");
        let (sum, length) = (sha256(&bytes), bytes.len());
        format!(
            "[[packs.files]]\nfile = \"{name}\"\naddresses = [\"http://127.0.0.1:9/{name}\"]\nbytes = {length}\n\
             sha256 = \"{sum}\"\nsha256_by = \"publisher\"\n"
        )
    });
    house.write_catalogue(&format!("manifest = '''\n{manifest}'''\n{}", files.concat()));
    // Their publisher is not reached; the mirror has them by their names.
    let models = shared.join("models");
    let site = Site::start(move |_, request| {
        let name = request.path.strip_prefix("/packs/").expect("the mirror's folder");
        site::file(request, &std::fs::read(models.join(name)).expect("a model"), "\"a\"")
    });
    let unreached = run(&mut house.of_models(&["pull", "one"]), 2);
    assert!(unreached.contains("cannot fetch http://127.0.0.1:9/face_detection_yunet_2023mar.onnx"), "{unreached}");
    let mirror = format!("{}/packs/", site.address.replace("http://", "http://bob:s3cret@"));
    let pulled = run(&mut house.of_models(&["pull", "one", "--mirror", &mirror]), 0);
    assert!(pulled.contains("128 numbers"), "{pulled}");
    let record = std::fs::read_to_string(house.models().join("one/installed.toml")).expect("the record");
    assert!(record.contains(&format!("{}/packs/", site.address)) && !record.contains("s3cret"), "{record}");
    let id = || {
        json(&house.of_models(&["info", "one", "--json"]).output().expect("run"))["installed"]["loaded"]["pack_id"]
            .clone()
    };
    let expected = common::pack(&shared, "yunet-foamliu").id.as_str().to_owned();
    assert_eq!(id(), Value::from(expected.as_str()));

    // From a folder without internet it is the same pack.
    run(&mut house.of_models(&["remove", "one", "--yes"]), 0);
    let folder = house.path("one");
    std::fs::create_dir(&folder).expect("a folder");
    for name in names {
        std::fs::copy(shared.join("models").join(name), folder.join(name)).expect("copy");
    }
    run(house.of_models(&["add"]).arg(&folder), 0);
    assert_eq!(id(), Value::from(expected.as_str()));
    let taken = run(house.of_models(&["add"]).arg(&folder), 2);
    assert!(taken.contains("is there already"), "{taken}");
    // Under a name that the catalogue does not know it is a plain folder, and fed as one.
    let plain = run(house.of_models(&["add", "--name", "another"]).arg(&folder), 0);
    assert!(plain.contains("128 numbers") && !plain.contains(&expected), "{plain}");
    assert_eq!(run(&mut house.of_models(&["list"]), 0).matches("installed").count(), 2);

    // A pack that no longer computes what it did is told what it computes.
    let sums = format!("{:?}", [1.0; 16]);
    let golden = format!("{manifest}\n[golden]\ndetector = {sums}\nrecognizer = {sums}\n");
    std::fs::write(folder.join("pack.toml"), golden).expect("write");
    let refused = run(house.of_models(&["add", "--name", "fourth"]).arg(&folder), 2);
    assert!(refused.contains("does not compute what it did"), "{refused}");
    assert!(run(house.of_models(&["golden"]).arg(&folder), 0).starts_with("[golden]"));

    // What a manifest of anybody states steers no terminal.
    let stated = manifest.lines().find(|line| line.starts_with("licence")).expect("a licence");
    let steering = manifest.replace(stated, "licence = \"mine\\u001B[2J\"");
    std::fs::write(folder.join("pack.toml"), &steering).expect("write");
    let added = run(house.of_models(&["add", "--name", "third"]).arg(&folder), 0);
    assert!(added.contains("mine\\u{1b}[2J") && !added.contains('\u{1b}'), "{added}");
}

#[test]
fn damaged_record_is_a_fault_of_its_pack_alone() {
    let Some(shared) = common::shared("damaged_record_is_a_fault_of_its_pack_alone") else { return };
    let house = House::with_models(&shared);
    house.write_catalogue("instead = \"Ask its author.\"\n");
    let zip = house.path("two.zip");
    std::fs::write(&zip, real_pack(&shared)).expect("write");
    for name in ["two", "three"] {
        run(house.of_models(&["add", "--name", name]).arg(&zip), 0);
    }
    let record = house.models().join("three/installed.toml");
    for damage in [Some("x"), None] {
        match damage {
            Some(text) => std::fs::write(&record, text).expect("write"),
            None => std::fs::remove_file(&record).expect("remove"),
        }
        assert!(run(&mut house.of_models(&["list"]), 0).contains("  damaged "));
        let verified = run(&mut house.of_models(&["verify"]), 1);
        assert!(verified.contains("three: ") && verified.contains("installed.toml"), "{verified}");
        assert!(verified.contains("two: as it was installed"), "{verified}");
        assert!(run(&mut house.of_models(&["info", "three"]), 0).contains("damaged: "));
    }
    run(&mut house.of_models(&["remove", "three", "--yes"]), 0);
    assert!(run(&mut house.of_models(&["verify"]), 0).contains("two: as it was installed, 3 files"));
}

#[test]
fn name_of_the_catalogue_is_for_its_files_alone() {
    let house = House::new();
    let sum = sha256(b"right");
    house.write_catalogue(&format!(
        "[[packs.files]]\nfile = \"a.onnx\"\naddresses = [\"http://127.0.0.1:9/a\"]\nbytes = 5\n\
         sha256 = \"{sum}\"\nsha256_by = \"publisher\"\n"
    ));
    /// What is brought, and what is said of it.
    type Case = (&'static [(&'static str, &'static [u8])], &'static str);
    let cases: [Case; 4] = [
        (&[("a.onnx", b"wrong")], "expected SHA-256"),
        (&[("b.onnx", b"right")], "a.onnx is missing"),
        (&[("a.onnx", b"right"), ("pack.toml", b"")], "pack.toml of its own"),
        (&[("a.onnx", b"right"), ("b.onnx", b"wrong")], BELIEVED),
    ];
    for (number, (files, said)) in cases.into_iter().enumerate() {
        let (folder, zip) = (house.path(&number.to_string()), house.path(&format!("{number}.zip")));
        std::fs::create_dir(&folder).expect("a folder");
        for (name, content) in files {
            std::fs::write(folder.join(name), content).expect("write");
        }
        std::fs::write(&zip, stored(files)).expect("write");
        for path in [folder, zip] {
            let error = run(house.of_models(&["add", "--name", "one"]).arg(&path), 2);
            assert!(error.contains(said), "{said:?} is not in {error}");
            let is_refused = error.contains("this is not the one of the catalogue") && error.contains("--name");
            assert_eq!(is_refused, said != BELIEVED, "{error}");
            assert!(house.leftovers().is_empty());
        }
    }
    let reserved = run(house.of_models(&["add", "--name", "checksums.toml"]).arg(house.path("0")), 2);
    assert!(reserved.contains("checksums.toml is no name for a pack"), "{reserved}");
}

#[test]
fn files_that_cannot_be_checked_are_told_and_bind_no_later_pull() {
    let Some(shared) = common::shared("files_that_cannot_be_checked_are_told_and_bind_no_later_pull") else { return };
    let house = House::with_models(&shared);
    let zip = Arc::new(real_pack(&shared));
    let served = Arc::clone(&zip);
    let site = Site::start(move |_, request| site::file(request, &served, "\"a\""));
    // Of the archive that was published nothing is known but its checksum.
    house.catalogue(&format!("{}/one.zip", site.address), &zip, Some(&sha256(&zip)));
    let folder = house.path("mine");
    std::fs::create_dir(&folder).expect("a folder");
    for (model, name) in [("insightface_det_500m.onnx", "d.onnx"), ("edgeface_xxs_512.onnx", "r.onnx")] {
        std::fs::copy(shared.join("models").join(model), folder.join(name)).expect("copy");
    }
    let added = run(house.of_models(&["add", "--name", "one"]).arg(&folder), 0);
    assert!(added.contains("not checked: from a folder"), "{added}");
    let info = run(&mut house.of_models(&["info", "one"]), 0);
    assert!(info.contains("mine, not checked: from a folder"), "{info}");
    run(&mut house.of_models(&["remove", "one", "--yes"]), 0);

    // Of the archive not even that is known: what somebody has is not what its publisher gives.
    house.catalogue(&format!("{}/one.zip", site.address), &zip, None);
    let other = house.path("other.zip");
    let files = ["d.onnx", "r.onnx"].map(|name| (name, std::fs::read(folder.join(name)).expect("a model")));
    std::fs::write(&other, stored(&files.each_ref().map(|(name, bytes)| (*name, bytes.as_slice())))).expect("write");
    let added = run(house.of_models(&["add", "--name", "one"]).arg(&other), 0);
    assert!(added.contains("not checked: no checksum of it is known"), "{added}");
    assert!(!house.models().join("checksums.toml").exists());
    run(&mut house.of_models(&["remove", "one", "--yes"]), 0);
    run(&mut house.of_models(&["pull", "one"]), 0);
}

#[test]
fn password_of_a_mirror_is_not_told() {
    let house = House::new();
    let site = Site::start(|_, _| site::reply(500, "", b"", 0));
    house.catalogue("http://127.0.0.1:9/one.zip", &no_model(), None);
    let mirror = site.address.replace("http://", "http://bob:s3cret@");
    let error = run(&mut house.of_models(&["pull", "one", "--mirror", &mirror]), 2);
    assert!(error.contains("trying again") && error.contains(&site.address), "{error}");
    let refused = run(&mut house.of_models(&["pull", "one", "--mirror", "ftp://bob:s3cret@host"]), 2);
    assert!(refused.contains("ftp://host"), "{refused}");
    assert!(!error.contains("s3cret") && !refused.contains("s3cret"), "{error}{refused}");
}

#[test]
fn download_that_was_cut_goes_on_where_it_ended() {
    let house = House::new();
    let zip = Arc::new(no_model());
    let served = Arc::clone(&zip);
    let site = Site::start(move |number, request| {
        let after = if number == 0 { 50_000 } else { usize::MAX };
        site::cut(request, &served, "\"a\"", after)
    });
    house.catalogue(&format!("{}/one.zip", site.address), &zip, Some(&sha256(&zip)));
    let error = run(&mut house.of_models(&["pull", "one"]), 2);
    assert!(error.contains("was cut after 50000 bytes of 200") && error.contains(BELIEVED), "{error}");
    let asked: Vec<_> = site.requests().iter().map(|request| (request.from, request.tag.clone())).collect();
    assert_eq!(asked, [(None, None), (Some(50_000), Some("\"a\"".to_owned()))]);
    // What is whole is not fetched again: the server has nothing after it.
    assert!(run(&mut house.of_models(&["pull", "one"]), 2).contains(BELIEVED));
    assert_eq!(site.requests().last().and_then(|request| request.from), Some(zip.len()));
    assert_eq!(site.requests().len(), 3);
}

#[test]
fn download_goes_on_in_another_run_unless_the_file_is_another_by_then() {
    let house = House::new();
    let zip = Arc::new(no_model());
    // Cut at each request; then another file, of another tag; then the first server's file again.
    let served = Arc::clone(&zip);
    let cut = Site::start(move |_, request| site::cut(request, &served, "\"a\"", 10_000));
    house.catalogue(&format!("{}/one.zip", cut.address), &zip, Some(&sha256(&zip)));
    let error = run(&mut house.of_models(&["pull", "one"]), 2);
    assert!(error.contains("was cut after 40000 bytes of") && error.contains("run it again"), "{error}");
    assert_eq!(house.leftovers().len(), 2, "{:?}", house.leftovers());
    run(&mut house.of_models(&["pull", "one"]), 2);
    let asked: Vec<_> = cut.requests().iter().map(|request| request.from.unwrap_or(0)).collect();
    assert_eq!(asked, [0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000]);

    let (served, tags) = (Arc::clone(&zip), ["\"a\"", "\"b\""]);
    let site = Site::start(move |number, request| {
        let after = if number == 0 { 50_000 } else { usize::MAX };
        site::cut(request, &served, tags[usize::from(number > 0)], after)
    });
    house.catalogue(&format!("{}/one.zip", site.address), &zip, Some(&sha256(&zip)));
    // What there is of another address is not gone on with; nor what there is of another tag.
    assert!(run(&mut house.of_models(&["pull", "one"]), 2).contains(BELIEVED));
    let asked: Vec<_> = site.requests().iter().map(|request| request.from).collect();
    assert_eq!(asked, [None, Some(50_000)]);
}

#[test]
fn server_that_does_not_keep_its_word_leaves_nothing() {
    /// What a server does, and what is said of it.
    type Case = (fn(&Request, &[u8]) -> Reply, &'static [&'static str]);
    let cases: [Case; 11] = [
        (|_, _| site::reply(404, "", b"", 0), &["the server replied 404"]),
        (|_, _| site::reply(500, "", b"", 0), &["trying again", "the server replied 500"]),
        (|_, _| site::reply(302, "location: /one.zip\r\n", b"", 0), &["too many redirects"]),
        (|_, _| site::reply(200, "", b"<html>log in</html>", 19), &["expected SHA-256", "is not used"]),
        (|_, body| site::reply(200, "", &[b'x'; 200_000], body.len()), &["was cut after 200000 bytes"]),
        // Said to be too large, and nothing of it is read.
        (|_, body| site::reply(200, "", body, 2_000_000), &["expected at most", "found 2000000"]),
        (
            |_, _| Reply::Endless("HTTP/1.1 200 x\r\nconnection: close\r\n\r\n".into()),
            &["expected at most", "found more"],
        ),
        // A range that was not asked for.
        (|_, body| site::reply(206, "content-range: bytes 5-9/10\r\n", body, body.len()), &["was cut after 0 bytes"]),
        (|_, _| Reply::Bytes(b"SSH-2.0-x\r\n".to_vec()), &["cannot fetch http://127.0.0.1"]),
        (|_, _| Reply::Bytes(Vec::new()), &["trying again", "cannot fetch http://127.0.0.1"]),
        // One bit.
        (
            |_, body| {
                let mut body = body.to_vec();
                body[1_000] ^= 1;
                site::reply(200, "", &body, body.len())
            },
            &["expected SHA-256", "as others state it", "is not used"],
        ),
    ];
    let zip = Arc::new(no_model());
    for (number, (behaviour, said)) in cases.into_iter().enumerate() {
        let house = House::new();
        let served = Arc::clone(&zip);
        let site = Site::start(move |_, request| behaviour(request, &served));
        house.catalogue(&format!("{}/one.zip", site.address), &zip, Some(&sha256(&zip)));
        let error = run(&mut house.of_models(&["pull", "one"]), 2);
        for part in said {
            assert!(error.contains(part), "case {number}: {part:?} is not in {error}");
        }
        let mut parts = house.leftovers();
        parts.retain(|left| left != ".downloads/one/one.zip");
        assert!(parts.is_empty(), "case {number}: {parts:?}");
        let part = std::fs::metadata(house.models().join(".downloads/one/one.zip")).map_or(0, |part| part.len());
        assert!(part <= zip.len() as u64, "case {number}: {part} bytes");
    }
}

#[test]
fn next_address_is_tried_where_one_fails() {
    let house = House::new();
    let zip = Arc::new(no_model());
    let served = Arc::clone(&zip);
    let site = Site::start(move |_, request| match request.path.as_str() {
        "/first" => site::reply(404, "", b"", 0),
        _ => site::file(request, &served, "\"a\""),
    });
    let address = format!("{0}/first\", \"{0}/second", site.address);
    house.catalogue(&address, &zip, Some(&sha256(&zip)));
    assert!(run(&mut house.of_models(&["pull", "one"]), 2).contains(BELIEVED));
    let paths: Vec<_> = site.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/first", "/second"]);
}

#[test]
fn proxy_is_gone_through_unless_the_host_is_excepted() {
    let house = House::new();
    let zip = Arc::new(no_model());
    let served = Arc::clone(&zip);
    let site = Site::start(move |_, request| site::file(request, &served, "\"a\""));
    let proxy = Site::start(|_, _| site::reply(403, "", b"", 0));
    house.catalogue(&format!("{}/one.zip", site.address), &zip, Some(&sha256(&zip)));
    run(house.of_models(&["pull", "one"]).env("https_proxy", &proxy.address), 2);
    assert!(!proxy.requests().is_empty() && site.requests().is_empty());
    let asked = proxy.requests().len();
    let direct =
        run(house.of_models(&["pull", "one", "--no-proxy", "127.0.0.1"]).env("https_proxy", &proxy.address), 2);
    assert!(direct.contains(BELIEVED) && proxy.requests().len() == asked && site.requests().len() == 1, "{direct}");
}

#[test]
fn licence_that_forbids_something_must_be_accepted() {
    let house = House::new();
    let zip = Arc::new(no_model());
    let served = Arc::clone(&zip);
    let site = Site::start(move |_, request| site::file(request, &served, "\"a\""));
    house.catalogue(&format!("{}/one.zip", site.address), &zip, Some(&sha256(&zip)));
    let path = house.path("catalogue.toml");
    let strict = std::fs::read_to_string(&path).expect("read").replace("licence = \"free\"", "licence = \"research\"");
    std::fs::write(&path, strict).expect("write");
    let file = house.path("one.zip");
    std::fs::write(&file, &*zip).expect("write");

    let add = ["add", file.to_str().expect("a path")];
    for arguments in [&["pull", "one"][..], &add] {
        let refused = run(&mut house.of_models(arguments), 2);
        assert!(refused.contains("--accept-licence") && refused.contains("research only\nnot for money"), "{refused}");
        assert!(site.requests().is_empty() && house.leftovers().is_empty());
    }
    for arguments in [&["pull", "one", "--accept-licence"][..], &[&add[..], &["--accept-licence"]].concat()] {
        assert!(run(&mut house.of_models(arguments), 2).contains(BELIEVED));
    }
    assert!(run(&mut house.of_models(&["info", "one"]), 0).contains("must be accepted"));
    // An archive that only has the name of the catalogue's is not taken for it.
    std::fs::write(&file, stored(&[("a.onnx", b"x")])).expect("write");
    let other = run(&mut house.of_models(&[&add[..], &["--accept-licence"]].concat()), 2);
    assert!(other.contains("this is not the one of the catalogue") && other.contains("--name"), "{other}");
}

#[test]
fn pack_that_cannot_be_fetched_says_what_to_do() {
    let house = House::new();
    house.write_catalogue("instead = \"Ask its author.\"\n");
    assert!(run(&mut house.of_models(&["pull", "one"]), 2).contains("one cannot be fetched. Ask its author."));
    assert!(run(&mut house.of_models(&["pull", "two"]), 2).contains("the catalogue has no pack two"));
    assert!(run(&mut house.of_models(&["pull", "../two"]), 2).contains("a pack's name is"));
    // The program's own.
    assert!(run(&mut house.command(&["models", "list"]), 0).contains("buffalo_l"));
    let refused = run(&mut house.command(&["models", "pull", "buffalo_l"]), 2);
    assert!(refused.contains("non-commercial research purposes only"), "{refused}");
    assert!(run(&mut house.command(&["models", "pull", "edgeface"]), 2).contains("models/README.md"));
    std::fs::write(house.path("catalogue.toml"), "format = 7").expect("write");
    assert!(run(&mut house.of_models(&["list"]), 2).contains("catalogue.toml: "));
}
