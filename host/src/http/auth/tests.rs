//! Credentials, roles and origins: who is let in, and what the others are told.

use super::review::tests::{Played, token, yes};
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
    let gate =
        Gate::load(&[credential(&folder, "ci", &format!("{SECRET}\r\n"), &[Role::Submit])], None).unwrap();
    let own = Identity { owner: Owner("ci".into()), reach: Reach::Own(Owner("ci".into())) };
    assert_eq!(gate.known(&with(&format!("Bearer {SECRET}")), Role::Submit), Ok(own.clone()));
    let basic = |pair: &str| with(&format!("basic {}", STANDARD.encode(pair)));
    assert_eq!(gate.known(&basic(&format!("ci:{SECRET}")), Role::Submit), Ok(own));
    assert_eq!(gate.known(&basic(&format!("other:{SECRET}")), Role::Submit), Err(Denied::Wrong));
    assert_eq!(gate.known(&with("Bearer wrong"), Role::Submit), Err(Denied::Wrong));
    assert_eq!(gate.known(&with(&format!("Bearer {SECRET}")), Role::Read), Err(Denied::Needs(Role::Read)));
    for unreadable in ["", "Bearer", "Basic !!!", "Digest x", "Basic Y2k="] {
        assert_eq!(gate.known(&with(unreadable), Role::Submit), Err(Denied::Missing), "{unreadable}");
    }
    assert_eq!(gate.known(&HeaderMap::new(), Role::Submit), Err(Denied::Missing));
}

#[test]
fn an_admin_may_do_all_and_sees_all() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::load(&[credential(&folder, "root", SECRET, &[Role::Admin])], None).unwrap();
    for role in [Role::Submit, Role::Read, Role::Admin] {
        assert_eq!(gate.known(&with(&format!("Bearer {SECRET}")), role).unwrap().reach, Reach::All);
    }
}

#[test]
fn broken_credentials_are_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let message = |credentials: &[Credential]| Gate::load(credentials, None).err().unwrap().to_string();
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
    let open = Gate::load(&[], None).unwrap();
    assert!(open.may_listen("127.0.0.1:3000".parse().unwrap()).is_ok());
    assert!(open.may_listen("[::1]:3000".parse().unwrap()).is_ok());
    let refusal = open.may_listen("0.0.0.0:3000".parse().unwrap()).unwrap_err().to_string();
    assert!(refusal.contains("add [[credentials]] to lanner.toml, or listen on 127.0.0.1"), "{refusal}");

    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::load(&[credential(&folder, "a", SECRET, &[Role::Read])], None).unwrap();
    assert!(gate.may_listen("0.0.0.0:3000".parse().unwrap()).is_ok());
}

fn accounts(text: &str) -> AccountsConfig {
    toml::from_str(text).unwrap()
}

const MAP: &str = "roles = [{ group = 'system:serviceaccounts:ci', roles = ['submit'] },
                            { account = 'ops/root', roles = ['admin'] }]";

#[tokio::test]
async fn an_account_is_let_in_by_its_roles_under_a_name_that_no_credential_has() {
    let folder = tempfile::tempdir().unwrap();
    let jwt = token("{\"exp\": 99999999999}");
    let credentials = [credential(&folder, "ci", SECRET, &[Role::Read])];
    let asked = |user: &str| {
        let mut gate = Gate::load(&credentials, Some(&accounts(MAP))).unwrap();
        let played = Played::new(Ok(Reviewed { user: format!("system:serviceaccount:{user}"), ..yes() }));
        gate.ask(played.clone());
        (gate, played)
    };
    let bearer = with(&format!("bearer  {jwt} "));
    let (gate, played) = asked("ci:builder");
    let owner = Owner("ci/builder".into());
    let own = Identity { owner: owner.clone(), reach: Reach::Own(owner.clone()) };
    assert_eq!(gate.admit(&bearer, Role::Submit).await, Ok(own));
    assert_eq!(gate.admit(&bearer, Role::Read).await, Err(Denied::Needs(Role::Read)));
    let taken = Credential { name: owner.0, ..credentials[0].clone() };
    assert!(matches!(Gate::load(&[taken], None), Err(CredentialError::Name(_))));
    // What is a credential, or looks like no token, is nobody else's business.
    assert!(gate.admit(&with(&format!("Bearer {SECRET}")), Role::Read).await.is_ok());
    let basic = with(&format!("Basic {}", STANDARD.encode(format!("ci:{jwt}"))));
    let long = with(&format!("Bearer {}", token(&"x".repeat(4096))));
    for (headers, why) in [
        (with("Bearer wrong"), Denied::Wrong),
        (with("Bearer a.b"), Denied::Wrong),
        (long, Denied::Wrong),
        (basic, Denied::Wrong),
        (with("Digest x"), Denied::Missing),
        (HeaderMap::new(), Denied::Missing),
    ] {
        assert_eq!(gate.admit(&headers, Role::Read).await, Err(why));
    }
    assert_eq!(played.times(), 1);

    let (gate, _) = asked("ops:root");
    assert_eq!(gate.admit(&bearer, Role::Admin).await.unwrap().reach, Reach::All);
}

#[tokio::test]
async fn whom_the_map_does_not_know_is_told_their_name_and_no_answer_lets_nobody_in() {
    let headers = with(&format!("Bearer {}", token("{}")));
    let mut gate = Gate::load(&[], Some(&accounts(MAP))).unwrap();
    assert_eq!(gate.admit(&headers, Role::Read).await, Err(Denied::Unknown), "nobody is there to be asked");
    let unmapped = Reviewed { user: "system:serviceaccount:x:y".into(), groups: vec![], ..yes() };
    for (answer, denied) in [
        (Ok(Reviewed::default()), Denied::Wrong),
        (Ok(unmapped), Denied::NoRole("x/y".into())),
        (Ok(Reviewed { user: "eve\u{1b}[2J".into(), ..yes() }), Denied::NoRole("eve\\u{1b}[2J".into())),
        (Err("503"), Denied::Unknown),
    ] {
        // Each its own, for nothing is forgotten so soon.
        let mut gate = Gate::load(&[], Some(&accounts(MAP))).unwrap();
        gate.ask(Played::new(answer));
        assert_eq!(gate.admit(&headers, Role::Read).await, Err(denied));
    }
    gate.ask(Played::new(Ok(yes())));
    assert!(gate.admit(&headers, Role::Submit).await.is_ok());
}

#[test]
fn a_map_of_accounts_is_as_good_as_credentials_for_listening() {
    let gate = Gate::load(&[], Some(&accounts(MAP))).unwrap();
    assert!(!gate.is_open() && gate.may_listen("0.0.0.0:3000".parse().unwrap()).is_ok());
    let nobody = Gate::load(&[], Some(&accounts(""))).err().unwrap();
    assert!(nobody.to_string().starts_with("kubernetes.auth has no roles"));
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
