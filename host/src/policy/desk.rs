//! A filter at the desk, for `lanner policy test`: no store, no revisions, the same limits and the same checks.

use lanner_core::{FilterSpec, Grant, JudgedAlert, Name, Revision, RevisionState};
use serde_json::Value;

use super::member::Member;
use super::ports::Difference;
use super::{contract, convert, trial};
use crate::engine::inspect::inspect;
use crate::engine::{Apart, Engine, Wasm};
use crate::scan::ports::About;

pub struct Desk {
    member: Member,
}

impl Desk {
    /// Everything that an upload goes through before its trial.
    pub async fn load(
        engine: &Engine,
        apart: &Apart,
        name: Name,
        wasm: &Wasm,
        settings: Value,
        may_suppress_up_to: Grant,
    ) -> Result<Self, String> {
        let interface = inspect(wasm).map_err(|e| e.to_string())?;
        contract::check(&interface).map_err(|e| e.to_string())?;
        let component = engine.load_apart(name.as_str(), wasm, apart).await.map_err(|e| e.to_string())?;
        let revision = Revision {
            name,
            number: 0,
            digest: wasm.digest().to_owned(),
            bytes: wasm.len() as u64,
            state: RevisionState::Trial,
            taken_out: false,
            reason: String::new(),
            by: String::new(),
            at: 0,
            activated: None,
            note: String::new(),
            spec: FilterSpec {
                settings,
                order: 0,
                may_suppress_up_to,
                description: Default::default(),
                provenance: None,
            },
        };
        let mut member = Member::new(engine, &component, revision)?;
        member.revision.spec.description = member.describe().await?;
        let valid = member.validate().await?;
        valid.map_err(|why| format!("the filter refuses its settings: {}", convert::shown(&why)))?;
        Ok(Self { member })
    }

    pub fn revision(&self) -> &Revision {
        &self.member.revision
    }

    /// The same alerts that every upload is tried on.
    pub async fn fixed(&self) -> Result<(usize, Vec<Difference>), String> {
        let alerts: Vec<JudgedAlert> = trial::fixed().into_iter().map(JudgedAlert::unjudged).collect();
        let count = alerts.len();
        Ok((count, trial::compare(&self.member, "fixed", &trial::about(), alerts).await?))
    }

    /// What would change about one scan's alerts.
    pub async fn compare(
        &self,
        name: &str,
        about: &About,
        alerts: Vec<JudgedAlert>,
    ) -> Result<Vec<Difference>, String> {
        trial::compare(&self.member, name, about, alerts).await
    }
}
