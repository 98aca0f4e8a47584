"""The database backend of Django that follows: `"ENGINE": "instant_failover.django"`."""
