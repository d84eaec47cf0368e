//! Memory of an idle signed-in connection: `halloo serve` as its own process with 5,000 guests signed in.
//!
//! Reference: a process that only accepts TCP connections and keeps a task of tokio's with a read pending for each. Both
//! are read from the kernel (`Rss` of smaps_rollup) in the same run, before the connections and after them. Kernel
//! memory of the sockets is in neither.
//!
//! Prints one line of JSON. `HALLOO_BENCH_CONNECTIONS` changes the count.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot measure stops")]

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const REACH_KB: f64 = 20.0;
/// Tells this program to be the reference server.
const REFERENCE: &str = "reference-server";

fn main() -> Outcome<()> {
    if std::env::args().nth(1).as_deref() == Some(REFERENCE) {
        return reference_server();
    }
    raise_file_limit();
    let count = std::env::var("HALLOO_BENCH_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000);
    let value = measure(halloo(count)?, count, sign_in)?;
    let reference = measure(reference()?, count, |addr, _| Ok(TcpStream::connect(addr)?))?;
    println!(
        "{}",
        serde_json::json!({
            "name": "idle_connection_memory",
            "value": round(value),
            "unit": "kB per connection",
            "reference": "accepted TCP connection with a pending read in tokio",
            "reference_value": round(reference),
            "reach": REACH_KB,
            "reached": value < REACH_KB,
        })
    );
    Ok(())
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// A server process, stopped when dropped.
struct Server {
    process: Child,
    addr: SocketAddr,
    data: Option<PathBuf>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Some(data) = &self.data {
            let _ = fs::remove_dir_all(data);
        }
    }
}

impl Server {
    fn spawn(command: &mut Command, data: Option<PathBuf>) -> Outcome<Self> {
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let line: serde_json::Value = serde_json::from_str(&line)?;
        let url = line["url"].as_str().ok_or("no url")?;
        let addr = url.trim_start_matches("http://").parse()?;
        Ok(Self { process, addr, data })
    }

    /// Bytes of memory that are resident for the process.
    fn resident(&self) -> Outcome<f64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.process.id()))?;
        let line = text.lines().find(|line| line.starts_with("Rss:")).ok_or("no Rss")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
        Ok(kib * 1_024.0)
    }
}

fn halloo(count: usize) -> Outcome<Server> {
    let data = std::env::temp_dir().join(format!("halloo-bench-{}", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_halloo"));
    command.args(["serve", "--json", "--port", "0", "--connections-per-address"]).arg((count + 100).to_string());
    command.arg("--data").arg(&data);
    Server::spawn(&mut command, Some(data))
}

fn reference() -> Outcome<Server> {
    Server::spawn(Command::new(std::env::current_exe()?).arg(REFERENCE), None)
}

/// kB by which the process grows for each connection. The first hundred warm it up and are not counted.
fn measure(server: Server, count: usize, connect: fn(SocketAddr, usize) -> Outcome<TcpStream>) -> Outcome<f64> {
    let open = |range: std::ops::Range<usize>| range.map(|n| connect(server.addr, n)).collect::<Outcome<Vec<_>>>();
    let warm = open(0..100)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = server.resident()?;
    let idle = open(100..100 + count)?;
    std::thread::sleep(Duration::from_secs(2));
    let after = server.resident()?;
    drop((warm, idle));
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let each = (after - before) / count as f64;
    Ok(each / 1_000.0)
}

/// A WebSocket with a guest signed in, without a client library: what the server holds is measured, not what we hold.
fn sign_in(addr: SocketAddr, n: usize) -> Outcome<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "GET /ws HTTP/1.1\r\nhost: {addr}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: halloo.v1\r\n\r\n"
    )?;
    let hello = format!(
        r#"{{"id":1,"request":{{"type":"hello","credential":{{"type":"guest","name":"user-{n}"}},"device":"device-{n}","client":{{"name":"bench","version":"1"}}}}}}"#
    );
    let length = u16::try_from(hello.len())?.to_be_bytes();
    let mut frame = vec![0x81, 0xfe, length[0], length[1], 0, 0, 0, 0];
    frame.extend_from_slice(hello.as_bytes());
    stream.write_all(&frame)?;
    let mut seen = Vec::new();
    let mut buffer = [0; 2_048];
    while !seen.windows(9).any(|window| window == b"\"welcome\"") {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(format!("not welcome: {}", String::from_utf8_lossy(&seen)).into());
        }
        seen.extend_from_slice(&buffer[..read]);
    }
    Ok(stream)
}

/// The floor: accept, and wait for a byte.
fn reference_server() -> Outcome<()> {
    raise_file_limit();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        println!("{}", serde_json::json!({ "url": format!("http://{}", listener.local_addr()?) }));
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut byte = [0];
                while stream.readable().await.is_ok() && matches!(stream.try_read(&mut byte), Ok(1..) | Err(_)) {}
            });
        }
    })
}

fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
