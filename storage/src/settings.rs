//! What the environment says about storage, and everything that is wrong with it.

use crate::{LINK_VALID, LONGEST_LINK, SHORTEST_LINK, media};
use state::mask;
use state::secret::Secret;
use state::storage::{Provider, StorageSettings};

/// Every variable of [`settings_from`].
pub const VARIABLES: [&str; 11] = [
    "STORAGE_PROVIDER",
    "STORAGE_LOCAL_DIR",
    "STORAGE_PREFIX",
    "STORAGE_PREPARED_PREFIX",
    "STORAGE_BUCKET",
    "STORAGE_ENDPOINT",
    "STORAGE_ACCOUNT_ID",
    "STORAGE_REGION",
    "STORAGE_ACCESS_KEY_ID",
    "STORAGE_SECRET_ACCESS_KEY",
    "STORAGE_LINK_TTL_S",
];

/// Where media lie when nobody says otherwise.
const DEFAULT_FOLDER: &str = "media";

/// Region of signatures for services that have none of their own.
const ANY_REGION: &str = "us-east-1";

/// Reads `STORAGE_PROVIDER` (local), `STORAGE_LOCAL_DIR` (./media), `STORAGE_PREFIX`, `STORAGE_PREPARED_PREFIX`,
/// `STORAGE_BUCKET`, `STORAGE_ENDPOINT`, `STORAGE_ACCOUNT_ID` (R2, instead of an endpoint), `STORAGE_REGION`,
/// `STORAGE_ACCESS_KEY_ID`, `STORAGE_SECRET_ACCESS_KEY` and `STORAGE_LINK_TTL_S`. `read` gives a variable's text; empty counts as unset.
///
/// # Errors
/// Every problem, one line each, without secrets.
pub fn settings_from(read: &dyn Fn(&str) -> Option<String>) -> Result<StorageSettings, Vec<String>> {
    let mut reader = Reader { read, problems: Vec::new() };
    let provider = reader.provider();
    let folder = reader.text("STORAGE_LOCAL_DIR").unwrap_or_else(|| DEFAULT_FOLDER.to_owned());
    let settings = StorageSettings {
        provider,
        prefix: reader.prefix(),
        prepared_prefix: reader.prepared_prefix(),
        link_ttl_s: reader.link_ttl_s(),
        ..StorageSettings::local(folder)
    };
    let settings = if provider == Provider::Local { settings } else { reader.bucket(settings) };
    if reader.problems.is_empty() { Ok(settings) } else { Err(reader.problems) }
}

struct Reader<'a> {
    read: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.read)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn problem(&mut self, words: impl Into<String>) {
        self.problems.push(words.into());
    }

    fn provider(&mut self) -> Provider {
        match self.text("STORAGE_PROVIDER").as_deref() {
            None | Some("local") => Provider::Local,
            Some("r2") => Provider::R2,
            Some("s3") => Provider::S3,
            Some(other) => {
                self.problem(format!("STORAGE_PROVIDER={other:?} must be local, r2 or s3"));
                Provider::Local
            }
        }
    }

    /// A prefix is compared with keys, and those never begin with a slash.
    fn prefix(&mut self) -> String {
        let prefix = self.text("STORAGE_PREFIX").unwrap_or_default();
        if prefix.starts_with('/') || prefix.chars().any(char::is_control) {
            self.problem(format!("STORAGE_PREFIX={prefix:?} must be the start of a key, such as shows/"));
        }
        prefix
    }

    /// A folder of its own, so that no medium is taken for a prepared file.
    fn prepared_prefix(&mut self) -> String {
        let prefix = self.text("STORAGE_PREPARED_PREFIX").unwrap_or_default();
        let folder = prefix.strip_suffix('/').is_some_and(|key| media::key_problem(key).is_none());
        if !prefix.is_empty() && !folder {
            self.problem(format!(
                "STORAGE_PREPARED_PREFIX={prefix:?} must be a folder of the bucket, such as prepared/"
            ));
        } else if folder && self.text("STORAGE_PREFIX").is_some_and(|library| library.starts_with(&prefix)) {
            self.problem(format!(
                "STORAGE_PREPARED_PREFIX={prefix:?} must not hold what STORAGE_PREFIX names"
            ));
        }
        prefix
    }

    fn link_ttl_s(&mut self) -> u64 {
        let Some(text) = self.text("STORAGE_LINK_TTL_S") else { return LINK_VALID.as_secs() };
        let allowed = SHORTEST_LINK.as_secs()..=LONGEST_LINK.as_secs();
        text.parse().ok().filter(|seconds| allowed.contains(seconds)).unwrap_or_else(|| {
            self.problem(format!(
                "STORAGE_LINK_TTL_S={text:?} must be seconds from 60 (1 minute) to 604800 (7 days)"
            ));
            LINK_VALID.as_secs()
        })
    }

    fn bucket(&mut self, settings: StorageSettings) -> StorageSettings {
        StorageSettings {
            bucket: self.bucket_name(),
            endpoint: self.endpoint(settings.provider),
            region: self.region(settings.provider),
            access_key_id: self.credential("STORAGE_ACCESS_KEY_ID"),
            secret_access_key: self.credential("STORAGE_SECRET_ACCESS_KEY"),
            ..settings
        }
    }

    fn bucket_name(&mut self) -> String {
        let Some(name) = self.text("STORAGE_BUCKET") else {
            self.problem("STORAGE_BUCKET is not set: the name of the bucket");
            return String::new();
        };
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if !(3..=63).contains(&name.len()) || !name.chars().all(fits) {
            self.problem(format!(
                "STORAGE_BUCKET={name:?} must be a bucket's name: 3 to 63 lower-case letters, digits, - and ."
            ));
        }
        name
    }

    fn endpoint(&mut self, provider: Provider) -> String {
        let account = self.text("STORAGE_ACCOUNT_ID").filter(|_| provider == Provider::R2);
        match (self.text("STORAGE_ENDPOINT"), account) {
            (Some(endpoint), _) => self.checked_endpoint(&endpoint),
            (None, Some(account)) => self.endpoint_of(&account),
            (None, None) => {
                if provider == Provider::R2 {
                    self.problem(
                        "STORAGE_ACCOUNT_ID is not set: the account id that Cloudflare shows beside R2 \
                         (or set STORAGE_ENDPOINT to https://<account id>.r2.cloudflarestorage.com)",
                    );
                }
                String::new()
            }
        }
    }

    fn endpoint_of(&mut self, account: &str) -> String {
        if account.len() != 32 || !account.chars().all(|c| c.is_ascii_hexdigit()) {
            self.problem(
                "STORAGE_ACCOUNT_ID must be the 32 hexadecimal digits that Cloudflare shows beside R2",
            );
        }
        format!("https://{account}.r2.cloudflarestorage.com")
    }

    fn checked_endpoint(&mut self, endpoint: &str) -> String {
        let endpoint = endpoint.trim_end_matches('/');
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        let fits = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        if !host.is_some_and(|host| !host.is_empty() && host.chars().all(fits)) {
            self.problem(format!(
                "STORAGE_ENDPOINT={} must be https:// and a host, without the bucket's name and anything else",
                mask::url(endpoint)
            ));
        }
        endpoint.to_owned()
    }

    fn region(&mut self, provider: Provider) -> String {
        let region = self.text("STORAGE_REGION");
        if let Some(region) = &region
            && !region.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            self.problem(format!("STORAGE_REGION={region:?} must be a region such as eu-central-1"));
        }
        let missing = region.is_none() && provider == Provider::S3 && self.text("STORAGE_ENDPOINT").is_none();
        if missing {
            self.problem("STORAGE_REGION is not set: the bucket's region at AWS, such as eu-central-1");
        }
        let default = if provider == Provider::R2 { "auto" } else { ANY_REGION };
        region.unwrap_or_else(|| default.to_owned())
    }

    fn credential(&mut self, name: &str) -> Secret {
        let Some(text) = self.text(name) else {
            self.problem(format!("{name} is not set"));
            return Secret::default();
        };
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            self.problem(format!("{name} holds a character that no key has; copy it again"));
        }
        Secret::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    fn read(set: &[(&str, &str)]) -> Result<StorageSettings, Vec<String>> {
        let set: BTreeMap<_, _> = set.iter().copied().collect();
        settings_from(&|name| set.get(name).map(|text| (*text).to_owned()))
    }

    #[test]
    fn nothing_at_all_is_the_folder_media() {
        let settings = read(&[("STORAGE_PROVIDER", " "), ("STORAGE_PREFIX", "")]).unwrap();
        assert_eq!((settings.provider, settings.local_dir), (Provider::Local, PathBuf::from("media")));
    }

    #[test]
    fn r2_needs_the_account_id_only() {
        let account = "0123456789abcdef0123456789abcdef";
        let settings = read(&[
            ("STORAGE_PROVIDER", "r2"),
            ("STORAGE_BUCKET", "media"),
            ("STORAGE_ACCOUNT_ID", account),
            ("STORAGE_ACCESS_KEY_ID", "id"),
            ("STORAGE_SECRET_ACCESS_KEY", "secret\n"),
        ])
        .unwrap();
        assert_eq!(settings.endpoint, format!("https://{account}.r2.cloudflarestorage.com"));
        assert_eq!((settings.region.as_str(), settings.secret_access_key.expose()), ("auto", "secret"));
    }

    #[test]
    fn aws_needs_a_region_and_others_an_endpoint() {
        let keys = [
            ("STORAGE_PROVIDER", "s3"),
            ("STORAGE_BUCKET", "media"),
            ("STORAGE_ACCESS_KEY_ID", "id"),
            ("STORAGE_SECRET_ACCESS_KEY", "secret"),
        ];
        let problems = read(&keys).unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("STORAGE_REGION"), "{problems:?}");
        let with = |more| read(&[&keys[..], &[more]].concat()).unwrap();
        assert_eq!(with(("STORAGE_REGION", "eu-central-1")).endpoint, "");
        let own = with(("STORAGE_ENDPOINT", "http://127.0.0.1:9000/"));
        assert_eq!((own.endpoint.as_str(), own.region.as_str()), ("http://127.0.0.1:9000", "us-east-1"));
    }

    #[test]
    fn links_are_valid_for_a_day_or_as_long_as_is_allowed() {
        assert_eq!(read(&[]).unwrap().link_ttl_s, 86_400);
        assert_eq!(read(&[("STORAGE_LINK_TTL_S", "60")]).unwrap().link_ttl_s, 60);
        for wrong in ["59", "604801", "1h"] {
            let problems = read(&[("STORAGE_LINK_TTL_S", wrong)]).unwrap_err();
            assert!(problems[0].starts_with("STORAGE_LINK_TTL_S="), "{problems:?}");
        }
    }

    #[test]
    fn prepared_files_have_a_folder_of_their_own() {
        let with = |prefix| read(&[("STORAGE_PREPARED_PREFIX", prefix), ("STORAGE_PREFIX", "shows/")]);
        assert_eq!(with("shows/.prepared/").unwrap().prepared_prefix, "shows/.prepared/");
        for wrong in ["prepared", "/prepared/", "a//", "../", "/", "shows/"] {
            let problems = with(wrong).unwrap_err();
            assert!(problems[0].starts_with("STORAGE_PREPARED_PREFIX="), "{problems:?}");
        }
    }

    #[test]
    fn every_problem_is_named_at_once_and_no_secret_is_shown() {
        let problems = read(&[
            ("STORAGE_PROVIDER", "r2"),
            ("STORAGE_BUCKET", "My Bucket"),
            ("STORAGE_ENDPOINT", "https://user:hush@h.example/bucket?x=hush"),
            ("STORAGE_REGION", "eu central"),
            ("STORAGE_ACCESS_KEY_ID", "hush hush"),
            ("STORAGE_PREFIX", "/shows"),
        ])
        .unwrap_err();
        assert_eq!(problems.len(), 6, "{problems:#?}");
        assert!(!problems.join("\n").contains("hush"), "{problems:#?}");
        assert_eq!(read(&[("STORAGE_PROVIDER", "ftp")]).unwrap_err().len(), 1);
    }
}
