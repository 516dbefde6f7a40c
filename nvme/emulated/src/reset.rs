//! Resets of every level, removal, power.

use nvme_spec::ae::AsynchronousEvent;

use crate::controller::{AfterReset, Controller, Presence};
use crate::fault::Action;
use crate::features::Features;
use crate::iommu::Iommu;
use crate::log::Log;
use crate::queue::Queues;
use crate::registers::{FatalUntil, Registers};

impl Controller {
    /// What every Controller Level Reset does inside (Base 3.7.2): queues, commands, event requests and features are gone.
    pub(crate) fn clear_for_reset(&mut self) {
        self.queues.clear();
        self.flights.clear();
        self.events.clear();
        self.shadow = None;
        self.interrupts.clear();
        self.failed_lba = None;
        self.warnings = 0;
        for change in std::mem::take(&mut self.after_reset) {
            self.change(change);
        }
        let caching = self.config.volatile_write_cache;
        let was_caching = self.features.write_cache;
        self.features = Features::new(self.config.io_queues, caching);
        for namespace in self.namespaces.values_mut() {
            namespace.deallocated_error = false;
            if was_caching != caching {
                namespace.media.set_caching(caching);
            }
        }
    }

    fn change(&mut self, change: AfterReset) {
        let (cache_bytes, caching) = (self.config.cache_bytes, self.config.volatile_write_cache);
        if let Some(mdts) = change.mdts {
            self.config.mdts = mdts;
        }
        if let Some((nsid, length_blocks)) = change.length_blocks
            && let Some(namespace) = self.namespaces.get_mut(&nsid)
        {
            namespace.length_blocks = length_blocks;
            namespace.media.resize(length_blocks << namespace.format.block_bits());
        }
        if let Some((nsid, format)) = change.format
            && let Some(namespace) = self.namespaces.get_mut(&nsid)
        {
            let bytes = namespace.length_blocks << namespace.format.block_bits();
            namespace.reformat(format, bytes >> format.block_bits(), cache_bytes, caching);
        }
        if let Some(serial) = change.serial {
            self.config.serial = format!("VEGA{serial:016}");
        }
    }

    /// CC.EN = 0; the register file has done its part.
    pub(crate) fn controller_reset(&mut self) {
        self.counters.controller_resets += 1;
        self.clear_for_reset();
    }

    /// NSSR, or the end of a function-level reset.
    pub(crate) fn function_level_reset(&mut self) {
        self.counters.function_resets += 1;
        self.registers.reset(FatalUntil::FunctionReset);
        self.clear_for_reset();
    }

    pub(crate) fn subsystem_reset(&mut self) {
        self.function_level_reset();
        self.registers.set_subsystem_reset_occurred();
    }

    /// The function is pulled out while it works.
    pub(crate) fn remove(&mut self) {
        self.presence = Presence::Removed;
        self.insertion += 1;
        self.lose_power_inside();
    }

    pub(crate) fn power_off(&mut self) {
        if self.presence == Presence::On {
            self.presence = Presence::Off;
            self.lose_power_inside();
        }
    }

    /// Everything volatile is gone: the cache as chance has it, the state of the controller as a whole. Commands that were
    /// fetched may have been done before, or not.
    fn lose_power_inside(&mut self) {
        if self.registers.is_running() {
            self.log.smart.unsafe_shutdowns += 1;
        }
        // The table is borrowed when a fault pulls the function out in the middle of a step; then nothing more is done.
        let table = std::rc::Rc::clone(&self.dma);
        if let Ok(mut dma) = table.try_borrow_mut() {
            self.is_losing_power = true;
            self.do_some_of_what_is_in_flight(&mut dma);
            self.is_losing_power = false;
        }
        let unit_blocks = u64::from(self.config.atomic_power_fail_blocks);
        for namespace in self.namespaces.values_mut() {
            let unit_bytes = unit_blocks << namespace.format.block_bits();
            namespace.media.lose_power(&mut self.random, unit_bytes);
        }
        self.clear_for_reset();
        self.registers = Registers::new(&self.config);
        self.function_reset = None;
        self.queues = Queues::new(self.config.io_queues);
    }

    fn do_some_of_what_is_in_flight(&mut self, dma: &mut Iommu) {
        for flight in self.flights.take_all(|flight| flight.sqid != 0) {
            let hangs = matches!(flight.action, Some(Action::Hang(_) | Action::Fail(_) | Action::Fatal(_)));
            let done = !hangs && reactor::random::Random::next_u64(&mut self.random) & 1 == 0;
            if done {
                // It was not completed, so nobody hears how it went.
                let _ = self.execute_nvm(&flight.sqe, flight.action, dma);
            }
        }
    }

    /// It is there again: with power, disabled, in the slot or in the system.
    pub(crate) fn power_on(&mut self) {
        self.presence = Presence::On;
        self.registers = Registers::new(&self.config);
        let smart = self.log.smart;
        self.log = Log { smart, ..Log::default() };
        self.log.smart.power_cycles += 1;
    }

    /// Health or a threshold changed: warnings that were not there before are events.
    pub(crate) fn check_health(&mut self) {
        let warnings = self.critical_warnings();
        let new = warnings & !self.warnings & self.features.events.0 as u8;
        self.warnings = warnings;
        let events = [
            (nvme_spec::log::CRITICAL_WARNING_SPARE, AsynchronousEvent::SMART_SPARE),
            (nvme_spec::log::CRITICAL_WARNING_TEMPERATURE, AsynchronousEvent::SMART_TEMPERATURE),
            (nvme_spec::log::CRITICAL_WARNING_RELIABILITY, AsynchronousEvent::SMART_RELIABILITY),
            (nvme_spec::log::CRITICAL_WARNING_READ_ONLY, AsynchronousEvent::SMART_RELIABILITY),
        ];
        for (_, event) in events.into_iter().filter(|(bit, _)| new & bit != 0) {
            self.raise(event);
        }
    }

    pub(crate) fn critical_warnings(&self) -> u8 {
        use nvme_spec::log::{
            CRITICAL_WARNING_READ_ONLY, CRITICAL_WARNING_RELIABILITY, CRITICAL_WARNING_SPARE,
            CRITICAL_WARNING_TEMPERATURE,
        };
        let health = &self.health;
        let range = self.features.under_kelvins..self.features.over_kelvins;
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        bit(health.spare_percent < health.spare_threshold_percent, CRITICAL_WARNING_SPARE)
            | bit(!range.contains(&health.temperature_kelvins), CRITICAL_WARNING_TEMPERATURE)
            | bit(health.is_degraded, CRITICAL_WARNING_RELIABILITY)
            | bit(health.is_read_only, CRITICAL_WARNING_READ_ONLY)
    }

    /// A namespace came, went or changed.
    pub(crate) fn namespace_changed(&mut self, nsid: u32) {
        self.log.changed.insert(nsid);
        if self.features.events.has(nvme_spec::feature::EventConfiguration::NAMESPACE_ATTRIBUTE) {
            self.raise(AsynchronousEvent::NAMESPACE_ATTRIBUTE_CHANGED);
        }
    }
}
