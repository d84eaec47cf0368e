use super::*;
use crate::audio::{
    SAMPLES_PER_PACKET,
    opus::{AudioSettings, Dtx, OpusEncoder},
    test_signal::{correlate, speech_like},
};
use halloo_transport::{RtpTime, SeqNo, session::MediaKind};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const START_MS: u64 = 1_000;
const FIRST_TICKS: u64 = (1 << 32) + 77;

fn packet(seq: u64, ticks: u64, arrived_us: u64, payload: Bytes) -> ReceivedPacket {
    ReceivedPacket {
        kind: MediaKind::Audio,
        ssrc: Ssrc(1),
        csrcs: Vec::new(),
        mid: None,
        seq: SeqNo(seq),
        rtp_time: RtpTime::new(ticks, 48_000),
        marker: false,
        payload,
        arrived_at: Timestamp::from_micros(arrived_us),
        retransmitted: false,
        audio_level: None,
    }
}

/// Packets as a sender makes them: number `i` leaves 20 ms after its first sample was captured.
fn encode(settings: &AudioSettings, pcm: &[f32]) -> Vec<ReceivedPacket> {
    let mut encoder = OpusEncoder::new(settings).unwrap();
    let mut seq = 65_536;
    let mut out = Vec::new();
    for (i, chunk) in pcm.chunks_exact(SAMPLES_PER_PACKET * encoder.channels()).enumerate() {
        let i = i as u64;
        if let Some(encoded) = encoder.encode(chunk).unwrap() {
            let left_us = START_MS * 1_000 + (i + 1) * 20_000;
            out.push(packet(seq, FIRST_TICKS + i * 960, left_us, encoded.payload));
            seq += 1;
        }
    }
    out
}

/// Feeds packets by their arrival and pulls every 10 ms, `phase_us` off the sender's clock.
fn play(mut packets: Vec<ReceivedPacket>, phase_us: u64, blocks: u64) -> (JitterBuffer, Vec<f32>) {
    packets.sort_by_key(|p| p.arrived_at);
    let mut packets = packets.into_iter().peekable();
    let mut buffer = JitterBuffer::new().unwrap();
    let mut block = AudioFrame::silence(Timestamp::ZERO);
    let mut heard = Vec::new();
    for i in 0..blocks {
        let now = Timestamp::from_micros(START_MS * 1_000 + phase_us + i * 10_000);
        while let Some(packet) = packets.next_if(|p| p.arrived_at <= now) {
            buffer.insert(packet);
        }
        buffer.pull(now, &mut block);
        assert_eq!(block.samples.len(), BLOCK_SAMPLES * usize::from(block.channels));
        heard.extend_from_slice(&block.samples);
    }
    (buffer, heard)
}

#[test]
fn a_clean_path_is_heard_whole_with_little_delay() {
    let speech = speech_like(48_000 * 4);
    for phase_us in [0, 2_500, 5_000, 9_999] {
        let (buffer, heard) = play(encode(&AudioSettings::default(), &speech), phase_us, 400);
        let (likeness, delay) = correlate(&speech, &heard, 4_800);
        let stats = buffer.stats();
        assert!(likeness > 0.9, "correlation {likeness}");
        // Captured at START + position, heard at START + phase + position in `heard`.
        let delay_ms = delay as f64 / 48.0 + phase_us as f64 / 1e3;
        assert!(delay_ms <= 20.0 + 6.5 + 15.1, "phase {phase_us}: {delay_ms:.1} ms");
        assert_eq!(stats.concealed_samples, 0);
        assert_eq!(stats.packets_discarded, 0);
        assert_eq!(stats.inserted_samples_for_deceleration + stats.removed_samples_for_acceleration, 0);
        let mean = stats.jitter_buffer_delay.as_secs_f64() * 1e3 / stats.jitter_buffer_emitted_count as f64;
        assert!(mean <= 20.0, "{mean} ms in the buffer");
    }
}

#[test]
fn jitter_raises_the_delay_until_little_is_concealed() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (jitter_us, most_delay_ms) in [(5_000, 55.0), (20_000, 75.0)] {
        let speech = speech_like(48_000 * 10);
        let mut packets = encode(&AudioSettings::default(), &speech);
        for p in &mut packets {
            p.arrived_at += Duration::from_micros(rng.random_range(0..jitter_us));
        }
        let (buffer, heard) = play(packets, 3_000, 1_000);
        let stats = buffer.stats();
        let concealed = stats.concealed_samples as f64 / stats.total_samples_received as f64;
        assert!(concealed < 0.02, "jitter {jitter_us}: {concealed} concealed");
        // Judged after it settled; the delay may have moved before.
        let (likeness, delay) = correlate(&speech[240_000..384_000], &heard[240_000..], 9_600);
        assert!(likeness > 0.8, "jitter {jitter_us}: correlation {likeness}");
        let delay_ms = delay as f64 / 48.0 + 3.0;
        assert!(delay_ms < most_delay_ms, "jitter {jitter_us}: {delay_ms:.1} ms");
    }
}

#[test]
fn reordered_packets_are_played_in_order() {
    let speech = speech_like(48_000 * 4);
    let mut packets = encode(&AudioSettings::default(), &speech);
    for p in packets.iter_mut().skip(10).step_by(4) {
        p.arrived_at += Duration::from_millis(25);
    }
    let (buffer, _) = play(packets, 0, 400);
    let stats = buffer.stats();
    assert!(stats.concealed_samples < 48_000 * 4 / 50, "{stats:?}");
    assert!(stats.packets_discarded <= 3, "{stats:?}");
}

#[test]
fn losses_are_rebuilt_from_redundancy_once_they_are_frequent() {
    let speech = speech_like(48_000 * 10);
    let settings = AudioSettings { expected_loss: 0.1, ..AudioSettings::default() };
    let mut packets = encode(&settings, &speech);
    let sent = packets.len();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    packets.retain(|_| rng.random_range(0.0..1.0) >= 0.1);
    let lost = sent - packets.len();
    let (buffer, _) = play(packets, 0, 1_000);
    let stats = buffer.stats();
    assert!(stats.fec_packets_used as usize * 2 > lost, "{lost} lost, {stats:?}");
    let concealed = stats.concealed_samples as f64 / stats.total_samples_received as f64;
    assert!(concealed < 0.06, "{concealed} concealed");
}

#[test]
fn a_lost_packet_leaves_no_hole() {
    let speech = speech_like(48_000 * 2);
    let mut packets = encode(&AudioSettings::default(), &speech);
    packets.remove(40);
    let (buffer, heard) = play(packets, 0, 200);
    let stats = buffer.stats();
    assert_eq!(stats.concealed_samples, 960);
    assert_eq!(stats.concealment_events, 1);
    assert_eq!(stats.silent_concealed_samples, 0);
    assert!(correlate(&speech, &heard, 4_800).0 > 0.9);
}

#[test]
fn late_packet_is_concealed_then_dropped() {
    let speech = speech_like(48_000 * 2);
    let mut packets = encode(&AudioSettings::default(), &speech);
    packets[40].arrived_at += Duration::from_millis(70);
    let (buffer, _) = play(packets, 0, 200);
    let stats = buffer.stats();
    assert_eq!(stats.concealed_samples, 960);
    assert_eq!(stats.packets_discarded, 1);
}

#[test]
fn a_stream_that_stops_fades_to_silence_and_starts_again() {
    let speech = speech_like(48_000 * 4);
    let mut packets = encode(&AudioSettings::default(), &speech);
    packets.drain(50..150);
    let (buffer, heard) = play(packets, 0, 400);
    let stats = buffer.stats();
    assert_eq!(stats.concealment_events, 1);
    assert!(stats.silent_concealed_samples > 48_000, "{stats:?}");
    // One second is played, 200 ms made up: from 1.5 s on all is quiet, and at the end it is loud again.
    let energy = |range: std::ops::Range<usize>| heard[range].iter().map(|s| s * s).sum::<f32>();
    assert!(energy(72_000..140_000) == 0.0);
    assert!(energy(160_000..190_000) > 1.0);
}

#[test]
fn pauses_of_a_sender_are_no_loss() {
    let mut pcm = speech_like(48_000 * 2);
    pcm.extend(std::iter::repeat_n(0.0, 48_000 * 2));
    pcm.extend(speech_like(48_000 * 2));
    let packets = encode(&AudioSettings { dtx: Dtx::On, ..AudioSettings::default() }, &pcm);
    assert!(packets.len() < 260, "{} packets", packets.len());
    let (buffer, heard) = play(packets, 0, 600);
    let stats = buffer.stats();
    assert_eq!(stats.concealed_samples, 0, "{stats:?}");
    assert_eq!(stats.total_samples_received, (600 - 3) * 480);
    assert!(correlate(&pcm[200_000..], &heard[200_000..], 4_800).0 > 0.85);
}

#[test]
fn frames_of_other_lengths_and_stereo_are_played() {
    let tone: Vec<f32> = (0..48_000 * 2).map(|i| (i as f32 * 0.05).sin() * 0.3).collect();
    for (frames, channels) in [(480, 1), (1_920, 1), (2_880, 1), (960, 2)] {
        let kind = if channels == 2 { ::opus::Channels::Stereo } else { ::opus::Channels::Mono };
        let mut encoder = ::opus::Encoder::new(48_000, kind, ::opus::Application::Audio).unwrap();
        let pcm: Vec<f32> = tone.iter().flat_map(|s| vec![*s; channels]).collect();
        let packets = pcm
            .chunks_exact(frames * channels)
            .enumerate()
            .map(|(i, chunk)| {
                let us = START_MS * 1_000 + (i as u64 + 1) * frames as u64 * 1_000 / 48;
                let payload = encoder.encode_vec_float(chunk, 1_200).unwrap();
                packet(100 + i as u64, FIRST_TICKS + (i * frames) as u64, us, payload.into())
            })
            .collect();
        let (buffer, heard) = play(packets, 0, 190);
        assert_eq!(buffer.stats().concealed_samples, 0, "{frames} frames, {channels} channels");
        let loud = heard[heard.len() / 2..].iter().map(|s| s * s).sum::<f32>() / (heard.len() / 2) as f32;
        assert!((0.03..0.06).contains(&loud), "{frames} frames, {channels} channels: power {loud}");
        assert_eq!(buffer.decoder.channels(), channels);
    }
}

#[test]
fn a_new_ssrc_and_a_jumped_clock_start_afresh() {
    let speech = speech_like(48_000 * 3);
    let mut packets = encode(&AudioSettings::default(), &speech);
    for p in &mut packets[50..] {
        p.ssrc = Ssrc(2);
        p.seq = SeqNo(p.seq.0 - 40_000);
        p.rtp_time.ticks -= 48_000 * 1_000;
    }
    for p in &mut packets[100..] {
        p.rtp_time.ticks += 48_000 * 5_000;
    }
    let (buffer, heard) = play(packets, 0, 300);
    let stats = buffer.stats();
    assert!(stats.concealed_samples < 48_000 / 10, "{stats:?}");
    assert!(correlate(&speech[96_000..], &heard[96_000..], 4_800).0 > 0.8);
}

#[test]
fn a_burst_after_a_stall_is_caught_up() {
    let speech = speech_like(48_000 * 10);
    let mut packets = encode(&AudioSettings::default(), &speech);
    let until = packets[140].arrived_at;
    for p in &mut packets[100..140] {
        p.arrived_at = until;
    }
    let (_, heard) = play(packets, 0, 1_000);
    let (likeness, delay) = correlate(&speech[336_000..432_000], &heard[336_000..], 24_000);
    assert!(likeness > 0.8, "{likeness}");
    assert!(delay < 48 * 100, "{} ms", delay / 48);
}

#[test]
fn drift_of_500_ppm_is_absorbed_without_concealment() {
    let speech = speech_like(48_000 * 60);
    for ppm in [500_i64, -500] {
        let mut packets = encode(&AudioSettings::default(), &speech);
        for p in &mut packets {
            let us = p.arrived_at.as_micros() as i64;
            p.arrived_at = Timestamp::from_micros((us + us * ppm / 1_000_000) as u64);
        }
        let (buffer, _) = play(packets, 0, 5_900);
        let stats = buffer.stats();
        assert!(stats.concealed_samples <= 960, "{ppm} ppm: {stats:?}");
        let mean = stats.jitter_buffer_delay.as_secs_f64() * 1e3 / stats.jitter_buffer_emitted_count as f64;
        assert!(mean < 30.0, "{ppm} ppm: {mean} ms");
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Insert { seq: u16, ticks: u32, payload: Vec<u8>, ssrc: u32 },
    InsertSpeech { number: usize },
    Pull,
    Wait { ms: u16 },
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        1 => (any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40), 1..3_u32)
            .prop_map(|(seq, ticks, payload, ssrc)| Operation::Insert { seq, ticks, payload, ssrc }),
        4 => (0..100_usize).prop_map(|number| Operation::InsertSpeech { number }),
        6 => Just(Operation::Pull),
        1 => (0..500_u16).prop_map(|ms| Operation::Wait { ms }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_arrives_whenever_the_clock_goes_on(operations in prop::collection::vec(operation(), 0..400)) {
        let speech = encode(&AudioSettings { expected_loss: 0.2, ..AudioSettings::default() }, &speech_like(96_000));
        let mut buffer = JitterBuffer::new().unwrap();
        let mut block = AudioFrame::silence(Timestamp::ZERO);
        let mut now = Timestamp::from_millis(START_MS);
        let mut last_played = None;
        for operation in operations {
            match operation {
                Operation::Insert { seq, ticks, payload, ssrc } => {
                    let mut p = packet(u64::from(seq), u64::from(ticks), now.as_micros(), payload.into());
                    p.ssrc = Ssrc(ssrc);
                    buffer.insert(p);
                    last_played = None;
                }
                Operation::InsertSpeech { number } => {
                    let mut p = speech[number].clone();
                    p.arrived_at = now;
                    buffer.insert(p);
                    if buffer.last_seq.is_none() {
                        last_played = None; // It took this for another stream, which has an order of its own.
                    }
                }
                Operation::Pull => {
                    buffer.pull(now, &mut block);
                    now += Duration::from_millis(10);
                    prop_assert_eq!(block.samples.len(), 480 * usize::from(block.channels));
                    prop_assert!(block.samples.iter().all(|s| s.is_finite()));
                    if buffer.last_seq.is_some() {
                        prop_assert!(buffer.last_seq >= last_played, "{:?} after {:?}", buffer.last_seq, last_played);
                        last_played = buffer.last_seq;
                    }
                }
                Operation::Wait { ms } => now += Duration::from_millis(u64::from(ms)),
            }
            prop_assert!(buffer.packets.len() <= MAX_PACKETS);
            prop_assert!(buffer.buffered() <= 4 * 5_760, "{} frames buffered", buffer.buffered());
            prop_assert!(buffer.packets.iter().zip(buffer.packets.iter().skip(1)).all(|(a, b)| a.seq < b.seq));
        }
    }
}
