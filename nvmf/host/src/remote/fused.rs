//! Compare, and compare and write: what the paths offer, and the two commands of a pair on their way.

use nvmf_proto::HostData;
use volume::bdev::{Comparing, IoStatus, Op};

use super::path::SECOND;
use super::{PathOffer, Remote};
use crate::command::{Kind, Verdict};
use crate::config::Compare;
use crate::controller::NamespaceInfo;
use crate::error::Unsuitable;
use crate::fused::{Half, Outcome, Pair, Which, commands};

impl Remote {
    /// Who answers `op`, which compares.
    pub(crate) fn comparing(&self, op: &Op) -> Comparing {
        let offer = self.offer();
        match *op {
            Op::Compare(_) if offer.compares => Comparing::ChannelWithoutPlace,
            Op::CompareAndWrite { extent, .. }
                if extent.length_blocks <= offer.compare_and_write_blocks.into() =>
            {
                Comparing::ChannelWithoutPlace
            }
            _ => Comparing::Volume,
        }
    }

    /// What every path offers on which the namespace is to be had.
    fn offer(&self) -> PathOffer {
        let both = |one: PathOffer, other: PathOffer| PathOffer {
            compares: one.compares && other.compares,
            compare_and_write_blocks: one.compare_and_write_blocks.min(other.compare_and_write_blocks),
        };
        self.paths.iter().filter_map(|path| path.offer).reduce(both).unwrap_or_default()
    }

    /// Why the namespace is of no use as this controller shows it.
    pub(super) fn objection(&self, namespace: &NamespaceInfo) -> Option<Unsuitable> {
        let bdev = &namespace.bdev;
        // Data would go where it does not belong.
        let is_other = |known: volume::bdev::BdevInfo| {
            known.uuid != bdev.uuid || known.logical_block_bytes != bdev.logical_block_bytes
        };
        if self.info.is_some_and(is_other) {
            return Some(Unsuitable::OtherNamespace);
        }
        let Compare::Required { blocks: needed_blocks } = self.config.compare else { return None };
        let offered_blocks = namespace.compare_and_write_blocks;
        if !namespace.compares {
            Some(Unsuitable::Compare)
        } else if offered_blocks < needed_blocks {
            Some(Unsuitable::CompareAndWrite { offered_blocks, needed_blocks })
        } else {
            None
        }
    }

    /// Sends both commands of a pair, one behind the other, on a queue with room for them.
    pub(super) fn send_pair(&mut self, index: u32, path: usize, queue: usize) {
        let command = self.table.get_mut(index);
        let (pair, [expected, new]) = Pair::new(std::mem::take(&mut command.sgl));
        command.pair = Some(pair);
        let [compare, write] = commands(&command.sqe);
        self.paths[path].submit(queue, index, self.now, compare, HostData::Write(expected));
        self.paths[path].submit(queue, index | SECOND, self.now, write, HostData::Write(new));
    }

    /// One of the two is over, and its data was dropped: the verdict once there is one. The command has its buffers again then.
    pub(super) fn on_half(&mut self, path: usize, owner: u32, half: Half) -> Option<Verdict> {
        let which = if owner & SECOND == 0 { Which::Compare } else { Which::Write };
        let index = owner & !SECOND;
        let command = self.table.get_mut(index);
        let pair = command.pair.as_mut().expect("both commands are of a pair");
        let outcome = pair.note(which, half, command.sqe.slba())?;
        command.sgl = command.pair.take().expect("looked at above").into_data();
        match outcome {
            Outcome::Judged(verdict) => return Some(verdict),
            Outcome::NeverDone => {
                self.counters.retries += 1;
                self.wait_again(index);
            }
            Outcome::InDoubt => {
                command.in_doubt = true;
                self.counters.fenced += 1;
                self.paths[path].in_doubt.push(index);
            }
        }
        None
    }

    /// A command that is to be sent again.
    pub(super) fn wait_again(&mut self, index: u32) {
        let command = self.table.get_mut(index);
        if self.closing {
            self.fail(index, IoStatus::Gone);
        } else if command.in_doubt {
            // A second execution would compare with what the first has written.
            let status = Kind::CompareAndWrite.failure(command.sqe.slba());
            self.fail(index, status);
        } else {
            self.waiting.push_back(index);
        }
    }
}
