//! The slate shows the channel's name, whatever that holds, and never fails for it.

#![allow(clippy::unwrap_used, missing_docs)]

use state::profile::Profile;
use std::path::{Path, PathBuf};
use std::process::Command;
use stream_worker::source::child::Tools;
use stream_worker::source::slate::Slate;

const SIZE: (usize, usize) = (320, 180);

fn small() -> Profile {
    Profile { width: SIZE.0 as u32, height: SIZE.1 as u32, video_kbps: 500, ..Profile::default() }
}

fn slates(cache: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

async fn make(name: &str, cache: &Path) {
    let tools = Tools { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() };
    Slate::load_or_make(&tools, &small(), name, cache).await.unwrap();
}

/// Brightness of the first picture.
fn picture(slate: &Path) -> Vec<u8> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i"]).arg(slate);
    command.args("-frames:v 1 -pix_fmt gray -f rawvideo pipe:1".split(' '));
    let output = command.output().unwrap();
    assert_eq!(output.stdout.len(), SIZE.0 * SIZE.1, "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn bright(pixels: impl Iterator<Item = u8>) -> usize {
    pixels.filter(|luma| *luma > 120).count()
}

#[tokio::test]
async fn any_name_is_on_the_slate_and_inside_the_picture() {
    let long =
        "Ärger & Überraschungen: das lange Programm für alle, die es wissen wollen, jeden Tag um acht – x";
    let names = [
        "Main",
        "it's \"quoted\" \\ and \\\\",
        "a:b,c;d=[e]{f}",
        "100 % %{localtime} %%{n}",
        "two\nlines\r\tand\u{0}more",
        "🎬 日本語 канал",
        long,
        &"W".repeat(100),
        "0",
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut pictures = Vec::new();
    for name in names {
        let cache = folder.path().join(pictures.len().to_string());
        make(name, &cache).await;
        let [slate] = &slates(&cache)[..] else { panic!("{:?}", slates(&cache)) };
        let picture = picture(slate);
        assert!(bright(picture.iter().copied()) > 20, "{name:?} cannot be seen");
        let edge = picture.chunks(SIZE.0).flat_map(|row| row[..4].iter().chain(&row[SIZE.0 - 4..]));
        assert_eq!(bright(edge.copied()), 0, "{name:?} does not fit");
        assert!(!pictures.contains(&picture), "{name:?} looks like another");
        pictures.push(picture);
    }
}

#[tokio::test]
async fn it_is_made_once_for_a_name_and_a_profile() {
    let folder = tempfile::tempdir().unwrap();
    make("One", folder.path()).await;
    let [first] = &slates(folder.path())[..] else { panic!() };
    let made = first.metadata().unwrap().modified().unwrap();
    make("One", folder.path()).await;
    assert_eq!(first.metadata().unwrap().modified().unwrap(), made);
    make("Two", folder.path()).await;
    assert_eq!(slates(folder.path()).len(), 2);
}

#[tokio::test]
async fn a_name_of_blanks_gives_a_slate_without_letters() {
    let folder = tempfile::tempdir().unwrap();
    make(" \n ", folder.path()).await;
    assert_eq!(bright(picture(&slates(folder.path())[0]).into_iter()), 0);
}
