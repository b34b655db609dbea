//! A place for a scan in the cluster: its Job, with what its pod is told, and where its project is put; and the same again for a
//! pod that an earlier life of the host has left.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::batch::v1;
use lanner_core::Scan;
use lanner_kubernetes::job::{self, PodConfig, PodRequest};
use lanner_proto::pod;

use super::door::{self, Pass};
use super::note::{InPod, Note};
use super::{Inner, Stay, ended};
use crate::runner::{AGENT_MARGIN, RunError, start};
use crate::scan::ports::{Left, NoRoom};

/// For so long a Job may be suspended before it has begun.
const SUSPENDED: Duration = Duration::from_secs(3600);
/// A signed address outlasts what it is waited for by this.
const SPARE: Duration = Duration::from_secs(60);

impl Inner {
    /// A Job is a place, once it may begin. Its pod may come at once, and waits at the door until the scan runs.
    pub(super) async fn place(&self, scan: Scan, source: Option<PathBuf>) -> Result<(), NoRoom> {
        let stay = match self.prepared(&scan, source).await {
            Err(error) => Err(error),
            Ok((mut stay, manifest)) => match self.jobs.create(&manifest).await {
                Ok(false) => Ok(stay),
                Ok(true) => self.resumed(&scan, &mut stay).await.map(|()| stay),
                Err(why) if why.passes() => {
                    self.clear(&scan).await;
                    return Err(NoRoom(why.text()));
                }
                Err(why) => Err(RunError::Refused(format!("the Job cannot be created: {}", why.text()))),
            },
        };
        self.stays().insert(scan.id, stay);
        Ok(())
    }

    /// As long as it takes, within reason: Kueue, or whoever else suspended the Job, may have a long queue.
    async fn resumed(&self, scan: &Scan, stay: &mut Stay) -> Result<(), RunError> {
        let mut trouble = stay.followed.trouble.clone();
        tokio::select! {
            () = stay.followed.resumed() => {}
            Some(why) = ended(&mut trouble, Duration::MAX) => return Err(RunError::Refused(why.sentence)),
            () = tokio::time::sleep(SUSPENDED) => {
                let seconds = SUSPENDED.as_secs();
                return Err(RunError::Refused(format!("its Job was suspended for {seconds} s")));
            }
        }
        // Before its pod has a node: the address of its project may have come to its end meanwhile.
        self.door.tell_anew(&self.asked(scan).await?);
        Ok(())
    }

    async fn prepared(&self, scan: &Scan, source: Option<PathBuf>) -> Result<(Stay, v1::Job), RunError> {
        let name = job::name(&scan.id, u32::from_be_bytes(start::random()));
        let followed = self.board.follow(&name);
        let token = door::word();
        let pass = Pass::Token(door::secret(&token));
        if let (Some(bucket), Some(project)) = (&self.config.bucket, &source) {
            bucket.put(&scan.id, project).await.map_err(|e| RunError::Refused(e.to_string()))?;
        }
        let invitation = self.door.invite(self.asked(scan).await?, source, pass);
        let note = Note {
            job: name,
            persona: start::persona(),
            start_nonce: start::nonce(),
            end_nonce: None,
            is_over: false,
            pod: InPod::Expected(door::secret(&token)),
        };
        let manifest = self.manifest(scan, &token, &note)?;
        Ok((Stay { note, invitation, followed }, manifest))
    }

    /// Of a scan that an earlier life began: its pod may come from now on. The name of its Job, which is to be kept.
    pub(super) async fn take_up(&self, Left { scan, source }: Left) -> Option<String> {
        let note = scan.passage.as_ref().and_then(|passage| Note::read(&passage.note))?;
        let name = note.job.clone();
        // A pod that has come has its project.
        let asked = match note.pod {
            InPod::Expected(_) => self.asked(&scan).await,
            InPod::Inside(..) => asked(&scan, &self.config.pods),
        };
        let stay = asked.map(|asked| {
            let followed = self.board.follow(&name);
            let invitation = self.door.invite(asked, source, note.pass());
            Stay { note, invitation, followed }
        });
        self.stays().insert(scan.id, stay);
        Some(name)
    }

    /// What the pod is told, with a new address for its project where that is in the bucket.
    pub(super) async fn asked(&self, scan: &Scan) -> Result<pod::Asked, RunError> {
        let mut asked = asked(scan, &self.config.pods)?;
        if let (Some(bucket), Some(_)) = (&self.config.bucket, &scan.source) {
            // Its Job is made after it, by an API server that may be slow.
            let within = 2 * self.config.start_deadline + SPARE;
            let url = bucket.url(&scan.id, within).await;
            asked.source_url = url.map_err(|e| RunError::Refused(e.to_string()))?;
            asked.source_authority = bucket.authority().to_owned();
        }
        Ok(asked)
    }

    pub(super) async fn clear(&self, scan: &Scan) {
        if let (Some(bucket), Some(_)) = (&self.config.bucket, &scan.source)
            && let Err(why) = bucket.delete(&scan.id).await
        {
            tracing::warn!(scan = %scan.id, why = %why, "a project is left in the bucket");
        }
    }

    fn manifest(&self, scan: &Scan, token: &str, note: &Note) -> Result<v1::Job, RunError> {
        let limits = &self.config.terms.limits;
        let request = PodRequest {
            name: &note.job,
            scan: &scan.id,
            manager: &scan.spec.manager,
            instance: &self.config.instance,
            memory_bytes: limits.memory_bytes,
            disk_bytes: limits.disk_bytes,
            deadline: self.config.start_deadline + limits.wall + 2 * AGENT_MARGIN,
            url: &self.config.url,
            is_named: self.config.bucket.as_ref().is_some_and(|bucket| !bucket.is_address()),
            authority: &self.config.authority,
            token,
            hostname: &note.persona.hostname,
            user: &note.persona.user,
            source: scan.source.as_ref().map(|source| source.key.as_str()),
        };
        job::manifest(&self.config.pods, &request).map_err(|e| RunError::Refused(e.to_string()))
    }
}

fn asked(scan: &Scan, pods: &PodConfig) -> Result<pod::Asked, RunError> {
    let spec = &scan.spec;
    let probe = spec.probe.as_ref().map(serde_json::to_string).transpose();
    let probe = probe.map_err(|e| RunError::Refused(format!("the probe cannot be sent: {e}")))?;
    Ok(pod::Asked {
        scan_id: scan.id.to_string(),
        tools: spec.tools.clone(),
        probe: probe.unwrap_or_default(),
        source: scan.source.is_some(),
        source_at: pods.source_claim.as_ref().map(|_| job::SOURCE.to_owned()).unwrap_or_default(),
        source_digest: scan.source.as_ref().map(|source| source.digest.clone()).unwrap_or_default(),
        source_bytes: scan.source.as_ref().map(|source| source.bytes).unwrap_or_default(),
        ..pod::Asked::default()
    })
}
