"""Number of examples of each property of the kernel: PARCELS_EXAMPLES; by default the tests take about a minute."""

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
