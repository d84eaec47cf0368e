//! Two wires that can reach each other over TCP alone.

use super::*;

/// No candidate over UDP is passed on. In the place of each over TCP come two, as a forwarding unit has them: at the same port, nobody
/// answers over UDP.
fn over_tcp(candidate: Candidate) -> Vec<Candidate> {
    if !candidate.candidate.contains(" tcp ") {
        return Vec::new();
    }
    let line = candidate.candidate.replace(" tcp ", " udp ");
    let line = line.split(" tcptype").next().unwrap().to_owned();
    vec![Candidate { candidate: line, ..candidate.clone() }, candidate]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wires_without_udp_connect_and_pass_media_both_ways_in_order() {
    let mut pair = connected_by(peer(31).await, peer(32).await, over_tcp).await;
    println!("answer to connected over TCP on loopback: {:?}", pair.connected_in);
    assert!(pair.connected_in < Duration::from_millis(1_000), "{:?}", pair.connected_in);
    for n in 0..4 {
        pair.caller.carry(SourceKind::Microphone, audio_unit(n));
        pair.callee.carry(SourceKind::Microphone, audio_unit(n));
    }
    expect_audio(&mut pair.at_callee, 4).await;
    expect_audio(&mut pair.at_caller, 4).await;
    for n in 0..4 {
        pair.caller.carry(SourceKind::Camera, video_unit(n, 5));
        pair.callee.carry(SourceKind::Camera, video_unit(n, 5));
    }
    expect_video(&mut pair.at_callee, 4, 5).await;
    expect_video(&mut pair.at_caller, 4, 5).await;
    let path = pair.caller.stats().await.path.expect("a path");
    assert_eq!((path.local.protocol.as_str(), path.remote.protocol.as_str()), ("tcp", "tcp"));
    assert!(path.remote.address.starts_with("127.0.0.1:"), "{path:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_udp_works_nothing_goes_over_tcp() {
    let pair = connected(peer(33).await, peer(34).await).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let path = pair.caller.stats().await.path.expect("a path");
    assert_eq!(path.local.protocol, "udp");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ice_restart_connects_over_tcp_anew() {
    let mut pair = connected_by(peer(35).await, peer(36).await, over_tcp).await;
    let offer = pair.caller.restart_ice().await.unwrap();
    pair.callee.accept_offer(&offer).await.unwrap();
    let answer = pair.callee.answer().await.unwrap();
    pair.caller.accept_answer(&answer).await.unwrap();
    until(&mut pair.caller_events, &CONNECTED).await;
    pair.caller.carry(SourceKind::Microphone, audio_unit(0));
    expect_audio(&mut pair.at_callee, 1).await;
}
