//! The measures themselves: clean clips pass, and each kind of damage done on purpose is caught.

use anyhow::Result;
use e2e::analysis::{Limits, Verdict, judge, judge_loop, judge_window};
use e2e::media::{Clip, WITH_B, ffmpeg, run};
use e2e::recording::Recording;
use e2e::zoo::{self, Animal};
use std::path::{Path, PathBuf};

fn read(path: &Path, animal: &Animal) -> Result<Verdict> {
    let recording = Recording::read(path)?;
    Ok(judge(&recording, std::slice::from_ref(animal), &Limits::default()))
}

/// A clip, re-encoded with `options`, as a recording would hold it.
fn damaged(folder: &Path, options: &[&str]) -> Result<(PathBuf, Animal)> {
    let clip = Clip { video: WITH_B, ..Clip::plain("measure.mp4", 40) };
    let path = folder.join("damaged.flv");
    let mut command = ffmpeg();
    command.arg("-i").arg(clip.make()?).args(["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"]);
    run(command.args(options).arg(&path))?;
    Ok((path, Animal::new(clip)))
}

fn words(options: &[&str]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let (path, animal) = damaged(folder.path(), options)?;
    Ok(read(&path, &animal)?.to_string())
}

#[test]
fn every_clip_of_the_zoo_is_what_it_says() -> Result<()> {
    for animal in zoo::playable() {
        let verdict = read(&animal.clip.make()?, &animal)?;
        assert!(verdict.problems.is_empty(), "{}\n{verdict}", animal.clip.file);
    }
    Ok(())
}

#[test]
fn a_clean_recording_passes() -> Result<()> {
    let text = words(&[])?;
    assert!(!text.contains("PROBLEM"), "{text}");
    Ok(())
}

#[test]
fn scaled_pictures_between_bars_at_a_low_bitrate_are_still_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let options = ["-vf", "scale=426:240,pad=640:480:-1:-1", "-b:v", "200k"];
    let (path, animal) = damaged(folder.path(), &options)?;
    let verdict = read(&path, &Animal { filled: [66, 51], ..animal })?;
    assert!(verdict.problems.is_empty(), "{verdict}");
    Ok(())
}

#[test]
fn dropped_pictures_are_caught() -> Result<()> {
    let text = words(&["-vf", "select='not(between(n,30,32))'", "-vsync", "vfr"])?;
    assert!(text.contains("3 pictures lost"), "{text}");
    Ok(())
}

#[test]
fn a_missing_first_and_last_picture_are_caught() -> Result<()> {
    let text = words(&["-vf", "select='between(n,1,88)'", "-vsync", "vfr"])?;
    assert!(text.contains("pictures 1..=88 seen, 0..=89 expected"), "{text}");
    Ok(())
}

#[test]
fn late_sound_is_caught() -> Result<()> {
    let text = words(&["-af", "adelay=80:all=1"])?;
    assert!(text.contains("ms off the picture"), "{text}");
    Ok(())
}

#[test]
fn a_hole_in_the_sound_is_caught() -> Result<()> {
    let text = words(&["-af", "volume=0:enable='between(t,1.9,2.0)'"])?;
    assert!(text.contains("ms of sound are missing"), "{text}");
    Ok(())
}

#[test]
fn a_click_is_caught() -> Result<()> {
    let text = words(&["-af", "aeval=val(0)+0.3*gte(t\\,1.7):c=same"])?;
    assert!(text.contains("a click at 1.7"), "{text}");
    Ok(())
}

#[test]
fn hls_is_read_like_a_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let clip = Clip { video: WITH_B, ..Clip::plain("measure.mp4", 40) };
    let playlist = folder.path().join("index.m3u8");
    let mut command = ffmpeg();
    command.arg("-i").arg(clip.make()?).args([
        "-c",
        "copy",
        "-f",
        "hls",
        "-hls_time",
        "1",
        "-hls_list_size",
        "0",
    ]);
    run(command.arg(&playlist))?;
    let verdict = read(&playlist, &Animal::new(clip))?;
    assert!(verdict.problems.is_empty(), "{verdict}");
    Ok(())
}

#[test]
fn damaged_data_is_a_decode_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (path, animal) = damaged(folder.path(), &["-g", "90"])?;
    let mut bytes = std::fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle..middle + 3000].iter_mut().for_each(|b| *b ^= 0x5A);
    std::fs::write(&path, bytes)?;
    let text = read(&path, &animal)?.to_string();
    assert!(text.contains("decode errors"), "{text}");
    Ok(())
}

/// A recording of these files one after the other, as a re-encoder would make it.
fn joined(order: [usize; 4], options: &[&str]) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("joined.flv");
    let mut command = ffmpeg();
    for n in order {
        command.arg("-i").arg(zoo::sample()[n].clip.make()?);
    }
    command.args(["-filter_complex", "concat=n=4:v=1:a=1[v][a]", "-map", "[v]", "-map", "[a]"]);
    run(command.args(["-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"]).args(options).arg(&path))?;
    let verdict = judge_loop(Recording::read(&path)?, &zoo::sample(), 3, &Limits::default());
    Ok(verdict.to_string())
}

#[test]
fn a_loop_that_was_stopped_in_the_middle_is_judged_without_its_last_item() -> Result<()> {
    let text = joined([0, 1, 2, 0], &["-t", "10"])?;
    assert!(!text.contains("PROBLEM"), "{text}");
    Ok(())
}

#[test]
fn a_piece_out_of_the_middle_is_judged_without_both_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("piece.flv");
    let mut command = ffmpeg();
    for animal in zoo::sample().iter().cycle().take(5) {
        command.arg("-i").arg(animal.clip.make()?);
    }
    command.args(["-filter_complex", "concat=n=5:v=1:a=1[v][a]", "-map", "[v]", "-map", "[a]", "-ss", "4.5"]);
    run(command.args(["-t", "9", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"]).arg(&path))?;
    let verdict = judge_window(Recording::read(&path)?, &zoo::sample(), 2, &Limits::default());
    assert!(verdict.problems.is_empty() && verdict.rows.len() == 2, "{verdict}");
    assert_eq!(verdict.rows[0].name, "03-audio-ends-early.mp4", "{verdict}");
    Ok(())
}

#[test]
fn a_wrong_order_is_caught() -> Result<()> {
    let text = joined([0, 2, 1, 0], &[])?;
    assert!(text.contains("items on the air were [1, 3, 2] and not [1, 2, 3]"), "{text}");
    Ok(())
}

#[test]
fn too_few_items_are_caught() -> Result<()> {
    let text = joined([0, 1, 2, 0], &["-t", "5"])?;
    assert!(text.contains("1 whole items on the air, at least 3 expected"), "{text}");
    Ok(())
}

#[test]
fn a_picture_that_stands_still_at_a_boundary_is_caught() -> Result<()> {
    let text = joined([0, 1, 2, 0], &["-bsf:v", "setts=ts=TS+gte(N\\,90)*100"])?;
    assert!(text.contains("ms too long without a picture"), "{text}");
    Ok(())
}
