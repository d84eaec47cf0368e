//! An application that embeds the engine. Without a server to call it shows that the engine starts, and that it says in words
//! what is missing.

use halloo_engine::{
    BuildError, Engine,
    audio::ToneSource,
    clock,
    media::{AudioFrame, AudioRead, AudioSource, BLOCK_SAMPLES},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut tone = ToneSource::sine(440.0, 0.5);
    let mut block = AudioFrame::silence(clock::now());
    assert_eq!(tone.read(clock::now(), &mut block)?, AudioRead::Filled);
    assert_eq!(block.len_per_channel(), BLOCK_SAMPLES);

    #[cfg(feature = "video")]
    {
        use halloo_engine::video::{frame_number, pattern};
        let picture = pattern::draw(320, 180, 42, clock::now())?;
        assert_eq!(frame_number::read(&picture), Some(42));
    }

    // Nobody listens on the discard port.
    match Engine::builder().server("ws://127.0.0.1:9").guest("embedder").build().await {
        Err(BuildError::Unreachable(why)) => println!("as expected without a server: {why}"),
        Err(other) => return Err(other.into()),
        Ok(_) => return Err("there should be no server".into()),
    }
    Ok(())
}
