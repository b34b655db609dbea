//! Credentials, roles and origins: who is let in, and what the others are told.

use super::*;

fn credential(folder: &tempfile::TempDir, name: &str, secret: &str, roles: &[Role]) -> Credential {
    let secret_file = folder.path().join(format!("{}.secret", digest(name.as_bytes())[0]));
    std::fs::write(&secret_file, secret).unwrap();
    Credential { name: name.into(), roles: roles.to_vec(), secret_file }
}

fn with(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
}

const SECRET: &str = "correct-horse-battery";

#[test]
fn a_secret_is_taken_as_bearer_or_basic_and_its_line_end_is_no_part_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::load(&[credential(&folder, "ci", &format!("{SECRET}\r\n"), &[Role::Submit])]).unwrap();
    let own = Identity { owner: Owner("ci".into()), reach: Reach::Own(Owner("ci".into())) };
    assert_eq!(gate.admit(&with(&format!("Bearer {SECRET}")), Role::Submit), Ok(own.clone()));
    let basic = |pair: &str| with(&format!("basic {}", STANDARD.encode(pair)));
    assert_eq!(gate.admit(&basic(&format!("ci:{SECRET}")), Role::Submit), Ok(own));
    assert_eq!(gate.admit(&basic(&format!("other:{SECRET}")), Role::Submit), Err(Denied::Wrong));
    assert_eq!(gate.admit(&with("Bearer wrong"), Role::Submit), Err(Denied::Wrong));
    assert_eq!(gate.admit(&with(&format!("Bearer {SECRET}")), Role::Read), Err(Denied::Needs(Role::Read)));
    for unreadable in ["", "Bearer", "Basic !!!", "Digest x", "Basic Y2k="] {
        assert_eq!(gate.admit(&with(unreadable), Role::Submit), Err(Denied::Missing), "{unreadable}");
    }
    assert_eq!(gate.admit(&HeaderMap::new(), Role::Submit), Err(Denied::Missing));
}

#[test]
fn an_admin_may_do_all_and_sees_all() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::load(&[credential(&folder, "root", SECRET, &[Role::Admin])]).unwrap();
    for role in [Role::Submit, Role::Read, Role::Admin] {
        assert_eq!(gate.admit(&with(&format!("Bearer {SECRET}")), role).unwrap().reach, Reach::All);
    }
}

#[test]
fn broken_credentials_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let message = |credentials: &[Credential]| Gate::load(credentials).err().unwrap().to_string();
    let good = credential(&folder, "a", SECRET, &[Role::Read]);
    let short = credential(&folder, "b", "short\n", &[Role::Read]);
    assert!(message(&[short]).starts_with("the secret of credential b is shorter than 16 bytes"));
    let none = credential(&folder, "c", SECRET, &[]);
    assert_eq!(message(&[none]), "credential c has no roles: give it some of submit, read, admin");
    let same = credential(&folder, "d", SECRET, &[Role::Read]);
    assert_eq!(message(&[good, same]), "the credentials a and d have the same secret: give each its own");
    let named = credential(&folder, "x:y", SECRET, &[Role::Read]);
    assert!(message(&[named]).contains("\"x:y\" has not"));
    let gone =
        Credential { name: "g".into(), roles: vec![Role::Read], secret_file: folder.path().join("gone") };
    assert!(message(&[gone]).contains("name a readable file in secret_file"));
}

#[test]
fn without_credentials_only_loopback_is_listened_on() {
    let open = Gate::load(&[]).unwrap();
    assert!(open.may_listen("127.0.0.1:3000".parse().unwrap()).is_ok());
    assert!(open.may_listen("[::1]:3000".parse().unwrap()).is_ok());
    let refusal = open.may_listen("0.0.0.0:3000".parse().unwrap()).unwrap_err().to_string();
    assert!(refusal.contains("add [[credentials]] to lanner.toml, or listen on 127.0.0.1"), "{refusal}");

    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::load(&[credential(&folder, "a", SECRET, &[Role::Read])]).unwrap();
    assert!(gate.may_listen("0.0.0.0:3000".parse().unwrap()).is_ok());
}

#[test]
fn what_a_web_page_could_send_is_told_apart() {
    let foreign = |headers: &[(&str, &str)]| {
        let mut request = http::Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_foreign(&request.body(()).unwrap().into_parts().0)
    };
    assert!(!foreign(&[("host", "127.0.0.1:3000")]));
    assert!(!foreign(&[("host", "[::1]:3000"), ("origin", "http://localhost:8080")]));
    assert!(foreign(&[("host", "evil.example:3000")]), "a name that points to loopback");
    assert!(foreign(&[("host", "127.0.0.1:3000"), ("origin", "https://evil.example")]));
    assert!(foreign(&[("host", "127.0.0.1:3000"), ("origin", "null")]));
    assert!(foreign(&[("host", "127.0.0.1.evil.example")]));
}
