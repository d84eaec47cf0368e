//! Layers there and back: what each decode target is left with decodes, has its size and looks like the source.
#![cfg(feature = "video")]
#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use halloo_engine::{
    Timestamp,
    media::VideoFrame,
    video::{
        adapt::Offer,
        decoder::Decoder,
        encoder::{Content, Encoder, EncoderConfig, KeyFrame},
        frame_number,
        layer_plan::{LayerPlan, LayerPlanner},
        layered::LayeredEncoder,
        pattern,
        scale::scale,
        ssim,
    },
};
use halloo_transport::{
    Bitrate,
    av1::{Descriptor, Indication, Structure},
};
use std::time::Duration;

const FRAME: Duration = Duration::from_nanos(33_333_333);
const FRAMES: u64 = 90;

fn draw(size: (u32, u32), number: u64) -> VideoFrame {
    pattern::draw(size.0, size.1, number, Timestamp::from_millis(1_000) + FRAME * number as u32).unwrap()
}

fn plan(size: (u32, u32), kbps: u64, wanted: u8) -> LayerPlan {
    let offer = Offer { size, frame_rate: 30.0, max_size: (1_280, 720), content: Content::Camera };
    LayerPlanner::new().update(Timestamp::ZERO, Bitrate::from_kbps(kbps), wanted, &offer)
}

fn cpu_time() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// A frame as a forwarding unit sees it.
struct Sent {
    picture: u64,
    descriptor: Descriptor,
    data: Bytes,
}

/// Codes the pattern; `wanted` says how many layers are received at each picture.
fn encode(size: (u32, u32), kbps: u64, wanted: impl Fn(u64) -> u8) -> (Vec<Sent>, Structure) {
    let (mut encoder, mut structure, mut sent) = (LayeredEncoder::new(Content::Camera), None, Vec::new());
    for number in 0..FRAMES {
        let plan = plan(size, kbps, wanted(number));
        let Some(picture) = encoder.encode(&draw(size, number), KeyFrame::AsNeeded, &plan).unwrap() else { continue };
        for layer in picture.layers {
            let bytes = encoder.templates().unwrap().descriptors(&layer.frame, 1);
            let descriptor = Descriptor::read(&bytes[0], &mut structure).unwrap();
            sent.push(Sent { picture: number, descriptor, data: layer.data });
        }
    }
    (sent, structure.unwrap())
}

/// The pictures that decoding only these frames gives, with their numbers.
fn decode<'a>(frames: impl Iterator<Item = &'a Sent>) -> Vec<(u64, VideoFrame)> {
    let mut units: Vec<(u64, Vec<u8>)> = Vec::new();
    for frame in frames {
        match units.last_mut() {
            Some((picture, unit)) if *picture == frame.picture => unit.extend_from_slice(&frame.data),
            _ => units.push((frame.picture, frame.data.to_vec())),
        }
    }
    let mut decoder = Decoder::new().unwrap();
    let shown = |(picture, unit): (u64, Vec<u8>)| {
        let shown = decoder.decode(Bytes::from(unit), Timestamp::ZERO).unwrap();
        (picture, shown.unwrap_or_else(|| panic!("no picture of temporal unit {picture}")))
    };
    units.into_iter().map(shown).collect()
}

#[test]
fn every_decode_target_decodes_alone_in_its_size_and_rate() {
    for (size, kbps) in [((1_280, 720), 1_500), ((640, 360), 500), ((320, 180), 120)] {
        let (sent, structure) = encode(size, kbps, |_| 3);
        let spatial_layers = structure.targets() / 3;
        for target in 0..structure.targets() {
            let (spatial, temporal) = (structure.spatial(target), structure.temporal(target));
            let of_target = |f: &&Sent| f.descriptor.indication(target) != Indication::NotPresent;
            let bytes: usize = sent.iter().filter(of_target).map(|f| f.data.len()).sum();
            let shown = decode(sent.iter().filter(of_target));
            let expected = FRAMES >> (2 - temporal);
            assert!(shown.len() as u64 * 10 >= expected * 9, "{size:?} target {target}: {} pictures", shown.len());
            let halvings = spatial_layers - 1 - spatial;
            let mut similarity = Vec::new();
            for (number, picture) in &shown {
                assert_eq!((picture.width(), picture.height()), (size.0 >> halvings, size.1 >> halvings));
                assert_eq!(frame_number::read(picture), Some(*number as u32), "{size:?} target {target}");
                let source = scale(&draw(size, *number), picture.width(), picture.height()).unwrap();
                similarity.push(ssim(&source, picture));
            }
            let mean = similarity.iter().sum::<f64>() / similarity.len() as f64;
            println!(
                "{}x{} S{spatial} T{temporal}: {} pictures, SSIM {mean:.3}, {:.0} kbit/s",
                size.0,
                size.1,
                shown.len(),
                bytes as f64 * 8.0 * 30.0 / FRAMES as f64 / 1e3
            );
            assert!(mean > 0.85, "{size:?} target {target}: {mean}");
        }
    }
}

#[test]
fn layers_that_are_switched_off_and_on_leave_everybody_a_stream() {
    // All, then the smallest alone, then all again.
    let (sent, structure) = encode((1_280, 720), 1_500, |number| if (30..60).contains(&number) { 1 } else { 3 });
    let small: Vec<&Sent> = sent.iter().filter(|f| f.descriptor.indication(2) != Indication::NotPresent).collect();
    assert_eq!(decode(small.into_iter()).len() as u64, FRAMES);
    assert!(sent.iter().filter(|f| (30..60).contains(&f.picture)).all(|f| f.descriptor.spatial == 0));
    let keys: Vec<u64> = sent.iter().filter(|f| f.descriptor.starts_key_frame()).map(|f| f.picture).collect();
    assert_eq!(keys, [0, 60]);
    let said: Vec<Option<u32>> = sent.iter().filter(|f| f.picture == 32).map(|f| f.descriptor.active_targets).collect();
    assert_eq!(said, [Some(0b111)]);
    // Somebody who sees the largest changes to the smallest at the key picture, and back at the next.
    let top = structure.targets() - 1;
    let target = |picture: u64| if picture < 60 { top } else { 2 };
    let changed = sent.iter().filter(|f| f.descriptor.indication(target(f.picture)) != Indication::NotPresent);
    let sizes: Vec<u32> = decode(changed).iter().map(|(_, picture)| picture.height()).collect();
    assert_eq!(sizes, [vec![720; 30], vec![180; 30]].concat());
}

#[test]
fn a_key_picture_that_is_asked_for_comes_at_once_and_in_all_layers() {
    let size = (640, 360);
    let mut encoder = LayeredEncoder::new(Content::Camera);
    let plan = plan(size, 500, 3);
    for number in 0..20 {
        let force = if number == 7 { KeyFrame::Force } else { KeyFrame::AsNeeded };
        let picture = encoder.encode(&draw(size, number), force, &plan).unwrap().unwrap();
        assert_eq!(picture.key_frame, matches!(number, 0 | 7), "{number}");
        assert!(!picture.key_frame || picture.layers.len() == 2);
    }
}

/// What three sizes cost beside one. Prints both; the ratio is what holds on any machine.
#[test]
fn three_sizes_cost_less_than_twice_one() {
    let (size, frames) = ((1_280, 720), 150);
    let sources: Vec<VideoFrame> = (0..frames).map(|number| draw(size, number)).collect();
    let config = EncoderConfig { bitrate: Bitrate::from_kbps(1_500), frame_rate: 30.0, content: Content::Camera };
    let mut one = Encoder::new(config);
    let start = cpu_time();
    sources.iter().for_each(|frame| drop(one.encode(frame, KeyFrame::AsNeeded).unwrap()));
    let single = cpu_time() - start;
    let mut layered = LayeredEncoder::new(Content::Camera);
    let plan = plan(size, 1_500, 3);
    assert_eq!(plan.active, 3);
    let start = cpu_time();
    sources.iter().for_each(|frame| drop(layered.encode(frame, KeyFrame::AsNeeded, &plan).unwrap()));
    let layers = cpu_time() - start;
    let ms = |time: Duration| time.as_secs_f64() * 1e3 / frames as f64;
    let ratio = layers.as_secs_f64() / single.as_secs_f64();
    println!(
        "1280x720 at 1500 kbit/s: one size {:.2} ms, L3T3_KEY {:.2} ms a picture ({ratio:.2} times)",
        ms(single),
        ms(layers)
    );
    assert!(ratio < 2.0, "{ratio}");
}
