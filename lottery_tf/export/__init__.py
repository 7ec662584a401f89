"""Tickets as files: plain, compacted and sparse copies of a network, and what they cost."""
