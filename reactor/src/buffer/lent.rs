//! Buffers lent to a device: while it may touch them nobody here can, and what it can reach is only what was lent.

use std::fmt;
use std::mem::ManuallyDrop;

use crate::buffer::{BufferPool, PoolInner, Sgl};
use crate::limits::BUFFER_ALIGN_BYTES;

/// A list that a device may read and write. Its bytes cannot be reached through it; [`LentSgl::reclaim`] ends the loan.
///
/// Dropping it leaks the buffers: a device that was never told to stop may still write to them, so they must never be
/// handed out again.
#[must_use = "dropping it leaks the buffers"]
pub struct LentSgl {
    sgl: ManuallyDrop<Sgl>,
}

impl fmt::Debug for LentSgl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LentSgl({} bytes)", self.sgl.len())
    }
}

/// A device reached for memory that was not lent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{length_bytes} bytes at {address:#x} are not lent to the device")]
pub struct NotLent {
    /// Where.
    pub address: usize,
    /// How many bytes.
    pub length_bytes: usize,
}

impl Sgl {
    /// Lends the list to a device.
    #[inline]
    pub fn lend(self) -> LentSgl {
        self.mark_lent(true);
        LentSgl { sgl: ManuallyDrop::new(self) }
    }

    #[inline]
    fn mark_lent(&self, lent: bool) {
        self.segments.iter().for_each(|segment| segment.mark_lent(lent));
    }
}

impl LentSgl {
    /// The number of valid bytes.
    pub fn len(&self) -> usize {
        self.sgl.len()
    }

    /// True without valid bytes.
    pub fn is_empty(&self) -> bool {
        self.sgl.is_empty()
    }

    /// Address and length of each segment, in order. Each begins on a page of [`BUFFER_ALIGN_BYTES`].
    #[inline]
    pub fn segments(&self) -> impl Iterator<Item = (usize, usize)> {
        let place =
            |segment: &super::Buffer| (segment.start.as_ptr() as usize, segment.length_bytes as usize);
        self.sgl.segments.iter().map(place)
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.sgl.segment_count()
    }

    /// Ends the loan: the caller knows that the device will not touch the buffers any more.
    #[inline]
    pub fn reclaim(self) -> Sgl {
        self.sgl.mark_lent(false);
        ManuallyDrop::into_inner(self.sgl)
    }

    /// As [`LentSgl::reclaim`], of the list that is in `place`. It is moved once, from there to where the caller has it.
    #[inline]
    pub fn reclaim_from(place: &mut Option<Self>) -> Option<Sgl> {
        // Marked where it is: what happens between taking it out and handing it on makes a copy of it.
        place.as_ref()?.sgl.mark_lent(false);
        place.take().map(|lent| ManuallyDrop::into_inner(lent.sgl))
    }
}

impl BufferPool {
    /// Copies lent bytes out, as an emulated device reads memory.
    pub fn device_read(&self, address: usize, out: &mut [u8]) -> Result<(), NotLent> {
        let source = self.inner.lent_at(address, out.len())?;
        // SAFETY: the range lies in one lent slot. No reference into a lent slot exists, and `out` is exclusive, so the
        // two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(source, out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Copies `bytes` over lent ones, as an emulated device writes memory.
    pub fn device_write(&self, address: usize, bytes: &[u8]) -> Result<(), NotLent> {
        let target = self.inner.lent_at(address, bytes.len())?;
        // SAFETY: as for `device_read`: the slot is lent, so no reference into it exists, `bytes` included.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        Ok(())
    }
}

impl PoolInner {
    /// The bytes at `address` if all of them are in one slot that is lent.
    fn lent_at(&self, address: usize, length_bytes: usize) -> Result<*mut u8, NotLent> {
        let not_lent = NotLent { address, length_bytes };
        let base = self.region.base().as_ptr();
        let offset = address.checked_sub(base as usize).ok_or(not_lent)?;
        let mut class_start = 0;
        for class in &self.classes {
            let class_end = class_start + class.bytes * class.count;
            if (class_start..class_end).contains(&offset) {
                let slot_start = class_start + (offset - class_start) / class.bytes * class.bytes;
                let fits = length_bytes <= slot_start + class.bytes - offset;
                let lent = self.lent[slot_start / BUFFER_ALIGN_BYTES].get();
                return if fits && lent { Ok(base.wrapping_add(offset)) } else { Err(not_lent) };
            }
            class_start = class_end;
        }
        Err(not_lent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::SizeClass;

    fn pool() -> BufferPool {
        BufferPool::heap(&[SizeClass { bytes: 4096, count: 2 }, SizeClass { bytes: 16384, count: 2 }])
    }

    #[test]
    fn a_device_reaches_what_is_lent_and_nothing_else() {
        let pool = pool();
        let mut sgl = pool.alloc(10_000).expect("an empty pool has room");
        sgl.fill(0, 10_000, 7);
        let mine = pool.alloc(4096).expect("and more");
        let lent = sgl.lend();
        let (address, length_bytes) = lent.segments().next().expect("one segment");
        assert_eq!((length_bytes, lent.len(), lent.segment_count()), (10_000, 10_000, 1));
        pool.device_write(address + 100, &[1, 2, 3]).expect("it is lent");
        let mut seen = [0; 5];
        pool.device_read(address + 99, &mut seen).expect("it is lent");
        assert_eq!(seen, [7, 1, 2, 3, 7]);
        // A slot is lent as a whole, its tail included, and never past it.
        assert!(pool.device_read(address + 16_380, &mut seen[..4]).is_ok());
        assert!(pool.device_read(address + 16_380, &mut seen).is_err());
        assert!(pool.device_write(address.wrapping_sub(1), &[0]).is_err());
        assert!(pool.device_write(usize::MAX, &[0]).is_err());
        let other = mine.lend();
        let (other_address, _) = other.segments().next().expect("one segment");
        let mine = other.reclaim();
        assert_eq!(
            pool.device_write(other_address, &[0]),
            Err(NotLent { address: other_address, length_bytes: 1 })
        );
        drop(mine);
        let sgl = lent.reclaim();
        assert_eq!(sgl.chunk(100)[..3], [1, 2, 3]);
        assert!(pool.device_read(address, &mut seen).is_err(), "the loan has ended");
    }

    #[test]
    fn a_list_is_taken_back_from_its_place_once() {
        let pool = pool();
        let mut place = Some(pool.alloc(20_000).expect("two buffers").lend());
        let addresses: Vec<usize> =
            place.iter().flat_map(LentSgl::segments).map(|(address, _)| address).collect();
        assert!(addresses.iter().all(|address| pool.device_write(*address, &[9]).is_ok()));
        let sgl = LentSgl::reclaim_from(&mut place).expect("it is there");
        assert_eq!((addresses.len(), sgl.len(), sgl.chunk(0)[0]), (2, 20_000, 9));
        assert!(
            addresses.iter().all(|address| pool.device_write(*address, &[1]).is_err()),
            "no loan is left"
        );
        assert!(place.is_none() && LentSgl::reclaim_from(&mut place).is_none());
        drop(sgl);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn what_is_never_given_back_is_never_handed_out_again() {
        let pool = pool();
        let before = pool.in_use();
        drop(pool.alloc(4096).expect("room").lend());
        assert_eq!(pool.in_use(), before + 1);
    }
}
