//! A native publisher's layers through `halloo serve`: what is shown small is sent small, and large again when it is shown large.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use halloo_engine::{
    Engine, JoinOptions, Room, TrackKind,
    media::VideoFrame,
    video::{CallbackSink, PatternSource, VideoSettings},
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use support::Server;
use tokio::time::timeout;

/// Far above what anything here takes, so that a hang fails the test instead of stopping it.
const LIMIT: Duration = Duration::from_secs(30);

async fn engine(server: &Server, name: &str) -> Engine {
    let engine = Engine::builder().server(server.url.clone()).guest(name);
    engine.runtime(tokio::runtime::Handle::current()).build().await.unwrap()
}

/// Waits until `holds`; how long that took.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let start = Instant::now();
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{what} did not come"));
    start.elapsed()
}

async fn coded_height(room: &Room) -> u32 {
    room.stats().await.outbound_camera.frame_height
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_small_is_sent_small_and_large_again_when_it_is_shown_large() {
    let server = Server::start();
    let (alice, bob) = (engine(&server, "alice").await, engine(&server, "bob").await);
    let published = alice.join("standup", JoinOptions::default()).await.unwrap();
    published.publish_video(Box::new(PatternSource::new(1_280, 720, 30.0).unwrap()), VideoSettings::default());
    let room = bob.join("standup", JoinOptions::default()).await.unwrap();
    until("alice", async || !room.participants().is_empty()).await;
    let camera = room.video_of(room.participants()[0].id, TrackKind::Camera).unwrap();
    // When each picture was shown, and how high it was.
    let shown: Arc<Mutex<Vec<(Instant, u32)>>> = Arc::default();
    let note = Arc::clone(&shown);
    let sink = CallbackSink::new(move |_, frame: &VideoFrame| {
        note.lock().unwrap().push((Instant::now(), frame.height()));
    });
    let sink = camera.attach_at(Box::new(sink), 1_280, 720).unwrap();
    let seen = async |height| shown.lock().unwrap().last().is_some_and(|(_, last)| *last == height);
    let first = until("the large picture", async || seen(720).await).await;
    assert_eq!(coded_height(&published).await, 720);

    sink.resize(320, 180);
    let resized = Instant::now();
    let small = until("the small picture", async || seen(180).await).await;
    until("the end of the large layers", async || coded_height(&published).await == 180).await;
    let stopped = resized.elapsed();

    tokio::time::sleep(Duration::from_secs(2)).await;
    sink.resize(1_280, 720);
    let resized = Instant::now();
    until("the large layers", async || coded_height(&published).await == 720).await;
    let sent = resized.elapsed();
    until("the large picture again", async || seen(720).await).await;
    let large = resized.elapsed();

    let shown = shown.lock().unwrap();
    let gap = shown.windows(2).map(|pair| pair[1].0 - pair[0].0).max().unwrap();
    println!(
        "first large picture after {first:?}; shown small after {small:?}, large layers off after {stopped:?}; sent large \
         after {sent:?}, shown large after {large:?}; longest gap {gap:?} in {} pictures",
        shown.len()
    );
    assert!(stopped < Duration::from_secs(2), "large layers went on for {stopped:?}");
    assert!(sent < Duration::from_secs(1), "large layers came back after {sent:?}");
    assert!(large < Duration::from_secs(2), "shown large after {large:?}");
    assert!(gap < Duration::from_secs(1), "no picture for {gap:?}");
}
