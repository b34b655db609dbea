//! `AlertFilter` objects of one namespace: watched, made filters of by `policy`'s verbs, and told in their status what became
//! of them. What is to be done and said `lanner-kubernetes` decides, which objects there are `fleet` knows; here it is done.
//!
//! One thing after another: a change of the objects waits until what is under way is done. Nothing is done before all objects
//! are known, or those that were not named yet would look deleted. A status is written only when it changes.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use lanner_core::text::chain;
use lanner_core::{Grant, Name};
use lanner_kubernetes::{
    Action, AlertFilter, AlertFilterStatus, BY, Host, Key, Mode, Refused, reconcile, refused, waiting,
};
use serde_json::{Value, json};

use crate::config::{Config, ObjectsConfig};
use crate::manifest::RegistrySource;
use crate::policy::{ChangeError, Module, Policy, Refusal, Spec, Start, Upload};
use crate::source::Source;
use crate::tasks::{OnError, OnStop, Supervisor, TaskKind};
use fleet::Fleet;

mod fleet;

const OBJECTS: TaskKind =
    TaskKind { name: "watch of AlertFilters", on_error: OnError::Stop, on_stop: OnStop::Abort };
/// Who writes statuses, as the API server has it.
const MANAGER: &str = "lanner";
const CALL: Duration = Duration::from_secs(10);
/// Between two looks where nobody said that anything changed: a filter may have been taken out, or changed by hand.
const LOOK: Duration = Duration::from_secs(30);
/// The same where something is waited for; doubled each time, up to the other.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// The objects come to rest in three; what has not by then waits for the next look.
const ROUNDS: usize = 4;

struct Objects {
    api: Api<AlertFilter>,
    policy: Policy,
    reserved: BTreeSet<Name>,
    default: Grant,
}

/// Why an action was not done.
enum Failure {
    /// And it is of no use to try it again.
    Final(Refused),
    Passing(String),
}

pub(super) fn watch(
    client: Client,
    objects: &ObjectsConfig,
    config: &Config,
    policy: Policy,
    supervisor: &Supervisor,
) {
    let namespace = objects.namespace.as_deref().unwrap_or_else(|| client.default_namespace()).to_owned();
    let reserved = config.filters.iter().map(|filter| filter.name.clone()).collect();
    tracing::info!(namespace, "AlertFilters are watched");
    let api = Api::namespaced(client, &namespace);
    let objects = Objects { api, policy, reserved, default: config.policy.may_suppress_up_to };
    supervisor.spawn(OBJECTS, objects.run());
}

impl Objects {
    async fn run(self) -> Result<(), Infallible> {
        let mut events = pin!(watcher(self.api.clone(), watcher::Config::default()).default_backoff());
        let mut fleet = Fleet::default();
        let (mut wait, mut again) = (LOOK, AGAIN);
        loop {
            match tokio::time::timeout(wait, events.next()).await {
                Ok(Some(Ok(event))) => {
                    fleet.apply(event);
                    again = AGAIN;
                }
                Ok(Some(Err(error))) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "AlertFilters cannot be watched"
                    );
                    continue;
                }
                Ok(None) => return Ok(()),
                Err(_) => {}
            }
            (wait, again) = match self.settle(&mut fleet).await {
                true => (LOOK, AGAIN),
                false => (again, (again * 2).min(AGAIN_MAX)),
            };
        }
    }

    /// Does and says what is to be done and said; false if something has to be tried again.
    async fn settle(&self, fleet: &mut Fleet) -> bool {
        for _ in 0..ROUNDS {
            let Some(objects) = fleet.all() else { return true };
            let revisions = self.policy.revisions();
            let host = Host { revisions: &revisions, reserved: &self.reserved, default: self.default };
            let plan = reconcile(&objects, host, &now());
            if plan.actions.is_empty() && plan.statuses.is_empty() {
                return true;
            }
            let mut is_well = true;
            for (key, status) in plan.statuses {
                is_well &= self.say(fleet, &key, status).await;
            }
            for action in plan.actions {
                if let Err(failure) = self.act(&action).await {
                    is_well &= self.tell(fleet, action.name(), failure).await;
                }
            }
            if !is_well {
                return false;
            }
        }
        false
    }

    async fn act(&self, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Retire { name } => match self.policy.retire(name, BY).await {
                Ok(()) | Err(ChangeError::UnknownFilter) => Ok(()),
                Err(error) => Err(Failure::Passing(chain(&error))),
            },
            Action::Activate { name, revision } => {
                match self.policy.activate(name, Some(*revision), BY).await {
                    Ok(_) | Err(ChangeError::Already(_)) => Ok(()),
                    Err(error @ ChangeError::Broken(..)) => Err(Failure::Final(Refused(chain(&error)))),
                    Err(error) => Err(Failure::Passing(chain(&error))),
                }
            }
            Action::Upload { name, module, settings, order, may_suppress_up_to, start } => {
                let (registry, package, digest) = module.parts();
                let source = Source::Registry(RegistrySource {
                    registry: registry.to_owned(),
                    package: package.to_owned(),
                    version: digest.to_owned(),
                });
                let spec = Spec {
                    settings: Some(Value::Object(settings.clone())),
                    order: Some(*order),
                    may_suppress_up_to: Some(*may_suppress_up_to),
                    start: match start {
                        Mode::Active => Start::Active,
                        Mode::Shadow => Start::Shadow,
                    },
                    note: module.to_string(),
                    ..Spec::default()
                };
                let module = Module::From { source, resolved: digest.to_owned() };
                let upload = Upload { name: name.clone(), module, spec, by: BY.to_owned(), dry_run: false };
                self.policy.upload(upload).await.map(drop).map_err(|refusal| of_upload(&refusal))
            }
        }
    }

    /// An object's author that what they ask for was not done.
    async fn tell(&self, fleet: &mut Fleet, name: &Name, failure: Failure) -> bool {
        let object = fleet.named(name);
        let why = match &failure {
            Failure::Final(Refused(why)) | Failure::Passing(why) => why.as_str(),
        };
        tracing::warn!(filter = %name, why, "what an AlertFilter asks for was not done");
        let Some(object) = object else { return false };
        let is_final = matches!(failure, Failure::Final(_));
        let status = match failure {
            Failure::Final(refusal) => refused(&object, &refusal, &now()),
            Failure::Passing(why) => waiting(&object, &why, &now()),
        };
        let same = object.status.as_ref() == Some(&status);
        let is_said = same || self.say(fleet, &Key::of(&object), status).await;
        is_final && is_said
    }

    /// Writes a status; true also for an object that is gone or another one by now, which the watch will tell.
    async fn say(&self, fleet: &mut Fleet, key: &Key, status: AlertFilterStatus) -> bool {
        let Some(uid) = fleet.uid(key) else { return true };
        let document = json!({
            "apiVersion": AlertFilter::api_version(&()),
            "kind": AlertFilter::kind(&()),
            "metadata": { "name": key.name, "uid": uid },
            "status": status,
        });
        let (params, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&document));
        let written = tokio::time::timeout(CALL, self.api.patch_status(&key.name, &params, &patch)).await;
        match written {
            Ok(Ok(object)) => {
                fleet.put(object);
                true
            }
            Ok(Err(kube::Error::Api(error))) if matches!(error.code, 404 | 409) => {
                fleet.remove(key);
                true
            }
            Ok(Err(error)) => {
                tracing::warn!(
                    object = key.name,
                    error = &error as &dyn std::error::Error,
                    "a status is not written"
                );
                false
            }
            Err(_) => {
                tracing::warn!(object = key.name, "a status is not written: the API server takes too long");
                false
            }
        }
    }
}

fn of_upload(refusal: &Refusal) -> Failure {
    let why = chain(refusal);
    if refusal.is_passing() { Failure::Passing(why) } else { Failure::Final(Refused(why)) }
}

fn now() -> Time {
    Time(Timestamp::now())
}
