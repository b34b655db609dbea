//! What a scan waits for in the queue: a quota that is used up, and whoever suspends Jobs.

use super::*;

impl Stage<'_> {
    pub(super) fn a_quota_is_waited_for(&self) {
        let quotas = format!("/api/v1/namespaces/{NAMESPACE}/resourcequotas");
        let body = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" },
                           "spec": { "hard": { "count/jobs.batch": "0" } } });
        assert_eq!(self.cluster.request("POST", &quotas, Some(&body)).unwrap().0, 201);
        // The quota counts once its controller has looked.
        std::thread::sleep(Duration::from_secs(3));
        let serve = self.served("");
        let id = submitted(&serve, &slow(self.folder, 1));
        std::thread::sleep(Duration::from_secs(6));
        assert!(items(self.cluster, &jobs()).is_empty());
        let (_, waits) = curl_json(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap();
        println!("at a quota: {} {}", waits["state"], waits["reason"]);
        let reason = waits["reason"].as_str().unwrap();
        assert!(
            waits["state"] == "queued" && reason.starts_with("waits for a place: exceeded quota: none, "),
            "{waits}"
        );
        assert_eq!(self.cluster.request("DELETE", &format!("{quotas}/none"), None).unwrap().0, 200);
        let (scan, _) = over(&serve, &id);
        println!("after a quota: {} {}", scan["state"], scan["reason"]);
        assert_eq!((&scan["state"], &scan["reason"]), (&json!("finished"), &json!("")), "{scan}");
        assert_eq!(serve.stop().unwrap(), Some(0));
    }

    /// Suspended as it is made, and let go by somebody else: what Kueue does, by a policy of the API server's own.
    pub(super) fn a_suspended_job_is_waited_for(&self) {
        let kinds = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
        let paths = kinds.map(|kind| format!("/apis/admissionregistration.k8s.io/v1/{kind}"));
        let mutation = json!({ "patchType": "ApplyConfiguration",
            "applyConfiguration": { "expression": "Object{spec: Object.spec{suspend: true}}" } });
        let jobs_alone = json!({ "apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"] });
        let specs = [
            json!({ "matchConstraints": { "resourceRules": [jobs_alone] }, "failurePolicy": "Fail",
                    "reinvocationPolicy": "Never", "mutations": [mutation] }),
            json!({ "policyName": "suspend" }),
        ];
        for (path, spec) in paths.iter().zip(specs) {
            let body = json!({ "metadata": { "name": "suspend" }, "spec": spec });
            let (status, answer) = self.cluster.request("POST", path, Some(&body)).unwrap();
            assert_eq!(status, 201, "{answer}");
        }
        self.jobs_are_suspended();
        let serve = self.served("");
        let id = submitted(&serve, &slow(self.folder, 1));
        let begun = Instant::now();
        let job = loop {
            if let Some(job) = items(self.cluster, &jobs()).pop() {
                break job;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no Job is made");
            std::thread::sleep(Duration::from_millis(100));
        };
        std::thread::sleep(Duration::from_secs(3));
        let (_, waits) = curl_json(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap();
        assert_eq!((&job["spec"]["suspend"], &waits["state"]), (&json!(true), &json!("queued")), "{waits}");
        let path = format!("{}/{}", jobs(), job["metadata"]["name"].as_str().unwrap());
        let go = json!({ "spec": { "suspend": false } });
        assert_eq!(self.cluster.request("PATCH", &path, Some(&go)).unwrap().0, 200);
        let (scan, _) = over(&serve, &id);
        println!("after a suspended Job: {} {}", scan["state"], scan["reason"]);
        assert_eq!(scan["state"], "finished", "{scan}");
        assert_eq!(serve.stop().unwrap(), Some(0));
        for path in paths {
            assert_eq!(self.cluster.request("DELETE", &format!("{path}/suspend"), None).unwrap().0, 200);
        }
    }

    /// A policy counts once the API server has seen it itself.
    fn jobs_are_suspended(&self) {
        let body = json!({ "metadata": { "name": "none" }, "spec": { "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "a", "image": "a" }] } } } });
        let begun = Instant::now();
        loop {
            let (status, job) =
                self.cluster.request("POST", &format!("{}?dryRun=All", jobs()), Some(&body)).unwrap();
            assert_eq!(status, 201, "{job}");
            if job["spec"]["suspend"] == true {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{job}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
