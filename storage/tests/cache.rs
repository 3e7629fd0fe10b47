//! The cache against a server that misbehaves: nothing but the whole object ever becomes a copy.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used, missing_docs)]

mod front;

use front::{Front, Reply};
use md5::{Digest, Md5};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use storage::cache::{Cache, CacheError, Usage, Wants, find, part};
use storage::{MediaFile, Storage, StorageError};

/// More than two of the steps in which a part is put on the disk.
const LONG: usize = 9 * 1024 * 1024;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 % 253) as u8).collect()
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A server with one object, and a cache for it.
struct House {
    front: Front,
    folder: tempfile::TempDir,
    file: MediaFile,
    bytes: Vec<u8>,
    came: u64,
}

impl House {
    fn with(length: usize, etag: &str) -> Self {
        let bytes = bytes(length);
        let etag = if etag.is_empty() { md5(&bytes) } else { etag.to_owned() };
        let file = MediaFile { key: "a.mp4".into(), size: length as u64, content: etag.clone() };
        Self {
            front: Front::start(bytes.clone(), &etag),
            folder: tempfile::tempdir().unwrap(),
            file,
            bytes,
            came: 0,
        }
    }

    fn cache(&self) -> Cache {
        Cache::open(self.folder.path(), "media", 1 << 30, 0).unwrap()
    }

    async fn fetch(&mut self, cache: &mut Cache) -> Result<PathBuf, CacheError> {
        let storage = Storage::open(self.front.settings(), None).unwrap();
        let wants = Wants { files: vec![self.file.clone()], near: 1, ..Wants::default() };
        let came = &mut self.came;
        cache.fetch(&storage, &self.file, &wants, &mut |_, more| *came += more).await
    }

    fn found(&self) -> Option<PathBuf> {
        find(self.folder.path(), "media", &self.file.key, &self.file.content)
    }

    #[track_caller]
    fn assert_whole(&self) {
        let path = self.found().unwrap();
        assert!(fs::read(&path).unwrap() == self.bytes, "the copy is the object");
        assert_eq!(path.extension().unwrap(), "mp4");
    }
}

#[tokio::test]
async fn an_object_is_fetched_once_and_found_by_anybody() {
    let mut house = House::with(LONG, "");
    let mut cache = house.cache();
    assert_eq!(house.found(), None);
    let path = house.fetch(&mut cache).await.unwrap();
    assert_eq!(house.found(), Some(path));
    house.assert_whole();
    house.fetch(&mut cache).await.unwrap();
    drop(cache);
    house.fetch(&mut house.cache()).await.unwrap();
    assert_eq!((house.front.ranges(), house.came), (vec![0], LONG as u64));
}

#[tokio::test]
async fn a_body_that_ends_too_early_is_gone_on_with_and_never_a_copy() {
    let mut house = House::with(LONG, "");
    let mut cache = house.cache();
    house.front.script(&[Reply::CutAfter(1_000_000), Reply::CutAfter(5_000_000)]);
    for _ in 0..2 {
        let error = house.fetch(&mut cache).await.unwrap_err();
        assert!(error.is_outage(), "{error}");
        assert_eq!(house.found(), None);
    }
    house.fetch(&mut cache).await.unwrap();
    house.assert_whole();
    let ranges = house.front.ranges();
    assert_eq!(ranges[0], 0);
    assert!(
        ranges.windows(2).all(|two| two[0] < two[1]),
        "each goes on where the last one ended: {ranges:?}"
    );
    assert_eq!(house.came, LONG as u64, "no byte came twice");
}

#[tokio::test]
async fn a_changed_object_is_refused_and_the_part_of_the_old_one_goes() {
    let mut house = House::with(100_000, "old-2");
    let mut cache = house.cache();
    house.front.script(&[Reply::CutAfter(50_000)]);
    house.fetch(&mut cache).await.unwrap_err();
    house.front.replace(bytes(100_000), "new-2");
    let error = house.fetch(&mut cache).await.unwrap_err();
    assert!(matches!(error, CacheError::Storage(StorageError::Changed(_))), "{error}");
    assert!(!error.is_outage());
    assert_eq!(Usage::of(&cache.shelf().held().unwrap()), Usage::default());
    house.file.content = "new-2".into();
    house.fetch(&mut cache).await.unwrap();
    house.assert_whole();
}

#[tokio::test]
async fn an_object_of_another_length_is_refused() {
    let mut house = House::with(100_000, "e-2");
    house.front.replace(bytes(90_000), "e-2");
    let error = house.fetch(&mut house.cache()).await.unwrap_err();
    assert!(matches!(error, CacheError::Other { .. }), "{error}");
    assert_eq!(house.found(), None);
}

#[tokio::test]
async fn wrong_bytes_are_thrown_away_unless_the_tag_is_no_digest_at_all() {
    let mut house = House::with(100_000, "");
    let mut cache = house.cache();
    let mut wrong = house.bytes.clone();
    wrong[5] ^= 1;
    house.front.replace(wrong, &house.file.content);
    let error = house.fetch(&mut cache).await.unwrap_err();
    assert!(error.to_string().contains("do not fit its ETag"), "{error}");
    assert_eq!(house.found(), None);
    house.front.replace(house.bytes.clone(), &house.file.content);
    house.fetch(&mut cache).await.unwrap();
    house.assert_whole();
    // With a key of KMS the ETag looks like a digest of the bytes and is none: the same bytes come twice.
    let mut house = House::with(100_000, "0123456789abcdef0123456789abcdef");
    let mut cache = house.cache();
    house.fetch(&mut cache).await.unwrap_err();
    house.fetch(&mut cache).await.unwrap();
    house.assert_whole();
}

#[tokio::test]
async fn a_full_disk_makes_room_once() {
    let mut house = House::with(100_000, "e-2");
    let mut cache = house.cache();
    let storage = Storage::open(house.front.settings(), None).unwrap();
    house.fetch(&mut cache).await.unwrap();
    let second = MediaFile { key: "b.mp4".into(), ..house.file.clone() };
    let mut full = 0;
    let mut after = |step| match step {
        part::Step::Grown if full == 0 => {
            full += 1;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
        _ => Ok(()),
    };
    let wants = Wants { files: vec![second.clone()], near: 1, ..Wants::default() };
    let fetched = cache.fetch_step_by_step(&storage, &second, &wants, &mut |_, _| {}, &mut after).await;
    assert!(fetched.is_ok(), "{fetched:?}");
    assert_eq!(house.found(), None, "what nobody wants made room");
    let mut always = |step| match step {
        part::Step::Grown => Err(io::Error::from(io::ErrorKind::StorageFull)),
        _ => Ok(()),
    };
    let third = MediaFile { key: "c.mp4".into(), ..second.clone() };
    let wants = Wants { files: vec![second, third.clone()], near: 2, ..Wants::default() };
    let error =
        cache.fetch_step_by_step(&storage, &third, &wants, &mut |_, _| {}, &mut always).await.unwrap_err();
    assert!(matches!(error, CacheError::NoSpace(_)) && !error.is_outage(), "{error}");
}

#[tokio::test]
async fn the_budget_holds_and_the_least_recently_used_goes() {
    let house = House::with(100_000, "e-2");
    let storage = Storage::open(house.front.settings(), None).unwrap();
    let mut cache = Cache::open(house.folder.path(), "media", 250_000, 0).unwrap();
    let file = |key: &str| MediaFile { key: key.into(), ..house.file.clone() };
    let held = |key: &str| find(house.folder.path(), "media", key, "e-2").is_some();
    for key in ["a.mp4", "b.mp4"] {
        let wants = Wants { files: vec![file(key)], near: 1, ..Wants::default() };
        cache.fetch(&storage, &file(key), &wants, &mut |_, _| {}).await.unwrap();
    }
    assert!(held("b.mp4") && held("a.mp4"), "a was used last");
    let wants = Wants { files: vec![file("c.mp4")], near: 1, ..Wants::default() };
    assert_eq!(cache.shelf().next(&wants).unwrap(), Some(&file("c.mp4")));
    cache.fetch(&storage, &file("c.mp4"), &wants, &mut |_, _| {}).await.unwrap();
    assert!(Usage::of(&cache.shelf().held().unwrap()).bytes <= 250_000);
    assert!(held("a.mp4") && held("c.mp4") && !held("b.mp4"));
    // What must stay is not given up for anything.
    let wants = Wants { files: ["a.mp4", "c.mp4", "d.mp4"].map(file).to_vec(), near: 2, ..Wants::default() };
    assert_eq!(cache.shelf().next(&wants).unwrap(), None);
    let error = cache.fetch(&storage, &file("d.mp4"), &wants, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(error, CacheError::NoRoom { missing: 50_000, .. }), "{error}");
    drop(cache);
    let cache = Cache::open(house.folder.path(), "media", 0, 0).unwrap();
    assert_eq!(Usage::of(&cache.shelf().held().unwrap()), Usage::default(), "off holds nothing");
}

#[tokio::test]
async fn prepared_files_count_too_and_those_in_use_stay() {
    let house = House::with(100_000, "e-2");
    let storage = Storage::open(house.front.settings(), None).unwrap();
    let folder = house.folder.path().join("prepared");
    std::fs::create_dir(&folder).unwrap();
    let results = || {
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    for (name, age_s) in [("aa-1-1", 300), ("bb-1-1", 200), ("cc-1-1", 100)] {
        std::fs::write(folder.join(format!("{name}.json")), b"{}").unwrap();
        let file = std::fs::File::create(folder.join(format!("{name}.mp4"))).unwrap();
        file.set_len(60_000).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age_s)).unwrap();
    }
    let mut cache = Cache::open(house.folder.path(), "media", 170_000, 0).unwrap();
    assert_eq!(results().len(), 6, "nobody can tell yet what is in use");
    let wants = |prepared: &[&str]| Wants {
        files: vec![house.file.clone()],
        near: 1,
        prepared: prepared.iter().map(|name| (*name).to_owned()).collect(),
    };
    assert_eq!(cache.trim(&wants(&["aa-1-1", "cc"])).unwrap(), 60_000);
    assert_eq!(results(), ["aa-1-1.json", "aa-1-1.mp4", "cc-1-1.json", "cc-1-1.mp4"]);
    assert_eq!(cache.trim(&wants(&["aa-1-1", "cc"])).unwrap(), 0);
    assert_eq!(
        cache.shelf().next(&wants(&["aa-1-1", "cc-1-1"])).unwrap(),
        None,
        "it has no room beside them"
    );
    assert_eq!(cache.shelf().next(&wants(&["cc-1-1"])).unwrap(), Some(&house.file));
    cache.fetch(&storage, &house.file, &wants(&["cc-1-1"]), &mut |_, _| {}).await.unwrap();
    assert_eq!(results(), ["cc-1-1.json", "cc-1-1.mp4"]);
    let usage = Usage::of(&cache.shelf().held().unwrap());
    assert_eq!(
        (usage.bytes, usage.files, usage.prepared_bytes, usage.prepared_files),
        (160_000, 1, 60_000, 1)
    );
}

#[test]
fn two_never_write_to_one_cache() {
    let folder = tempfile::tempdir().unwrap();
    let first = Cache::open(folder.path(), "media", 1, 0).unwrap();
    let second = Cache::open(folder.path(), "media", 1, 0);
    assert!(matches!(second, Err(CacheError::InUse(_))));
    drop(first);
    Cache::open(folder.path(), "media", 1, 0).unwrap();
}

/// Not a test of its own: what the next test starts and kills.
#[test]
fn child_that_fetches() {
    let Ok(told) = std::env::var("CACHE_CHILD") else { return };
    let (address, folder) = told.split_once(' ').unwrap();
    let storage = Storage::open(front::settings(address), None).unwrap();
    let mut cache = Cache::open(Path::new(folder), "media", 1 << 30, 0).unwrap();
    let file = MediaFile { key: "a.mp4".into(), size: LONG as u64, content: "e-2".into() };
    let wants = Wants { files: vec![file.clone()], near: 1, ..Wants::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(cache.fetch(&storage, &file, &wants, &mut |_, _| {})).unwrap();
}

#[tokio::test]
async fn a_fetch_that_was_killed_is_gone_on_with() {
    let mut house = House::with(LONG, "e-2");
    house.front.script(&[Reply::StallAfter(6_000_000)]);
    let address = house.front.settings().endpoint.replace("http://", "");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_fetches"])
        .env("CACHE_CHILD", format!("{address} {}", house.folder.path().display()))
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while part_length(house.folder.path()) < 6_000_000 {
        assert!(Instant::now() < deadline, "the child fetches");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(house.found(), None);
    house.fetch(&mut house.cache()).await.unwrap();
    house.assert_whole();
    assert_eq!(
        house.front.ranges(),
        [0, part::SURE_EVERY],
        "what was on the disk for sure did not come again"
    );
}

fn part_length(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder.join("media")) else { return 0 };
    let parts = entries.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "part"));
    parts.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
}
