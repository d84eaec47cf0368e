//! A participant's sound: its place on the audio thread, made when there is something to hear or somebody to hear it.

use super::{First, slot_follower::SlotFollower};
use crate::{
    audio::{AudioError, AudioHandle, RemoteAudioInput, RemoteStats, SinkId},
    media::AudioSink,
};
use halloo_transport::ReceivedPacket;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct RemoteAudio {
    audio: AudioHandle,
    /// The audio thread's name for it.
    key: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    input: Option<RemoteAudioInput>,
    gone: bool,
    follower: SlotFollower,
    packets: u64,
    bytes: u64,
}

/// Packets and payload bytes of a track.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl RemoteAudio {
    pub(crate) fn new(audio: AudioHandle, key: u32) -> Self {
        Self { audio, key, inner: Mutex::default() }
    }

    /// Takes a packet. `None` where it is not this track's any more.
    pub(crate) fn receive(&self, packet: ReceivedPacket) -> Option<First> {
        let mut inner = self.lock();
        if !inner.follower.admit(&packet) {
            return None;
        }
        let input = self.input(&mut inner).ok()?;
        let first = if inner.packets == 0 { First::Yes } else { First::No };
        inner.packets += 1;
        inner.bytes += packet.payload.len() as u64;
        input.push(packet);
        Some(first)
    }

    pub(crate) fn attach(&self, sink: Box<dyn AudioSink>) -> Result<SinkId, AudioError> {
        self.input(&mut self.lock())?;
        self.audio.attach(self.key, sink)
    }

    pub(crate) fn detach(&self, sink: SinkId) -> Result<(), AudioError> {
        self.audio.detach(sink)
    }

    /// How loud it is now, 0 to 1.
    pub(crate) fn level(&self) -> f32 {
        let levels = self.audio.levels();
        levels.remotes.iter().find(|(key, _)| *key == self.key).map_or(0.0, |(_, level)| *level)
    }

    pub(crate) fn set_volume(&self, volume: f32) -> Result<(), AudioError> {
        self.input(&mut self.lock())?;
        self.audio.set_remote_volume(self.key, volume)
    }

    pub(crate) fn received(&self) -> Received {
        let inner = self.lock();
        Received { packets: inner.packets, bytes: inner.bytes }
    }

    /// The audio thread's counters, once it has the track.
    pub(crate) fn stats(&self) -> Option<RemoteStats> {
        self.audio.stats().remotes.into_iter().find(|(key, _)| *key == self.key).map(|(_, stats)| stats)
    }

    /// Ends the track; its sinks are finished.
    pub(crate) fn end(&self) -> Result<(), AudioError> {
        let mut inner = self.lock();
        inner.gone = true;
        match inner.input.take() {
            Some(_) => self.audio.remove_remote(self.key),
            None => Ok(()),
        }
    }

    fn input(&self, inner: &mut Inner) -> Result<RemoteAudioInput, AudioError> {
        if let Some(input) = &inner.input {
            return Ok(input.clone());
        }
        if inner.gone {
            return Err(AudioError::Stopped);
        }
        let input = self.audio.add_remote(self.key)?;
        inner.input = Some(input.clone());
        Ok(input)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
