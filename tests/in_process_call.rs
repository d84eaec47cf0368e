//! Two engines and a signaling server in one process, on real sockets of the loopback: the whole path from source to sink.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use axum::Router;
use halloo_engine::{
    CallEnded, CallEvent, CallOptions, EndReason, Engine, ErrorCode, VideoState,
    audio::{AudioSettings, ToneSource},
    media::{AudioFrame, AudioSink, MediaError, VideoFrame},
    video::{CallbackSink, PatternSource, VideoSettings, frame_number},
};
use halloo_signaling::{
    Authenticator, ConnectionLimits, GuestPolicy, HubConfig, OriginPolicy, Server, ServerConfig, token::Verifier,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

/// Far above what anything here takes, so that a hang fails the test instead of stopping it.
const LIMIT: Duration = Duration::from_secs(20);

struct TestServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl TestServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = ServerConfig {
            hub: HubConfig::default(),
            limits: ConnectionLimits::default(),
            authenticator: Authenticator {
                verifier: Verifier::new(Vec::new(), None, Duration::ZERO),
                guests: GuestPolicy::Loopback,
            },
            origins: OriginPolicy::default(),
            behind_proxy: false,
            connections_per_address: 100,
            max_connections: 100,
            ice: Vec::new(),
            drain_grace: Duration::ZERO,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let server = Server::new(config).unwrap();
        let task = tokio::spawn(server.serve(listener, None, Router::new(), async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), task }
    }

    async fn engine(&self, name: &str) -> Engine {
        let engine = Engine::builder().server(self.address.to_string()).guest(name);
        engine.runtime(tokio::runtime::Handle::current()).build().await.unwrap()
    }

    async fn stop(mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        timeout(LIMIT, &mut self.task).await.unwrap().unwrap();
    }
}

/// Keeps what it is given.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<f32>>>);

impl AudioSink for Heard {
    fn write(&mut self, block: &AudioFrame) -> Result<(), MediaError> {
        let mut heard = self.0.lock().unwrap();
        heard.extend(block.samples.iter().step_by(usize::from(block.channels)));
        Ok(())
    }
}

impl Heard {
    /// Share of the last second's energy at `hertz` (Goertzel).
    fn purity(&self, hertz: f32) -> f32 {
        let heard = self.0.lock().unwrap();
        let last = &heard[heard.len().saturating_sub(48_000)..];
        let step = std::f32::consts::TAU * hertz / 48_000.0;
        let (mut re, mut im, mut energy) = (0.0, 0.0, 0.0);
        for (i, sample) in last.iter().enumerate() {
            re += sample * (step * i as f32).cos();
            im += sample * (step * i as f32).sin();
            energy += sample * sample;
        }
        2.0 * (re * re + im * im) / (last.len() as f32 * energy.max(1e-9))
    }
}

async fn until(events: &mut halloo_engine::CallEvents, wanted: fn(&CallEvent) -> bool) -> CallEvent {
    let wait = async {
        while let Some(event) = events.next().await {
            if wanted(&event) {
                return event;
            }
        }
        panic!("the call ended before the event came");
    };
    timeout(LIMIT, wait).await.expect("the event did not come")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_engines_hear_and_see_each_other() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.engine("alice").await, server.engine("bob").await);
    let mut incoming = bob.incoming();
    let outgoing =
        alice.call("bob", CallOptions { video: VideoState::Camera, ..CallOptions::default() }).await.unwrap();
    let ringing = timeout(LIMIT, incoming.next()).await.unwrap().unwrap();
    assert_eq!((ringing.from(), ringing.media().video), ("alice", VideoState::Camera));
    let accepted = ringing.accept(CallOptions::default()).await.unwrap();

    let mut ears = Vec::new();
    let mut eyes = Vec::new();
    for (call, hertz) in [(&outgoing, 440.0), (&accepted, 1_000.0)] {
        call.publish_audio(Box::new(ToneSource::sine(hertz, 0.5)), AudioSettings::default());
        call.publish_video(Box::new(PatternSource::new(640, 360, 30.0).unwrap()), VideoSettings::default());
        let heard = Heard::default();
        call.remote_audio().attach(Box::new(heard.clone())).unwrap();
        ears.push(heard);
        let seen: Arc<Mutex<Vec<u32>>> = Arc::default();
        let note = seen.clone();
        let sink =
            CallbackSink::new(move |_, frame: &VideoFrame| note.lock().unwrap().extend(frame_number::read(frame)));
        call.remote_video().attach(Box::new(sink)).unwrap();
        eyes.push(seen);
    }
    for call in [&outgoing, &accepted] {
        until(&mut call.events(), |e| matches!(e, CallEvent::Connected)).await;
    }
    let both = async {
        while ears.iter().any(|e| e.0.lock().unwrap().len() < 3 * 48_000)
            || eyes.iter().any(|e| e.lock().unwrap().len() < 60)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, both).await.expect("media flows both ways");
    let stats = outgoing.stats().await;
    eprintln!("{stats:#?}");
    assert!(ears[0].purity(1_000.0) > 0.9, "alice heard {}", ears[0].purity(1_000.0));
    assert!(ears[1].purity(440.0) > 0.9, "bob heard {}", ears[1].purity(440.0));
    for seen in &eyes {
        let seen = seen.lock().unwrap();
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "pictures came twice or out of order: {seen:?}");
    }
    assert!(stats.inbound_video.frames_decoded >= 60);

    let ended = timeout(LIMIT, outgoing.hang_up()).await.unwrap();
    assert_eq!(ended.reason, EndReason::HungUp);
    let CallEnded { reason, .. } = timeout(LIMIT, accepted.ended()).await.unwrap();
    assert_eq!(reason, EndReason::HungUp);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_to_somebody_unknown_or_offline_says_so() {
    let server = TestServer::start().await;
    let alice = server.engine("alice").await;
    let error = alice.call("nobody", CallOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::CalleeUnknown), "{error}");
    server.engine("carol").await.sign_out().await;
    let error = alice.call("carol", CallOptions::default()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::CalleeOffline), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decline_busy_and_cancel_reach_the_other_side() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.engine("alice").await, server.engine("bob").await);
    let call = alice.call("bob", CallOptions::default()).await.unwrap();
    assert_eq!(timeout(LIMIT, call.ended()).await.unwrap().reason, EndReason::Busy, "nobody listens at bob's");

    let mut incoming = bob.incoming();
    let call = alice.call("bob", CallOptions::default()).await.unwrap();
    timeout(LIMIT, incoming.next()).await.unwrap().unwrap().decline().await;
    assert_eq!(timeout(LIMIT, call.ended()).await.unwrap().reason, EndReason::Declined);

    let call = alice.call("bob", CallOptions::default()).await.unwrap();
    let ringing = timeout(LIMIT, incoming.next()).await.unwrap().unwrap();
    drop(call);
    assert_eq!(timeout(LIMIT, ringing.gave_up()).await.unwrap().reason, EndReason::Cancelled);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_cross_become_one() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.engine("alice").await, server.engine("bob").await);
    let (at_alice, at_bob) = (alice.incoming(), bob.incoming());
    let (a, b) = tokio::join!(alice.call("bob", CallOptions::default()), bob.call("alice", CallOptions::default()));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.id(), b.id());
    for call in [&a, &b] {
        until(&mut call.events(), |e| matches!(e, CallEvent::Connected)).await;
    }
    drop((at_alice, at_bob));
    server.stop().await;
}
