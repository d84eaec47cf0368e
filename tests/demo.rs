//! The demo passes, and its report holds what it promises.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use support::{Process, halloo};

#[test]
fn the_demo_passes_and_its_page_is_self_contained() {
    let dir = tempfile::tempdir().unwrap();
    let (json, out) = (dir.path().join("out.json"), dir.path().join("demo"));
    let demo = Process::start(halloo().args(["demo", "--seconds", "5", "--json"]).arg(&json).arg("--out").arg(&out));
    let demo = demo.finish();
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}; it said:\n{}", demo.said));
    assert_eq!(demo.code(), 0, "{}", report["failures"]);
    assert!(report["connect_ms"].as_f64().unwrap() > 0.0);
    for side in ["alice", "bob"] {
        for field in [
            "mouth_to_ear_ms",
            "glass_to_glass_ms",
            "audio_concealed_ratio",
            "video_frames_decoded",
            "video_freezes",
            "heard_correlation",
        ] {
            assert!(report[side][field].is_number(), "{side}.{field} is {}", report[side][field]);
        }
        assert!(report[side]["heard_correlation"].as_f64().unwrap() >= 0.9);
        assert!(report[side]["wrong_clip_correlation"].as_f64().unwrap() < 0.3);
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.matches("<svg").count() >= 6 && page.matches("data:image/png").count() == 12);
    assert!(!page.contains("http://") && !page.contains("https://"), "the page needs nothing from elsewhere");
}
