//! What is wrong is told once, to whoever wants to know, also when the controller dies in between; and when it is over.
//! Nobody but them learns where they are.

use anyhow::{Context, Result};
use e2e::rig::controller::{Controller, Plan};
use e2e::rig::hook::{Hook, Said};
use e2e::rig::nginx::Nginx;
use e2e::rig::program;
use e2e::rig::sink::Sink;
use e2e::rig::trap::Trap;
use e2e::rig::wanted::{destination, start};
use e2e::zoo;
use ring::hmac;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// An alert may be held off for 10 s, and tried again after 5 s.
const SOON: Duration = Duration::from_secs(60);

/// 24 letters A.
const SECRET: &str = "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB";

fn plan(webhooks: &str) -> Result<Plan> {
    let plan = Plan::new()?
        .with("ALERT_WEBHOOKS", webhooks)
        .with("ALERT_WEBHOOK_SECRET", SECRET)
        .with("ALERT_ALLOW_PRIVATE", "1");
    zoo::put_into(&plan.media(), &zoo::sample())?;
    Ok(plan)
}

fn is(kind: &str, what: &str) -> impl Fn(&Said) -> bool {
    let (kind, what) = (kind.to_owned(), what.to_owned());
    move |said| said.json()["type"] == what.as_str() && said.json()["data"]["kind"] == kind.as_str()
}

/// Checks the signature as a receiver does, without a line of ours.
fn assert_signed(said: &Said) {
    let header = |name: &str| said.headers.get(name).cloned().unwrap_or_default();
    let text = format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), said.body);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[b'A'; 24]);
    let expected = format!("v1,{}", base64(hmac::sign(&key, text.as_bytes()).as_ref()));
    assert_eq!(header("webhook-signature"), expected, "{said:#?}");
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).map(|chunk| {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        let letter = |i: usize| match i <= chunk.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * i) & 63) as usize]),
            false => '=',
        };
        (0..4).map(letter).collect::<String>()
    });
    groups.collect()
}

#[test]
fn a_dark_channel_is_told_once_though_the_hook_fails_and_the_controller_dies() -> Result<()> {
    let hook = Hook::start()?;
    let dark = is("channel.dark", "alert.opened");
    hook.answers(move |said| if dark(said) { "503 Not Now".to_owned() } else { "204 No Content".to_owned() });
    let address = format!("127.0.0.1:{}", program::free_port()?);
    let mut controller = plan(&format!("standard={}", hook.url("/alerts")))?.start()?;
    controller.go_on_air(&start(&[destination("one", &format!("rtmp://{address}/live"), "key-of-one")]))?;
    let first = hook.wait_for("the word that it is dark", SOON, is("channel.dark", "alert.opened"))?;
    assert_signed(&first);
    controller.crash()?;
    hook.answers(|_| "204 No Content".to_owned());
    let tries = || hook.said().into_iter().filter(is("channel.dark", "alert.opened")).collect::<Vec<_>>();
    let before = tries().len();
    controller.come_back()?;
    let again = program::wait_for("another try", SOON, || Ok(tries().get(before).cloned()))?;
    assert_eq!(again.headers["webhook-id"], first.headers["webhook-id"], "the same letter, tried again");
    assert_eq!(again.body, first.body);
    assert_signed(&again);

    let open = alerts(&controller)?["open"].clone();
    let dark = open.as_array().and_then(|open| open.iter().find(|a| a["kind"] == "channel.dark"));
    let sentence = dark.context("it is among the open alerts")?["sentence"].to_string();
    assert!(sentence.contains("Channel main is dark") && !sentence.contains("key-of-one"), "{sentence}");

    let _sink = Sink::start_at(&address)?;
    let over = hook.wait_for("the word that it is over", SOON, is("channel.dark", "alert.ended"))?;
    assert!(over.json()["data"]["lasted_s"].as_u64() >= Some(10), "{over:#?}");
    let ids = |what: &str| -> BTreeSet<String> {
        let said = hook.said().into_iter().filter(is("channel.dark", what));
        said.map(|said| said.headers["webhook-id"].clone()).collect()
    };
    assert_eq!((ids("alert.opened").len(), ids("alert.ended").len()), (1, 1), "{:#?}", hook.said());
    Ok(())
}

fn alerts(controller: &Controller) -> Result<Value> {
    let answer = controller.get("/api/alerts")?;
    anyhow::ensure!(answer.status == 200, "/api/alerts answered {}", answer.text);
    Ok(answer.json())
}

#[test]
fn each_service_is_told_in_its_own_way_and_its_address_stays_a_secret() -> Result<()> {
    let hook = Hook::start()?;
    let mut controller = plan(&format!("discord={}", hook.url("/hidden-discord")))?.start()?;
    let made = [
        json!({"kind": "telegram", "url": hook.url("/bot1:hidden-telegram/sendMessage?chat_id=-100")}),
        json!({"kind": "ntfy", "url": hook.url("/hidden-topic"), "secret": "tk_hidden", "severity": "critical"}),
        json!({"kind": "standard", "url": hook.url("/hidden-standard")}),
    ];
    let mut ids = Vec::new();
    for body in made {
        let answer = controller.post("/api/alerts/webhooks", &body)?;
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert!(!answer.text.contains("hidden"), "{}", answer.text);
        ids.push(answer.json()["id"].as_str().unwrap_or_default().to_owned());
        let shows_a_secret = answer.json()["secret"].as_str().is_some_and(|s| s.starts_with("whsec_"));
        assert_eq!(shows_a_secret, body["kind"] == "standard", "{}", answer.text);
    }
    controller.crash()?;
    controller.come_back()?;
    let tried = controller.post("/api/alerts/test", &json!({}))?.json();
    let all = tried["webhooks"].as_array().context("a list")?;
    assert!(all.len() == 4 && all.iter().all(|tried| tried["delivered"] == true), "{tried:#}");
    let body = |path: &str| {
        let said = hook.said().into_iter().find(|said| said.path == path);
        said.map(|said| said.json()).with_context(|| format!("{path} was not told: {:#?}", hook.said()))
    };
    assert!(body("/hidden-discord")?["content"].is_string());
    assert_eq!(body("/bot1:hidden-telegram/sendMessage")?["chat_id"], "-100");
    assert_eq!(body("/")?["topic"], "hidden-topic");
    assert_eq!(body("/hidden-standard")?["type"], "alert.test");

    assert_eq!(controller.delete(&format!("/api/alerts/webhooks/{}", ids[0]))?.status, 204);
    assert_eq!(controller.delete(&format!("/api/alerts/webhooks/{}", ids[0]))?.status, 404);
    let left = controller.get("/api/alerts/webhooks")?;
    assert_eq!(left.json()["webhooks"].as_array().map(Vec::len), Some(3), "{}", left.text);
    let implied = left.json()["webhooks"][0]["id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(controller.delete(&format!("/api/alerts/webhooks/{implied}"))?.status, 409);
    assert!(!left.text.contains("hidden"), "{}", left.text);
    assert!(!controller.plan().log().contains("hidden"), "{}", controller.plan().log());
    for file in ["alerts/webhooks.json", "alerts/webhooks.json.prev"] {
        let text = std::fs::read_to_string(controller.plan().state().join(file))?;
        assert!(!text.contains("hidden") && !text.contains("whsec_"), "{text}");
    }
    Ok(())
}

#[test]
fn nobody_is_sent_into_the_private_network_by_a_webhook() -> Result<()> {
    let trap = Trap::set()?;
    let plan = Plan::new()?;
    let controller = plan.start()?;
    for url in [trap.url(), "https://localhost/x".into(), "https://127.1/x".into(), "https://[::1]/".into()] {
        let answer = controller.post("/api/alerts/webhooks", &json!({"kind": "discord", "url": url}))?;
        assert_eq!((answer.status, &answer.json()["errors"][0]["pointer"]), (422, &json!("/url")), "{url}");
    }
    for body in [
        json!({}),
        json!({"kind": "pager", "url": "https://example.org/"}),
        json!({"kind": "discord", "url": "https://example.org/", "colour": "red"}),
        json!({"kind": "standard", "url": "https://example.org/", "secret": "short"}),
    ] {
        let answer = controller.post("/api/alerts/webhooks", &body)?;
        assert_eq!((answer.status, answer.kind.as_str()), (422, "application/problem+json"), "{body}");
    }
    assert_eq!(trap.visits(), 0);
    drop(controller);

    // One that leads elsewhere is not followed.
    let hook = Hook::start()?;
    let elsewhere = format!("302 Found\r\nLocation: {}/", trap.url());
    hook.answers(move |_| elsewhere.clone());
    let plan = Plan::new()?.with("ALERT_ALLOW_PRIVATE", "1");
    let controller = plan.with("ALERT_WEBHOOKS", format!("discord={}", hook.url("/x"))).start()?;
    let tried = controller.post("/api/alerts/test", &json!({}))?.json();
    assert_eq!(tried["webhooks"][0]["error"], "answered 302 (redirects are not followed)", "{tried:#}");
    assert_eq!((hook.said().len(), trap.visits()), (1, 0));
    Ok(())
}

#[test]
fn a_hook_over_tls_is_told_when_its_certificate_is_good() -> Result<()> {
    let hook = Hook::start()?;
    let front = Nginx::in_front_of(hook.address())?;
    let url = format!("standard=https://{}/tls", front.tls_address());
    let try_it = |plan: Plan| -> Result<Value> {
        Ok(plan.start()?.post("/api/alerts/test", &json!({}))?.json()["webhooks"][0].clone())
    };
    let refused = try_it(plan(&url)?)?;
    assert!(refused["error"].as_str().is_some_and(|words| words.starts_with("TLS failed")), "{refused:#}");
    assert_eq!(hook.said().len(), 0);
    let taken = try_it(plan(&url)?.with("TLS_CA_FILE", front.ca_file()))?;
    assert_eq!(taken["delivered"], true, "{taken:#}");
    assert_signed(&hook.said()[0]);
    Ok(())
}

#[test]
fn files_that_are_broken_are_told_and_stop_nothing() -> Result<()> {
    let hook = Hook::start()?;
    let mut controller = plan(&format!("standard={}", hook.url("/alerts")))?.start()?;
    let kept =
        controller.post("/api/alerts/webhooks", &json!({"kind": "discord", "url": hook.url("/kept")}))?;
    let id = kept.json()["id"].as_str().context("an id")?.to_owned();
    controller.crash()?;
    let state = controller.plan().state();
    std::fs::write(state.join("channels/main/stream_state.json"), "{\"version\": 1, \"revi")?;
    std::fs::write(state.join("alerts/alerts.json"), "[]")?;
    std::fs::write(state.join("master.key"), "0123456789abcdef".repeat(4))?;
    controller.come_back()?;
    for words in ["stream_state.json", "alerts.json"] {
        let told = |said: &Said| is("state.broken", "alert.opened")(said) && said.body.contains(words);
        hook.wait_for(words, SOON, told)?;
    }
    // Its address cannot be opened with another key.
    let told = |said: &Said| is("webhook.failing", "alert.opened")(said) && said.body.contains(&id);
    hook.wait_for("the word of the webhook", SOON, told)?;
    assert!(hook.said().iter().all(|said| said.path == "/alerts"), "{:#?}", hook.said());
    Ok(())
}

#[test]
fn the_dead_man_is_pinged_only_while_the_channel_is_on_the_air() -> Result<()> {
    let hook = Hook::start()?;
    let mut sink = Sink::start()?;
    let address = sink.address().to_owned();
    let plan = plan("")?.with("DEADMAN_URL", hook.url("/ping/hidden")).with("DEADMAN_SECONDS", "1");
    let controller = plan.start()?;
    controller.go_on_air(&start(&[destination("one", &sink.url(), "key-of-one")]))?;
    controller.wait_until("it is on the air", SOON, |status| status["air"]["is"] == "on")?;
    let pings = || hook.said().len();
    let more = |what: &str| {
        let before = pings();
        program::wait_for(what, SOON, || Ok((pings() > before).then_some(())))
    };
    more("a ping")?;
    sink.end();
    let problem =
        |controller: &Controller| -> Result<Value> { Ok(alerts(controller)?["deadman"]["problem"].clone()) };
    program::wait_for("the end of the pings", SOON, || {
        Ok((problem(&controller)? == "not sent: channel main is dark").then_some(()))
    })?;
    let before = pings();
    controller.wait_until("it is dark", SOON, |status| status["alerts"][0]["kind"].is_string())?;
    assert_eq!(pings(), before, "a dark channel is pinged for");
    let _sink = Sink::start_at(&address)?;
    more("a ping after the channel has come back")?;
    assert_eq!(problem(&controller)?, Value::Null);
    assert!(!controller.plan().log().contains("hidden"), "{}", controller.plan().log());
    Ok(())
}
