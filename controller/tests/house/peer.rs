//! A peer that speaks `state::wire` as a worker does, and misbehaves when told to. It is this test program itself:
//! the script that stands in for the worker starts it with `PEER` set.

use serde_json::{Value, json};
use state::ids::Ulid;
use state::wire::{
    Cursor, DestinationSeen, DestinationState, Event, Heartbeat, Hello, HlsSeen, ItemSeen, Making, Playing,
    ToController, ToWorker, WorkerSpec,
};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Every list of destinations that a peer was told, one a line; in the state folder.
pub const TOLD_DESTINATIONS: &str = "worker-got-destinations";

/// Not a test: what the stand-in for the worker runs. Without `PEER` it does nothing.
#[test]
fn worker() {
    let (Ok(behaviour), Ok(args)) = (std::env::var("PEER"), std::env::var("PEER_ARGS")) else { return };
    let args: Vec<_> = args.split(' ').collect();
    let of = |name: &str| args.iter().position(|a| *a == name).map(|i| args[i + 1].to_owned()).unwrap();
    let code = work(&behaviour, &of("--channel"), &of("--run"), &of("--socket"));
    std::process::exit(code);
}

fn work(behaviour: &str, channel: &str, run: &str, socket: &str) -> i32 {
    if let Some(code) = behaviour.strip_prefix("crash at once ") {
        eprintln!("the peer was told to crash");
        return code.parse().unwrap();
    }
    let lock = std::path::Path::new(socket).with_file_name(format!("{channel}.lock"));
    let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(lock).unwrap();
    lock.lock().unwrap();
    let run = Ulid::from_text(if behaviour == "wrong run" { "01ARZ3NDEKTSV4RRFFQ69G5FAV" } else { run });
    let (channel, pid, version) = (channel.parse().unwrap(), std::process::id(), "peer".to_owned());
    let mut hello = Hello { channel, run, pid, version, briefed: false };
    let mut stream = UnixStream::connect(socket).unwrap();
    say(&mut stream, &ToController::Hello(hello.clone()));
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return 4 };
    let ToWorker::Spec(spec) = serde_json::from_str(&first).unwrap() else { return 5 };
    std::fs::write("worker-was-told", &first).unwrap();
    let mut code = perform(behaviour, &spec, &mut stream, lines);
    hello.briefed = true;
    while ["redial", "session ends"].contains(&behaviour) && code != 0 {
        std::thread::sleep(Duration::from_millis(100));
        let Ok(again) = UnixStream::connect(socket) else { continue };
        stream = again;
        say(&mut stream, &ToController::Hello(hello.clone()));
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        code = perform(behaviour, &spec, &mut stream, lines);
    }
    code
}

fn perform(
    behaviour: &str,
    spec: &WorkerSpec,
    stream: &mut UnixStream,
    lines: impl Iterator<Item = std::io::Result<String>> + Send + 'static,
) -> i32 {
    match behaviour {
        "silent" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "finish" => {
            beat(spec, 1, stream);
            return 0;
        }
        _ => {}
    }
    let deaf = behaviour == "deaf";
    let listener = std::thread::spawn(move || listen(lines, deaf));
    match behaviour {
        "warns" => {
            let line = format!("the disk is nearly full, {}", spec.destinations[0].key.expose());
            say(stream, &ToController::Log { level: "warn".into(), line });
            stream.write_all(b"{\"type\":\"dances\"}\n").unwrap();
        }
        // Once in its life: whoever was told has to remember.
        "session ends" if !std::fs::exists("worker-said-so").unwrap() => {
            std::fs::write("worker-said-so", b"").unwrap();
            let words = json!({"destination": spec.destinations[0].id, "in_s": 60});
            // Said again, as it is until it is kept.
            for _ in 0..2 {
                say(stream, &happened(spec, 1, "destination.session_ending", words.clone()));
            }
        }
        "tells events" => {
            for seq in [1, 1, 2] {
                say(stream, &event(spec, seq));
            }
        }
        _ => {}
    }
    if behaviour == "wants more" {
        say(stream, &ToController::WantItems { after: spec.generation });
    }
    for seq in 1.. {
        if behaviour != "play alone" && listener.is_finished() {
            return listener.join().unwrap();
        }
        if behaviour == "crash when told" && std::fs::exists("crash-now").unwrap() {
            std::fs::remove_file("crash-now").unwrap();
            eprintln!("no space left on device");
            return 7;
        }
        if !beat(spec, seq, stream) && behaviour != "play alone" {
            return 6;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    0
}

/// Ends with the exit code when it is told to stop.
fn listen(lines: impl Iterator<Item = std::io::Result<String>>, deaf: bool) -> i32 {
    for line in lines.map_while(Result::ok) {
        match serde_json::from_str(&line).unwrap() {
            ToWorker::Stop if deaf => {}
            ToWorker::Stop => return 0,
            ToWorker::Ack { seq: 2 } => std::fs::write("worker-got-ack", b"").unwrap(),
            ToWorker::Items { generation, items } => {
                let keys: Vec<_> = items.iter().map(|item| &item.key).collect();
                let text = json!({"generation": generation, "keys": keys}).to_string();
                std::fs::write("worker-got-items", text).unwrap();
            }
            ToWorker::Destinations { list, keep } => {
                let file = std::fs::OpenOptions::new().create(true).append(true).open(TOLD_DESTINATIONS);
                let kept = keep.iter().map(|id| json!({"id": id, "kept": true}));
                let list: Vec<_> = list.iter().map(|spec| json!(spec)).chain(kept).collect();
                let line = serde_json::to_string(&list).unwrap() + "\n";
                file.unwrap().write_all(line.as_bytes()).unwrap();
            }
            _ => {}
        }
    }
    3
}

fn event(spec: &WorkerSpec, seq: u64) -> ToController {
    happened(spec, seq, "item.started", json!({"key": "a.mp4"}))
}

fn happened(spec: &WorkerSpec, seq: u64, kind: &str, data: Value) -> ToController {
    let (run, at_wall, kind) = (spec.run.clone(), state::now(), kind.to_owned());
    ToController::Event(Event { run, seq, at_wall, at_media_ms: 0, kind, data })
}

fn beat(spec: &WorkerSpec, seq: u64, stream: &mut UnixStream) -> bool {
    let now = state::now();
    let item = spec.items.first();
    let destinations = spec.destinations.iter().map(|d| DestinationSeen {
        accepted_bytes: seq * 1000,
        accepted_at: Some(now),
        bitrate_kbps: 3000,
        ..DestinationSeen::new(d.id.clone(), DestinationState::Live, now)
    });
    let beat = Heartbeat {
        playing: Playing::Programme,
        sent_ms: seq * 100,
        item: item.map(|item| ItemSeen {
            id: item.id.clone(),
            key: item.key.clone(),
            position_ms: seq * 100,
            duration_ms: Some(20_000),
            video: Making::Copy,
            audio: Making::Copy,
            reason: "fits the profile".into(),
            source: "file".into(),
        }),
        profile: Some(state::profile::Profile::default()),
        destinations: destinations.collect(),
        hls: spec.hls.as_ref().map(|hls| HlsSeen {
            segments: 1,
            next_sequence: hls.first_sequence + seq,
            last_segment_at: Some(now),
            ..HlsSeen::default()
        }),
        cursor: item.map(|item| Cursor {
            item: item.id.clone(),
            key: item.key.clone(),
            offset_ms: seq * 100,
        }),
        ..Heartbeat::new(spec.run.clone(), spec.epoch, seq, now)
    };
    say(stream, &ToController::Heartbeat(Box::new(beat)))
}

fn say(stream: &mut UnixStream, words: &ToController) -> bool {
    let mut line = serde_json::to_vec(words).unwrap();
    line.push(b'\n');
    stream.write_all(&line).is_ok()
}
