//! A bot that answers every call, plays a file once, and hangs up.
//!
//! `cargo run --release --example answering_bot -- ws://127.0.0.1:8080 bot greeting.wav`

use halloo_engine::{
    Call, CallEvent, CallOptions, Engine, IncomingCall, MediaEvent,
    audio::{AudioSettings, Repeat, WavSource},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [server, name, greeting] = args.as_slice() else { return Err("give: SERVER NAME GREETING.wav".into()) };
    // Read once; a clone for each call begins at the start.
    let greeting = WavSource::open(greeting, Repeat::Once)?;
    let engine = Engine::builder().server(server).guest(name).build().await?;
    let mut incoming = engine.incoming();
    println!("waiting as {name}");
    while let Some(call) = incoming.next().await {
        tokio::spawn(greet(call, greeting.clone()));
    }
    Ok(())
}

async fn greet(ringing: IncomingCall, greeting: WavSource) {
    let from = ringing.from().to_owned();
    match ringing.accept(CallOptions::default()).await {
        Ok(call) => {
            call.publish_audio(Box::new(greeting), AudioSettings::default());
            println!("{from}: {:?}", play(call).await);
        }
        Err(error) => println!("{from}: {error}"),
    }
}

async fn play(call: Call) -> halloo_engine::EndReason {
    let mut events = call.events();
    while let Some(event) = events.next().await {
        match event {
            CallEvent::Media(MediaEvent::SourceEnded) => return call.hang_up().await.reason,
            CallEvent::Ended(ended) => return ended.reason,
            _ => {}
        }
    }
    call.ended().await.reason
}
