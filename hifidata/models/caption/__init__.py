"""Captioners: from attributes, a chat server, or a local vision-language model."""
