"""The shipped configurations, one YAML each; see ``medcyclegan.config`` for every key."""
