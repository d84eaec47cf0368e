//! `halloo load` against a server that it starts, and against one that runs: real sockets, real handshakes, checked payloads.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use serde_json::{Value, json};
use support::{Process, Server, halloo};

fn load(args: &[&str]) -> support::Finished {
    let small = ["load", "--json", "--size", "320x180", "--fps", "15", "--video-kbps", "250"];
    Process::start(halloo().args(small).args(args)).finish()
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

#[test]
fn everybody_joins_and_sees_pictures_and_nothing_is_lost() {
    let report =
        load(&["--rooms", "2", "--participants", "4", "--publishers", "2", "--duration", "5s"]).expect_code(0).report();
    assert_eq!(report["passed"], true);
    assert_eq!((number(&report, "/joins/asked"), number(&report, "/joins/joined")), (8.0, 8.0));
    // Each sees at least one of the two publishers of its room, and so does each publisher the other.
    assert_eq!((number(&report, "/pictures/wanted"), number(&report, "/pictures/seen")), (8.0, 8.0));
    assert!(number(&report, "/pictures/first_picture_ms/count") == 8.0);
    assert_eq!((number(&report, "/pictures/decoded"), &report["pictures"]["undecodable"]), (8.0, &json!({})));
    let decoded = number(&report, "/pictures/first_decoded_ms/p95");
    assert!(decoded >= number(&report, "/pictures/first_picture_ms/p50") && decoded < 1_000.0, "{report}");
    // In a room two watch two and two watch one.
    assert_eq!((number(&report, "/pictures/tiles_wanted"), number(&report, "/pictures/tiles_seen")), (12.0, 12.0));
    for nothing in ["lost", "altered", "breaks"] {
        assert_eq!(number(&report, &format!("/counts/{nothing}")), 0.0, "{nothing}: {report}");
    }
    // In a room two watch two and two watch one: 6 x 15 pictures a second, twice.
    let rate = number(&report, "/steady/pictures_per_second");
    assert!((160.0..=185.0).contains(&rate), "{rate} pictures a second");
    assert!(number(&report, "/steady/delay_ms/p50") < 50.0, "{report}");
    assert!(number(&report, "/steady/shards_cpu") > 0.0);
    assert!(number(&report, "/server/memory/loaded_mb") > 1.0);
    assert!(report["samples"].as_array().unwrap().len() >= 5);
}

#[test]
fn people_come_and_go_in_a_room_of_a_server_that_runs() {
    let server = Server::start();
    let attach = ["--attach", &server.url, "--room", "standup", "--participants", "5", "--publishers", "3"];
    let done = load(&[&attach[..], &["--churn", "3", "--duration", "7s", "--seed", "5"]].concat()).expect_code(0);
    let report = done.report();
    let asked = number(&report, "/joins/asked");
    assert!(asked > 6.0, "{asked} were asked to join");
    assert_eq!(number(&report, "/joins/joined"), asked);
    assert_eq!(number(&report, "/counts/lost"), 0.0, "{report}");
    assert_eq!(number(&report, "/pictures/seen"), number(&report, "/pictures/wanted"));
    assert_eq!((&report["server"]["started"], &report["server"]["memory"]), (&Value::Bool(false), &Value::Null));
    assert!(done.said.contains("there"), "a line each second: {}", done.said);
    assert!(!done.said.contains("until media flowed"), "the report is the JSON alone: {}", done.said);
}

#[test]
fn the_table_is_on_standard_output_and_what_is_said_meanwhile_is_not() {
    let small = ["load", "--size", "160x90", "--fps", "10", "--video-kbps", "100"];
    let done = Process::start(halloo().args(small).args(["--participants", "2", "--duration", "2s"])).finish();
    let done = done.expect_code(0);
    for row in ["joined", "until it was decoded", "forwarding delay"] {
        assert!(done.stdout.contains(row), "no {row:?} in {}", done.stdout);
        assert!(!done.said.contains(row), "{}", done.said);
    }
    assert!(done.said.contains("there") && !done.stdout.contains("there"), "{}", done.stdout);
}

#[test]
fn who_cannot_join_is_told_and_fails_the_run() {
    let done = load(&["--attach", "ws://127.0.0.1:9", "--participants", "2", "--duration", "1s"]).expect_code(1);
    let report = done.report();
    assert_eq!((number(&report, "/joins/failed"), &report["passed"]), (2.0, &Value::Bool(false)));
    let reasons = report["joins"]["reasons"].as_object().unwrap();
    assert!(reasons.keys().any(|reason| reason.contains("no connection to ws://127.0.0.1:9")), "{report}");
}
