"""Images as root file systems."""

from . import appc  # noqa: F401
