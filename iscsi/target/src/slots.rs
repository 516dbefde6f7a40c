//! A table of slots with generations: a stale key never reaches the next user of its slot.

/// How many bits of a key are the slot's index.
const INDEX_BITS: u32 = 24;

/// A key: slot index in the low 24 bits, generation in the 32 above. The top byte is free: a key is the tag of an I/O,
/// and there it names the way into the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The key as a number, for tags that travel through other layers.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The key behind a number that [`Key::to_u64`] gave.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The slot's index, unique among the live entries.
    pub const fn index(self) -> u32 {
        (self.0 & ((1 << INDEX_BITS) - 1)) as u32
    }
}

#[inline]
fn key(generation: u32, index: usize) -> Key {
    Key(u64::from(generation) << INDEX_BITS | index as u64)
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by [`Key`]; freed slots are reused last in, first out.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Slots<T> {
    /// An empty table that never holds more than `limit` values.
    pub fn with_limit(limit: usize) -> Self {
        assert!(limit <= 1 << INDEX_BITS, "slot indexes are 24 bits wide");
        Self { slots: Vec::new(), free: Vec::new(), limit }
    }

    /// How many values are in the table.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores `value`; gives it back when the table is full.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.slots.len() < self.limit => {
                self.slots.push(Slot { generation: 0, value: None });
                self.slots.len() as u32 - 1
            }
            None => return Err(value),
        };
        let slot = &mut self.slots[index as usize];
        assert!(slot.value.is_none(), "a free slot holds nothing");
        slot.value = Some(value);
        Ok(key(slot.generation, index as usize))
    }

    /// The index that the next insertion takes; `None` when the table is full.
    pub fn next_index(&self) -> Option<u32> {
        let fresh = (self.slots.len() < self.limit).then_some(self.slots.len() as u32);
        self.free.last().copied().or(fresh)
    }

    /// The value of `key`, if it still lives.
    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index() as usize)?;
        if u64::from(slot.generation) == key.0 >> INDEX_BITS { slot.value.as_ref() } else { None }
    }

    /// The value of `key`, if it still lives.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        if u64::from(slot.generation) == key.0 >> INDEX_BITS { slot.value.as_mut() } else { None }
    }

    /// The live value in slot `index` with its key, whatever its generation.
    pub fn at(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let slot = self.slots.get_mut(index as usize)?;
        let key = key(slot.generation, index as usize);
        slot.value.as_mut().map(|value| (key, value))
    }

    /// Takes the value of `key` out; its key is dead from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        if u64::from(slot.generation) != key.0 >> INDEX_BITS {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index());
        Some(value)
    }

    /// Every live value with its key, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = key(slot.generation, index);
            slot.value.as_ref().map(|value| (key, value))
        })
    }

    /// Every live value with its key, in slot order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let key = key(slot.generation, index);
            slot.value.as_mut().map(|value| (key, value))
        })
    }

    /// The keys of the live values.
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_does_not_reach_the_next_user() {
        let mut table = Slots::with_limit(1);
        let first = table.insert("a").unwrap();
        assert_eq!(table.insert("b"), Err("b"));
        assert_eq!(table.remove(first), Some("a"));
        let second = table.insert("c").unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(Key::from_u64(second.to_u64())), Some(&"c"));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_key_leaves_the_top_byte_of_a_tag_free() {
        let mut table = Slots::with_limit(1 << INDEX_BITS);
        table.slots.push(Slot { generation: u32::MAX, value: None });
        table.free.push(0);
        let key = table.insert("a").unwrap();
        assert_eq!((key.to_u64() >> 56, key.index()), (0, 0));
        table.remove(key);
        let next = table.insert("b").unwrap();
        assert_eq!((table.get(key), table.get(next)), (None, Some(&"b")));
    }
}
