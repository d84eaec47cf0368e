//! The window and the screen source against a real X server (Xvfb): what the window shows, the screen source sees.
#![cfg(all(feature = "window", feature = "screen", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use halloo_engine::{
    clock::now,
    media::{VideoFrame, VideoPoll, VideoSink, VideoSource},
    video::{
        frame_number, pattern,
        screen::{ScreenSource, ScreenTarget},
        window::{WindowHost, WindowOptions},
        write_png,
    },
};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// An X server that ends with the test.
struct XServer {
    process: Child,
    display: String,
}

impl XServer {
    /// `None` where there is no Xvfb on this machine.
    fn start(screen: &str) -> Option<Self> {
        let mut process = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", screen, "-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take()?).read_line(&mut line).ok()?;
        Some(Self { process, display: format!(":{}", line.trim()) })
    }
}

impl Drop for XServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs an ignored test of this file in a process of its own, with `DISPLAY` set.
fn with_display(test: &str, screen: &str) {
    let Some(server) = XServer::start(screen) else {
        println!("skipped: Xvfb cannot be started (Debian: apt-get install xvfb)");
        return;
    };
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("DISPLAY", &server.display)
        .env_remove("WAYLAND_DISPLAY")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed on display {}", server.display);
}

fn capture(screen: &mut ScreenSource) -> VideoFrame {
    loop {
        match screen.poll(now()).unwrap() {
            VideoPoll::Frame(frame) => return frame,
            VideoPoll::Wait(next) => std::thread::sleep(next.since(now())),
            VideoPoll::Ended => panic!("a screen does not end"),
        }
    }
}

/// Captures until `seen` says that what was waited for is there.
fn wait_for(screen: &mut ScreenSource, seen: impl Fn(&VideoFrame) -> bool) -> VideoFrame {
    for _ in 0..600 {
        let frame = capture(screen);
        if seen(&frame) {
            return frame;
        }
    }
    panic!("what was waited for did not appear within 600 captures");
}

#[test]
fn a_track_shown_in_the_window_is_seen_on_the_screen() {
    with_display("child_window", "640x360x24");
}

#[test]
#[ignore = "run by a_track_shown_in_the_window_is_seen_on_the_screen"]
fn child_window() {
    let mut screen = ScreenSource::open(ScreenTarget::Whole, 60.0).unwrap();
    assert!(screen.uses_shared_memory(), "Xvfb has MIT-SHM 1.2");
    let options = WindowOptions { title: "Halloo".into(), size: (640, 360), on_close: Box::new(|| {}) };
    let window = WindowHost::spawn(options).unwrap();
    let mut sink = window.sink();
    sink.write(now(), &pattern::draw(1_280, 720, 77, now()).unwrap()).unwrap();
    let one = wait_for(&mut screen, |frame| frame_number::read(frame) == Some(77));
    write_png(std::env::temp_dir().join("halloo-window-one.png"), &one).unwrap();

    let mut second = window.sink();
    second.write(now(), &pattern::draw(360, 640, 5, now()).unwrap()).unwrap();
    // Two cells: the first picture is now half as wide, with black above it.
    let two = wait_for(&mut screen, |frame| frame.row(0, 5)[160] < 20 && frame.row(0, 180)[480] > 20);
    write_png(std::env::temp_dir().join("halloo-window-two.png"), &two).unwrap();
    drop(second);
    wait_for(&mut screen, |frame| frame_number::read(frame) == Some(77));
    assert!(
        WindowHost::spawn(WindowOptions { title: String::new(), size: (1, 1), on_close: Box::new(|| {}) }).is_err()
    );
    window.close();
    sink.write(now(), &pattern::draw(64, 64, 1, now()).unwrap()).unwrap();
}

#[test]
fn the_screen_is_captured_fast_enough() {
    with_display("child_screen", "1280x720x24");
}

#[test]
#[ignore = "run by the_screen_is_captured_fast_enough"]
fn child_screen() {
    let mut screen = ScreenSource::open(ScreenTarget::Whole, 240.0).unwrap();
    let start = now();
    for _ in 0..30 {
        let frame = capture(&mut screen);
        assert_eq!((frame.width(), frame.height()), (1_280, 720));
    }
    let each = now().since(start) / 30;
    println!("a capture of 1280x720 takes {each:?}");
    assert!(each < Duration::from_millis(1_000 / 12), "{each:?}");
    let gone = ScreenSource::open(ScreenTarget::Window(0x0123_4567), 15.0).unwrap_err().to_string();
    assert!(gone.contains("0x1234567"), "{gone}");
}
