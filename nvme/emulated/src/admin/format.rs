//! Format NVM (Base 5.1.10).

use nvme_spec::admin::FormatNvm;
use nvme_spec::{NSID_ALL, Sqe, Status};

use crate::config::Format;
use crate::controller::Controller;

impl Controller {
    pub(super) fn format_nvm(&mut self, sqe: &Sqe) -> Result<u32, Status> {
        let command = FormatNvm::of(sqe);
        let invalid = Status::INVALID_FORMAT.with_dnr();
        let format = Format::of(command.lbaf).ok_or(invalid)?;
        // No protection information and no cryptographic erase; user data is gone with any format.
        if command.protection != 0 || command.secure_erase > 1 {
            return Err(invalid);
        }
        let nsids: Vec<u32> = match command.nsid {
            NSID_ALL => self.active_namespaces().collect(),
            nsid => vec![nsid],
        };
        let (cache_bytes, caching) = (self.config.cache_bytes, self.features.write_cache);
        for nsid in nsids {
            let namespace = self.active_mut(nsid).ok_or(Status::INVALID_NAMESPACE_OR_FORMAT.with_dnr())?;
            let bytes = namespace.length_blocks << namespace.format.block_bits();
            let blocks = bytes >> format.block_bits();
            if blocks == 0 {
                return Err(invalid);
            }
            namespace.extended = command.extended && format.metadata_bytes() != 0;
            namespace.reformat(format, blocks, cache_bytes, caching);
        }
        Ok(0)
    }
}
