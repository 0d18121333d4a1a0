//! The commands that keep a store's keys, as a user runs them.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::people::{assert_index_agrees, create, enrollment, gallery};
use common::program::{bare, json, run, text};
use facematch::gallery::{EmbeddedGalleries, MasterKey};

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a UTF-8 path").to_owned()
}

/// Makes a key file, and returns its name and the key.
fn new_key(folder: &Path, name: &str) -> (String, MasterKey) {
    let file = path(folder, name);
    run(&mut bare(&["store", "new-key", &file]), 0);
    let key = MasterKey::read(Path::new(&file)).expect("a key");
    (file, key)
}

fn fill(data: &Path) {
    let galleries = EmbeddedGalleries::open(data).expect("open");
    tokio::runtime::Builder::new_current_thread().build().expect("tokio").block_on(async {
        create(&galleries, "a").await;
        for number in 0..10 {
            galleries.enroll(gallery("a"), enrollment(number, &[0, 1])).await.expect("enrol");
        }
    });
    galleries.close();
}

#[test]
fn new_key_is_its_owners_alone_and_overwrites_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, key) = new_key(folder.path(), "key");
    let again = run(&mut bare(&["store", "new-key", &file]), 2);
    assert!(again.contains("cannot write"), "{again}");
    assert_eq!(MasterKey::read(Path::new(&file)).expect("as it was").id(), key.id());
    // By a shell's redirection, whose files others may read by default.
    let piped = folder.path().join("piped");
    let into = std::fs::File::create(&piped).expect("a file");
    let output = bare(&["store", "new-key"]).stdout(into).stderr(Stdio::piped()).output().expect("run");
    let made = MasterKey::read(&piped).expect("a key of its owner alone");
    assert_eq!(text(&output.stderr), format!("key {}\n", made.id()));
    assert_ne!(made.id(), key.id());
}

#[test]
fn store_is_encrypted_rotated_and_decrypted_by_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let at = path(folder.path(), "data");
    fill(&data);
    let ((one, first), (two, second)) = (new_key(folder.path(), "one"), new_key(folder.path(), "two"));
    let encrypt = ["store", "encrypt", "--data", &at, "--key-file", &one];
    let told = run(&mut bare(&encrypt), 0);
    assert_eq!(told, format!("the store is encrypted with key {} now: 10 identities\n", first.id()));
    assert!(run(&mut bare(&encrypt), 0).contains("already"));
    drop(EmbeddedGalleries::open_with_key(&data, Some(&first)).expect("the key"));
    // By the settings that a server has.
    let rotate = ["store", "rotate-key", "--data", &at, "--new-key-file", &two, "--json"];
    let output = bare(&rotate).env("FACEMATCH_ENCRYPTION_KEY_FILE", &one).output().expect("run");
    let expected = serde_json::json!({ "key_id": second.id().to_string(), "identities": 10, "damaged": 0 });
    assert_eq!(json(&output), expected);
    let wrong = run(&mut bare(&["store", "decrypt", "--data", &at, "--key-file", &one]), 2);
    assert!(wrong.contains(&format!("encrypted with key {}", second.id())), "{wrong}");
    let open = EmbeddedGalleries::open_with_key(&data, Some(&second)).expect("the new key");
    let decrypt = ["store", "decrypt", "--data", &at];
    let in_use = run(bare(&decrypt).env("FACEMATCH_ENCRYPTION_KEY", &*second.to_text()), 2);
    assert!(in_use.contains("open in another process"), "{in_use}");
    open.close();
    drop(open);
    run(bare(&decrypt).env("FACEMATCH_ENCRYPTION_KEY", &*second.to_text()), 0);
    let galleries = EmbeddedGalleries::open(&data).expect("a plain store");
    assert_index_agrees(&galleries, "a", "decrypted");
    galleries.close();
}

#[test]
fn commands_refuse_what_they_cannot_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let (key, _) = new_key(folder.path(), "key");
    let nowhere = path(folder.path(), "nowhere");
    let told = run(&mut bare(&["store", "encrypt", "--data", &nowhere, "--key-file", &key]), 2);
    assert!(told.contains("there is no store in") && !Path::new(&nowhere).exists(), "{told}");
    let told = run(&mut bare(&["store", "encrypt", "--data", &nowhere]), 2);
    assert!(told.contains("no key: name its file with --key-file"), "{told}");
    #[cfg(unix)]
    {
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("a mode");
        let told = run(&mut bare(&["store", "encrypt", "--data", &nowhere, "--key-file", &key]), 2);
        assert!(told.contains("chmod 600") && told.contains("rotate-key"), "{told}");
    }
}

#[cfg(unix)]
#[test]
fn server_opens_an_encrypted_store_by_its_key_alone_and_leaves_no_core_dumps() {
    use std::io::BufRead;
    let folder = tempfile::tempdir().expect("a folder");
    let at = path(folder.path(), "data");
    let ((one, key), (two, _)) = (new_key(folder.path(), "one"), new_key(folder.path(), "two"));
    drop(EmbeddedGalleries::open_with_key(&folder.path().join("data"), Some(&key)).expect("a new store"));
    let serve = |key: &[&str]| {
        let mut command = bare(&["serve", "--pack", "./models/starter", "--listen", "127.0.0.1:0", "--data", &at]);
        command.args(["--log", "error", "--json"]).args(key).env("FACEMATCH_CACHE", common::cache_folder());
        command
    };
    let refused = run(&mut serve(&["--encryption-key-file", &two]), 2);
    assert!(refused.contains(&format!("is encrypted with key {}, and key", key.id())), "{refused}");
    let refused = run(&mut serve(&[]), 2);
    assert!(refused.contains("no key is given"), "{refused}");
    let mut command = serve(&["--encryption-key-file", &one]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("start the server");
    let mut address = String::new();
    std::io::BufReader::new(child.stdout.take().expect("its output")).read_line(&mut address).expect("its address");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap_or_default();
    let told = Command::new("kill").arg(child.id().to_string()).status().expect("send SIGTERM");
    assert!(address.contains("address") && told.success() && child.wait().expect("it ends").success(), "{address}");
    if cfg!(target_os = "linux") {
        let limit = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(limit.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    }
}
