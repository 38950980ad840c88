"""How often each property of the kernel is tried: PARCELS_EXAMPLES, by default seldom enough for a minute."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "kernel",
    max_examples=int(os.environ.get("PARCELS_EXAMPLES", "60")),
    # The first example compiles.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
settings.load_profile("kernel")
