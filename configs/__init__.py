"""The shipped configurations, one YAML file each; ``medcyclegan.config`` describes all keys."""
