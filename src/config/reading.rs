//! The settings as they were found: each value with where it came from, and every fault.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Config, ENCRYPTION_KEY_ENV, Folders, KEY_ENV, SETTINGS, Setting, Values, from_environment, read_file};
use crate::gallery::PostgresOptions;
use crate::model::shown_address;

/// Where the value of a setting was stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In the file.
    File,
    /// In this variable.
    Environment(&'static str),
    /// On the command line.
    Flag,
}

impl Origin {
    /// Names what states a setting, as messages about it do.
    fn names(self, setting: &Setting) -> String {
        match self {
            Origin::Default => setting.key.to_owned(),
            Origin::File => format!("{} in the file", setting.key),
            Origin::Environment(name) => name.to_owned(),
            Origin::Flag => format!("--{}", setting.key.replace('_', "-")),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Origin::Default => "default",
            Origin::File => "file",
            Origin::Environment(name) => name,
            Origin::Flag => "flag",
        })
    }
}

/// A setting as it was found.
#[derive(Clone)]
pub struct StatedSetting {
    /// Which one.
    pub setting: &'static Setting,
    /// Where its value came from.
    pub origin: Origin,
    value: String,
}

/// Settings whose names end as those of secrets do, and that are names of files.
const NAMES_OF_FILES: [&str; 2] = ["tls_key", "client_key"];

impl StatedSetting {
    /// Returns the value as it may be told: a secret is masked, an address goes without the password that it may hold.
    pub fn shown(&self) -> String {
        let key = self.setting.key;
        let is_secret = ["key", "password", "token"].iter().any(|end| key.ends_with(end));
        match self.value.as_str() {
            "" => String::new(),
            _ if is_secret && !NAMES_OF_FILES.contains(&key) => "********".to_owned(),
            value if PostgresOptions::is_address(value) => PostgresOptions::new(value).shown(),
            // A proxy may be stated without a scheme.
            value if value.contains("://") || key == "proxy" => shown_address(value),
            value => value.to_owned(),
        }
    }
}

/// Everything that was found: the values, what they come down to, and what is wrong with them.
pub struct Reading {
    /// Every setting, in the order of [`SETTINGS`].
    pub settings: Vec<StatedSetting>,
    /// The checked settings; where there are faults, with something in the place of what cannot be used.
    pub config: Config,
    /// Every fault.
    pub faults: Vec<String>,
}

impl Reading {
    /// Puts the settings together, of the process's environment.
    ///
    /// `flags` holds what the command line states, by key; `file` is the file it names.
    pub fn of_process(flags: &BTreeMap<String, String>, file: Option<&Path>) -> Self {
        Self::of(flags, file, |name| std::env::var(name).ok())
    }

    pub(super) fn of(
        flags: &BTreeMap<String, String>,
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let mut faults = Vec::new();
        let from_file = read_file(file, &environment, &mut faults);
        let find = |setting: &'static Setting| {
            let (value, origin) = if let Some(value) = flags.get(setting.key) {
                (value.clone(), Origin::Flag)
            } else if let Some((name, value)) = from_environment(setting, &environment) {
                (value, Origin::Environment(name))
            } else if let Some(value) = from_file.get(setting.key) {
                (value.clone(), Origin::File)
            } else {
                (setting.default.to_owned(), Origin::Default)
            };
            StatedSetting { setting, origin, value }
        };
        let settings: Vec<StatedSetting> = SETTINGS.iter().map(find).collect();
        let stated =
            |found: &StatedSetting| (found.setting.key, (found.value.clone(), found.origin.names(found.setting)));
        let mut values = Values { stated: settings.iter().map(stated).collect(), faults };
        let mut config = values.config(&Folders::of_user(&environment));
        config.encryption_key = values.encryption_key(environment(ENCRYPTION_KEY_ENV));
        config.caller = values.caller(environment(KEY_ENV).filter(|key| !key.is_empty()));
        values.check_together(&config);
        Self { settings, config, faults: values.faults }
    }

    /// Returns the value of a setting; `None` where nothing states it, or this version has no such setting.
    pub fn value(&self, key: &str) -> Option<&str> {
        let found = self.settings.iter().find(|found| found.setting.key == key)?;
        Some(found.value.as_str()).filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Scope;

    fn reading(flags: &[(&str, &str)], environment: &[(&str, &str)], file: &str) -> Reading {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("facematch.toml");
        std::fs::write(&path, file).expect("a file");
        let flags = flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let look_up =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Reading::of(&flags, Some(&path), look_up)
    }

    #[test]
    fn each_value_tells_where_it_came_from() {
        let environment = [("FACEMATCH_QUEUE_MAX", "9"), ("https_proxy", "p:2")];
        let found = reading(&[("calls_max", "11")], &environment, "queue_max = 7\nworkers = 3");
        let of = |key: &str| {
            let found = found.settings.iter().find(|found| found.setting.key == key).expect("a setting");
            (found.shown(), found.origin)
        };
        assert_eq!(of("calls_max"), ("11".to_owned(), Origin::Flag));
        assert_eq!(of("queue_max"), ("9".to_owned(), Origin::Environment("FACEMATCH_QUEUE_MAX")));
        assert_eq!(of("proxy"), ("p:2".to_owned(), Origin::Environment("https_proxy")));
        assert_eq!(of("workers"), ("3".to_owned(), Origin::File));
        assert_eq!(of("log_format"), ("text".to_owned(), Origin::Default));
        assert_eq!(found.settings.len(), SETTINGS.len());
        assert_eq!((found.value("workers"), found.value("pack"), found.value("no such")), (Some("3"), None, None));
    }

    #[test]
    fn secret_is_never_shown() {
        let shown = |key: &'static str, value: &str| {
            // Not one of the program's: what others add has to be masked without a thought of theirs.
            let setting: &'static Setting =
                Box::leak(Box::new(Setting { key, env: "X", default: "", scope: Scope::All, help: "" }));
            StatedSetting { setting, origin: Origin::File, value: value.to_owned() }.shown()
        };
        assert_eq!(shown("proxy", "ann:s3cret@p:1"), "p:1");
        assert_eq!(shown("otlp_endpoint", "http://ann:s3cret@h:1/x"), "http://h:1/x");
        for key in ["encryption_key", "key", "smtp_password", "token"] {
            assert_eq!(shown(key, "s3cret"), "********", "{key}");
        }
        assert_eq!(shown("encryption_key", ""), "", "nothing is nothing");
        assert_eq!(shown("tls_key", "/etc/tls.key"), "/etc/tls.key", "the name of a file is no secret");
        assert_eq!(shown("admin_key_file", "/etc/admin"), "/etc/admin");
    }
}
