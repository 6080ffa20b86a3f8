"""For all tests."""

from hypothesis import HealthCheck, settings

# A test is not wrong because the machine has other things to do.
settings.register_profile("greenroom", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("greenroom")
