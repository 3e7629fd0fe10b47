//! What every provider promises, held for a folder and for a real S3 server that verifies signatures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use server::Server;
use state::storage::StorageSettings;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use storage::{Storage, StorageError};

/// One provider with an empty place for media.
struct Rig {
    storage: Storage,
    settings: StorageSettings,
    /// Where its files lie, to put some there behind its back.
    folder: PathBuf,
    /// A place for files that are to be uploaded.
    desk: tempfile::TempDir,
    _server: Option<Server>,
}

impl Rig {
    fn local() -> Self {
        let desk = tempfile::tempdir().unwrap();
        let folder = desk.path().join("media");
        fs::create_dir(&folder).unwrap();
        let settings = StorageSettings::local(&folder);
        Self { storage: opened(&settings), settings, folder, desk, _server: None }
    }

    fn s3() -> Self {
        let server = Server::start();
        let settings = server.settings();
        let desk = tempfile::tempdir().unwrap();
        Self { storage: opened(&settings), settings, folder: server.folder(), desk, _server: Some(server) }
    }

    fn lay(&self, key: &str, bytes: &[u8]) {
        let path = self.folder.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.desk.path().join("upload");
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn put(&self, key: &str, bytes: &[u8]) -> storage::MediaFile {
        self.storage.put(key, &self.file(bytes), &mut |_, _| {}).await.unwrap()
    }

    async fn keys(&self) -> Vec<String> {
        self.storage.list_media().await.unwrap().into_iter().map(|file| file.key).collect()
    }
}

fn opened(settings: &StorageSettings) -> Storage {
    Storage::open(settings.clone(), None).unwrap()
}

async fn read(storage: &Storage, key: &str, from: u64) -> Result<Vec<u8>, StorageError> {
    let mut body = storage.get(key, from, None).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = body.chunk().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// Bytes that repeat nowhere near a part's length.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

async fn a_listing_holds_media_only_in_natural_order(rig: &Rig) {
    for key in
        ["b/clip 10.MP4", "b/clip 2.mp4", "a.mkv", ".x.mp4", ".git/x.mp4", "notes.txt", "ü (1) & co.opus"]
    {
        rig.lay(key, b"four");
    }
    assert_eq!(rig.keys().await, ["a.mkv", "b/clip 2.mp4", "b/clip 10.MP4", "ü (1) & co.opus"]);
    assert!(rig.storage.list_media().await.unwrap().iter().all(|file| file.size == 4));
}

async fn a_prefix_narrows_the_library_and_stays_in_the_keys(rig: &Rig) {
    for key in ["shows/1.mp4", "shows/2.mp4", "showreel.mp4", "films/1.mp4"] {
        rig.lay(key, b"x");
    }
    let narrowed = opened(&StorageSettings { prefix: "shows/".to_owned(), ..rig.settings.clone() });
    let keys: Vec<_> = narrowed.list_media().await.unwrap().into_iter().map(|file| file.key).collect();
    assert_eq!(keys, ["shows/1.mp4", "shows/2.mp4"]);
    assert_eq!(narrowed.stat("shows/1.mp4").await.unwrap().size, 1);
    narrowed.check().await.unwrap();
}

async fn prepared_files_are_no_media(rig: &Rig) {
    for key in ["prepared/1.mp4", "prepared/shows/2.mp4", "prepared.mp4", "shows/1.mp4"] {
        rig.lay(key, b"x");
    }
    let settings = StorageSettings { prepared_prefix: "prepared/".to_owned(), ..rig.settings.clone() };
    let storage = opened(&settings);
    let keys: Vec<_> = storage.list_media().await.unwrap().into_iter().map(|file| file.key).collect();
    assert_eq!(keys, ["prepared.mp4", "shows/1.mp4"]);
    assert_eq!(storage.stat("prepared/1.mp4").await.unwrap().size, 1, "whoever knows it finds it");
}

async fn a_listing_goes_past_a_thousand_keys(rig: &Rig) {
    for number in 0..2_003 {
        rig.lay(&format!("clip {number}.mp4"), b"");
    }
    let keys = rig.keys().await;
    assert_eq!(keys.len(), 2_003);
    assert_eq!((keys[9].as_str(), keys[2_002].as_str()), ("clip 9.mp4", "clip 2002.mp4"));
}

async fn a_file_comes_back_as_it_was_put_whatever_its_name(rig: &Rig) {
    let bytes = noise(300_000);
    for key in ["plain.mp4", "shows/ä b+c (1).ts", "%41?x=1&y#z.mp4", "日本/映画.webm"] {
        let put = rig.put(key, &bytes).await;
        assert_eq!((put.key.as_str(), put.size), (key, 300_000));
        assert_eq!(rig.storage.stat(key).await.unwrap(), put);
        assert!(!put.content.is_empty() && !put.content.contains('"'), "{put:?}");
        assert!(read(&rig.storage, key, 0).await.unwrap() == bytes, "{key}");
        assert!(read(&rig.storage, key, 123_457).await.unwrap() == bytes[123_457..], "{key}");
        let body = rig.storage.get(key, 299_999, Some(&put.content)).await.unwrap();
        assert_eq!((body.size, &body.content), (300_000, &put.content));
    }
}

async fn progress_rises_to_the_size(rig: &Rig) {
    let mut told = Vec::new();
    let file = rig.file(&noise(3_000_000));
    rig.storage.put("a.mp4", &file, &mut |done, total| told.push((done, total))).await.unwrap();
    assert!(told.iter().all(|(done, total)| done <= total && *total == 3_000_000), "{told:?}");
    assert_eq!(told.last(), Some(&(3_000_000, 3_000_000)));
}

async fn a_large_file_arrives_whole_and_leaves_nothing_behind(rig: &Rig) {
    let bytes = noise(70 * 1024 * 1024 + 5);
    let put = rig.put("large.mp4", &bytes).await;
    assert_eq!(put.size, bytes.len() as u64);
    assert!(read(&rig.storage, "large.mp4", 0).await.unwrap() == bytes);
    assert_eq!(rig.keys().await, ["large.mp4"]);
}

async fn an_empty_file_can_be_read_and_an_offset_behind_the_end_is_refused(rig: &Rig) {
    rig.put("empty.mp4", b"").await;
    assert_eq!(read(&rig.storage, "empty.mp4", 0).await.unwrap(), b"");
    rig.put("four.mp4", b"four").await;
    assert_eq!(read(&rig.storage, "four.mp4", 3).await.unwrap(), b"r");
    for from in [4, 5, u64::from(u32::MAX)] {
        let error = read(&rig.storage, "four.mp4", from).await.unwrap_err();
        assert!(matches!(error, StorageError::Range(_)), "{from}: {error:?}");
    }
}

async fn a_replaced_file_is_refused_to_whoever_knew_the_old_one(rig: &Rig) {
    let old = rig.put("a.mp4", b"the old one").await;
    assert!(rig.storage.get("a.mp4", 4, Some(&old.content)).await.is_ok());
    let new = rig.put("a.mp4", b"a new, longer one").await;
    assert_ne!(old.content, new.content);
    let error = rig.storage.get("a.mp4", 4, Some(&old.content)).await.unwrap_err();
    assert!(matches!(error, StorageError::Changed(_)), "{error:?}");
    assert!(!error.is_worth_retrying());
}

async fn a_missing_key_is_said_to_be_missing(rig: &Rig) {
    for error in [
        rig.storage.stat("gone.mp4").await.unwrap_err(),
        rig.storage.get("gone.mp4", 0, None).await.unwrap_err(),
    ] {
        assert!(matches!(error, StorageError::NoKey(_)), "{error:?}");
        assert!(error.to_string().contains("gone.mp4") && !error.is_worth_retrying(), "{error}");
    }
}

async fn deleting_removes_one_file_and_is_not_surprised_by_none(rig: &Rig) {
    rig.put("a.mp4", b"x").await;
    rig.put("b.mp4", b"x").await;
    rig.storage.delete("a.mp4").await.unwrap();
    rig.storage.delete("a.mp4").await.unwrap();
    assert_eq!(rig.keys().await, ["b.mp4"]);
}

async fn an_impossible_key_is_refused_before_anything_happens(rig: &Rig) {
    let file = rig.file(b"x");
    for key in ["", "/abs.mp4", "../out.mp4", "a//b.mp4", "line\nbreak.mp4"] {
        assert!(rig.storage.put(key, &file, &mut |_, _| {}).await.is_err(), "{key:?}");
        assert!(rig.storage.delete(key).await.is_err(), "{key:?}");
        assert!(rig.storage.get(key, 0, None).await.is_err(), "{key:?}");
    }
    assert!(!rig.folder.parent().unwrap().join("out.mp4").exists());
}

async fn a_missing_source_file_is_named(rig: &Rig) {
    let error = rig.storage.put("a.mp4", Path::new("/nowhere/a.mp4"), &mut |_, _| {}).await.unwrap_err();
    assert!(error.to_string().contains("/nowhere/a.mp4"), "{error}");
}

async fn a_link_is_valid_from_a_minute_to_seven_days(rig: &Rig) {
    rig.put("a.mp4", b"x").await;
    for (seconds, fits) in [(59, false), (60, true), (604_800, true), (604_801, false)] {
        let link = rig.storage.stream_url("a.mp4", Duration::from_secs(seconds)).await;
        assert_eq!(link.is_ok(), fits, "{seconds} s");
    }
}

async fn a_place_that_is_not_there_is_said_to_be_missing(rig: &Rig) {
    let elsewhere = opened(&StorageSettings {
        bucket: "elsewhere".to_owned(),
        local_dir: rig.folder.join("elsewhere"),
        ..rig.settings.clone()
    });
    rig.storage.check().await.unwrap();
    for error in [elsewhere.check().await.unwrap_err(), elsewhere.list_media().await.unwrap_err()] {
        assert!(matches!(error, StorageError::NoBucket(_)), "{error:?}");
        assert!(error.to_string().contains("elsewhere") && error.to_string().contains("STORAGE_"), "{error}");
    }
}

macro_rules! contract {
    ($($promise:ident),* $(,)?) => {
        mod folder {
            $(#[tokio::test] async fn $promise() { super::$promise(&super::Rig::local()).await })*
        }
        mod bucket {
            $(#[tokio::test] async fn $promise() { super::$promise(&super::Rig::s3()).await })*
        }
    };
}

contract![
    a_listing_holds_media_only_in_natural_order,
    a_prefix_narrows_the_library_and_stays_in_the_keys,
    prepared_files_are_no_media,
    a_listing_goes_past_a_thousand_keys,
    a_file_comes_back_as_it_was_put_whatever_its_name,
    progress_rises_to_the_size,
    a_large_file_arrives_whole_and_leaves_nothing_behind,
    an_empty_file_can_be_read_and_an_offset_behind_the_end_is_refused,
    a_replaced_file_is_refused_to_whoever_knew_the_old_one,
    a_missing_key_is_said_to_be_missing,
    deleting_removes_one_file_and_is_not_surprised_by_none,
    an_impossible_key_is_refused_before_anything_happens,
    a_missing_source_file_is_named,
    a_link_is_valid_from_a_minute_to_seven_days,
    a_place_that_is_not_there_is_said_to_be_missing,
];
