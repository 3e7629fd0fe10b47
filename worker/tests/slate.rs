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
    all.retain(|path| path.extension().is_some_and(|ending| ending == "flv"));
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

/// An FFmpeg that keeps whoever starts it waiting, and leaves a file `<process>.<how many of it there are>` in `seen`,
/// an empty one: the worker lets it write nothing.
fn slow_ffmpeg(folder: &Path) -> Tools {
    let (program, running, seen) = (folder.join("slow"), folder.join("running"), folder.join("seen"));
    std::fs::create_dir(&running).unwrap();
    std::fs::create_dir(&seen).unwrap();
    let text = format!(
        "#!/bin/sh\ntouch {0}/$$ {1}/$$.$(ls {0} | wc -l); sleep 0.4; ffmpeg \"$@\"; code=$?; rm {0}/$$; exit $code\n",
        running.display(),
        seen.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    Tools { ffmpeg: program, ffprobe: "ffprobe".into() }
}

#[tokio::test]
async fn channels_that_start_at_once_share_one_without_a_name_until_it_is_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let (tools, cache) = (slow_ffmpeg(folder.path()), folder.path().join("cache"));
    let names: Vec<String> = (0..8).map(|n| format!("Channel {n}")).collect();
    let profile = small();
    let at_once = names.iter().map(|name| Slate::load_or_make(&tools, &profile, name, &cache));
    let slates_at_once: Vec<Slate> = all(at_once).await;
    let nameless = slates_at_once.iter().filter(|slate| slate.is_nameless()).count();
    assert!((1..8).contains(&nameless), "{nameless} of 8 have no name");
    let in_turn = names.iter().map(|name| Slate::make_with_name(&tools, &profile, name, &cache));
    assert!(all(in_turn).await.iter().all(|slate| !slate.is_nameless()));
    assert_eq!(slates(&cache).len(), 9, "one for each name, and one for all");
    let seen = std::fs::read_dir(folder.path().join("seen")).unwrap().map(|file| file.unwrap().file_name());
    let encoders: Vec<usize> =
        seen.map(|name| name.to_str().unwrap().rsplit_once('.').unwrap().1.parse().unwrap()).collect();
    assert_eq!(encoders.len(), 9, "each was made once");
    assert!(encoders.iter().all(|n| *n <= 2), "one with a name and the one without: {encoders:?}");
}

/// Runs all of them at the same time.
async fn all(made: impl Iterator<Item = impl Future<Output = Result<Slate, String>>>) -> Vec<Slate> {
    let mut waiting: Vec<_> = made.map(Box::pin).collect();
    let mut done: Vec<Slate> = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(slate) => {
                done.push(slate.unwrap());
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
