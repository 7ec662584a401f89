"""Tickets as files: what is written (formats), how, and whether it runs elsewhere."""
