//! Judging again over the lives of several hosts.

use super::*;

/// Stops the host when so many scans were judged.
struct StopsAfter {
    left: Mutex<usize>,
    stop: CancellationToken,
}

impl Filter for StopsAfter {
    fn session(&self, about: About) -> Box<dyn Judge> {
        let mut left = self.left.lock().unwrap();
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.stop.cancel();
        }
        Knows.session(about)
    }
}

#[tokio::test]
async fn a_rejudgement_that_a_stop_broke_off_is_gone_on_with_at_its_page() {
    let (store, stop) = (Arc::new(Memory::default()), CancellationToken::new());
    for number in 0..120 {
        let spec = JobSpec::new("npm", Subject::Project { name: None });
        let queued = Scan::queued(ScanId::new(number, [1; 10]), Owner("me".into()), 1, spec);
        let scan = Scan { state: ScanState::Finished, ended: Some(7), ..queued };
        store.put(scan).await.unwrap();
    }
    let life = |filter: Arc<dyn Filter>| {
        let (blob, runner) = (Arc::new(NoBlob::default()), Arc::new(Script::default()));
        let settings = Settings { keep: 500, max_age: Duration::MAX, ..settings() };
        Scans::new(Ports { store: store.clone(), blob, runner, filter }, settings)
    };
    let first = life(Arc::new(StopsAfter { left: Mutex::new(70), stop: stop.clone() }));
    assert_eq!(first.resume_rejudge().await.unwrap(), None);
    let begun = first.begin_rejudge(5).unwrap();
    first.clone().rejudge(begun, stop).await;
    let progress = first.rejudged().unwrap();
    assert_eq!((progress.scans, progress.ended), (70, None));

    let second = life(Arc::new(Knows));
    let rest = second.resume_rejudge().await.unwrap().unwrap();
    assert_eq!(second.rejudged().unwrap().scans, 50, "as it was at the last whole page");
    assert!(second.begin_rejudge(0).is_err(), "it runs already");
    second.clone().rejudge(rest, CancellationToken::new()).await;
    let progress = second.rejudged().unwrap();
    assert_eq!((progress.scans, progress.since, progress.reason.as_str()), (120, 5, ""));
    assert!(progress.ended.is_some());

    let third = life(Arc::new(Knows));
    assert_eq!(third.resume_rejudge().await.unwrap(), None, "it is at its end");
    assert_eq!(third.rejudged(), Some(progress));
}
