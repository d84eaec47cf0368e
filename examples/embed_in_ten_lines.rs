//! Calls somebody, plays them a file, records what they say: the engine in ten lines.
//!
//! `cargo run --release --example embed_in_ten_lines -- ws://127.0.0.1:8080 bob hello.wav received.wav`

use halloo_engine::{
    CallOptions, Engine,
    audio::{AudioSettings, Repeat, WavSink, WavSource},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, callee, say, record] = args.as_slice() else {
        return Err("give: SERVER CALLEE SAY.wav RECORD.wav".into());
    };
    let engine = Engine::builder().server(server).guest("ten-lines").build().await?;
    let call = engine.call(callee, CallOptions::default()).await?;
    call.publish_audio(Box::new(WavSource::open(say, Repeat::Loop)?), AudioSettings::default());
    call.remote_audio().attach(Box::new(WavSink::create(record)?))?;
    println!("{:?}", call.ended().await.reason);
    Ok(())
}
