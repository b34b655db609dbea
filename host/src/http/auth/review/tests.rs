//! What is made of the cluster's answers, and of none, by a cluster that is played.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;

use super::*;

/// Answers each token in the same way, and counts.
pub(crate) struct Played {
    pub(crate) answer: Result<Reviewed, &'static str>,
    pub(crate) takes: Duration,
    pub(crate) asked: AtomicUsize,
    busy: AtomicUsize,
    most: AtomicUsize,
}

impl Played {
    pub(crate) fn new(answer: Result<Reviewed, &'static str>) -> Arc<Self> {
        Self::slow(answer, Duration::ZERO)
    }

    fn slow(answer: Result<Reviewed, &'static str>, takes: Duration) -> Arc<Self> {
        let [asked, busy, most] = [0; 3].map(AtomicUsize::new);
        Arc::new(Self { answer, takes, asked, busy, most })
    }

    pub(crate) fn times(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Reviewer for Played {
    fn review(&self, _: String) -> BoxFuture<'_, Result<Reviewed, NoAnswer>> {
        async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.most.fetch_max(self.busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(self.takes).await;
            self.busy.fetch_sub(1, Ordering::SeqCst);
            self.answer.clone().map_err(|why| NoAnswer(why.into()))
        }
        .boxed()
    }
}

/// The whole yes, for `ci/builder`.
pub(crate) fn yes() -> Reviewed {
    Reviewed {
        authenticated: true,
        user: "system:serviceaccount:ci:builder".into(),
        groups: vec!["system:serviceaccounts".into(), "system:serviceaccounts:ci".into()],
        audiences: vec!["lanner".into()],
        error: String::new(),
    }
}

/// A token of these claims; nobody of ours looks at the signature.
pub(crate) fn token(claims: &str) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
}

/// That ends so many seconds from now.
fn ending(seconds: i64, more: usize) -> String {
    token(&format!("{{\"exp\": {}, \"jti\": {more}}}", now() / 1_000_000_000 + seconds))
}

fn reviews(reviewer: &Arc<Played>) -> Reviews {
    let config = toml::from_str("roles = [{ account = 'ci/builder', roles = ['submit'] }]").unwrap();
    let mut reviews = Reviews::new(RoleMap::new(&config).unwrap(), &config);
    reviews.by(reviewer.clone());
    reviews
}

async fn ask(reviews: &Reviews, token: &str) -> Result<Verdict, NoAnswer> {
    reviews.verdict(&Token::parse(token).unwrap()).await
}

fn builder() -> Verdict {
    Verdict::Account(Account::of_user("system:serviceaccount:ci:builder").unwrap(), vec![Role::Submit])
}

#[test]
fn only_what_looks_like_a_token_is_one() {
    assert!(Token::parse(&token("{}")).is_some());
    let long = format!("a.{}.c", "b".repeat(MAX_TOKEN - 4));
    assert!(Token::parse(&long).is_some());
    for other in [
        "",
        "a",
        "a.b",
        "a..c",
        ".b.c",
        "a.b.",
        "a.b.c.d",
        "a.b=.c",
        "a.b+.c",
        "a.b c.d",
        "ä.b.c",
        &long.replace("a.", "aa."),
    ] {
        assert!(Token::parse(other).is_none(), "{other}");
    }
}

#[test]
fn a_good_answer_is_kept_a_minute_and_never_past_the_tokens_own_end() {
    let kept = |claims: &str| Token::parse(&token(claims)).unwrap().good_for(1_000_500_000_000);
    assert_eq!(kept("{\"exp\": 5000}"), Duration::from_secs(60));
    assert_eq!(kept("{\"exp\": 1010}"), Duration::from_millis(9500));
    for not in ["{\"exp\": 1000}", "{\"exp\": -1}", "{\"exp\": \"5000\"}", "{}", "[1]", "no JSON"] {
        assert_eq!(kept(not), Duration::ZERO, "{not}");
    }
}

#[tokio::test]
async fn a_whole_yes_is_asked_for_once_and_anything_less_lets_nobody_in() {
    let played = Played::new(Ok(yes()));
    let good = reviews(&played);
    let mine = ending(600, 0);
    for _ in 0..3 {
        assert_eq!(ask(&good, &mine).await.unwrap(), builder());
    }
    assert_eq!(played.times(), 1);
    assert_eq!(ask(&good, &ending(600, 1)).await.unwrap(), builder());
    assert_eq!(played.times(), 2, "another token is another question");

    for less in [
        Reviewed::default(),
        Reviewed { authenticated: false, ..yes() },
        Reviewed { error: "the key is gone".into(), ..yes() },
        Reviewed { audiences: vec![], ..yes() },
        Reviewed { audiences: vec!["https://kubernetes.default.svc".into(), "lanner2".into()], ..yes() },
    ] {
        let played = Played::new(Ok(less.clone()));
        let reviews = reviews(&played);
        assert_eq!(ask(&reviews, &mine).await.unwrap(), Verdict::Refused, "{less:?}");
        ask(&reviews, &mine).await.unwrap();
        assert_eq!(played.times(), 1, "a no is remembered for a moment");
    }
    for user in ["", "kubernetes-admin", "system:serviceaccount:ci:builder:x", "ci/builder"] {
        let reviews = reviews(&Played::new(Ok(Reviewed { user: user.into(), ..yes() })));
        assert_eq!(ask(&reviews, &mine).await.unwrap(), Verdict::Other(user.into()));
    }
    let other = Reviewed { user: "system:serviceaccount:ci:other".into(), ..yes() };
    let verdict = ask(&reviews(&Played::new(Ok(other))), &mine).await.unwrap();
    assert!(matches!(verdict, Verdict::Account(_, roles) if roles.is_empty()));
}

#[tokio::test]
async fn what_has_no_end_or_is_over_is_asked_for_each_time() {
    for mine in [token("{}"), ending(-5, 0), ending(0, 0)] {
        let played = Played::new(Ok(yes()));
        let reviews = reviews(&played);
        for _ in 0..2 {
            assert_eq!(ask(&reviews, &mine).await.unwrap(), builder());
        }
        assert_eq!(played.times(), 2, "{mine}");
    }
}

#[tokio::test]
async fn a_yes_is_forgotten_and_no_answer_is_neither_yes_nor_no() {
    let played = Played::new(Ok(yes()));
    let mut reviews = reviews(&played);
    let short = ending(2, 0);
    assert_eq!(ask(&reviews, &short).await.unwrap(), builder());
    reviews.by(Played::new(Err("connection refused")));
    assert_eq!(ask(&reviews, &short).await.unwrap(), builder(), "it is still remembered");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let away = ask(&reviews, &short).await.unwrap_err();
    assert_eq!(
        lanner_core::text::chain(&away),
        "whose a token is could not be found out: connection refused"
    );
    let back = Played::new(Ok(yes()));
    reviews.by(back.clone());
    assert_eq!(ask(&reviews, &short).await.unwrap(), builder(), "that there was no answer is not remembered");
    assert_eq!(back.times(), 1);

    reviews.reviewer = None;
    assert!(ask(&reviews, &ending(600, 7)).await.is_err());
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    let mut reviews = reviews(&Played::slow(Ok(yes()), Duration::from_secs(600)));
    reviews.limit = Duration::from_millis(50);
    let away = ask(&reviews, &ending(600, 0)).await.unwrap_err();
    assert!(lanner_core::text::chain(&away).ends_with("the answer took too long"));
    let free = reviews.at_once.available_permits();
    assert_eq!(free, AT_ONCE, "who gave up holds no place");
}

#[tokio::test]
async fn many_at_once_are_asked_for_a_few_at_a_time_and_the_same_one_once() {
    let played = Played::slow(Ok(yes()), Duration::from_millis(20));
    let mut few = reviews(&played);
    few.at_once = Semaphore::new(3);
    let tokens: Vec<String> = (0..20).map(|n| ending(600, n)).collect();
    let all = futures::future::join_all(tokens.iter().map(|token| ask(&few, token))).await;
    assert!(all.into_iter().all(|verdict| verdict.unwrap() == builder()));
    assert_eq!((played.times(), played.most.load(Ordering::SeqCst)), (20, 3));

    let played = Played::slow(Ok(yes()), Duration::from_millis(20));
    let mut one = reviews(&played);
    one.at_once = Semaphore::new(1);
    let all = futures::future::join_all((0..20).map(|_| ask(&one, &tokens[0]))).await;
    assert!(all.into_iter().all(|verdict| verdict.unwrap() == builder()));
    assert_eq!(played.times(), 1);
}

#[tokio::test]
async fn strangers_push_nobody_out() {
    let mut reviews = reviews(&Played::new(Ok(yes())));
    let mine = ending(600, 0);
    ask(&reviews, &mine).await.unwrap();
    reviews.by(Played::new(Ok(Reviewed::default())));
    for n in 1..MAX_REFUSED + MAX_KNOWN + 1 {
        assert_eq!(ask(&reviews, &ending(600, n)).await.unwrap(), Verdict::Refused);
    }
    assert_eq!(ask(&reviews, &mine).await.unwrap(), builder());
}
