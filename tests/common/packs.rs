//! Folders of packs, catalogues and archives, for tests of `facematch models`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::program::program;

/// A folder of packs, a catalogue with one pack called `one`, and commands that use them.
pub struct House {
    pub folder: tempfile::TempDir,
    shared: PathBuf,
}

impl House {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), shared: PathBuf::from("none") }
    }

    pub fn with_models(shared: &Path) -> Self {
        Self { shared: shared.to_path_buf(), ..Self::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn models(&self) -> PathBuf {
        self.path("models")
    }

    /// Writes the catalogue: one archive at an address.
    pub fn catalogue(&self, address: &str, archive: &[u8], sha256: Option<&str>) {
        let sum = sha256.map(|sum| format!("sha256 = \"{sum}\"\nsha256_by = \"others\"\n")).unwrap_or_default();
        let bytes = archive.len();
        self.write_catalogue(&format!(
            "[[packs.files]]\nfile = \"one.zip\"\naddresses = [\"{address}\"]\nbytes = {bytes}\n{sum}"
        ));
    }

    pub fn write_catalogue(&self, files: &str) {
        let text = format!(
            "format = 1\n[licences.free]\ntitle = \"free\"\ntext = \"do what you like\"\n\
             [licences.research]\ntitle = \"research only\"\nmust_be_accepted = true\ntext = \"not for money\"\n\
             [[packs]]\nname = \"one\"\nabout = \"a pack\"\nlicence = \"free\"\n{files}"
        );
        std::fs::write(self.path("catalogue.toml"), text).expect("write the catalogue");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(&self.shared);
        for name in
            ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"]
        {
            command.env_remove(name);
        }
        command.env("FACEMATCH_MODELS", self.models()).args(arguments);
        command
    }

    pub fn of_models(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["models"]);
        command.args(arguments).arg("--catalogue").arg(self.path("catalogue.toml"));
        command
    }

    /// What is left where packs, parts of them and downloads could be.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mut folders = vec![self.models()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else if !entry.ends_with(".lock") {
                    left.push(entry.strip_prefix(self.models()).expect("within").display().to_string());
                }
            }
        }
        left
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A ZIP archive of some files, stored or deflated.
pub fn archive(files: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, content) in files {
        writer.start_file(*name, options).expect("a file");
        writer.write_all(content).expect("write");
    }
    writer.finish().expect("an archive").into_inner()
}

pub fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
    archive(files, zip::CompressionMethod::Stored)
}

/// An archive that is whole, of a file that is no model: whoever gets to load it has believed the archive.
pub fn no_model() -> Vec<u8> {
    stored(&[("a.onnx", &[b'x'; 200_000])])
}

/// What such an archive ends in.
pub const BELIEVED: &str = "it is no pack that can be used";
