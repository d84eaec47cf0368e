//! Entries for fuzzers: what a hostile peer sends, given to the parts that read it. Not part of the public interface.

use crate::{Timestamp, audio, media::AudioFrame, wire};
use bytes::Bytes;
use halloo_transport::{ReceivedPacket, RtpTime, SeqNo, Ssrc, session::MediaKind};

/// `data` read as packets: step of the sequence number, step of the time, flags, length, payload.
struct Packets<'a> {
    rest: &'a [u8],
    kind: MediaKind,
    clock_rate: u32,
    seq: u64,
    ticks: u64,
}

impl<'a> Packets<'a> {
    fn new(data: &'a [u8], kind: MediaKind, clock_rate: u32) -> Self {
        Self { rest: data, kind, clock_rate, seq: 1 << 16, ticks: 1 << 32 }
    }
}

impl Iterator for Packets<'_> {
    type Item = ReceivedPacket;

    fn next(&mut self) -> Option<ReceivedPacket> {
        let [seq_step, time_step, flags, len, after @ ..] = self.rest else { return None };
        let (payload, after) = after.split_at(after.len().min(usize::from(*len)));
        self.rest = after;
        self.seq = self.seq.wrapping_add_signed(i64::from(*seq_step as i8)).max(1);
        self.ticks += u64::from(*time_step) * 100;
        Some(ReceivedPacket {
            kind: self.kind,
            ssrc: Ssrc(u32::from(flags >> 6)),
            csrcs: Vec::new(),
            mid: None,
            seq: SeqNo(self.seq),
            rtp_time: RtpTime::new(self.ticks, self.clock_rate),
            marker: flags & 1 != 0,
            payload: Bytes::copy_from_slice(payload),
            arrived_at: Timestamp::from_millis(self.ticks / u64::from(self.clock_rate / 1_000)),
            retransmitted: flags & 2 != 0,
            audio_level: None,
        })
    }
}

/// Plays `data` to a frame buffer. Returns how many things the buffer wanted done.
#[cfg(any(feature = "video", fuzzing))]
pub fn frame_buffer(data: &[u8]) -> usize {
    use crate::av1::frame_buffer::{FrameBuffer, FrameBufferConfig};
    let mut buffer = FrameBuffer::new(FrameBufferConfig { max_packets: 64, ..FrameBufferConfig::default() });
    let mut outputs = 0;
    for packet in Packets::new(data, MediaKind::Video, 90_000) {
        let now = packet.arrived_at;
        buffer.insert(packet);
        while buffer.poll(now).is_some() {
            outputs += 1;
        }
    }
    outputs
}

/// Plays `data` to a jitter buffer, and pulls a block for each packet.
///
/// # Panics
/// If a block is not a block, or a sample not a number.
pub fn jitter_buffer(data: &[u8]) {
    let Ok(mut buffer) = audio::jitter_buffer::JitterBuffer::new() else { return };
    for packet in Packets::new(data, MediaKind::Audio, 48_000) {
        let now = packet.arrived_at;
        buffer.insert(packet);
        let mut block = AudioFrame::silence(Timestamp::ZERO);
        buffer.pull(now, &mut block);
        assert!(block.samples.iter().all(|sample| sample.is_finite()), "a sample is not a number");
    }
}

/// Reads `text` as the peer's session description, and negotiates it with itself.
pub fn session_description(text: &str) {
    wire::sdp::fuzz(text);
}
