"""Texts into token ids: encoding, packing, shards, and how a vocabulary fits a domain."""
