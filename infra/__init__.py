"""The servers that a pipeline runs on, on this machine or in containers."""
