//! What a running scan outlives: a connection that breaks, and a host that is killed or stopped. Nothing of it is lost, nothing
//! counts twice, and it is finished as if nothing had been.

use std::net::SocketAddr;

use lanner_tests::answers::files;
use lanner_tests::link::Link;

use super::*;

/// Something to see before and after the break.
const STEALS: &str = "cat $HOME/.ssh/id_rsa; sleep 8; cat $HOME/.npmrc; sleep 1";

impl Stage<'_> {
    /// A project that reads one secret, waits, and reads another.
    fn thief(&self) -> PathBuf {
        scripted(self.folder, "thief", STEALS).unwrap()
    }

    pub(super) fn a_connection_that_breaks_is_made_again(&self) {
        let gateway = self.cluster.gateway();
        let at = |port: u16| SocketAddr::new(gateway.parse().unwrap(), port);
        let link = Link::new(at(0), at(self.port)).unwrap();
        let serve = self.served_at(link.address.port(), "");
        let id = submitted(&serve, &self.thief());
        self.saw(&serve, &id, 1);
        link.cut();
        std::thread::sleep(Duration::from_secs(3));
        link.mend();
        self.both_are_seen(&serve, &id, "connection broken");
        assert!(link.connections() >= 2, "{} connections", link.connections());
        // Once more in the middle of everything, as often as it takes.
        let id = submitted(&serve, &packed("ssh-keys", self.folder));
        let begun = Instant::now();
        while !is_over(&curl_json(&[&format!("{}/v1/scans/{id}", serve.url)]).unwrap().1) {
            assert!(begun.elapsed() < Duration::from_secs(120), "it does not come to its end");
            if running_now(&serve, &id) {
                link.cut();
                link.mend();
            }
            std::thread::sleep(Duration::from_millis(700));
        }
        let (scan, alerts) = over(&serve, &id);
        println!("connection broken again and again: {} {}", scan["state"], scan["reason"]);
        let expect = Sample::named("ssh-keys").unwrap().expect;
        for must in expect.must {
            assert!(rules(&alerts).contains(must.rule.as_str()), "{} is missing: {scan}", must.rule);
        }
        assert_eq!(serve.stop().unwrap(), Some(0));
        nothing_is_left(self.cluster);
    }

    pub(super) fn a_host_that_is_killed_goes_on_with_its_scans(&self, serve: Serve) -> Serve {
        let id = submitted(&serve, &self.thief());
        self.saw(&serve, &id, 1);
        serve.kill().unwrap();
        std::thread::sleep(Duration::from_secs(3));
        let serve = self.served("");
        self.both_are_seen(&serve, &id, "host killed");
        serve
    }

    /// As an upgrade of the chart does it.
    pub(super) fn a_host_that_is_stopped_goes_on_with_its_scans(&self, serve: Serve) -> Serve {
        let id = submitted(&serve, &self.thief());
        self.saw(&serve, &id, 1);
        assert_eq!(serve.stop().unwrap(), Some(0));
        let serve = self.served("");
        self.both_are_seen(&serve, &id, "host stopped");
        serve
    }

    pub(super) fn a_pod_that_dies_while_the_host_is_away_is_no_clean_scan(&self, serve: Serve) -> Serve {
        let id = submitted(&serve, &slow(self.folder, 62));
        running(&serve, &id);
        serve.kill().unwrap();
        let pod = items(self.cluster, &pods())[0]["metadata"]["name"].as_str().unwrap().to_owned();
        let path = format!("{}/{pod}?gracePeriodSeconds=0", pods());
        assert_eq!(self.cluster.request("DELETE", &path, None).unwrap().0, 200);
        let serve = self.served("");
        let (scan, _) = over(&serve, &id);
        println!("pod deleted while the host was away: {} {}", scan["state"], scan["reason"]);
        assert_eq!(scan["state"], "incomplete", "{scan}");
        nothing_is_left(self.cluster);
        serve
    }

    /// Waits until a running scan has so many alerts.
    fn saw(&self, serve: &Serve, id: &str, count: usize) {
        let begun = Instant::now();
        let alerts = || curl_json(&[&format!("{}/v1/scans/{id}/alerts", serve.url)]).unwrap().1;
        while alerts()["alerts"].as_array().is_none_or(|a| a.len() < count) {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is seen: {}", alerts());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn both_are_seen(&self, serve: &Serve, id: &str, what: &str) {
        let (scan, alerts) = over(serve, id);
        let files = files(&alerts);
        println!("{what}: {} {} after {files:?}", scan["state"], scan["reason"]);
        let log = || std::fs::read_to_string(self.folder.join("data.log")).unwrap_or_default();
        let ends = (&scan["state"], &scan["evidence"]["complete"]);
        assert_eq!(ends, (&"finished".into(), &true.into()), "{scan}\n{}", log());
        for secret in ["id_rsa", ".npmrc"] {
            assert_eq!(files.iter().filter(|file| **file == secret).count(), 1, "{secret}: {alerts}");
        }
        assert_eq!(scan["phases"].as_array().unwrap().len(), 1, "{scan}");
        nothing_is_left(self.cluster);
    }
}
