//! What the audio thread does in each block, as a value without thread or clock: all published tracks, all remote tracks,
//! the mix.
//!
//! Commands change it between blocks; what happened comes out as [`AudioEvent`]s. Sinks that leave are handed to a thread of
//! their own to finish, since finishing may wait for a disk.

use super::{
    AudioError, AudioEvent, Muted, SinkId,
    mixer::Mixer,
    publication::{Publication, PublishedStats},
    remote::{Remote, RemoteStats},
};
use crate::media::{AudioSink, AudioSource};
use halloo_transport::{Bitrate, Timestamp};
use std::{collections::BTreeMap, thread::JoinHandle};

/// What an [`super::AudioHandle`] asks for.
pub(crate) enum Command {
    Publish(u32, Box<Publication>),
    ReplaceSource(u32, Box<dyn AudioSource>),
    Unpublish(u32),
    SetMuted(u32, Muted),
    SetBitrate(Bitrate),
    SetExpectedLoss(f64),
    AddRemote(u32, Box<Remote>),
    RemoveRemote(u32),
    Attach(u32, SinkId, Box<dyn AudioSink>),
    Detach(SinkId),
    SetRemoteVolume(u32, f32),
    SetRemoteMuted(u32, Muted),
}

/// All tracks of a call.
pub(crate) struct Console {
    published: BTreeMap<u32, Box<Publication>>,
    remotes: BTreeMap<u32, Box<Remote>>,
    mixer: Mixer,
    events: Vec<AudioEvent>,
    finishing: Vec<JoinHandle<Result<(), (SinkId, crate::media::MediaError)>>>,
}

impl Console {
    pub(crate) fn new() -> Self {
        Self {
            published: BTreeMap::new(),
            remotes: BTreeMap::new(),
            mixer: Mixer::new(),
            events: Vec::new(),
            finishing: Vec::new(),
        }
    }

    pub(crate) fn obey(&mut self, command: Command) {
        match command {
            Command::Publish(track, publication) => drop(self.published.insert(track, publication)),
            Command::ReplaceSource(track, source) => self.on_published(track, |p| p.replace_source(source)),
            Command::Unpublish(track) => drop(self.published.remove(&track)),
            Command::SetMuted(track, muted) => self.on_published(track, |p| p.set_muted(muted)),
            Command::SetBitrate(bitrate) => self.tune(|p| p.set_bitrate(bitrate)),
            Command::SetExpectedLoss(share) => self.tune(|p| p.set_expected_loss(share)),
            Command::AddRemote(key, remote) => {
                if let Some(replaced) = self.remotes.insert(key, remote) {
                    self.finish_all(*replaced);
                }
            }
            Command::RemoveRemote(key) => {
                if let Some(remote) = self.remotes.remove(&key) {
                    self.finish_all(*remote);
                }
            }
            Command::Attach(key, id, sink) => match self.remotes.get_mut(&key) {
                Some(remote) => remote.attach(id, sink),
                None => self.finish(id, sink),
            },
            Command::Detach(id) => {
                if let Some(sink) = self.remotes.values_mut().find_map(|remote| remote.detach(id)) {
                    self.finish(id, sink);
                }
            }
            Command::SetRemoteVolume(key, volume) => self.on_remote(key, |r| r.set_volume(volume)),
            Command::SetRemoteMuted(key, muted) => self.on_remote(key, |r| r.set_muted(muted)),
        }
    }

    /// One block. Gives the mix: interleaved stereo. What sinks get is stamped `played_at`.
    pub(crate) fn tick(&mut self, now: Timestamp, played_at: Timestamp) -> &[f32] {
        for publication in self.published.values_mut() {
            publication.tick(now, &mut self.events);
        }
        self.mixer.clear();
        for remote in self.remotes.values_mut() {
            remote.tick(now, played_at, &mut self.mixer, &mut self.events);
        }
        self.mixer.finish()
    }

    /// What happened since the last call.
    pub(crate) fn take_events(&mut self) -> impl Iterator<Item = AudioEvent> {
        let ended = self.finishing.iter().any(JoinHandle::is_finished);
        if ended {
            for thread in self.finishing.extract_if(.., |thread| thread.is_finished()) {
                self.events.extend(outcome(thread));
            }
        }
        self.events.drain(..)
    }

    /// Finishes all sinks, waits for them, and gives the last events.
    pub(crate) fn close(mut self) -> Vec<AudioEvent> {
        for remote in std::mem::take(&mut self.remotes).into_values() {
            self.finish_all(*remote);
        }
        let mut events = self.events;
        events.extend(self.finishing.into_iter().filter_map(outcome));
        events
    }

    pub(crate) fn published_stats(&self) -> impl Iterator<Item = (u32, PublishedStats)> {
        self.published.iter().map(|(track, p)| (*track, p.stats()))
    }

    pub(crate) fn remote_stats(&self) -> impl Iterator<Item = (u32, RemoteStats)> {
        self.remotes.iter().map(|(key, r)| (*key, r.stats()))
    }

    fn on_published(&mut self, track: u32, change: impl FnOnce(&mut Publication)) {
        if let Some(publication) = self.published.get_mut(&track) {
            change(publication);
        }
    }

    fn on_remote(&mut self, key: u32, change: impl FnOnce(&mut Remote)) {
        if let Some(remote) = self.remotes.get_mut(&key) {
            change(remote);
        }
    }

    fn tune(&mut self, change: impl Fn(&mut Publication) -> Result<(), super::OpusError>) {
        for (track, publication) in &mut self.published {
            if let Err(error) = change(publication) {
                self.events.push(AudioEvent::EncoderFailed { track: *track, error });
            }
        }
    }

    fn finish_all(&mut self, remote: Remote) {
        for (id, sink) in remote.into_sinks() {
            self.finish(id, sink);
        }
    }

    fn finish(&mut self, id: SinkId, mut sink: Box<dyn AudioSink>) {
        let thread = std::thread::Builder::new()
            .name("halloo-finish".into())
            .spawn(move || sink.finish().map_err(|error| (id, error)));
        match thread {
            Ok(thread) => self.finishing.push(thread),
            Err(e) => {
                let error = crate::media::MediaError::new(format!("cannot finish a sink: no thread: {e}"));
                self.events.push(AudioEvent::SinkBroken { sink: id, error });
            }
        }
    }
}

fn outcome(thread: JoinHandle<Result<(), (SinkId, crate::media::MediaError)>>) -> Option<AudioEvent> {
    let (sink, error) = thread.join().ok()?.err()?;
    Some(AudioEvent::SinkBroken { sink, error })
}

impl From<super::OpusError> for AudioError {
    fn from(e: super::OpusError) -> Self {
        Self::Codec(e)
    }
}
