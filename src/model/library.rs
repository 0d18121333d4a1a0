//! Finds and loads the ONNX Runtime library, once a process.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use ort::environment::Environment;

/// Name of the library file, as `make setup` puts it into the project.
#[cfg(target_os = "macos")]
const FILE_NAME: &str = "libonnxruntime.dylib";
#[cfg(not(target_os = "macos"))]
const FILE_NAME: &str = "libonnxruntime.so";

/// Folder below the project root that `make setup` fills.
const PROJECT_FOLDER: &str = ".runtime";

/// Why the ONNX Runtime could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// No library in any of the places.
    #[error(
        "no ONNX Runtime library found: run `make setup`, or put {FILE_NAME} next to the program, or set ORT_DYLIB_PATH \
         (looked at {looked_at})"
    )]
    Missing {
        /// The places.
        looked_at: String,
    },
    /// A library that cannot be loaded.
    #[error("the ONNX Runtime library {} cannot be used: run `make setup` or set ORT_DYLIB_PATH to version 1.24 or later", path.display())]
    Unusable {
        /// Its path.
        path: PathBuf,
        /// What the loader said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();

/// Loads the library, or does nothing where it is loaded.
///
/// `configured` is the value of `ORT_DYLIB_PATH`, where it is set: then no other place is looked at. Else the library is
/// looked for next to the program, in `lib` beside it, and in `.runtime` of the folders above it: there lies that of the
/// project it was built in. Never in the working folder, where somebody else may have put one.
///
/// *Errors*: [`LibraryError`], with one line that says what to do.
pub fn load_runtime(configured: Option<&Path>) -> Result<(), LibraryError> {
    environment(configured).map(|_| ())
}

/// Loads the library; returns where it lies, and which version it says it is.
///
/// *Errors*: those of [`load_runtime`].
pub fn describe_runtime(configured: Option<&Path>) -> Result<(PathBuf, String), LibraryError> {
    environment(configured)?;
    let path = find(configured)?;
    let version = version(&path).unwrap_or_else(|| "of an unknown version".to_owned());
    Ok((path, version))
}

/// Asks a library that is loaded for its version: ort asks too, and does not tell.
#[cfg(unix)]
fn version(path: &Path) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    type GetApiBase = extern "C" fn() -> *const ort::sys::OrtApiBase;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    #[expect(unsafe_code, reason = "calls of the C library and of the runtime's")]
    // SAFETY: both names end with a zero, and nothing is loaded that is not (`RTLD_NOLOAD`). The symbol has this type in
    // every version (onnxruntime_c_api.h), its text is the library's own, and the library is never let go: not by ort either.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        let symbol = if library.is_null() { library } else { libc::dlsym(library, c"OrtGetApiBase".as_ptr()) };
        if symbol.is_null() {
            return None;
        }
        let base = std::mem::transmute::<*mut libc::c_void, GetApiBase>(symbol)();
        let version = ((*base).GetVersionString)();
        std::ffi::CStr::from_ptr(version).to_str().ok().map(str::to_owned)
    }
}

#[cfg(not(unix))]
fn version(_path: &Path) -> Option<String> {
    None
}

pub(super) fn environment(configured: Option<&Path>) -> Result<&'static Environment, LibraryError> {
    static LOADING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = LOADING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(environment) = ENVIRONMENT.get() {
        return Ok(environment);
    }
    let path = find(configured)?;
    let unusable =
        |source: Box<dyn std::error::Error + Send + Sync>| LibraryError::Unusable { path: path.clone(), source };
    let builder = ort::init_from(&path).map_err(|error| unusable(Box::new(error)))?;
    let environment =
        builder.with_name("facematch").with_telemetry(false).build().map_err(|error| unusable(Box::new(error)))?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    Ok(ENVIRONMENT.get_or_init(|| environment))
}

fn find(configured: Option<&Path>) -> Result<PathBuf, LibraryError> {
    let places = match configured {
        Some(path) => vec![path.to_path_buf()],
        None => places(),
    };
    let found = places.iter().find(|place| place.is_file()).cloned();
    found.ok_or_else(|| {
        let shown: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        LibraryError::Missing { looked_at: shown.join(", ") }
    })
}

fn places() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).map(Path::to_path_buf);
    let next_to_program = beside.iter().flat_map(|folder| [folder.join(FILE_NAME), folder.join("lib").join(FILE_NAME)]);
    let in_project =
        beside.iter().flat_map(|folder| folder.ancestors()).map(|folder| folder.join(PROJECT_FOLDER).join(FILE_NAME));
    let mut places: Vec<PathBuf> = Vec::new();
    for place in next_to_program.chain(in_project) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn version_of_what_is_not_loaded_is_not_told() {
        assert_eq!(version(Path::new("/nonexistent/lib.so")), None);
        assert_eq!(version(Path::new("/etc/passwd")), None);
    }

    #[test]
    fn find_configured_but_absent_says_what_to_do_in_one_line() {
        let error = find(Some(Path::new("/nonexistent/lib.so"))).expect_err("absent").to_string();
        assert!(error.contains("make setup") && error.contains("ORT_DYLIB_PATH") && !error.contains('\n'), "{error}");
    }
}
