"""Where identities are processed: this process, or Ray."""
