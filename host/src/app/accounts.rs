//! Whose a token is, asked of the API server: a TokenReview for our audience. What follows from the answer is `http::auth`'s.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::http::auth::{NoAnswer, Reviewed, Reviewer};

struct TokenReviews {
    api: Api<TokenReview>,
    audience: String,
}

pub(super) fn reviewer(client: Client, audience: &str) -> Arc<dyn Reviewer> {
    Arc::new(TokenReviews { api: Api::all(client), audience: audience.to_owned() })
}

impl Reviewer for TokenReviews {
    fn review(&self, token: String) -> BoxFuture<'_, Result<Reviewed, NoAnswer>> {
        let spec = TokenReviewSpec { audiences: Some(vec![self.audience.clone()]), token: Some(token) };
        let review = TokenReview { spec, ..TokenReview::default() };
        async move {
            let answer = self.api.create(&PostParams::default(), &review).await;
            let answer = answer.map_err(|error| NoAnswer(Box::new(error)))?;
            answer.status.map(read).ok_or_else(|| NoAnswer("the review came back without a status".into()))
        }
        .boxed()
    }
}

fn read(status: TokenReviewStatus) -> Reviewed {
    let user = status.user.unwrap_or_default();
    Reviewed {
        authenticated: status.authenticated.unwrap_or(false),
        user: user.username.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        audiences: status.audiences.unwrap_or_default(),
        error: status.error.unwrap_or_default(),
    }
}
