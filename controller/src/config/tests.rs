//! The configuration, read from made-up surroundings.

use super::*;
use std::collections::BTreeMap;

pub(super) fn read(set: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let set: BTreeMap<String, String> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let variable = |name: &str| Ok(set.get(name).cloned());
    Config::read(&Surroundings {
        variable: &variable,
        folder: PathBuf::from("/srv"),
        program: PathBuf::from("/opt/bin/stream-controller"),
    })
}

#[test]
fn nothing_at_all_is_a_complete_configuration() {
    let config = read(&[("YOUTUBE_STREAM_KEY", "  "), ("LOG_FORMAT", "")]).unwrap();
    assert_eq!(config.state_dir, Path::new("/srv/data"));
    assert_eq!(config.hls_dir, Path::new("/srv/data/hls"));
    assert_eq!((config.cache_bytes, config.cache_bytes_per_s), (None, 0));
    assert_eq!(config.storage.local_dir, Path::new("/srv/media"));
    assert_eq!(config.worker, Path::new("/opt/bin/stream-worker"));
    assert_eq!(config.bind.to_string(), "127.0.0.1:8080");
    assert!(config.youtube_key.is_none() && config.cors_origins.is_empty());
}

#[test]
fn every_problem_is_named_at_once_and_no_secret_is_shown() {
    let problems = read(&[
        ("CONTROLLER_BIND", "nowhere"),
        ("STORAGE_PROVIDER", "r2"),
        ("CACHE_BYTES", "lots"),
        ("YOUTUBE_RTMP_URL", "http://x/y"),
        ("YOUTUBE_STREAM_KEY", "abcd efgh"),
        ("MASTER_KEY", "deadbeef"),
        ("LOG_FORMAT", "xml"),
        ("PREPARE", "yes"),
        ("PREPARE_PART_SECONDS", "1"),
        ("PREPARE_LOUDNESS_LUFS", "-14 LUFS"),
        ("PREPARE_PEAK_DBTP", "0"),
        ("CORS_ORIGINS", "https://a.example, b.example/x"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("TLS_CA_FILE", "missing.pem"),
    ])
    .unwrap_err();
    // Of storage: the bucket, the account and two keys are missing.
    assert_eq!(problems.len(), 17, "{problems:#?}");
    let text = problems.join("\n");
    assert!(
        text.contains("STORAGE_BUCKET is not set") && text.contains("STORAGE_SECRET_ACCESS_KEY is not set")
    );
    assert!(!text.contains("abcd") && !text.contains("deadbeef"), "{text}");
}

#[test]
fn a_bucket_is_configured_by_the_environment_and_its_secret_by_a_credential_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("storage_secret_access_key"), "hush\n").unwrap();
    let config = read(&[
        ("STORAGE_PROVIDER", "s3"),
        ("STORAGE_BUCKET", "films"),
        ("STORAGE_ENDPOINT", "https://s3.example.net"),
        ("STORAGE_ACCESS_KEY_ID", "id"),
        ("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap()),
    ])
    .unwrap();
    assert_eq!((config.storage.provider, config.storage.bucket.as_str()), (Provider::S3, "films"));
    assert_eq!(config.storage.secret_access_key.expose(), "hush");
    assert!(config.notices.is_empty() && !format!("{config:?}").contains("hush"));
}

#[test]
fn secrets_also_come_as_credential_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("youtube_stream_key"), "k-from-file\n").unwrap();
    let config = read(&[("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())]).unwrap();
    assert_eq!(config.youtube_key.unwrap().expose(), "k-from-file");
}
