"""Executors: process identities in this process, or with Ray."""
