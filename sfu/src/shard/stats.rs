//! What a shard counts.

/// Counters of one shard since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams that came in.
    pub received: u64,
    /// Datagrams of no known kind, or from addresses of no session.
    pub unknown: u64,
    /// STUN requests that were answered.
    pub checks_answered: u64,
    /// STUN messages that were dropped.
    pub checks_dropped: u64,
    /// DTLS datagrams that were passed to the workers.
    pub dtls_received: u64,
    /// DTLS datagrams dropped because the workers were busy.
    pub dtls_dropped: u64,
    /// RTP packets opened.
    pub rtp_received: u64,
    /// RTCP packets opened.
    pub rtcp_received: u64,
    /// SRTP and SRTCP packets that did not authenticate or were no packets.
    pub srtp_refused: u64,
    /// SRTP and SRTCP packets seen before, or too old to tell.
    pub srtp_replayed: u64,
    /// RTP packets sealed and sent.
    pub rtp_sent: u64,
    /// RTCP packets sealed and sent.
    pub rtcp_sent: u64,
    /// Of the RTP packets sent, those that were sent again: because they were asked for, or to fill a probe.
    pub rtx_sent: u64,
    /// Of the RTP packets sent, those that carried nothing and only filled a probe.
    pub padding_sent: u64,
    /// Messages to publishers that asked for packets again.
    pub nacks_sent: u64,
    /// Messages to publishers that asked for a key frame.
    pub key_frames_requested: u64,
    /// Packets for participants that could not take them.
    pub not_sent: u64,
    /// Calls to the wire that carried media: divide [`Stats::rtp_sent`] by it for packets per system call.
    pub sends: u64,
    /// Bytes handed to the wire, UDP payload.
    pub bytes_sent: u64,
    /// Rooms that panicked.
    pub rooms_failed: u64,
    /// Sessions now.
    pub sessions: u64,
    /// Rooms now.
    pub rooms: u64,
    /// Participants now whose path carries less than what they show would need.
    pub constrained: u64,
}
