//! What a pod is told of its project, and what a next life of the host does about it. No call of a cluster is made.

use lanner_core::scan::Passage;
use lanner_core::{Isolation, ScanState, SourceRef};
use lanner_kubernetes::job;

use super::*;
use crate::runner::Limits;
use crate::store::conformance::scan;

fn bucket() -> Bucket {
    let settings = bucket::BucketConfig {
        name: "projects".into(),
        prefix: "ci".into(),
        endpoint: Some("https://127.0.0.1:1".into()),
        region: None,
        keys: Some(("access".into(), "secret".into())),
        authority: None,
        allow_http: false,
    };
    Bucket::open(settings).unwrap()
}

fn runner(bucket: Option<Bucket>, source_claim: Option<String>) -> KubernetesRunner {
    let terms =
        Terms { isolation: Isolation::Container, limits: Limits::default(), rules: vec![], unwatched: false };
    let config = KubernetesConfig {
        pods: PodConfig { source_claim, ..PodConfig::default() },
        instance: "lanner".into(),
        url: "https://127.0.0.1:1".into(),
        authority: String::new(),
        start_deadline: Duration::from_secs(300),
        terms,
        allow_hosts: vec![],
        bucket,
    };
    let client = Client::try_from(kube::Config::new("https://127.0.0.1:1".parse().unwrap())).unwrap();
    KubernetesRunner::new(config, client, Door::new(CancellationToken::new()), Board::default())
}

fn project() -> Scan {
    let source = SourceRef { digest: "sha256:00".into(), bytes: 7, key: "key".into() };
    Scan { source: Some(source), ..scan(1, "me", ScanState::Running) }
}

#[tokio::test]
async fn a_pod_is_told_where_its_project_is_and_what_it_has_to_be() {
    let project = project();
    for (bucket, claim, at) in
        [(None, None, ""), (None, Some("claim".into()), job::SOURCE), (Some(bucket()), None, "")]
    {
        let is_in_bucket = bucket.is_some();
        let asked = runner(bucket, claim).inner.asked(&project).await.unwrap();
        assert_eq!((asked.source, asked.source_at.as_str()), (true, at));
        assert_eq!((asked.source_digest.as_str(), asked.source_bytes), ("sha256:00", 7));
        assert_eq!(asked.source_url.is_empty(), !is_in_bucket);
        if is_in_bucket {
            let begin = format!("https://127.0.0.1:1/projects/ci/{}.tgz?", project.id);
            assert!(asked.source_url.starts_with(&begin), "{}", asked.source_url);
            assert!(asked.source_url.contains("X-Amz-Expires=660"), "{}", asked.source_url);
        }
    }
    let asked = runner(Some(bucket()), None).inner.asked(&scan(1, "me", ScanState::Running)).await.unwrap();
    assert_eq!((asked.source, asked.source_url.as_str()), (false, ""), "nothing is signed for no project");
}

#[tokio::test]
async fn a_next_life_goes_on_with_a_scan_whose_project_is_in_the_bucket() {
    let inner = runner(Some(bucket()), None).inner;
    let persona = agent::Persona::default();
    let note = Note {
        job: "lanner-1".into(),
        persona,
        start_nonce: vec![1],
        end_nonce: None,
        is_over: false,
        pod: InPod::Expected([1; 32]),
    };
    let passage = Some(Passage { note: note.to_value(), taken: 0 });
    let left = Scan { passage, ..project() };
    let id = left.id.clone();
    assert_eq!(inner.take_up(Left { scan: left, source: None }).await.as_deref(), Some("lanner-1"));
    let stay = inner.stays().remove(&id).unwrap().unwrap();
    assert_eq!(stay.note, note);
}
