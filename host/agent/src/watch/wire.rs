//! Orders and reports between supervisor and watcher: one message a datagram on a SOCK_SEQPACKET pair, so a message
//! arrives whole or not at all. Both ends are ours and start together, so the form is private and has no version.

use std::io;
use std::os::fd::BorrowedFd;

use lanner_proto::agent::AgentMessage;
use lanner_proto::agent::agent_message::Body;
use prost::Message;
use rustix::net::{RecvFlags, SendFlags};
use serde_json::{Value, json};

use super::{Order, Report, Role};

const MAX: usize = 1 << 20;
/// Of the output of an alert that is too long.
const MAX_SHORT_OUTPUT: usize = 8192;
/// First byte of a report that carries a message of the stream; the others are JSON.
const MESSAGE: u8 = 1;

/// Sends an order to the watcher.
pub fn send_order(to: BorrowedFd<'_>, order: &Order) -> io::Result<()> {
    let value = match order {
        Order::Launch { role, argv, env, cwd } => {
            json!({"launch": {"mark": *role == Role::Mark, "argv": argv, "env": env, "cwd": cwd}})
        }
        Order::ProxyRequest { peer_port, host, port, allowed } => {
            json!({"proxy": {"peer": peer_port, "host": host, "port": port, "allowed": allowed}})
        }
        Order::End { grace_ms } => json!({"end": grace_ms}),
        Order::Stop => json!("stop"),
    };
    send(to, value.to_string().as_bytes())
}

/// `None` when the supervisor is gone.
pub(super) fn receive_order(from: BorrowedFd<'_>) -> io::Result<Option<Order>> {
    let Some(bytes) = receive(from)? else { return Ok(None) };
    let value: Value = serde_json::from_slice(&bytes)?;
    order(&value).map(Some).ok_or_else(|| io::Error::other("an order that is no order"))
}

fn order(value: &Value) -> Option<Order> {
    if value == "stop" {
        return Some(Order::Stop);
    }
    if let Some(grace) = value.get("end") {
        return Some(Order::End { grace_ms: grace.as_u64()? });
    }
    if let Some(proxy) = value.get("proxy") {
        return Some(Order::ProxyRequest {
            peer_port: number(proxy.get("peer")?)?,
            host: proxy.get("host")?.as_str()?.to_owned(),
            port: number(proxy.get("port")?)?,
            allowed: proxy.get("allowed")?.as_bool()?,
        });
    }
    let launch = value.get("launch")?;
    let role = if launch.get("mark")?.as_bool()? { Role::Mark } else { Role::Phase };
    Some(Order::Launch {
        role,
        argv: serde_json::from_value(launch.get("argv")?.clone()).ok()?,
        env: serde_json::from_value(launch.get("env")?.clone()).ok()?,
        cwd: serde_json::from_value(launch.get("cwd")?.clone()).ok()?,
    })
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64()?.try_into().ok()
}

/// Sends a report to the supervisor; waits while it is behind, so nothing is lost and nothing piles up.
pub(super) fn send_report(to: BorrowedFd<'_>, report: Report) -> io::Result<()> {
    let value = match report {
        Report::Message(body) => return send_message(to, body),
        Report::Launched { pid } => json!({"launched": pid}),
        Report::LeaderExited { exit_code, signal } => {
            json!({"exited": {"code": exit_code, "signal": signal}})
        }
        Report::AllGone { events, processes } => json!({"gone": {"events": events, "processes": processes}}),
    };
    send(to, value.to_string().as_bytes())
}

/// An alert that is too long for one datagram is told without what is only for display; that it was raised counts.
fn send_message(to: BorrowedFd<'_>, body: Body) -> io::Result<()> {
    let bytes = |body: &Body| {
        let message = AgentMessage { seq: 0, body: Some(body.clone()) };
        [&[MESSAGE], message.encode_to_vec().as_slice()].concat()
    };
    match (send(to, &bytes(&body)), body) {
        (Err(error), Body::Alert(mut alert)) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
            alert.ancestry.truncate(1);
            alert.fields.clear();
            alert.output.truncate(MAX_SHORT_OUTPUT);
            send(to, &bytes(&Body::Alert(alert)))
        }
        (sent, _) => sent,
    }
}

/// `None` when the watcher is gone.
pub fn recv_report(from: BorrowedFd<'_>) -> io::Result<Option<Report>> {
    let Some(bytes) = receive(from)? else { return Ok(None) };
    if let Some((&MESSAGE, rest)) = bytes.split_first() {
        let body = AgentMessage::decode(rest).map_err(io::Error::other)?.body;
        return body
            .map(|b| Some(Report::Message(b)))
            .ok_or_else(|| io::Error::other("a report without a body"));
    }
    let value: Value = serde_json::from_slice(&bytes)?;
    report(&value).map(Some).ok_or_else(|| io::Error::other("a report that is no report"))
}

fn report(value: &Value) -> Option<Report> {
    let code = |v: Option<&Value>| v.and_then(Value::as_i64).and_then(|c| i32::try_from(c).ok());
    if let Some(pid) = value.get("launched") {
        return Some(Report::Launched { pid: pid.as_u64()?.try_into().ok()? });
    }
    if let Some(exited) = value.get("exited") {
        return Some(Report::LeaderExited {
            exit_code: code(exited.get("code")),
            signal: code(exited.get("signal")),
        });
    }
    let gone = value.get("gone")?;
    let (events, processes) = (gone.get("events")?.as_u64()?, gone.get("processes")?.as_u64()?);
    Some(Report::AllGone { events, processes })
}

fn send(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    loop {
        match rustix::net::send(to, bytes, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn receive(from: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut buffer = vec![0; MAX];
    loop {
        match rustix::net::recv(from, buffer.as_mut_slice(), RecvFlags::empty()) {
            Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            Ok((_, n)) => {
                buffer.truncate(n);
                return Ok(Some(buffer));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn orders_and_reports_arrive_as_they_were_sent() {
        let (s, w) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::empty(), None).unwrap();
        let orders = [
            Order::Launch {
                role: Role::Phase,
                argv: vec!["npm".into(), "ci".into()],
                env: vec![("A".into(), "b".into())],
                cwd: "/home".into(),
            },
            Order::ProxyRequest { peer_port: 7, host: "h".into(), port: 443, allowed: false },
            Order::End { grace_ms: 5 },
            Order::Stop,
        ];
        for order in &orders {
            send_order(s.as_fd(), order).unwrap();
            let arrived = receive_order(w.as_fd()).unwrap().unwrap();
            assert_eq!(format!("{arrived:?}"), format!("{order:?}"));
        }
        let reports = [
            Report::Message(Body::Mark(lanner_proto::agent::Mark { nonce: vec![1, 2], time_ns: 3 })),
            Report::Launched { pid: 9 },
            Report::LeaderExited { exit_code: Some(1), signal: None },
            Report::LeaderExited { exit_code: None, signal: Some(9) },
            Report::AllGone { events: 1, processes: 2 },
        ];
        for report in &reports {
            send_report(w.as_fd(), report.clone()).unwrap();
            let arrived = recv_report(s.as_fd()).unwrap().unwrap();
            assert_eq!(format!("{arrived:?}"), format!("{report:?}"));
        }
        let long = lanner_proto::agent::Alert { output: vec![b'x'; MAX / 2], id: 7, ..Default::default() };
        send_report(w.as_fd(), Report::Message(Body::Alert(long))).unwrap();
        match recv_report(s.as_fd()).unwrap().unwrap() {
            Report::Message(Body::Alert(alert)) => assert_eq!((alert.id, alert.output.len()), (7, 8192)),
            other => panic!("{other:?}"),
        }
        drop(w);
        assert!(recv_report(s.as_fd()).unwrap().is_none());
    }
}
