//! The real `streamctl` with a folder and with a real S3 server that verifies signatures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../storage/tests/server/mod.rs"]
mod server;

use serde_json::Value;
use server::{BUCKET, KEY_ID, SECRET, Server, canned};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A desk with files, and the environment of a storage.
struct Rig {
    desk: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
    /// Where media lie, to look behind its back.
    folder: PathBuf,
    _server: Option<Server>,
}

/// What the program said and how it ended.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Rig {
    fn local() -> Self {
        let desk = tempfile::tempdir().unwrap();
        let folder = desk.path().join("media");
        fs::create_dir(&folder).unwrap();
        let variables = vec![("STORAGE_LOCAL_DIR", folder.display().to_string())];
        Self { desk, variables, folder, _server: None }
    }

    fn bucket() -> Self {
        let server = Server::start();
        let variables = vec![
            ("STORAGE_PROVIDER", "r2".to_owned()),
            ("STORAGE_BUCKET", BUCKET.to_owned()),
            ("STORAGE_ENDPOINT", server.endpoint.clone()),
            ("STORAGE_ACCESS_KEY_ID", KEY_ID.to_owned()),
            ("STORAGE_SECRET_ACCESS_KEY", SECRET.to_owned()),
        ];
        Self { desk: tempfile::tempdir().unwrap(), variables, folder: server.folder(), _server: Some(server) }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
        self
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.desk.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn run(&self, arguments: &[&str]) -> Said {
        said(
            Command::new(env!("CARGO_BIN_EXE_streamctl"))
                .envs(self.variables.iter().cloned())
                .args(arguments),
        )
    }
}

/// Runs it with nothing of our own environment but the search path.
fn said(command: &mut Command) -> Said {
    let set: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.unwrap().to_owned())).collect();
    let output = command.env_clear().env("PATH", std::env::var("PATH").unwrap()).envs(set).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said =
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
    assert!(!said.err.contains(SECRET) && !said.out.contains(SECRET), "{said:?}");
    said
}

fn files_come_and_go(rig: &Rig) {
    let (one, ten) = (rig.file("clip 1.mp4", b"one"), rig.file("clip 10.mp4", &[7; 2_000_000]));
    let up = rig.run(&["media", "upload", &ten, &one, "--prefix", "shows"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert_eq!(up.out, "uploaded shows/clip 10.mp4 (2.0 MB)\nuploaded shows/clip 1.mp4 (3 B)\n");
    assert_eq!(fs::read(rig.folder.join("shows/clip 1.mp4")).unwrap(), b"one");

    let list = rig.run(&["media", "list"]);
    assert_eq!(list.out, "       3 B  shows/clip 1.mp4\n    2.0 MB  shows/clip 10.mp4\n");
    assert!(list.err.contains("2 media files"), "{list:?}");

    let gone = rig.run(&["media", "delete", "shows/clip 1.mp4"]);
    assert_eq!((gone.code, gone.out.as_str()), (0, "deleted shows/clip 1.mp4\n"));
    let list = rig.run(&["media", "list", "--json"]).json();
    assert_eq!((list.as_array().unwrap().len(), &list[0]["key"]), (1, &Value::from("shows/clip 10.mp4")));
    assert_eq!(list[0]["size"], 2_000_000);
}

#[test]
fn files_come_and_go_in_a_folder() {
    files_come_and_go(&Rig::local());
}

#[test]
fn files_come_and_go_in_a_bucket() {
    files_come_and_go(&Rig::bucket());
}

#[test]
fn what_is_there_already_can_be_left_out() {
    let rig = Rig::bucket();
    let file = rig.file("a.mp4", b"four");
    assert_eq!(rig.run(&["media", "upload", &file]).code, 0);
    let again = rig.run(&["--json", "media", "upload", "--skip-existing", &file]);
    assert_eq!((again.code, &again.json()[0]["skipped"]), (0, &Value::Bool(true)));
    fs::write(&file, b"longer").unwrap();
    let changed = rig.run(&["--json", "media", "upload", "--skip-existing", &file]);
    assert_eq!(
        (&changed.json()[0]["skipped"], &changed.json()[0]["size"]),
        (&Value::Bool(false), &Value::from(6))
    );
}

#[test]
fn one_bad_key_does_not_keep_the_others_from_their_turn() {
    let rig = Rig::bucket();
    fs::write(rig.folder.join("a.mp4"), b"x").unwrap();
    let gone = rig.run(&["media", "delete", "missing.mp4", "a.mp4", "--json"]);
    assert_eq!(gone.code, 1);
    assert_eq!(gone.err.lines().count(), 1, "{gone:?}");
    let report = gone.json();
    assert_eq!(
        (&report[0]["error"]["code"], &report[1]["deleted"]),
        (&Value::from("no_key"), &Value::Bool(true))
    );
    assert!(!rig.folder.join("a.mp4").exists());
}

#[test]
fn a_pipe_gets_plain_lines_of_progress() {
    let rig = Rig::local();
    let up = rig.run(&["media", "upload", &rig.file("large.mp4", &vec![1; 40_000_000])]);
    assert!(!up.err.contains(['\r', '\x1b']), "{up:?}");
    assert!(
        up.err.lines().all(|line| line.starts_with("large.mp4: ") && line.ends_with(" % of 40.0 MB")),
        "{up:?}"
    );
}

/// A clip of real media.
fn clip(folder: &Path, name: &str, arguments: &str) {
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i"])
        .args(arguments.split(' '))
        .args(["-c:a", "aac", "-ar", "48000", "-ac", "2", "-pix_fmt", "yuv420p", "-y"])
        .arg(folder.join(name))
        .status();
    assert!(made.unwrap().success());
}

fn probing_tells_what_fits(rig: &Rig) {
    let sound = "-f lavfi -i sine=sample_rate=48000 -t 2 -c:v libx264 -preset ultrafast";
    clip(&rig.folder, "fits & so on.mp4", &format!("testsrc2=s=640x360:r=30 {sound} -g 30"));
    clip(&rig.folder, "large.mp4", &format!("testsrc2=s=1920x1080:r=30 {sound} -g 30"));
    fs::write(rig.folder.join("junk.mp4"), b"this is no film").unwrap();

    let probed = rig.run(&["media", "probe", "fits & so on.mp4", "large.mp4", "junk.mp4", "--json"]);
    assert_eq!((probed.code, probed.err.lines().count()), (1, 1), "{probed:?}");
    let report = probed.json();
    let first = &report[0];
    assert_eq!(
        (&first["fits"], &first["video"]["codec"]),
        (&Value::Bool(true), &Value::from("h264")),
        "{first}"
    );
    assert_eq!((&first["video"]["width"], &first["video"]["fps"]), (&Value::from(640), &Value::from(30.0)));
    assert_eq!(first["video"]["longest_keyframe_distance_ms"], 1000);
    let length = first["duration_ms"].as_u64().unwrap();
    assert!((1_900..2_200).contains(&length), "{length}");
    assert_eq!(report[1]["fits"], false);
    assert!(report[1]["reason"].as_str().unwrap().contains("1920x1080"), "{report}");
    assert_eq!(report[2]["error"]["code"], "unreadable");

    let shown = rig.run(&["media", "probe", "fits & so on.mp4"]);
    assert!(shown.out.contains("h264") && shown.out.contains("fits 1280x720"), "{shown:?}");
}

#[test]
fn the_folder_of_prepared_files_is_not_for_media() {
    let rig = Rig::bucket().with("STORAGE_PREPARED_PREFIX", "prepared/");
    let file = rig.file("a.mp4", b"four");
    let refused = rig.run(&["media", "upload", &file, "--prefix", "prepared"]);
    assert!(refused.code == 2 && refused.err.contains("STORAGE_PREPARED_PREFIX"), "{refused:?}");
    fs::create_dir(rig.folder.join("prepared")).unwrap();
    fs::write(rig.folder.join("prepared/x.mp4"), b"x").unwrap();
    let list = rig.run(&["media", "list"]);
    assert_eq!((list.code, list.out.as_str()), (0, ""), "{list:?}");
}

#[test]
fn probing_a_folder_tells_what_fits() {
    probing_tells_what_fits(&Rig::local());
}

#[test]
fn probing_a_bucket_tells_what_fits() {
    probing_tells_what_fits(&Rig::bucket());
}

#[test]
fn ffprobe_is_never_told_a_signed_link() {
    let rig = Rig::bucket();
    fs::write(rig.folder.join("a.mp4"), b"x").unwrap();
    // It tells its last argument, unless it has heard more than it should.
    let script = "#!/bin/sh\nfor a; do :; done\ncase \"$a\" in http://127.0.0.1:*) a=loopback;; esac\ncase \"$* $(env)\" in *X-Amz*|*test-key-id*|*hush*) a=LEAK;; esac\n\
                  echo \"asked $a\" >&2\nexit 1\n";
    let fake = rig.file("ffprobe", script.as_bytes());
    fs::set_permissions(&fake, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = rig.with("FFPROBE_PATH", &fake).run(&["media", "probe", "a.mp4"]);
    assert!(said.code == 1 && said.err.contains("asked loopback"), "{said:?}");
}

#[test]
fn every_problem_of_the_environment_is_a_line_and_ends_with_2() {
    let rig = Rig::local().with("STORAGE_PROVIDER", "s3").with("STORAGE_BUCKET", "X");
    let said = rig.run(&["media", "list"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert_eq!(
        said.err.lines().filter(|line| line.starts_with("streamctl: STORAGE_")).count(),
        4,
        "{said:?}"
    );
    assert_eq!(rig.run(&["media", "upload"]).code, 2);
    assert_eq!(rig.run(&["medium"]).code, 2);
    let text = rig.file("notes.txt", b"x");
    assert_eq!(Rig::local().run(&["media", "upload", &text]).code, 2);
}

#[test]
fn what_storage_refuses_is_one_line_and_ends_with_1() {
    let rig = Rig::bucket();
    let wrong = rig.with("STORAGE_SECRET_ACCESS_KEY", "not-the-secret");
    for arguments in [&["media", "list"][..], &["media", "probe", "a.mp4"], &["media", "delete", "a.mp4"]] {
        let said = wrong.run(arguments);
        assert_eq!((said.code, said.err.lines().count()), (1, 1), "{said:?}");
        assert!(
            said.err.contains("STORAGE_SECRET_ACCESS_KEY") && !said.err.contains("not-the-secret"),
            "{said:?}"
        );
    }
    let nobody = wrong.with("STORAGE_ENDPOINT", &canned::nobody());
    let said = nobody.run(&["media", "list"]);
    assert!(said.code == 1 && said.err.contains("cannot be reached"), "{said:?}");
}

#[test]
fn a_file_of_variables_and_credential_files_count_too() {
    let rig = Rig::bucket();
    fs::write(rig.folder.join("a.mp4"), b"x").unwrap();
    fs::write(rig.desk.path().join("storage_secret_access_key"), format!("{SECRET}\n")).unwrap();
    let lines = rig.variables.iter().filter(|(name, _)| *name != "STORAGE_SECRET_ACCESS_KEY");
    let mut text: String = lines.map(|(name, value)| format!("{name}=\"{value}\"\n")).collect();
    text.push_str(&format!("CREDENTIALS_DIRECTORY={}\n", rig.desk.path().display()));
    let file = rig.file("streamctl.env", text.as_bytes());
    let program = env!("CARGO_BIN_EXE_streamctl");
    let said_so = said(Command::new(program).args(["media", "list", "--json", "--env-file", &file]));
    assert_eq!((said_so.code, &said_so.json()[0]["key"]), (0, &Value::from("a.mp4")), "{said_so:?}");
    let broken = rig.file("broken.env", b"hush hush\n");
    let said_so = said(Command::new(program).args(["media", "list", "--env-file", &broken]));
    assert!(
        said_so.code == 2 && said_so.err.contains("line 1") && !said_so.err.contains("hush"),
        "{said_so:?}"
    );
}

#[test]
fn help_names_everything() {
    let help = Rig::local().run(&["--help"]);
    assert!(help.code == 0 && help.out.contains("media") && help.out.contains("STORAGE_BUCKET"), "{help:?}");
    let help = Rig::local().run(&["media", "--help"]);
    for word in ["upload", "list", "probe", "delete"] {
        assert!(help.out.contains(word), "{help:?}");
    }
}
