//! What only a bucket can do or suffer: signatures, links, parts, and servers that are wrong, slow or gone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;

use server::front::Front;
use server::{KEY_ID, SECRET, Server, canned, settings};
use state::secret::Secret;
use state::storage::StorageSettings;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use storage::{LINK_VALID, Storage, StorageError, StreamUrl};
use tokio::sync::watch;

const MIB: usize = 1024 * 1024;
const KEY: &str = "shows/ä b+c.mp4";

fn opened(settings: StorageSettings) -> Storage {
    Storage::open(settings, None).unwrap().with_shortest_link(Duration::ZERO)
}

/// A server that holds one file under [`KEY`].
async fn with_a_file(bytes: &[u8]) -> (Server, Storage) {
    let server = Server::start();
    let storage = opened(server.settings());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    storage.put(KEY, file.path(), &mut |_, _| {}).await.unwrap();
    (server, storage)
}

/// What a player without any credentials gets: the status and the body.
fn fetch(url: &str, range: Option<&str>) -> (u16, Vec<u8>) {
    let agent =
        ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let request = agent.get(url);
    let request = if let Some(range) = range { request.header("range", range) } else { request };
    let mut answer = request.call().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_to_vec().unwrap())
}

#[tokio::test]
async fn a_link_plays_without_credentials_in_whole_and_in_ranges() {
    let (_server, storage) = with_a_file(b"0123456789").await;
    let link = storage.stream_url(KEY, LINK_VALID).await.unwrap();
    assert_eq!(fetch(link.expose(), None), (200, b"0123456789".to_vec()));
    assert_eq!(fetch(link.expose(), Some("bytes=4-6")), (206, b"456".to_vec()));
    assert_eq!(fetch(link.expose(), Some("bytes=8-")), (206, b"89".to_vec()));
}

#[tokio::test]
async fn a_link_expires() {
    let (_server, storage) = with_a_file(b"x").await;
    let link = storage.stream_url(KEY, Duration::from_secs(1)).await.unwrap();
    let began = Instant::now();
    while fetch(link.expose(), None).0 == 200 {
        assert!(began.elapsed() < Duration::from_secs(20), "it never expired");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(fetch(link.expose(), None).0, 403);
}

#[tokio::test]
async fn a_link_with_another_key_signature_or_validity_is_refused() {
    let (server, storage) = with_a_file(b"x").await;
    std::fs::write(server.folder().join("other.mp4"), b"y").unwrap();
    let link = storage.stream_url(KEY, LINK_VALID).await.unwrap();
    let text = link.expose();
    let (path, query) = text.split_once('?').unwrap();
    let folder = path.rsplit_once("/shows/").unwrap().0;
    let (signed, signature) = text.split_once("X-Amz-Signature=").unwrap();
    let other_first = if signature.starts_with('0') { '1' } else { '0' };
    for forged in [
        format!("{folder}/other.mp4?{query}"),
        text.replace("X-Amz-Expires=86400", "X-Amz-Expires=604800"),
        format!("{signed}X-Amz-Signature={other_first}{}", &signature[1..]),
        path.to_owned(),
    ] {
        assert_ne!(forged, text);
        assert_eq!(fetch(&forged, None).0, 403);
    }
}

#[tokio::test]
async fn a_link_does_not_show_its_signature() {
    let storage = opened(settings("http://127.0.0.1:1"));
    let link: StreamUrl = storage.stream_url(KEY, LINK_VALID).await.unwrap();
    let signature = link.expose().split_once("X-Amz-Signature=").unwrap().1[..64].to_owned();
    let shown = format!("{link} {link:?} {storage:?}");
    for hidden in [signature.as_str(), SECRET, KEY_ID] {
        assert!(!shown.contains(hidden), "{shown}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_never_shown() {
    let (server, _) = with_a_file(b"x").await;
    for (id, secret) in [(KEY_ID, "wrong-secret-hush"), ("wrong-key-id", SECRET)] {
        let wrong = opened(StorageSettings {
            access_key_id: Secret::new(id),
            secret_access_key: Secret::new(secret),
            ..server.settings()
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        for error in [
            wrong.check().await.unwrap_err(),
            wrong.list_media().await.unwrap_err(),
            wrong.stat(KEY).await.unwrap_err(),
            wrong.get(KEY, 0, None).await.unwrap_err(),
            wrong.delete(KEY).await.unwrap_err(),
            wrong.put(KEY, file.path(), &mut |_, _| {}).await.unwrap_err(),
        ] {
            assert!(matches!(error, StorageError::RefusedCredentials(_)), "{error:?}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("STORAGE_SECRET_ACCESS_KEY") && !error.is_worth_retrying(), "{shown}");
            assert!(!shown.contains("hush") && !shown.contains(id), "{shown}");
        }
    }
}

#[tokio::test]
async fn every_answer_of_a_server_has_its_kind() {
    type Is = fn(&StorageError) -> bool;
    let kinds: [(u16, &str, Is); 12] = [
        (403, "RequestTimeTooSkewed", |e| matches!(e, StorageError::ClockSkew(_))),
        (403, "AccessDenied", |e| matches!(e, StorageError::RefusedCredentials(_))),
        (401, "Unauthorized", |e| matches!(e, StorageError::RefusedCredentials(_))),
        (404, "NoSuchBucket", |e| matches!(e, StorageError::NoBucket(_))),
        (404, "NoSuchKey", |e| matches!(e, StorageError::NoKey(_))),
        (301, "PermanentRedirect", |e| matches!(e, StorageError::NoBucket(_))),
        (503, "SlowDown", |e| matches!(e, StorageError::Throttled(_))),
        (429, "TooManyRequests", |e| matches!(e, StorageError::Throttled(_))),
        (507, "InsufficientStorage", |e| matches!(e, StorageError::NoSpace(_))),
        (412, "PreconditionFailed", |e| matches!(e, StorageError::Changed(_))),
        (500, "InternalError", |e| matches!(e, StorageError::Unreachable(_))),
        (501, "NotImplemented", |e| matches!(e, StorageError::Unsupported(_))),
    ];
    for (status, code, is) in kinds {
        let storage = opened(settings(&canned::answering(canned::refusal(status, code))));
        let error = storage.get(KEY, 0, None).await.unwrap_err();
        assert!(is(&error), "{status} {code}: {error:?}");
        assert!(!error.to_string().contains("secret things"), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable_within_seconds() {
    let began = Instant::now();
    let error = opened(settings(&canned::nobody())).check().await.unwrap_err();
    assert!(matches!(error, StorageError::Unreachable(_)), "{error:?}");
    assert!(error.is_worth_retrying() && error.to_string().contains("refused"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let began = Instant::now();
    let error = opened(settings(&canned::silent())).stat(KEY).await.unwrap_err();
    assert!(matches!(error, StorageError::TimedOut(_)) && error.is_worth_retrying(), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_is_cut_is_an_error_and_not_an_end() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\netag: \"e\"\r\nconnection: close\r\n\r\nonly this";
    let storage = opened(settings(&canned::answering(cut.to_owned())));
    let mut body = storage.get(KEY, 0, None).await.unwrap();
    let mut got = 0;
    let error = loop {
        match body.chunk().await {
            Ok(Some(bytes)) => got += bytes.len(),
            Ok(None) => panic!("taken for the end after {got} bytes"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StorageError::Unreachable(_)) && error.is_worth_retrying(), "{error:?}");
}

#[tokio::test]
async fn a_server_without_ranges_is_refused_rather_than_misread() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\netag: \"e\"\r\nconnection: close\r\n\r\nfour";
    let storage = opened(settings(&canned::answering(whole.to_owned())));
    let error = storage.get(KEY, 2, None).await.unwrap_err();
    assert!(matches!(error, StorageError::Unsupported(_)), "{error:?}");
}

#[test]
fn certificates_that_cannot_be_used_are_named_at_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    for path in [file.path(), Path::new("/nowhere/ca.pem")] {
        let error = Storage::open(settings("https://127.0.0.1:1"), Some(path)).unwrap_err();
        assert!(error.to_string().contains("TLS_CA_FILE"), "{error}");
    }
}

/// The third part has begun, so the first two have been acknowledged.
const INTO_THE_THIRD_PART: u64 = 33 * MIB as u64;

/// A file of five parts, each other than the rest.
fn large_file(folder: &Path, salt: u8) -> PathBuf {
    let path = folder.join("large.mp4");
    let bytes: Vec<u8> = (0..70 * MIB).map(|at| ((at / MIB) as u8) ^ (at % 251) as u8 ^ salt).collect();
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Uploads until `enough` bytes have gone, and ends in the middle of a part as a killed program would.
async fn upload_and_die(storage: &Storage, file: &Path, enough: u64) {
    let (told, mut heard) = watch::channel(0);
    let (storage, file) = (storage.clone(), file.to_owned());
    let upload = tokio::spawn(async move {
        storage.put("large.mp4", &file, &mut |done, _| _ = told.send_replace(done)).await
    });
    heard.wait_for(|done| *done >= enough).await.unwrap();
    upload.abort();
    assert!(upload.await.unwrap_err().is_cancelled(), "it was complete before it could be killed");
}

#[tokio::test]
async fn a_killed_upload_goes_on_where_it_stopped() {
    let server = Server::start();
    let front = Front::before(&server.endpoint);
    let storage = opened(settings(&front.endpoint));
    let desk = tempfile::tempdir().unwrap();
    let file = large_file(desk.path(), 0);
    upload_and_die(&storage, &file, INTO_THE_THIRD_PART).await;
    assert!(!server.leftovers().is_empty(), "the parts were thrown away");

    storage.put("large.mp4", &file, &mut |_, _| {}).await.unwrap();
    let stored = front.stored();
    assert_eq!((stored.len(), &stored[..2]), (5, &[1, 1][..]), "{stored:?}");
    assert!(std::fs::read(server.folder().join("large.mp4")).unwrap() == std::fs::read(&file).unwrap());
    assert_eq!(server.leftovers(), [""; 0]);
}

#[tokio::test]
async fn an_upload_of_changed_bytes_takes_nothing_from_the_old_one() {
    let server = Server::start();
    let front = Front::before(&server.endpoint);
    let storage = opened(settings(&front.endpoint));
    let desk = tempfile::tempdir().unwrap();
    upload_and_die(&storage, &large_file(desk.path(), 0), INTO_THE_THIRD_PART).await;
    let other = large_file(desk.path(), 1);
    storage.put("large.mp4", &other, &mut |_, _| {}).await.unwrap();
    assert_eq!(&front.stored()[..2], [2, 2]);
    assert!(std::fs::read(server.folder().join("large.mp4")).unwrap() == std::fs::read(&other).unwrap());
}

#[tokio::test]
async fn a_refused_upload_leaves_no_parts_behind() {
    let server = Server::start();
    let storage = opened(server.settings());
    let desk = tempfile::tempdir().unwrap();
    let file = large_file(desk.path(), 0);
    let mut grown = false;
    let mut overwrite = |done, _| {
        if done > 0 && !grown {
            grown = true;
            std::fs::write(&file, b"somebody else writes it").unwrap();
        }
    };
    let error = storage.put("large.mp4", &file, &mut overwrite).await.unwrap_err();
    assert!(grown && matches!(error, StorageError::Changed(_)), "{error:?}");
    assert_eq!(server.leftovers(), [""; 0]);
    assert!(storage.list_media().await.unwrap().is_empty());
}
