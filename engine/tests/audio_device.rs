//! Playout and capture through a real sound server: PulseAudio with null sinks, started by each test for itself.
//!
//! A test runs its body in a child process, which alone sees the server's address in its environment.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![cfg(all(feature = "devices", target_os = "linux"))]

use halloo_engine::{
    audio::{
        AudioConfig, AudioEvent, AudioThread, DeviceChoice, DeviceEvent, DeviceKind, DeviceSource, PacedBy, Playout,
        RemoteAudioInput, devices,
    },
    clock,
    media::{AudioFrame, AudioRead, AudioSource, BLOCK, BLOCK_SAMPLES},
};
use halloo_transport::{ReceivedPacket, RtpTime, SeqNo, Ssrc, Timestamp, session::MediaKind};
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A sound server of one's own, with two null sinks, of which the second is the default.
struct PulseAudio {
    folder: PathBuf,
    server: Child,
}

impl PulseAudio {
    /// `None`, having said why, where it cannot start.
    fn start(name: &str) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("halloo-pulse-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("native");
        let server = Command::new("pulseaudio")
            .args(["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--log-level=error"])
            .args(["-L", "module-null-sink sink_name=halloo_first sink_properties=device.description=First"])
            .args(["-L", "module-null-sink sink_name=halloo_second sink_properties=device.description=Second"])
            .args(["-L", &format!("module-native-protocol-unix auth-anonymous=1 socket={}", socket.display())])
            .env("HOME", &folder)
            .env("XDG_RUNTIME_DIR", &folder)
            .env("PULSE_RUNTIME_PATH", &folder)
            .stderr(Stdio::null())
            .spawn();
        let server = match server {
            Ok(server) => server,
            Err(e) => {
                println!("SKIPPED: pulseaudio cannot be started ({e}); install the package pulseaudio");
                return None;
            }
        };
        let mut this = Self { folder, server };
        for _ in 0..100 {
            if pactl(&this.address(), &["set-default-sink", "halloo_second"]) {
                return Some(this);
            }
            if let Ok(Some(status)) = this.server.try_wait() {
                println!("SKIPPED: pulseaudio ended at once ({status})");
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("SKIPPED: pulseaudio does not answer, or pactl (package pulseaudio-utils) is missing");
        None
    }

    fn address(&self) -> String {
        format!("unix:{}", self.folder.join("native").display())
    }
}

impl Drop for PulseAudio {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn pactl(address: &str, args: &[&str]) -> bool {
    Command::new("pactl")
        .args(args)
        .env("PULSE_SERVER", address)
        .env_remove("PULSE_RUNTIME_PATH")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs the ignored test `body` of this program in a child process that talks to a server of its own.
fn beside_pulseaudio(body: &str) {
    let Some(pulse) = PulseAudio::start(body) else { return };
    let this: &Path = &std::env::current_exe().unwrap();
    let status = Command::new(this)
        .args(["--ignored", "--exact", body, "--nocapture"])
        .env("PULSE_SERVER", pulse.address())
        .env_remove("PULSE_RUNTIME_PATH")
        .status()
        .unwrap();
    assert!(status.success(), "{body} failed beside PulseAudio: its output is above");
}

/// Packets of a 1 kHz tone, made when they would arrive.
struct TonePackets {
    encoder: opus::Encoder,
    number: u64,
    phase: f32,
}

impl TonePackets {
    fn new() -> Self {
        let encoder = opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Audio).unwrap();
        Self { encoder, number: 0, phase: 0.0 }
    }

    fn next(&mut self) -> ReceivedPacket {
        let pcm: Vec<f32> = (0..960)
            .map(|_| {
                self.phase = (self.phase + 1_000.0 / 48_000.0).fract();
                (self.phase * std::f32::consts::TAU).sin() * 0.4
            })
            .collect();
        let payload = self.encoder.encode_vec_float(&pcm, 1_000).unwrap().into();
        self.number += 1;
        ReceivedPacket {
            kind: MediaKind::Audio,
            ssrc: Ssrc(1),
            csrcs: Vec::new(),
            mid: None,
            seq: SeqNo((1 << 16) + self.number),
            rtp_time: RtpTime::new((1 << 32) + self.number * 960, 48_000),
            marker: false,
            payload,
            arrived_at: clock::now(),
            retransmitted: false,
            audio_level: None,
        }
    }
}

/// Calls `work` every 10 ms, `blocks` times.
fn every_block(blocks: u32, mut work: impl FnMut(u32, Timestamp)) {
    let start = clock::now();
    for i in 0..blocks {
        let due = start + BLOCK * i;
        std::thread::sleep(due.since(clock::now()));
        work(i, clock::now());
    }
}

/// What came back of the tone.
#[derive(Debug)]
struct Heard {
    blocks: usize,
    /// Blocks in which the tone was missing, wholly or in part.
    holes: usize,
    hz: f64,
    captured_ago: Duration,
}

impl Heard {
    /// Whether the tone came whole: its pitch counts gaps that are shorter than a block.
    fn is_whole(&self) -> bool {
        self.holes * 100 <= self.blocks && (990.0..1_010.0).contains(&self.hz)
    }
}

/// Plays the tone for four seconds and judges the last three of what is captured.
fn listen(packets: &mut TonePackets, input: &RemoteAudioInput, microphone: &mut DeviceSource) -> Heard {
    let mut heard = Vec::new();
    let mut block = AudioFrame::silence(Timestamp::ZERO);
    let mut captured_ago = Duration::ZERO;
    every_block(400, |i, now| {
        if i % 2 == 0 {
            input.push(packets.next());
        }
        match microphone.read(now, &mut block).unwrap() {
            AudioRead::Filled => {
                heard.extend_from_slice(&block.samples);
                captured_ago = captured_ago.max(now.since(block.at));
            }
            _ => heard.extend([0.0; BLOCK_SAMPLES]),
        }
    });
    let blocks: Vec<&[f32]> = heard[48_000..].chunks_exact(BLOCK_SAMPLES).collect();
    let rms = |b: &[f32]| (b.iter().map(|s| s * s).sum::<f32>() / BLOCK_SAMPLES as f32).sqrt();
    let loud: Vec<&[f32]> = blocks.iter().copied().filter(|b| rms(b) >= 0.2).collect();
    let rises = |b: &&[f32]| b.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
    let steps = loud.len() * (BLOCK_SAMPLES - 1);
    let hz = loud.iter().map(rises).sum::<usize>() as f64 * 48_000.0 / steps.max(1) as f64;
    Heard { blocks: blocks.len(), holes: blocks.len() - loud.len(), hz, captured_ago }
}

#[test]
fn a_tone_played_is_captured_whole() {
    beside_pulseaudio("tone_through_speaker_and_monitor");
}

#[test]
fn an_unplugged_speaker_is_replaced_and_taken_back() {
    beside_pulseaudio("speaker_unplugged_and_back");
}

#[test]
fn a_device_that_is_not_there_is_answered_with_those_that_are() {
    beside_pulseaudio("no_such_device");
}

#[test]
#[ignore = "run by a_tone_played_is_captured_whole beside a sound server"]
fn tone_through_speaker_and_monitor() {
    let (handle, _events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    handle.set_playout(Playout::Device(DeviceChoice::Named("first".into()))).unwrap();
    let input = handle.add_remote(1).unwrap();
    let mut microphone = DeviceSource::open(DeviceChoice::Named("halloo_first.monitor".into()), |_| {}).unwrap();
    let mut packets = TonePackets::new();
    // A machine that is busy with other things may delay the sound server itself: the best of some stretches counts.
    let mut heard = listen(&mut packets, &input, &mut microphone);
    for _ in 0..4 {
        println!("{heard:?}");
        if heard.is_whole() {
            break;
        }
        heard = listen(&mut packets, &input, &mut microphone);
    }
    let stats = handle.stats();
    handle.stop();
    println!("{stats:?}");
    assert_eq!(stats.paced_by, PacedBy::Device);
    assert!(heard.captured_ago < Duration::from_millis(200), "{heard:?}");
    assert!(heard.is_whole(), "{heard:?}");
}

#[test]
#[ignore = "run by an_unplugged_speaker_is_replaced_and_taken_back beside a sound server"]
fn speaker_unplugged_and_back() {
    let server = std::env::var("PULSE_SERVER").unwrap();
    let (handle, mut events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    handle.set_playout(Playout::Device(DeviceChoice::Named("First".into()))).unwrap();
    let mut next = || {
        let asked = clock::now();
        loop {
            match events.try_recv() {
                Ok(AudioEvent::Device { kind: DeviceKind::Output, event }) => return event,
                Ok(other) => panic!("{other:?} instead of a device event"),
                Err(_) if clock::now().since(asked) > Duration::from_secs(20) => panic!("no device event in 20 s"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    };
    let before = handle.stats().blocks;
    assert!(pactl(&server, &["unload-module", "module-null-sink"]), "cannot unplug");
    let lost = next();
    assert!(matches!(&lost, DeviceEvent::Lost { name, .. } if name == "First"), "{lost:?}");
    // Both are gone: nothing plays, and the clock goes on.
    let unavailable = next();
    assert!(matches!(unavailable, DeviceEvent::Unavailable { .. }), "{unavailable:?}");
    let sink = |name: &str, title: &str| {
        let properties = format!("sink_properties=device.description={title}");
        assert!(pactl(&server, &["load-module", "module-null-sink", &format!("sink_name={name}"), &properties]));
    };
    sink("halloo_second", "Second");
    let fallback = next();
    assert_eq!(fallback, DeviceEvent::Changed { name: "Second".into() });
    sink("halloo_first", "First");
    let back = next();
    assert_eq!(back, DeviceEvent::Changed { name: "First".into() });
    let stats = handle.stats();
    handle.stop();
    assert!(stats.blocks > before + 100 && stats.blocks_given_up == 0, "{stats:?}");
}

#[test]
#[ignore = "run by a_device_that_is_not_there_is_answered_with_those_that_are beside a sound server"]
fn no_such_device() {
    let all = devices().unwrap();
    let default = all.iter().find(|d| d.kind == DeviceKind::Output && d.is_default).unwrap();
    assert_eq!(default.name, "Second");
    let (handle, _events) = AudioThread::spawn(AudioConfig::default()).unwrap();
    let error = handle.set_playout(Playout::Device(DeviceChoice::Named("Gramophone".into()))).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("Gramophone") && text.contains("'First'") && text.contains("'Second'"), "{text}");
    let error = DeviceSource::open(DeviceChoice::Named("Gramophone".into()), |_| {}).unwrap_err();
    assert!(error.to_string().contains("microphone") && error.to_string().contains("Monitor of First"), "{error}");
    handle.stop();
}
