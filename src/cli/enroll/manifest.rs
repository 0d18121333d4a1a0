//! Manifests: a line a photo, as CSV with a header or as JSON objects.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use super::bounded::{Bounded, Input};
use super::metadata::{ENTRIES_MAX, Field, Metadata};
use super::source::{Bytes, Found, Place, Taker, Unusable, id};

/// Bytes of a line.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What a column's or a key's name begins with that is metadata.
const METADATA_PREFIX: &str = "metadata.";

/// How a manifest is read.
#[derive(Args, Clone)]
pub(super) struct Manifest {
    /// Where the relative paths of a manifest begin [default: the folder that it is in; of stdin, this one]
    #[arg(long, value_name = "DIR")]
    photos: Option<PathBuf>,
    /// What a manifest calls its columns or keys, such as path=file,identity=person_id,key=photo_id,display_name=name
    #[arg(long, value_name = "ROLE=NAME,…", value_delimiter = ',')]
    columns: Vec<String>,
    /// Columns or keys that become metadata of the person, such as site,age:number,staff:bool,since:time [default: those
    /// called metadata.NAME or metadata.NAME:TYPE; in JSON lines, also the object `metadata`]
    #[arg(long, value_name = "NAME[:TYPE],…", value_delimiter = ',')]
    metadata: Vec<String>,
}

/// The checked settings of a manifest.
pub(super) struct Columns {
    folder: PathBuf,
    path: String,
    identity: String,
    /// Stated; or, of this name, used where it is there.
    key: (String, bool),
    display_name: (String, bool),
    metadata: Vec<Field>,
}

/// What a line says.
#[derive(Default)]
struct Row {
    path: String,
    identity: String,
    /// Empty: the path.
    key: String,
    display_name: String,
    metadata: Metadata,
}

/// Why a line says nothing, as far as it was read.
struct BadLine {
    row: Row,
    message: String,
}

fn bad(row: Row, message: String) -> Box<BadLine> {
    Box::new(BadLine { row, message })
}

impl Manifest {
    /// Of a folder of photos, and the columns that it has by default.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn of_photos(photos: PathBuf) -> Self {
        Self { photos: Some(photos), columns: Vec::new(), metadata: Vec::new() }
    }

    /// Tells whether anything is stated that only a manifest has.
    pub(super) fn is_stated(&self) -> bool {
        self.photos.is_some() || !self.columns.is_empty() || !self.metadata.is_empty()
    }

    /// Checks the settings; `manifest` is its path, unless it is stdin.
    pub(super) fn columns(&self, manifest: Option<&Path>) -> anyhow::Result<Columns> {
        let own = manifest.and_then(Path::parent).unwrap_or(Path::new("")).to_path_buf();
        let mut columns = Columns {
            folder: self.photos.clone().unwrap_or(own),
            path: "path".to_owned(),
            identity: "identity".to_owned(),
            key: ("key".to_owned(), false),
            display_name: ("display_name".to_owned(), false),
            metadata: self.metadata.iter().map(|field| Field::parse(field)).collect(),
        };
        for entry in &self.columns {
            let (role, name) =
                entry.split_once('=').with_context(|| format!("--columns must be ROLE=NAME,…, found {entry:?}"))?;
            let name = name.to_owned();
            match role {
                "path" => columns.path = name,
                "identity" => columns.identity = name,
                "key" => columns.key = (name, true),
                "display_name" => columns.display_name = (name, true),
                _ => anyhow::bail!("--columns knows path, identity, key and display_name, found {role:?}"),
            }
        }
        Ok(columns)
    }
}

impl Columns {
    fn give(&self, number: u64, row: Result<Row, Box<BadLine>>, taker: &mut Taker) -> anyhow::Result<()> {
        let checked = row.and_then(|row| match () {
            () if row.path.is_empty() => Err(bad(row, format!("{} is empty", self.path))),
            () if row.identity.is_empty() => Err(bad(row, format!("{} is empty", self.identity))),
            () if row.metadata.len() > ENTRIES_MAX => {
                Err(bad(row, format!("more metadata than the {ENTRIES_MAX} that a person may have")))
            }
            () => Ok(row),
        });
        match checked {
            Ok(Row { path, identity, key, display_name, metadata }) => {
                let key = if key.is_empty() { id(&path) } else { key };
                let bytes = Bytes::File(self.folder.join(&path));
                let place = Place { photo: path, line: Some(number) };
                taker.photo(Found { place, identity, key, display_name, metadata, bytes })
            }
            Err(line) => {
                let BadLine { row: Row { path, identity, key, .. }, message } = *line;
                let place = Place { photo: path, line: Some(number) };
                taker.unusable(Unusable { place, identity, key, reason: "BAD_LINE", message })
            }
        }
    }
}

/// Gives the photos of a CSV file.
///
/// *Errors*: a header without the columns that are needed; a file that cannot be read on.
pub(super) fn read_csv(input: Input, columns: &Columns, taker: &mut Taker) -> anyhow::Result<()> {
    let (bounded, allowance) = Bounded::new(input.reader);
    // Lines that end in CR LF are cut to size below: the reader counts lines by LF, and must have passed it by then.
    let mut builder = csv::ReaderBuilder::new();
    builder.flexible(true).has_headers(false).terminator(csv::Terminator::Any(b'\n'));
    let mut reader = builder.from_reader(bounded);
    let mut record = csv::ByteRecord::new();
    // The reader reads ahead of its line by its buffer.
    allowance.set(LINE_BYTES_MAX);
    anyhow::ensure!(reader.read_byte_record(&mut record).context("line 1")?, "it is empty: expected a header");
    let header = Header::of(&record, columns)?;
    loop {
        allowance.set(LINE_BYTES_MAX);
        let line = reader.position().line();
        if !reader.read_byte_record(&mut record).with_context(|| format!("after line {line}"))? {
            return Ok(());
        }
        // Its own position is that of the empty lines before it.
        let within: u64 = record.iter().map(|field| field.iter().filter(|byte| **byte == b'\n').count() as u64).sum();
        let line = reader.position().line() - within - u64::from(!allowance.has_ended());
        if record.as_slice() != b"\r" {
            columns.give(line, header.row(&record), taker)?;
        }
    }
}

/// Where in a record what is.
struct Header {
    fields: usize,
    path: usize,
    identity: usize,
    key: Option<usize>,
    display_name: Option<usize>,
    metadata: Vec<(usize, Field)>,
}

impl Header {
    fn of(record: &csv::ByteRecord, columns: &Columns) -> anyhow::Result<Self> {
        let names = record.iter().map(|name| Ok(std::str::from_utf8(name).context("the header is not UTF-8")?.trim()));
        let names: Vec<&str> = names.collect::<anyhow::Result<_>>()?;
        let optional = |wanted: &str| {
            let mut places = names.iter().enumerate().filter(|(_, name)| **name == wanted).map(|(place, _)| place);
            let place = places.next();
            anyhow::ensure!(places.next().is_none(), "two columns are called {wanted:?}");
            Ok(place)
        };
        let needed = |wanted: &str| {
            let has = names.join(", ");
            optional(wanted)?
                .with_context(|| format!("no column is called {wanted:?} (see --columns); there are: {has}"))
        };
        let stated = |(name, is_stated): &(String, bool)| match is_stated {
            true => needed(name).map(Some),
            false => optional(name),
        };
        let of_metadata = |field: &Field| Ok((needed(&field.name)?, field.clone()));
        let mut metadata: Vec<_> = columns.metadata.iter().map(of_metadata).collect::<anyhow::Result<_>>()?;
        if columns.metadata.is_empty() {
            let named = names.iter().enumerate();
            metadata.extend(
                named.filter_map(|(place, name)| Some((place, Field::parse(name.strip_prefix(METADATA_PREFIX)?)))),
            );
        }
        let mut named: Vec<&str> = metadata.iter().map(|(_, field)| field.name.as_str()).collect();
        named.sort_unstable();
        if let Some([twice, _]) = named.array_windows().find(|[a, b]| a == b) {
            anyhow::bail!("two columns would both become metadata {twice:?}");
        }
        Ok(Self {
            fields: names.len(),
            path: needed(&columns.path)?,
            identity: needed(&columns.identity)?,
            key: stated(&columns.key)?,
            display_name: stated(&columns.display_name)?,
            metadata,
        })
    }

    fn row(&self, record: &csv::ByteRecord) -> Result<Row, Box<BadLine>> {
        let field = |place: usize| {
            let field = record.get(place).unwrap_or_default();
            String::from_utf8_lossy(field.strip_suffix(b"\r").unwrap_or(field)).into_owned()
        };
        let optional = |place: Option<usize>| place.map(field).unwrap_or_default();
        let mut row = Row {
            path: field(self.path),
            identity: field(self.identity),
            key: optional(self.key),
            display_name: optional(self.display_name),
            metadata: Metadata::new(),
        };
        if record.iter().any(|field| std::str::from_utf8(field).is_err()) {
            return Err(bad(row, "it is not UTF-8".to_owned()));
        }
        if record.len() != self.fields {
            let message = format!("{} fields where the header has {}", record.len(), self.fields);
            return Err(bad(row, message));
        }
        for (place, named) in &self.metadata {
            let text = field(*place);
            if text.is_empty() {
                continue; // not stated of this person
            }
            match named.of_text(&text) {
                Ok(value) => _ = row.metadata.insert(named.name.clone(), value),
                Err(error) => return Err(bad(row, error.to_string())),
            }
        }
        Ok(row)
    }
}

/// Gives the photos of a file of JSON objects, one a line.
///
/// *Errors*: a file that cannot be read on.
pub(super) fn read_jsonl(mut input: Input, columns: &Columns, taker: &mut Taker) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let read = input.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes);
        if read.with_context(|| format!("line {line}"))? == 0 {
            break;
        }
        let is_whole = bytes.ends_with(b"\n") || (bytes.len() as u64) < LINE_BYTES_MAX;
        let row = if is_whole {
            let text = bytes.trim_ascii();
            let text = if line == 1 { text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text) } else { text };
            if text.is_empty() {
                continue;
            }
            columns.row(text)
        } else {
            input.reader.skip_until(b'\n').with_context(|| format!("line {line}"))?;
            Err(bad(Row::default(), format!("longer than {LINE_BYTES_MAX} bytes")))
        };
        columns.give(line, row, taker)?;
    }
    Ok(())
}

impl Columns {
    fn row(&self, line: &[u8]) -> Result<Row, Box<BadLine>> {
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(line).map_err(|error| bad(Row::default(), format!("not a JSON object: {error}")))?;
        let mut row = Row::default();
        let text = |name: &str, is_needed: bool| match object.get(name) {
            Some(serde_json::Value::String(text)) => Ok(text.clone()),
            None | Some(serde_json::Value::Null) if !is_needed => Ok(String::new()),
            None => Err(format!("it has no {name:?} (see --columns)")),
            Some(_) => Err(format!("{name} must be text")),
        };
        let mut read = || {
            row.path = text(&self.path, true)?;
            row.identity = text(&self.identity, true)?;
            row.key = text(&self.key.0, self.key.1)?;
            row.display_name = text(&self.display_name.0, self.display_name.1)?;
            Ok::<(), String>(())
        };
        if let Err(message) = read() {
            return Err(bad(row, message));
        }
        match self.metadata(&object) {
            Ok(metadata) => Ok(Row { metadata, ..row }),
            Err(error) => Err(bad(row, error.to_string())),
        }
    }

    fn metadata(&self, object: &serde_json::Map<String, serde_json::Value>) -> anyhow::Result<Metadata> {
        let mut metadata = Metadata::new();
        let mut insert = |field: Field, value: &serde_json::Value| {
            if let Some(value) = field.of_json(value)? {
                metadata.insert(field.name, value);
            }
            anyhow::Ok(())
        };
        for field in &self.metadata {
            insert(field.clone(), object.get(&field.name).unwrap_or(&serde_json::Value::Null))?;
        }
        if self.metadata.is_empty() {
            for (name, value) in object {
                match (name.strip_prefix(METADATA_PREFIX), value) {
                    (Some(name), value) => insert(Field::parse(name), value)?,
                    (None, serde_json::Value::Object(entries)) if name == "metadata" => {
                        entries.iter().try_for_each(|(name, value)| insert(Field::parse(name), value))?;
                    }
                    (None, value) => {
                        anyhow::ensure!(name != "metadata" || value.is_null(), "metadata must be an object")
                    }
                }
            }
        }
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::given;
    use super::*;

    /// A folder with a photo of three bytes, `1.jpg`.
    fn photos() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("1.jpg"), b"abc").expect("a file");
        folder
    }

    fn columns(folder: &Path, columns: &[&str], metadata: &[&str]) -> Columns {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let photos = Some(folder.to_path_buf());
        Manifest { photos, columns: owned(columns), metadata: owned(metadata) }.columns(None).expect("columns")
    }

    async fn csv(text: impl Into<Vec<u8>>, columns: Columns) -> (Vec<String>, anyhow::Result<()>) {
        let input = Input::of_bytes(text.into());
        given(move |taker| read_csv(input, &columns, taker)).await
    }

    async fn jsonl(text: impl Into<Vec<u8>>, columns: Columns) -> (Vec<String>, anyhow::Result<()>) {
        let input = Input::of_bytes(text.into());
        given(move |taker| read_jsonl(input, &columns, taker)).await
    }

    #[tokio::test]
    async fn csv_without_its_columns_is_refused() {
        let folder = photos();
        for (text, message) in [
            ("", "it is empty"),
            ("path;identity\n", "no column is called \"path\" (see --columns); there are: path;identity"),
            ("path,identity,path\n", "two columns are called \"path\""),
            ("path,identity,metadata.a,metadata.a:number\n", "two columns would both become metadata \"a\""),
        ] {
            let error = csv(text, columns(folder.path(), &[], &[])).await.1.expect_err(text);
            assert!(format!("{error:#}").contains(message), "{error:#}");
        }
        let stated = [(&["key=photo"][..], &[][..]), (&[], &["age"])];
        for (named, metadata) in stated {
            assert!(csv("path,identity\n", columns(folder.path(), named, metadata)).await.1.is_err());
        }
        let unknown = Manifest { photos: None, columns: vec!["who=x".to_owned()], metadata: Vec::new() };
        assert!(unknown.columns(None).is_err());
    }

    #[tokio::test]
    async fn csv_lines_are_told_by_their_numbers() {
        let folder = photos();
        let mut text = b"\xef\xbb\xbfpath,identity,metadata.age:number,metadata.site,other\n".to_vec();
        text.extend(b"1.jpg,ann,30,HQ,x\n\n1.jpg,bob,,,\r\n\r\n1.jpg,cat,old,,\n1.jpg\n1.jpg,d\xff,1,,\n,eve,1,,\n");
        text.extend(
            b"1.jpg,,1,,\n\"1.jpg\",\"fay\nx\",1,,\n2.jpg,gus,1,,\n1.jpg,ann,30,HQ,x\n1.jpg,hal,1,,,,\n1.jpg,ida,1,a,b",
        );
        let (lines, end) = csv(text, columns(folder.path(), &[], &[])).await;
        end.expect("read");
        let expected = [
            "ann 1.jpg 3 age site",
            "bob 1.jpg 3",
            "BAD_LINE line 6: 1.jpg: age must be a number, found \"old\"",
            "BAD_LINE line 7: 1.jpg: 1 fields where the header has 5",
            "BAD_LINE line 8: 1.jpg: it is not UTF-8",
            "BAD_LINE line 9: path is empty",
            "BAD_LINE line 10: 1.jpg: identity is empty",
            "fay\nx 1.jpg 3 age",
            "UNREADABLE line 13: 2.jpg: cannot read ",
            "REPEATED_KEY line 14: 1.jpg: the key \"1.jpg\" of \"ann\" was there before",
            "BAD_LINE line 15: 1.jpg: 7 fields where the header has 5",
            "ida 1.jpg 3 age site",
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line:?} is not {expected:?}");
        }
    }

    #[tokio::test]
    async fn csv_of_other_names_is_read_by_them() {
        let folder = photos();
        let path = folder.path().join("1.jpg");
        let text = format!("file,who,id,site,metadata.x\n{},ann,7,HQ,1\n", path.display());
        let named = ["path=file", "identity=who", "key=id"];
        let (lines, end) = csv(text, columns(Path::new("elsewhere"), &named, &["site"])).await;
        end.expect("read");
        assert_eq!(lines, ["ann 7 3 site"], "an absolute path needs no folder");
    }

    #[tokio::test]
    async fn line_without_an_end_is_not_held() {
        let folder = photos();
        let long = "x".repeat(3 << 20);
        let error =
            csv(format!("path,identity\n{long}"), columns(folder.path(), &[], &[])).await.1.expect_err("refused");
        assert!(format!("{error:#}").contains("larger than any"), "{error:#}");
        let text = format!("{long}\n{{\"path\":\"1.jpg\",\"identity\":\"ann\"}}");
        let (lines, end) = jsonl(text, columns(folder.path(), &[], &[])).await;
        end.expect("read on");
        assert_eq!(lines, ["BAD_LINE line 1: longer than 1048576 bytes", "ann 1.jpg 3"]);
    }

    #[tokio::test]
    async fn json_lines_are_told_by_their_numbers() {
        let folder = photos();
        let mut text = b"\n{\"path\":\"1.jpg\",\"identity\":\"ann\",\"metadata\":{\"age\":3,\"since:time\":\"2026-01-02T03:04:05Z\"}}\n".to_vec();
        text.extend(b"nonsense\n[1]\n{\"path\":3,\"identity\":\"x\"}\n{\"path\":\"1.jpg\"}\n\xff\n");
        text.extend(b"{\"path\":\"1.jpg\",\"identity\":\"bob\",\"metadata\":{\"age\":[]}}\r\n{\"path\":\"1.jpg\",\"identity\":\"cat\",\"key\":\"k\"}");
        let (lines, end) = jsonl(text, columns(folder.path(), &[], &[])).await;
        end.expect("read");
        let expected = [
            "ann 1.jpg 3 age since",
            "BAD_LINE line 3: not a JSON object",
            "BAD_LINE line 4: not a JSON object",
            "BAD_LINE line 5: path must be text",
            "BAD_LINE line 6: 1.jpg: it has no \"identity\"",
            "BAD_LINE line 7: not a JSON object",
            "BAD_LINE line 8: 1.jpg: age must be text",
            "cat k 3",
        ];
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{line:?} is not {expected:?}");
        }
    }

    #[tokio::test]
    async fn more_metadata_than_a_person_may_have_is_a_bad_line() {
        let folder = photos();
        let entries: Vec<String> = (0..65).map(|number| format!("\"{number}\":1")).collect();
        let text = format!("{{\"path\":\"1.jpg\",\"identity\":\"a\",\"metadata\":{{{}}}}}", entries.join(","));
        let (lines, _) = jsonl(text, columns(folder.path(), &[], &[])).await;
        assert!(lines.iter().all(|line| line.starts_with("BAD_LINE line 1: 1.jpg: more metadata")), "{lines:?}");
    }
}
