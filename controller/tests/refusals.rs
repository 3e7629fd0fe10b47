//! Bad input, tried and answered: every refusal is a problem body with a request id, whatever was sent.

mod house;

use house::{House, wait_for};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;

#[test]
fn without_the_token_nothing_but_health_is_told() {
    let house = House::with_worker("play");
    for (method, path) in [("GET", "/streams/status"), ("POST", "/streams/start"), ("POST", "/streams/stop")]
    {
        for given in ["", "Bearer ", "Bearer wrong", "Basic YTpi", "bearer"] {
            let headers = [("Authorization", given)];
            let answer = house.request(method, path, if given.is_empty() { &[] } else { &headers }, b"");
            answer.problem(401);
            assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
        }
    }
    let token = format!("bearer {}", house.token());
    assert_eq!(house.request("GET", "/streams/status", &[("Authorization", &token)], b"").status, 200);
    assert_eq!(house.request("GET", "/health", &[], b"").status, 200);
    let line = fs::read_to_string(house.state("auth.header")).unwrap();
    assert_eq!(line, format!("Authorization: Bearer {}\n", house.token()));
}

#[test]
fn paths_methods_and_queries_that_do_not_exist_are_named() {
    let house = House::with_worker("play");
    for path in
        ["/", "/nope", "/streams", "/streams/start/x", "/api/channels", "/hls", "/hls/x", "/%ff", "//health"]
    {
        house.get(path).problem(404);
    }
    for (method, path, allowed) in [
        ("GET", "/streams/start", "POST"),
        ("DELETE", "/streams/stop", "POST"),
        ("POST", "/streams/status", "GET,HEAD"),
        ("PUT", "/health", "GET,HEAD"),
        ("BREW", "/health", "GET,HEAD"),
    ] {
        let token = format!("Bearer {}", house.token());
        let answer = house.request(method, path, &[("Authorization", &token)], b"");
        answer.problem(405);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
    for query in ["channel=../x", "channel=", "chanel=main", "channel=main&channel=main", "channel=%ff", "x"]
    {
        house.get(&format!("/streams/status?{query}")).problem(400);
    }
    house.get("/streams/status?channel=nope").problem(404);
    assert_eq!(house.get("/streams/status?channel=main").status, 200);
    house.post("/streams/start", json!({"channel": "nope"})).problem(404);
    house.post("/streams/stop", json!({"channel": "nope"})).problem(404);
    let head = house.request("HEAD", "/health", &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    house.request("HEAD", "/nope", &[], b"");
}

#[test]
fn bodies_that_cannot_be_used_are_refused_with_a_reason() {
    let house = House::with_worker("play");
    let token = format!("Bearer {}", house.token());
    let send = |kind: Option<&str>, body: &[u8]| {
        let mut headers = vec![("Authorization", token.as_str())];
        headers.extend(kind.map(|kind| ("Content-Type", kind)));
        house.request("POST", "/streams/start", &headers, body)
    };
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for broken in ["{", "{\"a\":}", "nul", "{} {}", "\u{feff}{}", "{\"a\":1e999}", &deep] {
        send(Some("application/json"), broken.as_bytes()).problem(400);
    }
    send(Some("application/json"), b"{\"name\":\"\xff\"}").problem(400);
    send(None, b"{}").problem(415);
    send(Some("text/plain"), b"{}").problem(415);
    send(Some("application/x-www-form-urlencoded"), b"channel=main").problem(415);
    for (body, pointer) in [
        (json!([]), ""),
        (json!("main"), ""),
        (json!({"colour": 1}), "/colour"),
        (json!({"channel": "../../etc"}), "/channel"),
        (json!({"media": ["nope.mp4"]}), "/media/0"),
        (json!({"media": ["a.mp4", "../a.mp4"]}), "/media/1"),
        (json!({"media": []}), "/media"),
        (json!({"name": ""}), "/name"),
        (json!({"name": "a\0b"}), "/name"),
        (json!({"name": "a\nb"}), "/name"),
        (json!({"profile": {"width": 15}}), "/profile/width"),
        (json!({"hls": {"enabled": false}}), "/destinations"),
        (json!({"destinations": [{"url": "rtmp://h/app"}]}), "/destinations/0/stream_key"),
        (json!({"destinations": [{"url": "http://h/app", "stream_key": "k"}]}), "/destinations/0/url"),
        (
            json!({"destinations": [{"url": "rtmp://h/app", "sealed_key": "x", "stream_key": "k"}]}),
            "/destinations/0/sealed_key",
        ),
    ] {
        let problem = house.post("/streams/start", body.clone()).problem(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem}");
    }
    let twins = json!({"destinations": [
        {"id": "a", "url": "rtmp://Host/app", "stream_key": "same-k3y"},
        {"id": "b", "url": "rtmps://host:443/app/", "stream_key": "same-k3y"},
    ]});
    let problem = house.post("/streams/start", twins).problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/destinations/1");
    assert!(!problem.to_string().contains("same-k3y"));
    assert_eq!(house.status()["wish"], "off", "nothing of it was taken");
}

#[test]
fn ten_megabytes_are_answered_and_not_swallowed() {
    let house = House::with_worker("play");
    let token = format!("Bearer {}", house.token());
    let body = vec![b' '; 10 * 1024 * 1024];
    let json = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
    house.request("POST", "/streams/start", &json, &body).problem(413);
    let mut chunked = format!(
        "POST /streams/start HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        body.len()
    )
    .into_bytes();
    chunked.extend(&body);
    chunked.extend(b"\r\n0\r\n\r\n");
    house.raw(&chunked).problem(413);
    let patient = format!(
        "POST /streams/start HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    house.raw(patient.as_bytes()).problem(413);
}

#[test]
fn what_is_not_http_is_refused_in_words_too() {
    let house = House::with_worker("play");
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let fat = format!("GET /health HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(1_000_000));
    let many = format!("GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: 1\r\n".repeat(1000));
    let cases: [(&[u8], u16); 9] = [
        (b"\r\n\r\nnonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GE\x00T / HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n", 400),
        (b"POST /streams/start HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /streams/start HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (long.as_bytes(), 414),
        (fat.as_bytes(), 431),
        (many.as_bytes(), 431),
    ];
    for (bytes, status) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let answer = house.raw(bytes);
        assert_eq!(answer.status, status, "{shown:?}");
        answer.problem(status);
    }
    let mut half = house.connect();
    half.write_all(b"GET /hea").unwrap();
    drop(half);
    assert_eq!(house.get("/health").status, 200);
}

#[test]
fn request_ids_and_origins_are_as_agreed() {
    let mut house = House::furnished("play");
    house.set("CORS_ORIGINS", "https://a.example, https://b.example").start();
    let answer =
        house.request("GET", "/health", &[("X-Request-Id", "my-id-1"), ("Origin", "https://b.example")], b"");
    assert_eq!(answer.header("x-request-id"), Some("my-id-1"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://b.example"));
    let answer = house.request("GET", "/health", &[("Origin", "https://evil.example")], b"");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let asked = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "POST")];
    let answer = house.request("OPTIONS", "/streams/start", &asked, b"");
    assert_eq!(answer.status, 200);
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
    let nowhere = house.request("GET", "/nope", &[("X-Request-Id", "find-me")], b"");
    nowhere.problem(404);
    assert_eq!(nowhere.header("access-control-allow-origin"), None);
    assert_ne!(
        house.request("OPTIONS", "/nope", &asked, b"").header("access-control-allow-origin"),
        Some("*")
    );
    wait_for("the id in the log", || house.log().contains("find-me").then_some(()));

    let closed = House::with_worker("play");
    let answer = closed.request("GET", "/health", &[("Origin", "https://a.example")], b"");
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[test]
fn what_is_missing_is_said_and_the_controller_runs_all_the_same() {
    let mut house = House::furnished("play");
    fs::remove_dir_all(house.path("media")).unwrap();
    house.set("FFMPEG_PATH", "/nonexistent/ffmpeg").start();
    let health = house.request("GET", "/health", &[], b"");
    assert_eq!(health.status, 200);
    let health = health.json();
    assert_eq!(health["status"], "degraded");
    let problems = health["problems"].to_string();
    for part in ["FFMPEG_PATH", "STORAGE_LOCAL_DIR"] {
        assert!(problems.contains(part) && house.log().contains(part), "{problems}");
    }
    assert!(health["notices"].to_string().contains("no destination"), "{health}");
    let missing = house.start_channel().problem(422);
    assert!(missing["detail"].as_str().unwrap().contains("does not exist; make it"), "{missing}");
    fs::create_dir(house.path("media")).unwrap();
    let empty = house.start_channel().problem(422);
    assert!(empty["detail"].as_str().unwrap().contains("holds no media file"), "{empty}");
    assert_eq!(empty["errors"][0]["pointer"], "/media");
    fs::write(house.path("media/a.mp4"), b"x").unwrap();
    let no_ffmpeg = house.start_channel().problem(503);
    assert!(no_ffmpeg["detail"].as_str().unwrap().contains("install FFmpeg 5.1 or newer"), "{no_ffmpeg}");
}

#[test]
fn an_ffmpeg_that_comes_later_is_found() {
    let house = House::furnished("play");
    house.program("ffmpeg", "echo 'ffmpeg version 4.4.2 Copyright'");
    let mut house = house;
    house.start();
    let old = house.start_channel().problem(503);
    assert!(old["detail"].as_str().unwrap().contains("4.4.2 is too old"), "{old}");
    house.program("ffmpeg", "echo 'ffmpeg version 7.1 Copyright'");
    assert_eq!(house.start_channel().status, 202);
}

#[test]
fn a_controller_that_cannot_start_says_why_in_a_line() {
    let mut first = House::furnished("play");
    first.start();
    let (code, words) = first.refuses_to_start();
    assert_eq!((code, words.lines().count()), (Some(1), 1), "{words}");
    assert!(
        words.contains("another controller uses")
            && words.contains(first.state("").to_str().unwrap().trim_end_matches('/'))
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut house = House::furnished("play");
    house.set("CONTROLLER_BIND", &taken.local_addr().unwrap().to_string());
    let (code, words) = house.refuses_to_start();
    assert_eq!((code, words.lines().count()), (Some(1), 1), "{words}");
    assert!(
        words.contains("cannot listen on") && words.contains("in use") && words.contains("CONTROLLER_BIND"),
        "{words}"
    );

    let mut house = House::furnished("play");
    fs::write(house.path("file"), b"").unwrap();
    let below_a_file = house.path("file/state");
    house.set("STATE_DIR", below_a_file.to_str().unwrap());
    let (code, words) = house.refuses_to_start();
    assert_eq!((code, words.lines().count()), (Some(1), 1), "{words}");
    assert!(words.contains("cannot be written; make it writable or set STATE_DIR"), "{words}");

    let mut house = House::furnished("play");
    let long = house.path(&"x".repeat(100));
    house.set("STATE_DIR", long.to_str().unwrap());
    let (code, words) = house.refuses_to_start();
    assert_eq!(code, Some(1));
    assert!(words.contains("the most a socket can have"), "{words}");

    let mut house = House::furnished("play");
    house.set("STORAGE_PROVIDER", "s3").set("LOG_FORMAT", "xml").set("CONTROLLER_BIND", "x");
    let (code, words) = house.refuses_to_start();
    assert_eq!(code, Some(1));
    for part in ["STORAGE_BUCKET is not set", "LOG_FORMAT", "CONTROLLER_BIND"] {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn a_broken_document_is_put_aside_and_told() {
    let mut house = House::with_worker("play");
    let public_id = house.status()["public_id"].clone();
    assert_eq!(house.post("/streams/start", json!({"name": "News"})).status, 202);
    house.wait_for_phase("live");
    house.stop_channel();
    house.wait_for_phase("off");
    house.signal("TERM");
    assert_eq!(house.ended(), Some(0));
    fs::write(house.state("channels/main/stream_config.json"), b"{\"version\":1,\"id\":").unwrap();
    fs::write(house.state("channels/main/stream_state.json"), b"\0\0\0\0").unwrap();
    fs::write(house.state("prepare.json"), b"{\"version\": 1, \"ent").unwrap();
    let token = house.token();
    fs::write(house.state("admin.token"), b"").unwrap();
    house.start();
    let old = format!("Bearer {token}");
    house.request("GET", "/streams/status", &[("Authorization", &old)], b"").problem(401);
    let health = house.get("/health").json();
    let problems = health["problems"].to_string();
    for part in [
        "stream_config.json",
        "stream_state.json",
        "prepare.json",
        "admin.token",
        "put aside as",
        "the previous good copy",
    ] {
        assert!(problems.contains(part), "{problems}");
    }
    assert!(house.log().contains("ERROR"), "an operator is told");
    wait_for("the alerts", || {
        let open = house.get("/api/alerts").json()["open"].to_string();
        ["prepare.json", "admin.token"].iter().all(|file| open.contains(file)).then_some(())
    });
    let status = house.status();
    assert_eq!((&status["name"], &status["public_id"]), (&json!("News"), &public_id));
    let broken = house::files(&house.state("channels/main"));
    assert_eq!(broken.iter().filter(|path| path.to_string_lossy().contains(".broken-")).count(), 2);
}

#[test]
fn a_changed_master_key_is_told_by_the_destination_it_closes() {
    let mut house = House::furnished("play");
    house.set("MASTER_KEY", &"ab".repeat(32)).start();
    let to = json!({"destinations": [{"id": "one", "url": "rtmp://127.0.0.1/app", "stream_key": "k3y-k3y"}]});
    assert_eq!(house.post("/streams/start", to).status, 202);
    house.stop_channel();
    house.wait_for_phase("off");
    house.signal("TERM");
    assert_eq!(house.ended(), Some(0));
    house.set("MASTER_KEY", &"cd".repeat(32)).start();
    let problem = house.start_channel().problem(422);
    assert_eq!(problem["errors"][0]["pointer"], "/destinations/0/stream_key");
    assert!(house.get("/health").json()["problems"].to_string().contains("destination one"));
}

#[test]
fn help_and_version_need_nothing() {
    let house = House::furnished("play");
    let said = |argument: &str| house.command().arg(argument).output().unwrap();
    let help = String::from_utf8(said("--help").stdout).unwrap();
    assert!(help.contains("STATE_DIR") && help.contains("CREDENTIALS_DIRECTORY"));
    let version = String::from_utf8(said("--version").stdout).unwrap();
    assert_eq!(version, format!("stream-controller {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(said("--frobnicate").status.code(), Some(2));
    assert!(!house.state("").exists(), "nothing was touched");
}

#[test]
fn a_bucket_that_does_not_answer_holds_up_only_those_who_ask_for_it() {
    let bucket = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", bucket.local_addr().unwrap());
    let mut house = House::furnished("play");
    house.set("STORAGE_PROVIDER", "s3").set("STORAGE_BUCKET", "films").set("STORAGE_REGION", "here");
    house.set("STORAGE_ACCESS_KEY_ID", "id").set("STORAGE_SECRET_ACCESS_KEY", "hush");
    house.set("STORAGE_ENDPOINT", &endpoint).start();
    let body = r#"{"fallback_video": "break.mp4"}"#;
    let mut waiting = house.connect();
    write!(
        waiting,
        "PATCH /api/channels/main HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        house.token(),
        body.len()
    )
    .unwrap();
    // Taken up after the other one.
    assert_eq!(house.get("/streams/status").status, 200);
    assert_eq!(house.patch("/api/channels/main", json!({"fallback_video": null})).status, 200);
    waiting.set_nonblocking(true).unwrap();
    let unanswered = waiting.read(&mut [0]).unwrap_err();
    assert_eq!(unanswered.kind(), std::io::ErrorKind::WouldBlock);
}
