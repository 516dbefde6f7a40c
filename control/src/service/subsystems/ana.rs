//! ANA states: which ways to a subsystem hosts use.

use super::no_subsystem;
use crate::bridge::Request;
use crate::model::{AnaState, Nqn, PortId, SubsystemSpec};
use crate::service::{Service, ServiceError, SubsystemView};

impl Service {
    /// Puts one subsystem, or all of them, into a state as reached by a listener. Answers with those subsystems.
    pub async fn set_ana_state(
        &self,
        listener: PortId,
        subsystem: Option<&Nqn>,
        state: AnaState,
    ) -> Result<Vec<SubsystemView>, ServiceError> {
        self.refuse_when_draining()?;
        self.known_listener(listener)?;
        let (service, only) = (self.clone(), subsystem.cloned());
        self.to_the_end(async move { service.set_ana_state_locked(listener, only, state).await }).await
    }

    pub(super) fn known_listener(&self, tag: PortId) -> Result<(), ServiceError> {
        let mut tags: Vec<PortId> = self.facts().listeners.iter().map(|listener| listener.tag).collect();
        if tags.contains(&tag) {
            return Ok(());
        }
        tags.sort();
        tags.dedup();
        let known = tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".to_owned() } else { known };
        Err(ServiceError::NoListener { tag: tag.get(), known })
    }

    async fn set_ana_state_locked(
        &self,
        listener: PortId,
        only: Option<Nqn>,
        state: AnaState,
    ) -> Result<Vec<SubsystemView>, ServiceError> {
        let names: Vec<Nqn> = match &only {
            Some(nqn) => vec![nqn.clone()],
            None => self.state().subsystems.keys().cloned().collect(),
        };
        // Always in the order of their names, so that two of these never wait for each other.
        let mut turns = Vec::with_capacity(names.len());
        for nqn in &names {
            turns.push(self.inner.subsystem_locks.lock(nqn.as_str()).await);
        }
        let wanted = only.clone();
        let before = self.change(move |catalog| {
            if let Some(nqn) = wanted.as_ref().filter(|nqn| !catalog.subsystems.contains_key(*nqn)) {
                return Err(no_subsystem(nqn));
            }
            let mut before = Vec::new();
            for nqn in &names {
                // One that was deleted before its turn came is gone.
                if let Some(spec) = catalog.subsystems.get_mut(nqn) {
                    before.push(spec.clone());
                    spec.ana.insert(listener, state);
                }
            }
            Ok(before)
        });
        let before = before.await?;
        match self.tell_ana_state(listener, only, state).await {
            Ok(()) => {}
            Err(error) if error.is_certain() => {
                self.take_ana_back(listener, before).await?;
                return Err(error);
            }
            Err(error) => {
                // It is not known which state hosts see: each is given to the data plane again.
                self.observe(|observed| {
                    before.iter().for_each(|spec| observed.subsystem_is(&spec.nqn, Some(error.to_string())));
                });
                return Err(error);
            }
        }
        before.iter().map(|spec| self.subsystem(&spec.nqn)).collect()
    }

    async fn tell_ana_state(
        &self,
        listener: PortId,
        only: Option<Nqn>,
        state: AnaState,
    ) -> Result<(), ServiceError> {
        if let Some(nqn) = &only {
            // The data plane may not have it, or not as it should be: it is given the whole of it, with the state.
            let unwell = self.observed(|observed| observed.subsystem_problems.contains_key(nqn));
            if let Some(spec) = self.state().subsystems.get(nqn).filter(|_| unwell) {
                return self.serve_subsystem(spec).await;
            }
        }
        let request = Request::SetAnaState { listener, subsystem: only, state };
        Ok(self.bridge().done(request).await?)
    }

    async fn take_ana_back(&self, listener: PortId, before: Vec<SubsystemSpec>) -> Result<(), ServiceError> {
        self.change(move |catalog| {
            for earlier in before {
                let Some(spec) = catalog.subsystems.get_mut(&earlier.nqn) else { continue };
                match earlier.ana.get(&listener) {
                    Some(state) => spec.ana.insert(listener, *state),
                    None => spec.ana.remove(&listener),
                };
            }
            Ok(())
        })
        .await
    }
}
