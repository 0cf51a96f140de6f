"""Where the pipeline runs: the environment's set-up, and the servers and workers of one machine."""
