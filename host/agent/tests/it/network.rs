//! The one way out, and nothing beside it.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use lanner_proto::agent::Isolation;

use crate::host::{Scan, everyone};

/// A proxy that lets through nothing but `good.invalid`, and answers that itself.
fn proxy(scan: &Scan) -> String {
    let path = scan.folder.path().join("proxy");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            let good = request[..count].starts_with(b"GET http://good.invalid/");
            let answer: &[u8] = if good {
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
            } else {
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            };
            stream.write_all(answer).unwrap();
        }
    });
    path.to_str().unwrap().into()
}

/// A shell's HTTP client, for machines without one.
const FETCH: &str = r#"fetch() { node -e '
    const [host, port] = new URL(process.env.http_proxy).host.split(":");
    const s = require("net").connect(port, host, () => s.write(`GET ${process.argv[1]} HTTP/1.1\r\nHost: x\r\n\r\n`));
    s.on("data", d => process.stdout.write(d)); s.on("error", e => { console.log(e.code); process.exit(1) });
' "$1"; }"#;

#[test]
fn requests_reach_the_hosts_proxy_and_nothing_else() {
    for (by, kind) in
        everyone().into_iter().flat_map(|by| [(by, Isolation::Namespaces), (by, Isolation::Container)])
    {
        let scan = Scan::new(kind, by);
        let socket = proxy(&scan);
        let script = format!("{FETCH}\nfetch http://good.invalid/; echo; fetch http://bad.invalid/");
        let said = scan
            .with(|start| {
                start.proxy_socket = socket;
                start.proxy_env = vec!["http_proxy".into()];
            })
            .phase("fetch", &script)
            .run();
        let output = said.output("fetch");
        assert!(output.contains("hello") && output.contains("403 Forbidden"), "{output}");
    }
}

#[test]
fn the_network_of_a_namespace_is_empty() {
    for by in everyone() {
        let scan = Scan::new(Isolation::Namespaces, by);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = format!(
            "ls /sys/class/net 2>/dev/null; cut -d: -f1 -s /proc/net/dev | tail -n +1 | tr -d ' '; \
             cat /proc/net/route | wc -l; node -e '
                const c = (h, p) => {{ const s = require(\"net\").connect(p, h); s.on(\"connect\", () => console.log(\"connected\"));
                    s.on(\"error\", e => console.log(e.code)); }};
                c(\"127.0.0.1\", {port}); c(\"192.0.2.1\", 80);'"
        );
        let output = scan.phase("look", &script).run().output("look");
        assert!(!output.contains("connected"), "{output}");
        assert!(output.contains("ECONNREFUSED") && output.contains("ENETUNREACH"), "{output}");
        assert!(output.lines().any(|line| line == "lo") && !output.contains("eth"), "{output}");
    }
}
