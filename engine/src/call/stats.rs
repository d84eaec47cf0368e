//! A call's figures as a typed snapshot, named after the W3C's WebRTC statistics.
//!
//! Counters are cumulative, durations are seconds, bitrates bits per second; take two snapshots to see a rate.

use super::CallMedia;
#[cfg(feature = "video")]
use crate::video::{VideoReceiverStats, VideoSenderStats};
use crate::{
    audio::RemoteStats,
    clock,
    wire::{PathEnd, Wire, WireStats},
};
use halloo_transport::{
    Timestamp,
    session::{MediaKind, RecvStats, SendStats},
};
use serde::Serialize;

/// Everything about a call.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct CallStats {
    /// Seconds since the call was made or rang here.
    pub age: f64,
    /// The path.
    pub transport: TransportStats,
    /// Sound sent.
    pub outbound_audio: AudioSendStats,
    /// Sound received.
    pub inbound_audio: AudioReceiveStats,
    /// Pictures sent.
    pub outbound_video: VideoSendStats,
    /// Pictures received.
    pub inbound_video: VideoReceiveStats,
}

/// The path (`RTCTransportStats`, `RTCIceCandidatePairStats`).
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TransportStats {
    /// Seconds, by RTCP or else by connectivity checks.
    pub current_round_trip_time: Option<f64>,
    /// What congestion control believes the path carries, bits per second.
    pub available_outgoing_bitrate: u64,
    /// Bytes that wait in the pacer.
    pub pacer_queue_bytes: u64,
    /// Units that never reached the network: sent before there were keys, or the task stalled.
    pub units_dropped: u64,
    /// Our end of the chosen pair.
    pub local_candidate: Option<CandidateInfo>,
    /// The other end of the chosen pair.
    pub remote_candidate: Option<CandidateInfo>,
    /// Like `SRTP_AEAD_AES_128_GCM`.
    pub srtp_cipher: Option<String>,
    /// Like `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`.
    pub dtls_cipher: Option<String>,
}

/// One end of a path (`RTCIceCandidateStats`).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CandidateInfo {
    /// `host`, `srflx`, `prflx` or `relay`.
    pub candidate_type: String,
    /// Address and port.
    pub address: String,
    /// `udp` or `tcp`.
    pub protocol: String,
}

/// Sound sent (`RTCOutboundRtpStreamStats`, `RTCAudioSourceStats`).
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct AudioSendStats {
    /// Packets, retransmissions excluded.
    pub packets_sent: u64,
    /// Payload bytes.
    pub bytes_sent: u64,
    /// Share lost in the peer's last report, 0 to 1.
    pub fraction_lost: f64,
    /// How loud the source is, 0 to 1.
    pub audio_level: f32,
}

/// Sound received (`RTCInboundRtpStreamStats`).
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct AudioReceiveStats {
    /// Packets, duplicates excluded.
    pub packets_received: u64,
    /// Payload bytes.
    pub bytes_received: u64,
    /// Expected less received.
    pub packets_lost: i64,
    /// Packets that came too late to be played.
    pub packets_discarded: u64,
    /// Packets rebuilt from in-band FEC.
    pub fec_packets_received: u64,
    /// Seconds (RFC 3550).
    pub jitter: f64,
    /// Samples played, concealed ones included.
    pub total_samples_received: u64,
    /// Samples that were made up.
    pub concealed_samples: u64,
    /// Samples that were made up as silence.
    pub silent_concealed_samples: u64,
    /// Times that concealment began.
    pub concealment_events: u64,
    /// Samples added by slowing down.
    pub inserted_samples_for_deceleration: u64,
    /// Samples removed by speeding up.
    pub removed_samples_for_acceleration: u64,
    /// Sum over all samples of the seconds they waited; divide by `jitter_buffer_emitted_count`.
    pub jitter_buffer_delay: f64,
    /// Samples that left the jitter buffer.
    pub jitter_buffer_emitted_count: u64,
    /// Seconds that the jitter buffer aims at now.
    pub jitter_buffer_target_delay: f64,
    /// How loud it is, 0 to 1.
    pub audio_level: f32,
}

/// Pictures sent.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct VideoSendStats {
    /// Packets, retransmissions excluded.
    pub packets_sent: u64,
    /// Payload bytes.
    pub bytes_sent: u64,
    /// Packets sent again.
    pub retransmitted_packets_sent: u64,
    /// NACK messages received.
    pub nack_count: u64,
    /// Key-frame requests received.
    pub pli_count: u64,
    /// Share lost in the peer's last report, 0 to 1.
    pub fraction_lost: f64,
    /// Pictures encoded.
    pub frames_encoded: u64,
    /// Of them, key frames.
    pub key_frames_encoded: u64,
    /// Pictures skipped, to hold the bitrate or because the encoder was behind.
    pub frames_dropped: u64,
    /// Seconds spent encoding.
    pub total_encode_time: f64,
    /// Bits per second that the encoder is asked for.
    pub target_bitrate: u64,
    /// Size of the last picture sent.
    pub frame_width: u32,
    /// Size of the last picture sent.
    pub frame_height: u32,
}

/// Pictures received.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct VideoReceiveStats {
    /// Packets, duplicates excluded, retransmissions included.
    pub packets_received: u64,
    /// Payload bytes.
    pub bytes_received: u64,
    /// Expected less received.
    pub packets_lost: i64,
    /// Packets repaired by retransmission.
    pub retransmitted_packets_received: u64,
    /// Seconds (RFC 3550).
    pub jitter: f64,
    /// NACK messages sent.
    pub nack_count: u64,
    /// Key-frame requests sent.
    pub pli_count: u64,
    /// Complete pictures.
    pub frames_received: u64,
    /// Pictures decoded.
    pub frames_decoded: u64,
    /// Of them, key frames.
    pub key_frames_decoded: u64,
    /// Complete pictures that were not decoded.
    pub frames_dropped: u64,
    /// Times the picture stood still (W3C definition).
    pub freeze_count: u64,
    /// Seconds that it stood still.
    pub total_freezes_duration: f64,
    /// Seconds spent decoding.
    pub total_decode_time: f64,
    /// Size of the last picture.
    pub frame_width: u32,
    /// Size of the last picture.
    pub frame_height: u32,
}

impl CallStats {
    pub(super) async fn collect(media: &CallMedia, wire: &Wire, started_at: Timestamp) -> Self {
        let network = wire.stats().await;
        let mut stats = Self { age: clock::now().since(started_at).as_secs_f64(), ..Self::default() };
        stats.transport = TransportStats::read(&network);
        for (_, stream) in &network.session.send {
            match stream.kind {
                MediaKind::Audio => stats.outbound_audio.add(&stream.stats),
                MediaKind::Video => stats.outbound_video.add(&stream.stats),
            }
        }
        for (_, stream) in &network.session.recv {
            match stream.kind {
                MediaKind::Audio => stats.inbound_audio.add(&stream.stats),
                MediaKind::Video => stats.inbound_video.add(&stream.stats),
            }
        }
        let audio = media.audio_stats();
        if let Some((_, published)) = audio.published.first() {
            stats.outbound_audio.audio_level = published.audio_level;
        }
        if let Some((_, remote)) = audio.remotes.first() {
            stats.inbound_audio.read(remote);
        }
        #[cfg(feature = "video")]
        {
            stats.outbound_video.read(&media.video_send_stats());
            stats.inbound_video.read(&media.video_receive_stats());
        }
        stats
    }
}

impl TransportStats {
    pub(crate) fn read(network: &WireStats) -> Self {
        let path = network.path.as_ref();
        let end = |end: &PathEnd| CandidateInfo {
            candidate_type: end.candidate_type.clone(),
            address: end.address.clone(),
            protocol: end.protocol.clone(),
        };
        let by_checks = path.and_then(|path| path.round_trip_time);
        Self {
            current_round_trip_time: network.session.round_trip_time.or(by_checks).map(|rtt| rtt.as_secs_f64()),
            available_outgoing_bitrate: network.session.target_bitrate.as_bps(),
            pacer_queue_bytes: network.session.pacer_queue_bytes,
            units_dropped: network.units_dropped,
            local_candidate: path.map(|path| end(&path.local)),
            remote_candidate: path.map(|path| end(&path.remote)),
            srtp_cipher: network.srtp_cipher.clone(),
            dtls_cipher: network.dtls_cipher.clone(),
        }
    }
}

impl AudioSendStats {
    /// Adds a stream's counters.
    pub(crate) fn add(&mut self, sent: &SendStats) {
        self.packets_sent += sent.packets_sent;
        self.bytes_sent += sent.bytes_sent;
        self.fraction_lost = sent.fraction_lost;
    }
}

impl VideoSendStats {
    /// Adds a stream's counters.
    pub(crate) fn add(&mut self, sent: &SendStats) {
        self.packets_sent += sent.packets_sent;
        self.bytes_sent += sent.bytes_sent;
        self.retransmitted_packets_sent += sent.retransmitted_packets_sent;
        self.nack_count += sent.nack_count;
        self.pli_count += sent.pli_count;
        self.fraction_lost = sent.fraction_lost;
    }

    /// Takes over an encoder's counters.
    #[cfg(feature = "video")]
    pub(crate) fn read(&mut self, sent: &VideoSenderStats) {
        self.frames_encoded = sent.frames_encoded;
        self.key_frames_encoded = sent.key_frames_encoded;
        self.frames_dropped = sent.frames_dropped;
        self.total_encode_time = sent.total_encode_time.as_secs_f64();
        self.target_bitrate = sent.target_bitrate.as_bps();
        self.frame_width = sent.frame_width;
        self.frame_height = sent.frame_height;
    }
}

impl AudioReceiveStats {
    /// Adds a stream's counters.
    pub(crate) fn add(&mut self, received: &RecvStats) {
        self.packets_received += received.packets_received;
        self.bytes_received += received.bytes_received;
        self.packets_lost += received.packets_lost;
        self.jitter = received.jitter.as_secs_f64();
    }

    /// Takes over a jitter buffer's counters.
    pub(crate) fn read(&mut self, remote: &RemoteStats) {
        let buffer = &remote.jitter_buffer;
        self.packets_discarded = buffer.packets_discarded + remote.packets_dropped;
        self.fec_packets_received = buffer.fec_packets_received;
        self.total_samples_received = buffer.total_samples_received;
        self.concealed_samples = buffer.concealed_samples;
        self.silent_concealed_samples = buffer.silent_concealed_samples;
        self.concealment_events = buffer.concealment_events;
        self.inserted_samples_for_deceleration = buffer.inserted_samples_for_deceleration;
        self.removed_samples_for_acceleration = buffer.removed_samples_for_acceleration;
        self.jitter_buffer_delay = buffer.jitter_buffer_delay.as_secs_f64();
        self.jitter_buffer_emitted_count = buffer.jitter_buffer_emitted_count;
        self.jitter_buffer_target_delay = remote.target_delay.as_secs_f64();
        self.audio_level = remote.audio_level;
    }
}

impl VideoReceiveStats {
    /// Adds a stream's counters.
    pub(crate) fn add(&mut self, received: &RecvStats) {
        self.packets_received += received.packets_received;
        self.bytes_received += received.bytes_received;
        self.packets_lost += received.packets_lost;
        self.retransmitted_packets_received += received.retransmitted_packets_received;
        self.jitter = received.jitter.as_secs_f64();
        self.nack_count += received.nack_count;
        self.pli_count += received.pli_count;
    }

    /// Takes over a decoder's counters.
    #[cfg(feature = "video")]
    pub(crate) fn read(&mut self, received: &VideoReceiverStats) {
        self.frames_received = received.frames_received;
        self.frames_decoded = received.frames_decoded;
        self.key_frames_decoded = received.key_frames_decoded;
        self.frames_dropped = received.frames_dropped;
        self.freeze_count = u64::from(received.freeze_count);
        self.total_freezes_duration = received.total_freezes_duration.as_secs_f64();
        self.total_decode_time = received.total_decode_time.as_secs_f64();
        self.frame_width = received.frame_width;
        self.frame_height = received.frame_height;
    }
}
