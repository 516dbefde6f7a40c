//! The ANA log page, and which state a namespace is in on this controller (Base 8.1.1).

use nvme_spec::log::{AnaGroup, AnaHeader, AnaState};
use zerocopy::FromBytes;

/// States by ANA group, as the last log page told them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnaTable {
    /// Change count of the log page.
    change_count: u64,
    /// Group and state, in the order of the log page.
    groups: Vec<(u32, AnaState)>,
}

/// Bytes of a log page with this many groups and without lists of namespaces.
pub const fn log_bytes(groups: u32) -> usize {
    size_of::<AnaHeader>() + groups as usize * size_of::<AnaGroup>()
}

impl AnaTable {
    /// Reads a log page that was asked for with groups only. What does not fit into the page is left out.
    pub fn read(page: &[u8]) -> Self {
        let Ok((header, mut rest)) = AnaHeader::read_from_prefix(page) else { return Self::default() };
        let mut groups = Vec::new();
        for _ in 0..header.groups.get() {
            let Ok((group, next)) = AnaGroup::ref_from_prefix(rest) else { break };
            groups.push((group.anagrpid.get(), group.ana_state()));
            // A list of namespaces, which was not asked for, would follow.
            let skip = (group.namespaces.get() as usize).saturating_mul(4);
            let Some(next) = next.get(skip..) else { break };
            rest = next;
        }
        Self { change_count: header.change_count.get(), groups }
    }

    /// The state of a group; a group that the page does not name is inaccessible.
    pub fn state(&self, anagrpid: u32) -> AnaState {
        let found = self.groups.iter().find(|(group, _)| *group == anagrpid);
        found.map_or(AnaState::INACCESSIBLE, |(_, state)| *state)
    }

    /// The change count of the page.
    pub fn change_count(&self) -> u64 {
        self.change_count
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;
    use zerocopy::little_endian::{U16, U32};

    use super::*;

    fn page(states: &[(u32, u32, AnaState)]) -> Vec<u8> {
        let header = AnaHeader { groups: U16::new(states.len() as u16), ..AnaHeader::default() };
        let mut page = header.as_bytes().to_vec();
        for (anagrpid, namespaces, state) in states {
            let group = AnaGroup {
                anagrpid: U32::new(*anagrpid),
                namespaces: U32::new(*namespaces),
                state: *state,
                ..AnaGroup::default()
            };
            page.extend_from_slice(group.as_bytes());
            page.extend(std::iter::repeat_n(0, *namespaces as usize * 4));
        }
        page
    }

    #[test]
    fn groups_are_found_past_lists_of_namespaces() {
        let page = page(&[(1, 3, AnaState::OPTIMIZED), (7, 0, AnaState::NON_OPTIMIZED)]);
        let table = AnaTable::read(&page);
        assert_eq!(table.state(1), AnaState::OPTIMIZED);
        assert_eq!(table.state(7), AnaState::NON_OPTIMIZED);
        assert_eq!(table.state(2), AnaState::INACCESSIBLE);
    }

    #[test]
    fn a_page_that_lies_about_its_length_is_cut() {
        let mut page = page(&[(1, 0, AnaState::OPTIMIZED), (2, 0, AnaState::OPTIMIZED)]);
        page[8] = 0xff;
        page[9] = 0xff;
        for length in 0..page.len() {
            let table = AnaTable::read(&page[..length]);
            assert!(table.groups.len() <= 2);
        }
        // A list that is longer than the page.
        page[16 + 4..16 + 8].fill(0xff);
        assert_eq!(AnaTable::read(&page).groups.len(), 1);
    }
}
