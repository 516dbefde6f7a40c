//! Persistent reservations of a volume, independent of the protocol that asks.
