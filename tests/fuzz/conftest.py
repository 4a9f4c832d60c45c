"""The same examples every time, and no clock: what fails once fails again."""

from hypothesis import HealthCheck, settings

# Each example starts anew in what a test's fixtures made, an empty folder at most.
settings.register_profile(
    "ttt-bench",
    deadline=None,
    derandomize=True,
    max_examples=50,
    print_blob=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("ttt-bench")
