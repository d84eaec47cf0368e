//! An application's own sound in and out: sends a tone that it computes, and measures how loud the other side is.
//!
//! `cargo run --release --example bring_your_own_audio -- ws://127.0.0.1:8080 bob 3`

use halloo_engine::{
    CallEvent, CallOptions, Engine, Timestamp,
    audio::AudioSettings,
    media::{AudioFrame, AudioRead, AudioSink, AudioSource, BLOCK_SAMPLES, MediaError, SAMPLE_RATE},
};
use std::{
    f32::consts::TAU,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// 440 Hz.
struct Tone {
    phase: f32,
}

impl AudioSource for Tone {
    fn read(&mut self, _now: Timestamp, block: &mut AudioFrame) -> Result<AudioRead, MediaError> {
        block.channels = 1;
        block.samples.resize(BLOCK_SAMPLES, 0.0);
        for sample in &mut block.samples {
            *sample = 0.2 * self.phase.sin();
            self.phase = (self.phase + TAU * 440.0 / SAMPLE_RATE as f32) % TAU;
        }
        Ok(AudioRead::Filled)
    }
}

/// Remembers the loudest sample, in thousandths of full scale.
struct Loudest(Arc<AtomicU32>);

impl AudioSink for Loudest {
    fn write(&mut self, block: &AudioFrame) -> Result<(), MediaError> {
        let peak = block.samples.iter().fold(0.0_f32, |peak, s| peak.max(s.abs()));
        self.0.fetch_max((peak * 1_000.0) as u32, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, callee, seconds] = args.as_slice() else { return Err("give: SERVER CALLEE SECONDS".into()) };
    let engine = Engine::builder().server(server).guest("own-audio").build().await?;
    let call = engine.call(callee, CallOptions::default()).await?;
    call.publish_audio(Box::new(Tone { phase: 0.0 }), AudioSettings::default());
    let loudest = Arc::new(AtomicU32::new(0));
    call.remote_audio().attach(Box::new(Loudest(loudest.clone())))?;
    let mut events = call.events();
    while let Some(event) = events.next().await {
        if matches!(event, CallEvent::Connected) {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(seconds.parse()?)).await;
    let ended = call.hang_up().await;
    println!("{:?}; loudest sample heard: {} of 1000", ended.reason, loudest.load(Ordering::Relaxed));
    Ok(())
}
