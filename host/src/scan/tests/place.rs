//! What waits for a place: a runner that has few.

use super::*;

/// Somewhere with so many places, which scans hold until they are told to end.
#[derive(Clone, Default)]
struct Scarce {
    places: Arc<Mutex<usize>>,
    /// So often there was none.
    refused: Arc<Mutex<usize>>,
    ran: Arc<Mutex<Vec<ScanId>>>,
    ends: Arc<Notify>,
    /// Whoever asks has no answer.
    is_silent: bool,
}

const WHY: &str = "exceeded quota";

impl Runner for Scarce {
    fn place(&self, _: Scan, _: Option<PathBuf>) -> BoxFuture<'static, Result<(), NoRoom>> {
        if self.is_silent {
            return std::future::pending().boxed();
        }
        let mut places = self.places.lock().unwrap();
        match places.checked_sub(1) {
            Some(left) => *places = left,
            None => {
                *self.refused.lock().unwrap() += 1;
                return ready(Err(NoRoom(WHY.into())));
            }
        }
        ready(Ok(()))
    }

    fn run(&self, job: Job, reports: ReportSender, cancel: CancellationToken) -> BoxFuture<'static, ()> {
        let runner = self.clone();
        async move {
            runner.ran.lock().unwrap().push(job.scan.id.clone());
            if cancel.run_until_cancelled(runner.ends.notified()).await.is_none() {
                return;
            }
            for report in whole(vec![], 0) {
                reports.send(report).await.unwrap();
            }
            *runner.places.lock().unwrap() += 1;
        }
        .boxed()
    }

    fn recover(&self, _: Vec<Left>) -> BoxFuture<'static, ()> {
        ready(())
    }
}

struct Flow {
    scans: Scans,
    runner: Scarce,
    store: Arc<Memory>,
}

impl Flow {
    fn of(runner: Scarce, whole: Duration) -> Self {
        let store = Arc::default();
        let patience = Patience { whole, ..settings().patience };
        let settings = Settings { patience, ..settings() };
        let scans = scans_on(&store, &Arc::default(), Arc::new(runner.clone()), settings);
        Self { scans, runner, store }
    }

    fn with(places: usize) -> Self {
        Self::of(
            Scarce { places: Arc::new(Mutex::new(places)), ..Scarce::default() },
            settings().patience.whole,
        )
    }

    fn silent() -> Self {
        Self::of(Scarce { is_silent: true, ..Scarce::default() }, settings().patience.whole)
    }

    fn ran(&self) -> Vec<ScanId> {
        self.runner.ran.lock().unwrap().clone()
    }

    async fn submitted(&self) -> ScanId {
        self.scans.submit(submission("me", None)).await.unwrap()
    }

    async fn seen(&self, id: &ScanId) -> (ScanState, String) {
        let scan = self.scans.get(&Reach::All, id).await.unwrap();
        (scan.state, scan.reason)
    }

    /// Waits until it is as it should be.
    async fn comes(&self, id: &ScanId, state: ScanState, reason: &str) {
        loop {
            let seen = self.seen(id).await;
            if seen == (state, reason.to_owned()) {
                return;
            }
            assert!(!seen.0.is_final(), "{seen:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn refused_more_often_than(&self, count: usize) {
        while *self.runner.refused.lock().unwrap() <= count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Runs the flow beside a test, which ends it once nothing runs any more.
    async fn beside(&self, test: impl Future<Output = ()>) {
        let over = async {
            test.await;
            while self.scans.load().running > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = self.scans.clone().run(CancellationToken::new()) => unreachable!("nobody stopped it"),
            () = over => {}
        }
    }
}

const WAITS: &str = "waits for a place: exceeded quota";

#[tokio::test]
async fn without_a_place_it_is_queued_and_says_why() {
    let flow = Flow::with(0);
    let id = flow.submitted().await;
    flow.beside(async {
        let begun = std::time::Instant::now();
        flow.refused_more_often_than(3).await;
        assert!(begun.elapsed() >= 3 * settings().patience.pause, "it asks without a pause");
        flow.comes(&id, ScanState::Queued, WAITS).await;
        *flow.runner.places.lock().unwrap() = 1;
        flow.comes(&id, ScanState::Running, "").await;
        flow.runner.ends.notify_one();
        flow.comes(&id, ScanState::Finished, "").await;
    })
    .await;
}

#[tokio::test]
async fn what_ends_gives_its_place_to_the_next() {
    let flow = Flow::with(1);
    let mut ids = [flow.submitted().await, flow.submitted().await, flow.submitted().await];
    // Those of the same millisecond are in no order.
    ids.sort();
    flow.beside(async {
        for id in &ids {
            flow.comes(id, ScanState::Running, "").await;
            flow.runner.ends.notify_one();
            flow.comes(id, ScanState::Finished, "").await;
        }
        assert_eq!(flow.ran(), ids, "in their order");
    })
    .await;
}

#[tokio::test]
async fn one_that_waits_can_be_cancelled_and_never_runs() {
    let flow = Flow::with(0);
    let (id, other) = (flow.submitted().await, flow.submitted().await);
    flow.beside(async {
        flow.comes(&id, ScanState::Queued, WAITS).await;
        flow.scans.delete(&Reach::All, &id).await.unwrap();
        flow.comes(&id, ScanState::Cancelled, "cancelled before it started").await;
        *flow.runner.places.lock().unwrap() = 2;
        flow.comes(&other, ScanState::Running, "").await;
        flow.runner.ends.notify_one();
        flow.comes(&other, ScanState::Finished, "").await;
        assert_eq!(flow.ran(), std::slice::from_ref(&other));
    })
    .await;
}

/// The runner then has the scan, so that it clears away what it began.
#[tokio::test]
async fn one_that_is_cancelled_while_it_asks_is_given_to_its_runner() {
    let flow = Flow::silent();
    let id = flow.submitted().await;
    flow.beside(async {
        while flow.scans.load().running == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(flow.seen(&id).await, (ScanState::Queued, String::new()));
        flow.scans.delete(&Reach::All, &id).await.unwrap();
        flow.comes(&id, ScanState::Cancelled, "cancelled while it ran").await;
        assert_eq!(flow.ran(), std::slice::from_ref(&id));
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let flow = Flow::of(Scarce::default(), Duration::ZERO);
    let ids = [flow.submitted().await, flow.submitted().await, flow.submitted().await];
    flow.beside(async {
        for id in &ids {
            let why = "the sandbox could not be set up: nobody has had a place for 0 s: exceeded quota";
            flow.comes(id, ScanState::Incomplete, why).await;
        }
        assert!(flow.ran().is_empty());
    })
    .await;
}

/// Its runner then clears away what it has made.
#[tokio::test]
async fn one_whose_start_cannot_be_stored_leaves_its_place() {
    let flow = Flow::with(1);
    let id = flow.submitted().await;
    *flow.store.full_puts.lock().unwrap() = usize::MAX;
    let stop = CancellationToken::new();
    let stops = async {
        while *flow.runner.places.lock().unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(flow.scans.clone().run(stop.clone()), stops);
    assert_eq!(flow.seen(&id).await, (ScanState::Queued, String::new()));
    assert_eq!(flow.ran(), std::slice::from_ref(&id), "to be told of the end");
}

#[tokio::test]
async fn one_that_asks_when_the_host_stops_is_queued_for_its_next_life() {
    let flow = Flow::silent();
    let id = flow.submitted().await;
    let stop = CancellationToken::new();
    let stops = async {
        while flow.scans.load().running == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.cancel();
    };
    tokio::join!(flow.scans.clone().run(stop.clone()), stops);
    assert_eq!(flow.seen(&id).await, (ScanState::Queued, String::new()));
    assert!(flow.ran().is_empty());
}
