//! The objects that there are, as the watch and our own writes tell it. It decides nothing.
//!
//! What we wrote is known before the watch tells it, so an event may be older than what is here: the version decides, which the
//! API server counts up for all objects of a kind.

use std::collections::BTreeMap;

use kube::runtime::watcher::Event;
use lanner_core::Name;
use lanner_kubernetes::{AlertFilter, Key};

#[derive(Debug, Default)]
pub(super) struct Fleet {
    there: BTreeMap<Key, AlertFilter>,
    /// While the watch begins anew: what has been named so far.
    named: Option<BTreeMap<Key, AlertFilter>>,
    /// All have been named once.
    complete: bool,
}

impl Fleet {
    pub(super) fn apply(&mut self, event: Event<AlertFilter>) {
        match event {
            Event::Init => self.named = Some(BTreeMap::new()),
            Event::InitApply(object) => {
                if let Some(named) = &mut self.named {
                    named.insert(Key::of(&object), object);
                }
            }
            Event::InitDone => {
                if let Some(named) = self.named.take() {
                    self.there.retain(|key, _| named.contains_key(key));
                    named.into_values().for_each(|object| self.put(object));
                    self.complete = true;
                }
            }
            Event::Apply(object) => self.put(object),
            Event::Delete(object) => self.delete(&object),
        }
    }

    /// All of them; nothing before they are known.
    pub(super) fn all(&self) -> Option<Vec<AlertFilter>> {
        self.complete.then(|| self.there.values().cloned().collect())
    }

    /// The one of this name that is not on its way out.
    pub(super) fn named(&self, name: &Name) -> Option<AlertFilter> {
        let is_it = |o: &&AlertFilter| {
            o.metadata.name.as_deref() == Some(name.as_str()) && o.metadata.deletion_timestamp.is_none()
        };
        self.there.values().find(is_it).cloned()
    }

    pub(super) fn uid(&self, key: &Key) -> Option<String> {
        self.there.get(key)?.metadata.uid.clone()
    }

    pub(super) fn put(&mut self, object: AlertFilter) {
        let key = Key::of(&object);
        let is_older = self.there.get(&key).is_some_and(|there| is_older(&object, there));
        if !is_older {
            self.there.insert(key, object);
        }
    }

    /// Until the watch says more of it.
    pub(super) fn remove(&mut self, key: &Key) {
        self.there.remove(key);
    }

    fn delete(&mut self, object: &AlertFilter) {
        let key = Key::of(object);
        if self.there.get(&key).is_some_and(|there| there.metadata.uid == object.metadata.uid) {
            self.there.remove(&key);
        }
    }
}

/// Versions that are no numbers are taken as they come.
fn is_older(object: &AlertFilter, there: &AlertFilter) -> bool {
    let version = |o: &AlertFilter| o.metadata.resource_version.as_deref()?.parse::<u128>().ok();
    version(object).zip(version(there)).is_some_and(|(object, there)| object < there)
}

#[cfg(test)]
mod tests {
    use Event::{Apply, Delete, Init, InitApply, InitDone};
    use lanner_kubernetes::{AlertFilterSpec, Mode};

    use super::*;

    fn object(name: &str, uid: &str, version: &str) -> AlertFilter {
        let spec = AlertFilterSpec {
            module: version.into(),
            settings: Default::default(),
            mode: Mode::Active,
            order: 0,
            may_suppress_up_to: None,
        };
        let mut object = AlertFilter::new(name, spec);
        object.metadata.uid = Some(uid.into());
        object.metadata.resource_version = Some(version.into());
        object
    }

    fn after(events: Vec<Event<AlertFilter>>) -> Option<Vec<(String, String)>> {
        let mut fleet = Fleet::default();
        events.into_iter().for_each(|event| fleet.apply(event));
        let all = fleet.all()?.into_iter();
        Some(all.map(|o| (o.metadata.name.unwrap(), o.spec.module)).collect())
    }

    fn known(events: Vec<Event<AlertFilter>>) -> Vec<(String, String)> {
        let begun = vec![Init, InitApply(object("a", "1", "9")), InitApply(object("b", "2", "10")), InitDone];
        after(begun.into_iter().chain(events).collect()).unwrap()
    }

    fn is(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
    }

    #[test]
    fn nothing_is_known_before_all_are_named() {
        assert_eq!(after(vec![]), None);
        assert_eq!(after(vec![Init, InitApply(object("a", "1", "9"))]), None);
        assert_eq!(after(vec![Apply(object("a", "1", "9"))]), None);
        assert_eq!(after(vec![Init, InitDone]), Some(vec![]));
        assert_eq!(known(vec![]), is(&[("a", "9"), ("b", "10")]));
        // And while a broken watch begins anew, what was known counts.
        assert_eq!(known(vec![Init, InitApply(object("b", "2", "10"))]), is(&[("a", "9"), ("b", "10")]));
        assert_eq!(known(vec![Init, InitApply(object("b", "2", "10")), InitDone]), is(&[("b", "10")]));
    }

    #[test]
    fn what_is_older_than_what_is_known_is_no_news() {
        assert_eq!(known(vec![Apply(object("a", "1", "10"))]), is(&[("a", "10"), ("b", "10")]));
        assert_eq!(known(vec![Apply(object("a", "1", "8"))]), is(&[("a", "9"), ("b", "10")]));
        assert_eq!(known(vec![Apply(object("a", "1", "x"))]), is(&[("a", "x"), ("b", "10")]));
        let anew = vec![Init, InitApply(object("a", "1", "8")), InitDone];
        assert_eq!(known(anew), is(&[("a", "9")]));
    }

    #[test]
    fn a_deleted_one_is_gone_and_one_that_was_made_again_stays() {
        assert_eq!(known(vec![Delete(object("a", "1", "11"))]), is(&[("b", "10")]));
        let again = || Apply(object("a", "3", "12"));
        assert_eq!(known(vec![again(), Delete(object("a", "1", "11"))]), is(&[("a", "12"), ("b", "10")]));
        assert_eq!(known(vec![Delete(object("a", "1", "11")), again()]), is(&[("a", "12"), ("b", "10")]));
    }
}
