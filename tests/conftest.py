"""Settings that hold for all tests."""

from hypothesis import HealthCheck, settings

# A shared machine is slow at times: a slow example is no failure. Examples are derived from the test itself, so that a
# red test is red again when it is run again.
settings.register_profile("rheobase", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rheobase")
