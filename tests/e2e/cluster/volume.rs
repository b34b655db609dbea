//! Projects on a volume that host and pods share: each pod sees its own, and fetches nothing.

use super::*;

impl Stage<'_> {
    pub(super) fn a_project_comes_by_a_shared_volume(&self) {
        let folder = self.folder.join("projects");
        std::fs::create_dir(&folder).unwrap();
        let volume = json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": "projects" }, "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteMany"], "hostPath": { "path": folder },
            "claimRef": { "namespace": NAMESPACE, "name": "projects" }, "storageClassName": "" } });
        assert_eq!(self.cluster.request("POST", "/api/v1/persistentvolumes", Some(&volume)).unwrap().0, 201);
        let claim = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "projects" },
            "spec": { "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": "projects",
                      "resources": { "requests": { "storage": "1Gi" } } } });
        let claims = format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims");
        assert_eq!(self.cluster.request("POST", &claims, Some(&claim)).unwrap().0, 201);
        let above = format!("sources = {folder:?}\n");
        let ports = (self.port, self.port);
        let serve = served(self.cluster, self.folder, ports, NODE, (&above, "source_claim = \"projects\"\n"));
        let id = submitted(&serve, &packed("npmrc-token", self.folder));
        let begun = Instant::now();
        let pod = loop {
            if let Some(pod) = items(self.cluster, &pods()).into_iter().next() {
                break pod;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no pod comes");
            std::thread::sleep(Duration::from_millis(50));
        };
        let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().unwrap().clone();
        let mount = mounts.iter().find(|mount| mount["name"] == "source").unwrap();
        let file = mount["subPath"].as_str().unwrap();
        assert!(mount["readOnly"] == true && folder.join(file).is_file(), "{mount}");
        let (scan, alerts) = over(&serve, &id);
        println!("by a shared volume: {} {}", scan["state"], scan["reason"]);
        assert_eq!(scan["state"], "finished", "{scan}");
        assert!(!alerts["alerts"].as_array().unwrap().is_empty(), "{alerts}");
        assert_eq!(serve.stop().unwrap(), Some(0));
        nothing_is_left(self.cluster);
    }
}
