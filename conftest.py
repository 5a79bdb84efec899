"""For all tests: hypothesis has no deadline, since a busy machine and the first import of a library are no failure."""

from hypothesis import settings

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
