//! AV1 there and back: what goes into the encoder comes out of the decoder, in time, in size and in budget.
#![cfg(feature = "video")]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use halloo_engine::{
    Timestamp,
    media::VideoFrame,
    video::{
        decoder::Decoder,
        encoder::{Content, EncodedPicture, Encoder, EncoderConfig, KeyFrame},
        frame_number,
        i420::I420Buffer,
        pattern, ssim,
    },
};
use halloo_transport::Bitrate;
use std::{ops::Range, time::Duration};

const FRAME: Duration = Duration::from_nanos(33_333_333);

fn encoder(kbps: u64) -> Encoder {
    Encoder::new(EncoderConfig { bitrate: Bitrate::from_kbps(kbps), frame_rate: 30.0, content: Content::Camera })
}

fn at(frame: u64) -> Timestamp {
    Timestamp::from_millis(1_000) + FRAME * frame as u32
}

fn draw(size: (u32, u32), number: u64) -> VideoFrame {
    pattern::draw(size.0, size.1, number, at(number)).unwrap()
}

fn decode(decoder: &mut Decoder, picture: EncodedPicture) -> VideoFrame {
    decoder.decode(picture.data, Timestamp::ZERO).unwrap().expect("a picture for every temporal unit")
}

/// What this thread has used, so that figures hold on a busy machine (for codecs that run on the caller's thread).
fn cpu_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// What a run of the pattern through both codecs gave.
struct Run {
    numbers_read: u64,
    frames: u64,
    kbps: f64,
    ssim: f64,
    encode_ms: f64,
    decode_ms: f64,
    /// Largest number of bits within one second, relative to the target.
    worst_second: f64,
}

fn run(size: (u32, u32), kbps: u64, frames: u64) -> Run {
    let (mut encoder, mut decoder) = (encoder(kbps), Decoder::new().unwrap());
    let (mut sizes, mut read, mut similarity, mut encode_ms, mut decode_ms) = (vec![], 0, vec![], 0.0, 0.0);
    for number in 0..frames {
        let source = draw(size, number);
        let start = cpu_time();
        let picture = encoder.encode(&source, KeyFrame::AsNeeded).unwrap();
        encode_ms += (cpu_time() - start).as_secs_f64() * 1e3;
        sizes.push(picture.as_ref().map_or(0, |p| p.data.len()));
        let Some(picture) = picture else { continue };
        assert_eq!(picture.key_frame, number == 0, "frame {number}");
        let start = cpu_time();
        let shown = decode(&mut decoder, picture);
        decode_ms += (cpu_time() - start).as_secs_f64() * 1e3;
        read += u64::from(frame_number::read(&shown) == Some(number as u32));
        if number % 10 == 0 {
            similarity.push(ssim(&source, &shown));
        }
    }
    let bits = |bytes: usize| bytes as f64 * 8.0 / 1e3;
    Run {
        numbers_read: read,
        frames,
        kbps: bits(sizes.iter().sum()) * 30.0 / frames as f64,
        ssim: similarity.iter().sum::<f64>() / similarity.len() as f64,
        encode_ms: encode_ms / frames as f64,
        decode_ms: decode_ms / frames as f64,
        worst_second: sizes.windows(30).map(|w| bits(w.iter().sum())).fold(0.0, f64::max) / kbps as f64,
    }
}

fn report(name: &str, run: &Run) {
    println!(
        "{name}: {:.0} kbit/s (worst second x{:.2}), SSIM {:.4}, {}/{} numbers, encode {:.2} ms, decode {:.2} ms of CPU",
        run.kbps, run.worst_second, run.ssim, run.numbers_read, run.frames, run.encode_ms, run.decode_ms
    );
}

#[test]
fn every_frame_number_is_read_at_300_kbit_per_second() {
    let run = run((640, 360), 300, 150);
    report("640x360 300k", &run);
    assert_eq!(run.numbers_read, run.frames);
    assert!(run.ssim >= 0.9, "SSIM {}", run.ssim);
}

#[test]
fn rate_is_held_at_720p() {
    let run = run((1_280, 720), 1_500, 300);
    report("1280x720 1500k", &run);
    assert_eq!(run.numbers_read, run.frames);
    assert!(run.ssim >= 0.9, "SSIM {}", run.ssim);
    assert!((run.kbps / 1_500.0 - 1.0).abs() < 0.1, "{} kbit/s", run.kbps);
}

#[test]
fn a_key_frame_comes_with_the_frame_it_was_asked_for() {
    let mut encoder = encoder(500);
    for number in 0..20 {
        let force = if number == 11 { KeyFrame::Force } else { KeyFrame::AsNeeded };
        let picture = encoder.encode(&draw((320, 180), number), force).unwrap().unwrap();
        assert_eq!(picture.key_frame, number == 0 || number == 11, "frame {number}");
    }
}

#[test]
fn decoding_can_start_at_any_key_frame_and_nowhere_else() {
    let mut encoder = encoder(500);
    let mut late = Decoder::new().unwrap();
    for number in 0..20 {
        let force = if number == 11 { KeyFrame::Force } else { KeyFrame::AsNeeded };
        let picture = encoder.encode(&draw((320, 180), number), force).unwrap().unwrap();
        if number > 5 {
            let shown = late.decode(picture.data, Timestamp::ZERO).ok().flatten();
            assert_eq!(shown.and_then(|f| frame_number::read(&f)), (number >= 11).then_some(number as u32));
        }
    }
}

#[test]
fn the_size_may_change_in_mid_stream_and_odd_sizes_are_kept() {
    let (mut encoder, mut decoder) = (encoder(800), Decoder::new().unwrap());
    let sizes = [(640, 360), (320, 180), (641, 361), (17, 33), (1, 1), (16, 1), (1, 50), (1_280, 720), (640, 360)];
    for (i, size) in sizes.into_iter().enumerate() {
        for n in 0..4 {
            let source = draw(size, i as u64 * 4 + n);
            let picture = encoder.encode(&source, KeyFrame::AsNeeded).unwrap().expect("not dropped");
            assert_eq!(picture.key_frame, n == 0, "{size:?}");
            let shown = decode(&mut decoder, picture);
            assert_eq!((shown.width(), shown.height()), size);
            assert!(ssim(&source, &shown) > 0.8, "{size:?}: {}", ssim(&source, &shown));
        }
    }
}

#[test]
fn the_rate_follows_a_change_within_two_seconds() {
    let mut encoder = encoder(1_000);
    let mut bytes = vec![];
    for number in 0..300 {
        if number == 120 {
            encoder.set_bitrate(Bitrate::from_kbps(300)).unwrap();
        }
        let picture = encoder.encode(&draw((640, 360), number), KeyFrame::AsNeeded).unwrap();
        bytes.push(picture.map_or(0, |p| p.data.len()));
    }
    let kbps =
        |range: Range<usize>| bytes[range.clone()].iter().sum::<usize>() as f64 * 8.0 * 30.0 / range.len() as f64 / 1e3;
    println!("before {:.0}, after {:.0}", kbps(30..120), kbps(180..300));
    assert!((kbps(180..300) / 300.0 - 1.0).abs() < 0.15, "{}", kbps(180..300));
}

#[test]
fn frames_are_dropped_where_the_rate_cannot_be_held() {
    let mut encoder = encoder(30);
    let mut bytes = 0;
    let mut sent = 0;
    for number in 0..300 {
        if let Some(picture) = encoder.encode(&noise(number), KeyFrame::AsNeeded).unwrap() {
            bytes += picture.data.len();
            sent += 1;
        }
    }
    println!("{sent} of 300 frames, {:.0} kbit/s", bytes as f64 * 8.0 / 10.0 / 1e3);
    assert!(sent < 150 && sent > 1);
}

/// Worst case for an encoder.
fn noise(number: u64) -> VideoFrame {
    let mut picture = I420Buffer::black(320, 180);
    let mut state = number as u32 ^ 0x9E37_79B9;
    for sample in picture.plane_mut(0) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *sample = (state >> 24) as u8;
    }
    picture.into_frame(at(number)).unwrap()
}

#[test]
#[ignore = "prints figures; needs a quiet machine"]
fn figures() {
    let runs =
        [((640, 360), 300), ((640, 360), 600), ((640, 360), 1_500), ((1_280, 720), 1_500), ((1_920, 1_080), 3_000)];
    for (size, kbps) in runs {
        report(&format!("{}x{} {kbps}k", size.0, size.1), &run(size, kbps, 300));
    }
}
