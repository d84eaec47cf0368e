//! The whole way within one process: source, sender thread, packets (lost or delayed on purpose), receiver thread, sinks.

use super::{
    receiver::{VideoReceiver, VideoReceiverEvent},
    sender::{VideoSender, VideoSenderEvent},
    *,
};
use crate::{
    Timestamp, clock,
    media::{MediaError, VideoFrame, VideoPoll, VideoSource},
    route::MediaOutput,
};
use halloo_transport::{
    Bitrate, ReceivedPacket, SeqNo, Ssrc,
    session::{MediaKind, MediaUnit},
};
use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A route that carries packets straight to a receiver, but for those that `lose` picks by number.
struct Wire {
    seq: AtomicU64,
    input: receiver::VideoInput,
    lose: Box<dyn Fn(u64) -> bool + Send + Sync>,
    units: Mutex<Sender<MediaUnit>>,
}

impl MediaOutput for Wire {
    fn send(&self, kind: MediaKind, unit: MediaUnit) {
        let count = unit.payloads.len();
        for (i, payload) in unit.payloads.iter().enumerate() {
            let seq = self.seq.fetch_add(1, Ordering::Relaxed);
            if (self.lose)(seq) {
                continue;
            }
            self.input.push(ReceivedPacket {
                kind,
                ssrc: Ssrc(7),
                csrcs: vec![],
                mid: None,
                seq: SeqNo(65_536 + seq),
                rtp_time: unit.rtp_time,
                marker: unit.marker && i + 1 == count,
                payload: payload.clone(),
                arrived_at: clock::now(),
                retransmitted: false,
                audio_level: None,
            });
        }
        let _ = self.units.lock().unwrap().send(unit);
    }
}

struct Call {
    sender: Arc<OnceLock<VideoSender>>,
    receiver: VideoReceiver,
    shown: Receiver<(Timestamp, VideoFrame)>,
    units: Receiver<MediaUnit>,
    sender_events: Receiver<VideoSenderEvent>,
    receiver_events: Receiver<VideoReceiverEvent>,
}

fn call(
    source: impl VideoSource + 'static,
    settings: VideoSettings,
    lose: impl Fn(u64) -> bool + Send + Sync + 'static,
) -> Call {
    let sender: Arc<OnceLock<VideoSender>> = Arc::default();
    let (event, receiver_events) = mpsc::channel();
    let asked = Arc::downgrade(&sender);
    let receiver = VideoReceiver::spawn(
        Box::new(move || {
            if let Some(sender) = asked.upgrade().as_ref().and_then(|s| s.get()) {
                sender.request_key_frame();
            }
        }),
        Box::new(move |e| drop(event.send(e))),
    )
    .unwrap();
    let (show, shown) = mpsc::channel();
    receiver.attach(Box::new(CallbackSink::new(move |now, frame: &VideoFrame| drop(show.send((now, frame.clone()))))));
    let (units_in, units) = mpsc::channel();
    let (event, sender_events) = mpsc::channel();
    let wire =
        Wire { seq: AtomicU64::new(0), input: receiver.input(), lose: Box::new(lose), units: Mutex::new(units_in) };
    let video = VideoSender::spawn(Box::new(source), settings, Arc::new(wire), Box::new(move |e| drop(event.send(e))));
    sender.set(video.unwrap()).unwrap();
    Call { sender, receiver, shown, units, sender_events, receiver_events }
}

impl Call {
    fn sender(&self) -> &VideoSender {
        self.sender.get().unwrap()
    }

    fn next(&self) -> (Timestamp, VideoFrame) {
        self.shown.recv_timeout(PATIENCE).expect("a picture")
    }

    fn numbers(&self, count: usize) -> Vec<u32> {
        (0..count).map(|_| frame_number::read(&self.next().1).expect("a number")).collect()
    }
}

fn pattern_source() -> PatternSource {
    PatternSource::new(640, 360, 30.0).unwrap()
}

fn rate(kbps: u64) -> VideoSettings {
    VideoSettings { max_bitrate: Bitrate::from_kbps(kbps), ..VideoSettings::default() }
}

#[test]
fn every_picture_of_a_clean_path_is_shown_in_order_and_soon() {
    let call = call(pattern_source(), rate(800), |_| false);
    let mut delays = vec![];
    let mut last = None;
    for _ in 0..60 {
        let (now, frame) = call.next();
        let number = frame_number::read(&frame).expect("a number");
        // A loaded machine may make the source skip; order and freshness it may not change.
        assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
        last = Some(number);
        delays.push(now.since(frame.captured_at));
    }
    delays.sort_unstable();
    let (sent, received) = (call.sender().stats(), call.receiver.stats());
    println!(
        "arrival to sink: median {:?}, worst {:?}; encode {:?} a frame, decode {:?} a frame",
        delays[30],
        delays[59],
        sent.total_encode_time / sent.frames_encoded as u32,
        received.total_decode_time / received.frames_decoded as u32,
    );
    assert_eq!(received.frames_dropped, 0);
    assert_eq!(received.key_frames_decoded, 1);
    assert!(received.frames_decoded >= 60 && sent.frames_encoded >= 60);
    assert_eq!((received.frame_width, received.frame_height), (640, 360));
    assert_eq!(call.receiver_events.recv_timeout(PATIENCE), Ok(VideoReceiverEvent::FirstFrame));
}

#[test]
fn lost_packets_are_recovered_from_by_key_frames() {
    // Every 37th packet is lost for good.
    let call = call(pattern_source(), rate(600), |seq| seq % 37 == 20);
    let numbers = call.numbers(60);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let stats = call.receiver.stats();
    assert!(stats.key_frames_requested > 0 && stats.key_frames_decoded > 1, "{stats:?}");
    assert!(stats.frames_dropped > 0, "{stats:?}");
}

#[test]
fn a_key_frame_is_sent_on_request_also_when_the_source_rests() {
    let call = call(pattern_source(), rate(600), |_| false);
    let key = |call: &Call| loop {
        if call.units.recv_timeout(PATIENCE).expect("a unit").key_frame {
            break;
        }
    };
    key(&call);
    call.sender().request_key_frame();
    key(&call);
    // A source that gives one picture and then nothing.
    struct Still(bool);
    impl VideoSource for Still {
        fn poll(&mut self, now: Timestamp) -> Result<VideoPoll, MediaError> {
            if std::mem::replace(&mut self.0, true) {
                return Ok(VideoPoll::Wait(Timestamp::MAX));
            }
            Ok(VideoPoll::Frame(pattern::draw(320, 180, 9_999, now)?))
        }
    }
    call.sender().replace_source(Box::new(Still(false)), Content::Camera);
    key(&call);
    while frame_number::read(&call.next().1) != Some(9_999) {}
    call.sender().request_key_frame();
    key(&call);
    assert_eq!(frame_number::read(&call.next().1), Some(9_999));
}

#[test]
fn a_track_that_is_off_sends_nothing_and_begins_with_a_key_frame() {
    let call = call(pattern_source(), rate(600), |_| false);
    call.next();
    call.sender().set_enabled(Enabled::Off);
    // One picture may be on its way.
    while call.units.recv_timeout(Duration::from_millis(300)).is_ok() {}
    call.sender().set_enabled(Enabled::On);
    assert!(call.units.recv_timeout(PATIENCE).unwrap().key_frame);
}

#[test]
fn a_low_target_reduces_the_picture_and_a_recording_keeps_one_size() {
    let path = std::env::temp_dir().join(format!("halloo-reduced-{}.y4m", std::process::id()));
    let call = call(pattern_source(), rate(800), |_| false);
    let mut sink = Y4mSink::create(&path, Y4mSinkOptions::default()).unwrap();
    let start = clock::now();
    sink.start(start);
    let id = call.receiver.attach(Box::new(sink));
    assert_eq!(call.next().1.width(), 640);
    call.sender().set_target(Bitrate::from_kbps(60));
    while call.next().1.width() == 640 {}
    let (_, small) = call.next();
    assert!(frame_number::read(&small).is_some(), "{}x{}", small.width(), small.height());
    call.receiver.detach(id).unwrap();
    let seconds = clock::now().seconds_from(start);
    assert!(call.receiver.detach(id).is_err());
    let mut recording = Y4mSource::open(&path, Repeat::Once).unwrap();
    assert_eq!(recording.size(), (640, 360));
    let (mut frames, mut now) = (0, Timestamp::ZERO);
    loop {
        match recording.poll(now).unwrap() {
            VideoPoll::Frame(_) => frames += 1,
            VideoPoll::Wait(next) => now = next,
            VideoPoll::Ended => break,
        }
    }
    assert!((f64::from(frames) - seconds * 30.0).abs() <= 2.0, "{frames} frames in {seconds} s");
}

#[test]
fn an_ended_and_a_broken_source_are_told() {
    struct Ends(Option<MediaError>);
    impl VideoSource for Ends {
        fn poll(&mut self, _: Timestamp) -> Result<VideoPoll, MediaError> {
            self.0.take().map_or(Ok(VideoPoll::Ended), Err)
        }
    }
    let call = call(Ends(None), rate(600), |_| false);
    assert_eq!(call.sender_events.recv_timeout(PATIENCE), Ok(VideoSenderEvent::SourceEnded));
    call.sender().replace_source(Box::new(Ends(Some(MediaError::new("unplugged")))), Content::Camera);
    assert_eq!(call.sender_events.recv_timeout(PATIENCE), Ok(VideoSenderEvent::SourceFailed("unplugged".into())));
    call.sender().replace_source(Box::new(pattern_source()), Content::Camera);
    call.next();
}

#[test]
fn stopping_finishes_sinks_and_returns_promptly() {
    struct Last(Sender<&'static str>);
    impl crate::media::VideoSink for Last {
        fn write(&mut self, _: Timestamp, _: &VideoFrame) -> Result<(), MediaError> {
            Ok(())
        }
        fn finish(&mut self, _: Timestamp) -> Result<(), MediaError> {
            self.0.send("finished").map_err(|e| MediaError::new(e.to_string()))
        }
    }
    let call = call(pattern_source(), rate(600), |_| false);
    call.next();
    let (told, finished) = mpsc::channel();
    call.receiver.attach(Box::new(Last(told)));
    let start = clock::now();
    call.receiver.stop();
    drop(call.sender);
    assert!(clock::now().since(start) < Duration::from_secs(5));
    assert_eq!(finished.recv_timeout(PATIENCE), Ok("finished"));
}
