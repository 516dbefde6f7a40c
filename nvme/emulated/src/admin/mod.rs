//! The commands of the admin queue (Base 5).

mod format;
mod identify;
mod log_page;
mod queues;

use nvme_spec::admin::NOT_ABORTED;
use nvme_spec::queue::DoorbellBufferConfig;
use nvme_spec::{AdminOpcode, Sqe, Status};

use crate::controller::{Answer, Controller};
use crate::flight::Aborted;
use crate::iommu::Iommu;
use crate::limits::ABORTS_MAX;
use crate::shadow::Shadow;

impl Controller {
    pub(crate) fn execute_admin(&mut self, sqe: &Sqe, dma: &mut Iommu) -> Answer {
        let answer = match sqe.admin_opcode() {
            AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST => {
                if self.events.request(sqe.cid.get()) {
                    return None;
                }
                Err(Status::AER_LIMIT_EXCEEDED.with_dnr())
            }
            AdminOpcode::IDENTIFY => self.identify(sqe, dma),
            AdminOpcode::GET_LOG_PAGE => self.get_log_page(sqe, dma),
            AdminOpcode::SET_FEATURES => self.set_features(sqe),
            AdminOpcode::GET_FEATURES => self.get_features(sqe),
            AdminOpcode::CREATE_IO_COMPLETION_QUEUE => self.create_completion_queue(sqe),
            AdminOpcode::CREATE_IO_SUBMISSION_QUEUE => self.create_submission_queue(sqe),
            AdminOpcode::DELETE_IO_SUBMISSION_QUEUE => self.delete_submission_queue(sqe, dma),
            AdminOpcode::DELETE_IO_COMPLETION_QUEUE => self.delete_completion_queue(sqe),
            AdminOpcode::ABORT => self.abort(sqe, dma),
            AdminOpcode::DOORBELL_BUFFER_CONFIG if self.config.shadow_doorbells => {
                self.configure_shadow(sqe, dma)
            }
            AdminOpcode::FORMAT_NVM if self.config.format_nvm => self.format_nvm(sqe),
            _ => Err(Status::INVALID_OPCODE.with_dnr()),
        };
        Some(answer)
    }

    /// Ends a command that is not done yet, if it can be ended; says so in dword 0 (Base 5.1.1).
    fn abort(&mut self, sqe: &Sqe, dma: &mut Iommu) -> Result<u32, Status> {
        let is_abort =
            |other: &crate::flight::Flight| other.sqid == 0 && other.sqe.admin_opcode() == AdminOpcode::ABORT;
        if self.flights.count(is_abort) >= ABORTS_MAX {
            return Err(Status::ABORT_COMMAND_LIMIT_EXCEEDED);
        }
        let (sqid, cid) = sqe.abort_of();
        let requested = Err(Status::ABORT_REQUESTED);
        if sqid == 0 && self.events.abort(cid) {
            let request = Sqe {
                cid: zerocopy::little_endian::U16::new(cid),
                ..Sqe::admin(AdminOpcode::ASYNCHRONOUS_EVENT_REQUEST)
            };
            self.complete(0, &request, requested, None, dma);
            return Ok(0);
        }
        match self.flights.abort(sqid, cid, self.now) {
            Aborted::Ended(flight) => {
                self.complete(flight.sqid, &flight.sqe, requested, None, dma);
                Ok(0)
            }
            Aborted::Not => Ok(NOT_ABORTED),
        }
    }

    fn configure_shadow(&mut self, sqe: &Sqe, dma: &mut Iommu) -> Result<u32, Status> {
        let command = DoorbellBufferConfig::of(sqe);
        let page_bytes = self.registers.page_bytes();
        for page in [command.shadow, command.event_index] {
            if !page.is_multiple_of(page_bytes) {
                return Err(Status::INVALID_FIELD.with_dnr());
            }
            dma.find(page, 4096)?;
        }
        self.shadow = Some(Shadow { doorbells: command.shadow, event_indexes: command.event_index });
        self.queues.submission.iter_mut().flatten().for_each(|queue| queue.awake = true);
        Ok(0)
    }

    /// Moves a page of an answer to the host.
    fn send(&mut self, sqe: &Sqe, data: &[u8], dma: &mut Iommu) -> Result<u32, Status> {
        let page_bytes = self.registers.page_bytes();
        let mut cursor = self.pieces.find_prp(sqe, data.len() as u64, page_bytes, dma)?;
        self.pieces.scatter(&mut cursor, data, dma);
        Ok(0)
    }
}
