//! Three times as many calls as the server can answer: those it takes are answered about as fast as ever, the others are
//! refused at once, memory stays flat, and afterwards all is as before.
//!
//! Against the real program, in a process of its own. Times are compared with each other, in one run, on one machine.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use facematch::contract as proto;
use facematch::contract::face_service_client::FaceServiceClient;
use tonic::Code;
use tonic::transport::Channel;

const CONNECTIONS: usize = 4;
const ROUNDS_MAX: usize = 5;
const LOADED: Duration = Duration::from_secs(4);

struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(shared: &Path, data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_facematch"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--pack"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/packs/scrfd500-edgeface-xxs"))
            .arg("--pack-files")
            .arg(shared.join("models"))
            .arg("--cache")
            .arg(common::cache_folder())
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let address = line.trim().rsplit_once(' ').expect("an address").1.to_owned();
        Self { child, address }
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        line.split_whitespace().next().expect("a size").parse::<u64>().expect("a number") * 1_024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls that came back, and how long each took, in milliseconds.
#[derive(Default)]
struct Answers {
    accepted_ms: Vec<f64>,
    refused_ms: Vec<f64>,
}

struct Client {
    channels: Vec<Channel>,
    photo: Vec<u8>,
    answers: Mutex<Answers>,
}

impl Client {
    async fn connect(program: &Program, photo: Vec<u8>) -> Arc<Self> {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS {
            let endpoint = Channel::from_shared(program.address.clone()).expect("an address");
            channels.push(endpoint.tcp_nodelay(true).connect().await.expect("connect"));
        }
        Arc::new(Self { channels, photo, answers: Mutex::default() })
    }

    async fn call(&self, number: usize, due: Instant) {
        let photo = Some(proto::Photo { data: self.photo.clone() });
        let request = proto::EmbedRequest { photo, ..Default::default() };
        let called = FaceServiceClient::new(self.channels[number % CONNECTIONS].clone()).embed(request).await;
        let took_ms = due.elapsed().as_secs_f64() * 1e3;
        let mut answers = self.answers.lock().expect("the lock");
        match called {
            Ok(_) => answers.accepted_ms.push(took_ms),
            Err(status) => {
                assert_eq!((status.code(), common::reason(&status).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
                answers.refused_ms.push(took_ms);
            }
        }
    }

    /// One call after the other.
    async fn alone(&self, time: Duration) -> Answers {
        let began = Instant::now();
        while began.elapsed() < time {
            self.call(0, Instant::now()).await;
        }
        self.take()
    }

    /// Callers who ask again once they are answered; returns answers a second.
    async fn callers(self: &Arc<Self>, count: usize, time: Duration) -> f64 {
        let mut callers = tokio::task::JoinSet::new();
        let until = Instant::now() + time;
        for number in 0..count {
            let client = Arc::clone(self);
            callers.spawn(async move {
                while Instant::now() < until {
                    client.call(number, Instant::now()).await;
                }
            });
        }
        callers.join_all().await;
        self.take().accepted_ms.len() as f64 / time.as_secs_f64()
    }

    /// Calls at fixed times, each timed from when it was due.
    async fn at_rate(self: &Arc<Self>, rate: f64, time: Duration) -> Answers {
        let mut calls = tokio::task::JoinSet::new();
        let began = Instant::now();
        for number in 0.. {
            let due = began + Duration::from_secs_f64(number as f64 / rate);
            if due > began + time {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            let client = Arc::clone(self);
            calls.spawn(async move { client.call(number, due).await });
        }
        calls.join_all().await;
        self.take()
    }

    fn take(&self) -> Answers {
        std::mem::take(&mut *self.answers.lock().expect("the lock"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_times_the_load_slows_nobody_who_is_let_in() {
    let Some(shared) = common::shared("three_times_the_load_slows_nobody_who_is_let_in") else { return };
    let data = tempfile::tempdir().expect("a folder");
    let program = Program::start(&shared, data.path());
    let client = Client::connect(&program, common::lfw_photo(&shared, "Ai_Sugiyama", 1)).await;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    client.callers(cores, Duration::from_secs(1)).await; // warm

    // What else this machine does can spoil one round; a server that breaks its promise breaks it in every round.
    let mut broken = Vec::new();
    for _ in 0..ROUNDS_MAX {
        match round(&program, &client, cores).await {
            Ok(()) => return,
            Err(promise) => broken.push(promise),
        }
    }
    panic!("{broken:#?}");
}

async fn round(program: &Program, client: &Arc<Client>, cores: usize) -> Result<(), String> {
    let mut alone = client.alone(Duration::from_secs(2)).await;
    let capacity = client.callers(cores, Duration::from_secs(2)).await;
    let before = program.resident_bytes();
    let mut loaded = client.at_rate(3.0 * capacity, LOADED).await;
    let during = program.resident_bytes();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = client.callers(cores, Duration::from_secs(1)).await;

    let p99 = |values: &mut Vec<f64>| common::quantile(values, 0.99);
    let (unloaded, accepted) = (p99(&mut alone.accepted_ms), p99(&mut loaded.accepted_ms));
    let (answered, refusals) = (loaded.accepted_ms.len() as f64 / LOADED.as_secs_f64(), loaded.refused_ms.len());
    assert!(refusals > 0, "three times what it can answer is not all answered");
    let refused = p99(&mut loaded.refused_ms);
    let told = format!(
        "alone p99 {unloaded:.1} ms; capacity {capacity:.1}/s; at three times that: {answered:.1}/s answered, p99 \
         {accepted:.1} ms; {refusals} refused, p99 {refused:.1} ms; resident {} -> {} MiB; a second later {after:.1}/s",
        before >> 20,
        during >> 20,
    );
    eprintln!("{told}");
    let promises = [
        ("accepted calls are answered within three times the time of calls alone", accepted <= 3.0 * unloaded),
        ("refused calls are answered within 20 ms", refused <= 20.0),
        // What a few photos take in hand, and what the allocator keeps of it.
        ("memory is flat", during <= before + (32 << 20)),
        ("no slower than before within two seconds", after >= 0.9 * capacity),
        ("no slower under load", answered >= 0.8 * capacity),
    ];
    match promises.iter().find(|(_, is_kept)| !is_kept) {
        None => Ok(()),
        Some((promise, _)) => Err(format!("{promise}: {told}")),
    }
}
