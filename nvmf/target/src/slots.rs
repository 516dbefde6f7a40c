//! A table of slots with generations: a stale key never reaches the next user of its slot.

/// A key: slot index in the low 32 bits, generation in the 24 above. The top 8 bits are free for whoever
/// carries it as a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u64);

const GENERATION_MASK: u32 = 0x00ff_ffff;

impl Key {
    fn new(generation: u32, index: u32) -> Self {
        Self(u64::from(generation & GENERATION_MASK) << 32 | u64::from(index))
    }

    /// The key as a number below 2^56, for tags that travel through other layers.
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// The key behind a number that [`Key::to_u64`] gave.
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The slot's index, unique among the live entries.
    pub const fn index(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values by [`Key`]; freed slots are reused last in, first out.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T> Slots<T> {
    /// An empty table that never holds more than `limit` values.
    pub fn with_limit(limit: usize) -> Self {
        assert!(limit < u32::MAX as usize, "slot indexes are 32 bits wide");
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

    /// The key that the next insertion gives; `None` when the table is full.
    pub fn next_key(&self) -> Option<Key> {
        match self.free.last() {
            Some(index) => Some(Key::new(self.slots[*index as usize].generation, *index)),
            None => (self.slots.len() < self.limit).then_some(Key::new(0, self.slots.len() as u32)),
        }
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
        Ok(Key::new(slot.generation, index))
    }

    /// The value of `key`, if it still lives.
    pub fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index() as usize)?;
        if slot.generation & GENERATION_MASK == key.generation() { slot.value.as_ref() } else { None }
    }

    /// The value of `key`, if it still lives.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        if slot.generation & GENERATION_MASK == key.generation() { slot.value.as_mut() } else { None }
    }

    /// The live value in slot `index` with its key, whatever its generation.
    pub fn at(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        slot.value.as_ref().map(|_| Key::new(slot.generation, index))
    }

    /// Takes the value of `key` out; its key is dead from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index() as usize)?;
        if slot.generation & GENERATION_MASK != key.generation() {
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
            slot.value.as_ref().map(|value| (Key::new(slot.generation, index as u32), value))
        })
    }

    /// Every live value with its key, in slot order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, slot)| {
            let key = Key::new(slot.generation, index as u32);
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
        let expected = table.next_key();
        let first = table.insert("a").unwrap();
        assert_eq!(expected, Some(first));
        assert_eq!(table.next_key(), None);
        assert_eq!(table.insert("b"), Err("b"));
        assert_eq!(table.remove(first), Some("a"));
        let expected = table.next_key();
        let second = table.insert("c").unwrap();
        assert_eq!(expected, Some(second));
        assert_eq!(first.index(), second.index());
        assert_eq!(table.get(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(Key::from_u64(second.to_u64())), Some(&"c"));
        assert_eq!(table.at(0), Some(second));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_key_leaves_the_top_byte_free() {
        let mut table =
            Slots { slots: vec![Slot { generation: u32::MAX, value: None }], free: vec![0], limit: 1 };
        let key = table.insert(()).unwrap();
        assert!(key.to_u64() < 1 << 56);
        assert_eq!(table.remove(key), Some(()));
        assert_eq!(table.insert(()).unwrap().to_u64(), 0);
    }
}
