//! Waits for one call and records it: sound, pictures, and the first picture as PNG.
//!
//! `cargo run --release --example record_a_call -- ws://127.0.0.1:8080 archivist recordings`

use halloo_engine::{
    CallOptions, Engine,
    audio::WavSink,
    video::{PngSnapshot, Y4mSink, Y4mSinkOptions},
};
use std::path::Path;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, name, folder] = args.as_slice() else { return Err("give: SERVER NAME FOLDER".into()) };
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    let engine = Engine::builder().server(server).guest(name).build().await?;
    let mut incoming = engine.incoming();
    println!("waiting as {name}");
    let Some(ringing) = incoming.next().await else { return Err("the server ended the session".into()) };
    println!("recording {}", ringing.from());
    let call = ringing.accept(CallOptions::default()).await?;
    call.remote_audio().attach(Box::new(WavSink::create(folder.join("call.wav"))?))?;
    call.remote_video().attach(Box::new(Y4mSink::create(folder.join("call.y4m"), Y4mSinkOptions::default())?))?;
    call.remote_video().attach(Box::new(PngSnapshot::new(folder.join("first.png"))))?;
    println!("{:?}", call.ended().await.reason);
    Ok(())
}
