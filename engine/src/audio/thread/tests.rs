use super::*;
use crate::{
    audio::{
        test_signal::{correlate, speech_like},
        tone::ToneSource,
    },
    media::{AudioFrame, AudioRead, BLOCK, BLOCK_SAMPLES, MediaError},
};
use halloo_transport::{
    ReceivedPacket, SeqNo, Ssrc,
    session::{MediaKind, MediaUnit},
};
use std::sync::mpsc::Sender;

/// A path of no length: what the encoder makes is what the remote side gets.
struct Wire {
    input: RemoteAudioInput,
    seq: AtomicU64,
}

impl MediaOutput for Wire {
    fn send(&self, kind: MediaKind, unit: MediaUnit) {
        for payload in unit.payloads {
            self.input.push(ReceivedPacket {
                kind,
                ssrc: Ssrc(7),
                csrcs: Vec::new(),
                mid: None,
                seq: SeqNo(self.seq.fetch_add(1, Ordering::Relaxed)),
                rtp_time: unit.rtp_time,
                marker: unit.marker,
                payload,
                arrived_at: clock::now(),
                retransmitted: false,
                audio_level: unit.audio_level,
            });
        }
    }
}

fn wire(input: &RemoteAudioInput) -> Arc<Wire> {
    Arc::new(Wire { input: input.clone(), seq: AtomicU64::new(1 << 16) })
}

/// A clip that says when its first sample was captured, and that it ended.
struct Clip {
    pcm: Vec<f32>,
    at: usize,
    began: Sender<Timestamp>,
}

impl AudioSource for Clip {
    fn read(&mut self, now: Timestamp, block: &mut AudioFrame) -> Result<AudioRead, MediaError> {
        if self.at == 0 {
            self.began.send(now - BLOCK).unwrap();
        }
        let Some(samples) = self.pcm.get(self.at..self.at + BLOCK_SAMPLES) else { return Ok(AudioRead::Ended) };
        self.at += BLOCK_SAMPLES;
        *block = AudioFrame { channels: 1, samples: samples.to_vec(), at: now };
        Ok(AudioRead::Filled)
    }
}

/// Sends each block on; says when it was finished.
struct Tap(Sender<Option<AudioFrame>>);

impl AudioSink for Tap {
    fn write(&mut self, block: &AudioFrame) -> Result<(), MediaError> {
        self.0.send(Some(block.clone())).map_err(|_| MediaError::new("nobody listens"))
    }

    fn finish(&mut self) -> Result<(), MediaError> {
        let _ = self.0.send(None);
        Ok(())
    }
}

fn next_event(events: &mut mpsc::Receiver<AudioEvent>) -> AudioEvent {
    events.blocking_recv().unwrap()
}

#[test]
fn speech_goes_from_source_to_sink_with_little_delay() {
    let (sender, _sender_events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    let (receiver, _events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    let input = receiver.add_remote(1).unwrap();
    let (tap, heard) = std::sync::mpsc::channel();
    receiver.attach(1, Box::new(Tap(tap))).unwrap();
    let (began, begins) = std::sync::mpsc::channel();
    let speech = speech_like(48_000 * 3);
    let clip = Clip { pcm: speech.clone(), at: 0, began };
    sender.publish(1, Box::new(clip), &AudioSettings::default(), wire(&input)).unwrap();

    let captured = begins.recv().unwrap();
    let mut said_at: Option<Timestamp> = None;
    let mut all = Vec::new();
    while all.len() < 48_000 * 3 {
        let block = heard.recv().unwrap().unwrap();
        if block.at >= captured {
            said_at.get_or_insert(block.at);
            all.extend_from_slice(&block.samples);
        }
    }
    sender.stop();
    receiver.stop();
    let (likeness, behind) = correlate(&speech[..48_000 * 2], &all, 9_600);
    let delay_ms = said_at.unwrap().seconds_from(captured) * 1e3 + behind as f64 / 48.0;
    let stats = receiver.stats();
    println!("encoder in to sink out: {delay_ms:.1} ms, correlation {likeness:.3}");
    assert!(likeness > 0.9, "correlation {likeness}, {stats:?}");
    assert!(delay_ms < 60.0, "{delay_ms} ms, {stats:?}");
}

#[test]
fn a_sink_gets_one_block_per_tick_and_is_finished_once() {
    let (handle, _events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    let _input = handle.add_remote(1).unwrap();
    let (tap, heard) = std::sync::mpsc::channel();
    let sink = handle.attach(1, Box::new(Tap(tap.clone()))).unwrap();
    let blocks: Vec<AudioFrame> = (0..20).map(|_| heard.recv().unwrap().unwrap()).collect();
    assert!(blocks.iter().all(|b| b.samples == [0.0; BLOCK_SAMPLES]));
    let span = blocks[19].at.since(blocks[0].at);
    assert!((150..300).contains(&span.as_millis()), "19 blocks in {span:?}");
    handle.detach(sink).unwrap();
    let ends = std::iter::repeat_with(|| heard.recv().unwrap()).take(100).position(|b| b.is_none());
    assert!(ends.is_some(), "not finished after it was detached");
    handle.attach(1, Box::new(Tap(tap))).unwrap();
    assert!(heard.recv().unwrap().is_some());
    handle.stop();
    assert_eq!(heard.iter().filter(Option::is_none).count(), 1);
    assert!(matches!(handle.detach(sink), Err(AudioError::Stopped)));
}

#[test]
fn a_source_that_ends_or_breaks_is_told_and_the_track_goes_on() {
    struct Broken;
    impl AudioSource for Broken {
        fn read(&mut self, _: Timestamp, _: &mut AudioFrame) -> Result<AudioRead, MediaError> {
            Err(MediaError::new("the plug was pulled"))
        }
    }
    let (handle, mut events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    let input = handle.add_remote(1).unwrap();
    let (began, _begins) = std::sync::mpsc::channel();
    let clip = Clip { pcm: vec![0.0; BLOCK_SAMPLES], at: 0, began };
    handle.publish(3, Box::new(clip), &AudioSettings::default(), wire(&input)).unwrap();
    assert!(matches!(next_event(&mut events), AudioEvent::SourceEnded { track: 3 }));
    handle.replace_source(3, Box::new(Broken)).unwrap();
    let AudioEvent::SourceBroken { track: 3, error } = next_event(&mut events) else { panic!("another event") };
    assert!(error.to_string().contains("plug"));
    handle.replace_source(3, Box::new(ToneSource::sine(440.0, 0.5))).unwrap();
    let (tap, heard) = std::sync::mpsc::channel();
    handle.attach(1, Box::new(Tap(tap))).unwrap();
    let loud = heard.iter().take(200).flatten().any(|b| b.samples.iter().any(|s| s.abs() > 0.3));
    assert!(loud, "nothing heard of the new source");
    handle.stop();
}

#[test]
fn a_muted_track_sends_silence_and_its_source_is_read_on() {
    let (handle, mut events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    let input = handle.add_remote(1).unwrap();
    let (began, begins) = std::sync::mpsc::channel();
    let clip = Clip { pcm: ToneClip::pcm(), at: 0, began };
    let settings = AudioSettings { muted: Muted::Yes, ..AudioSettings::default() };
    handle.publish(1, Box::new(clip), &settings, wire(&input)).unwrap();
    begins.recv().unwrap();
    let (tap, heard) = std::sync::mpsc::channel();
    handle.attach(1, Box::new(Tap(tap))).unwrap();
    assert!(matches!(next_event(&mut events), AudioEvent::SourceEnded { track: 1 }), "the source was not read on");
    handle.stop();
    let loudest = heard.iter().flatten().flat_map(|b| b.samples).fold(0.0_f32, |a, s| a.max(s.abs()));
    assert!(loudest < 0.01, "{loudest}");
    assert!(handle.levels().published[0].1 < 0.001);
}

struct ToneClip;

impl ToneClip {
    fn pcm() -> Vec<f32> {
        (0..BLOCK_SAMPLES * 30).map(|i| (i as f32 * 0.05).sin() * 0.5).collect()
    }
}

#[test]
fn a_flood_of_packets_drops_the_oldest_and_counts() {
    let (handle, _events) = AudioThread::spawn(AudioConfig { priority: Priority::Normal }).unwrap();
    let input = handle.add_remote(1).unwrap();
    let template = ReceivedPacket {
        kind: MediaKind::Audio,
        ssrc: Ssrc(7),
        csrcs: Vec::new(),
        mid: None,
        seq: SeqNo(1),
        rtp_time: halloo_transport::RtpTime::new(0, 48_000),
        marker: false,
        payload: bytes::Bytes::from_static(&[0xff, 0xff]),
        arrived_at: clock::now(),
        retransmitted: false,
        audio_level: None,
    };
    while handle.stats().remotes.first().is_none_or(|(_, s)| s.packets_dropped == 0) {
        for _ in 0..1_000 {
            input.push(template.clone());
        }
    }
    handle.stop();
}

#[test]
fn the_thread_ends_with_its_last_handle() {
    let (handle, mut events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    drop(handle);
    assert!(events.blocking_recv().is_none());
}
