//! A stream key is nowhere but with the worker that needs it.

mod house;

use house::{House, files, wait_for};
use serde_json::json;
use std::fs;

const FROM_API: &str = "s3cret-from-the-api";
const FROM_ENVIRONMENT: &str = "s3cret-from-the-environment";
const PASTED: &str = "s3cret-pasted-into-a-url";

#[test]
fn no_key_is_in_files_logs_arguments_environments_or_answers() {
    let mut house = House::furnished("crash when told");
    house.set("YOUTUBE_STREAM_KEY", FROM_ENVIRONMENT).set("LOG_LEVEL", "trace").start();
    let destinations = json!({"destinations": [
        {"id": "one", "url": "rtmp://127.0.0.1:1/app?backup=1", "stream_key": FROM_API},
        {"id": "two", "url": format!("rtmp://127.0.0.1:2/app/{PASTED}")},
    ]});
    let mut answers = vec![house.post("/streams/start", destinations.clone())];
    assert_eq!(answers[0].status, 202);
    let on = house.wait_until("air", |status| status["air"]["is"] == "on");
    let urls: Vec<_> =
        on["destinations"].as_array().unwrap().iter().map(|d| d["url"].as_str().unwrap()).collect();
    assert_eq!(&urls[..2], ["rtmp://127.0.0.1:1/app", "rtmp://127.0.0.1:2/app"]);
    let pid = on["run"]["pid"].as_u64().unwrap();
    for file in ["cmdline", "environ"] {
        free_of_secrets(&format!("{file} of the worker"), &fs::read(format!("/proc/{pid}/{file}")).unwrap());
    }
    answers.push(house.post("/streams/start", destinations));
    answers.push(house.get("/streams/status"));
    answers.push(house.get("/health"));
    let broken = json!({"destinations": [{"url": "rtmp://h/a", "stream_key": FROM_API, "x": FROM_API}], "loop": PASTED});
    answers.push(house.post("/streams/start", broken));
    answers.push(house.stop_channel());
    house.wait_for_phase("off");
    for answer in answers {
        free_of_secrets("an answer", &answer.body);
    }

    // What the worker was told is the one place; the peer wrote it down only so that this test can look.
    let told = house.state("worker-was-told");
    let text = fs::read_to_string(&told).unwrap();
    for secret in [FROM_API, FROM_ENVIRONMENT, PASTED] {
        assert!(text.contains(secret), "the worker needs {secret}");
    }
    fs::remove_file(told).unwrap();
    let all = files(house.folder.path());
    assert!(all.iter().any(|path| path.ends_with("logs/main.log")));
    assert!(all.iter().any(|path| path.ends_with("worker-was-given")));
    let token = house.token();
    for path in all.iter().filter(|path| path.is_file()) {
        let bytes = fs::read(path).unwrap();
        free_of_secrets(&path.display().to_string(), &bytes);
        let holds_token = String::from_utf8_lossy(&bytes).contains(&token);
        let may = path.ends_with("admin.token") || path.ends_with("auth.header");
        assert_eq!(holds_token, may, "{}", path.display());
    }
}

#[test]
fn the_environment_of_a_worker_is_what_it_needs() {
    let mut house = House::furnished("play");
    house.set("MASTER_KEY", &"ab".repeat(32)).set("STORAGE_SECRET_ACCESS_KEY", "x").start();
    house.start_channel();
    house.wait_for_phase("live");
    let given = fs::read_to_string(house.path("worker-was-given")).unwrap();
    let mut names: Vec<_> = given.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // The shell of the stand-in adds its own.
    names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["LOG_FORMAT", "LOG_LEVEL", "PATH"]);
    let argv = given.lines().find_map(|line| line.strip_prefix("argv: ")).unwrap();
    let words: Vec<_> = argv.split(' ').collect();
    assert_eq!((words[0], words[1], words[2], words[4]), ("--channel", "main", "--run", "--socket"));
}

#[test]
fn a_key_is_kept_for_its_address_and_what_is_private_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::with_worker("play");
    let to = |url: &str, key: Option<&str>| {
        let mut destination = json!({"id": "one", "url": url});
        if let Some(key) = key {
            destination["stream_key"] = key.into();
        }
        house.post("/streams/start", json!({"destinations": [destination]}))
    };
    assert_eq!(to("rtmp://127.0.0.1:1/app", Some(FROM_API)).status, 202);
    house.wait_for_phase("live");
    house.stop_channel();
    house.wait_for_phase("off");
    let problem = to("rtmp://127.0.0.1:9/app", None).problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/destinations/0/stream_key");
    assert_eq!(to("rtmp://127.0.0.1:1/app", None).status, 202);
    let told = wait_for("the spec", || fs::read_to_string(house.state("worker-was-told")).ok());
    assert!(told.contains(FROM_API));
    for (name, mode) in [
        ("run", 0o700),
        ("run/controller.sock", 0o600),
        ("run/controller.lock", 0o600),
        ("admin.token", 0o600),
        ("auth.header", 0o600),
        ("master.key", 0o600),
        ("channels/main/stream_config.json", 0o600),
        ("logs/main.log", 0o600),
    ] {
        let found = fs::metadata(house.state(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

fn free_of_secrets(what: &str, bytes: &[u8]) {
    for secret in [FROM_API, FROM_ENVIRONMENT, PASTED] {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{what} holds {secret}");
    }
}
