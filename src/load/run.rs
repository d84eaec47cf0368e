//! The course of a load: start, let people come and go by the plan, look each second, stop, report.

use super::{
    args::LoadArgs,
    client::Common,
    clip::Clip,
    departures::Directory,
    figures::{Counts, Spread, round},
    people::People,
    plan::{Plan, Shape, Step},
    report::{Mark, Memory, Played, Report, Sample, ServerReport, Stretch},
    server::{Server, Usage},
    session::{Notice, Stage, attend},
    worker::{Told, Worker},
};
use crate::{exit::Exit, serve::raise_file_limit};
use anyhow::{Context, Result};
use halloo_engine::load;
use halloo_sfu::{
    dtls::{Certificate, Endpoint},
    net::Clock,
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        oneshot,
    },
    time::{Instant, sleep_until},
};

/// What is under way when nothing more is sent has arrived, or been asked for again and arrived, after this.
const DRAIN: Duration = Duration::from_millis(700);
/// How long everybody has to leave.
const LEAVE: Duration = Duration::from_secs(8);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// From the NTP era's start to the Unix epoch (RFC 5905, section 6).
const NTP_TO_UNIX: Duration = Duration::from_secs(2_208_988_800);

/// Loads a server.
///
/// # Errors
/// Where the server cannot be started, or a codec fails. That participants fail is no error: the report says so.
pub async fn run(args: LoadArgs) -> Result<Exit> {
    let (shape, video, names) = (args.shape()?, args.video(), args.room_names()?);
    raise_file_limit();
    eprintln!("coding the media of publishers: {}x{}, {} kbit/s", video.size.0, video.size.1, args.video_kbps);
    let clip = Arc::new(tokio::task::spawn_blocking(move || Clip::encode(video)).await??);
    let server = match &args.attach {
        Some(url) => Server::attach(url.clone(), args.server_pid),
        None => Server::start(args.media_shards).await?,
    };
    eprintln!("loading {}", server.url);
    let clock = Clock::start();
    let ntp_at_zero = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + NTP_TO_UNIX;
    let endpoint = Endpoint::new(Certificate::generate()?, clock.origin())?;
    let (told_sender, told) = unbounded_channel();
    let (notices_sender, notices) = unbounded_channel();
    let workers = (0..usize::from(args.threads)).map(|number| Worker::start(number, clock, told_sender.clone()));
    let stage = Arc::new(Stage {
        url: load::server_url(&server.url)?,
        tls: load::tls(args.pin).context("TLS cannot be used")?,
        common: Common { endpoint, clip, ntp_at_zero },
        workers: workers.collect::<Result<_>>()?,
        rooms: names.into_iter().map(|name| (name, Directory::default())).collect(),
        names: format!("load-{}", std::process::id()),
        publishers: shape.publishers,
        tiles: args.tiles.into(),
        seed: args.seed,
        clock,
        notices: notices_sender,
    });
    let course = Course::new(&shape, stage, server, told, notices);
    let report = course.run(played(&args, &shape)).await;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        eprintln!();
        print!("{}", report.table());
    }
    Ok(if report.passed { Exit::Done } else { Exit::Failed })
}

fn played(args: &LoadArgs, shape: &Shape) -> Played {
    Played {
        rooms: shape.rooms,
        participants: shape.participants,
        publishers: shape.publishers,
        ramp: shape.ramp,
        churn: shape.churn,
        duration_s: round(shape.duration.as_secs_f64()),
        seed: shape.seed,
        size: args.size,
        fps: args.fps,
        video_kbps: args.video_kbps,
        tiles: args.tiles,
        threads: args.threads,
    }
}

/// A load that runs.
struct Course {
    plan: Plan,
    stage: Arc<Stage>,
    server: Server,
    told: UnboundedReceiver<Told>,
    notices: UnboundedReceiver<Notice>,
    people: People,
    leave: HashMap<u32, oneshot::Sender<()>>,
    start: Instant,
    samples: Vec<Sample>,
    /// Spreads since the last look, and since the steady stretch began or, before, since the start.
    recent: Spreads,
    stretch: Spreads,
    peak_rss: u64,
}

#[derive(Default)]
struct Spreads {
    delay: Spread,
    late: Spread,
}

impl Spreads {
    fn merge(&mut self, other: &Self) {
        self.delay.merge(&other.delay);
        self.late.merge(&other.late);
    }
}

impl Course {
    fn new(
        shape: &Shape,
        stage: Arc<Stage>,
        server: Server,
        told: UnboundedReceiver<Told>,
        notices: UnboundedReceiver<Notice>,
    ) -> Self {
        Self {
            plan: Plan::new(shape),
            stage,
            server,
            told,
            notices,
            people: People::default(),
            leave: HashMap::new(),
            start: Instant::now(),
            samples: Vec::new(),
            recent: Spreads::default(),
            stretch: Spreads::default(),
            peak_rss: 0,
        }
    }

    async fn run(mut self, load: Played) -> Report {
        let begin = self.mark();
        let (mut last, mut ramp, mut steady_from) = (begin, None, None);
        let mut loaded: Option<Usage> = None;
        let mut steps = std::mem::take(&mut self.plan.steps).into_iter().peekable();
        let mut look = LOOK;
        let mut interrupt = Box::pin(tokio::signal::ctrl_c());
        let mut ended_early = false;
        loop {
            let step = steps.peek().map(|(at, _)| *at);
            let steady = steady_from.is_none().then_some(self.plan.steady);
            let next = [step, steady, Some(look), Some(self.plan.end)].into_iter().flatten().min().unwrap_or(look);
            tokio::select! {
                Some(told) = self.told.recv() => self.people.told(told),
                Some(notice) = self.notices.recv() => self.people.notice(notice),
                _ = &mut interrupt => ended_early = true,
                () = sleep_until(self.start + next) => {}
            }
            let now = self.start.elapsed();
            while let Some((_, step)) = steps.next_if(|(at, _)| *at <= now) {
                self.take(step);
            }
            if steady_from.is_none() && self.plan.steady <= now {
                let mark = self.mark();
                ramp = Some(self.end_stretch(&begin, &mark));
                (steady_from, loaded) = (Some(mark), mark.server);
            }
            if look <= now {
                last = self.look(&last);
                look += LOOK;
            }
            if ended_early || self.plan.end <= now {
                break;
            }
        }
        let from = steady_from.unwrap_or(begin);
        let to = self.mark();
        let steady = self.end_stretch(&from, &to);
        let counts = self.wind_up().await;
        let joins = self.people.joins();
        let pictures = self.people.first_pictures();
        let memory = begin.server.zip(loaded.or(to.server)).map(|(before, loaded)| {
            let mb = |bytes: u64| round(bytes as f64 / f64::from(1 << 20));
            let added = loaded.rss_bytes.saturating_sub(before.rss_bytes) as f64 / 1_024.0;
            Memory {
                before_mb: mb(before.rss_bytes),
                loaded_mb: mb(loaded.rss_bytes),
                peak_mb: mb(self.peak_rss),
                per_participant_kb: round(added / f64::from((load.rooms * load.participants).max(1))),
            }
        });
        let server =
            ServerReport { url: self.server.url.clone(), pid: self.server.pid, started: self.server.is_ours(), memory };
        let report = Report {
            version: 1,
            passed: joins.failed == 0,
            load,
            server,
            joins,
            pictures,
            counts,
            ramp: ramp.unwrap_or_else(|| steady.clone()),
            steady,
            samples: self.samples,
        };
        self.server.stop().await;
        report
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Join(person) => {
                let (sender, receiver) = oneshot::channel();
                self.leave.insert(person.number, sender);
                self.people.ask(&person, self.stage.clock.now());
                tokio::spawn(attend(Arc::clone(&self.stage), person, receiver));
            }
            Step::Leave(number) => {
                if let Some(leave) = self.leave.remove(&number) {
                    let _ = leave.send(());
                }
            }
        }
    }

    /// What stands at this moment; spreads of times are gathered.
    fn mark(&mut self) -> Mark {
        let mut counts = Counts::default();
        for worker in &self.stage.workers {
            let figures = worker.take_figures();
            counts += figures.counts;
            let spreads = Spreads { delay: figures.delay, late: figures.late };
            self.recent.merge(&spreads);
            self.stretch.merge(&spreads);
        }
        let server = self.server.usage();
        self.peak_rss = self.peak_rss.max(server.map_or(0, |usage| usage.rss_bytes));
        Mark { at: self.start.elapsed(), counts, server, own_cpu: own_cpu() }
    }

    fn end_stretch(&mut self, from: &Mark, to: &Mark) -> Stretch {
        let spreads = std::mem::take(&mut self.stretch);
        Stretch::between(from, to, &spreads.delay, &spreads.late)
    }

    /// The line of a second.
    fn look(&mut self, last: &Mark) -> Mark {
        let mark = self.mark();
        let spreads = std::mem::take(&mut self.recent);
        let sample = Sample {
            t: round(mark.at.as_secs_f64()),
            present: self.people.present(),
            failed: self.people.failed(),
            lost: mark.counts.lost,
            server_mb: mark.server.map(|usage| round(usage.rss_bytes as f64 / f64::from(1 << 20))),
            stretch: Stretch::between(last, &mark, &spreads.delay, &spreads.late),
        };
        eprintln!("{}", sample.line());
        self.samples.push(sample);
        mark
    }

    /// Lets what is under way arrive, and everybody leave; the final counts.
    async fn wind_up(&mut self) -> Counts {
        self.stage.workers.iter().for_each(Worker::quiet);
        self.follow(Instant::now() + DRAIN, |_| false).await;
        let counts = self.mark().counts;
        for (_, leave) in self.leave.drain() {
            // A session that has ended needs not be told.
            let _ = leave.send(());
        }
        self.follow(Instant::now() + LEAVE, |people| people.going() == 0).await;
        counts
    }

    /// Takes what happens until a time, or until all is done.
    async fn follow(&mut self, until: Instant, done: impl Fn(&People) -> bool) {
        while !done(&self.people) {
            tokio::select! {
                Some(told) = self.told.recv() => self.people.told(told),
                Some(notice) = self.notices.recv() => self.people.notice(notice),
                () = sleep_until(until) => return,
            }
        }
    }
}

/// Processor time of this process.
fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}
