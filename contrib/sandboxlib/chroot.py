"""Changes the root, and isolates nothing else. See the package for what the functions do."""

from ._run import Executor

CAPABILITIES = {
    'network': ['undefined'],
    'mounts': ['undefined'],
    'filesystem_writable_paths': ['all'],
}

_executor = Executor(CAPABILITIES, [])


def degrade_config_for_capabilities(in_config, warn=True):
    """A configuration for run_sandbox without what is not possible; with warn,
    a warning for each change."""
    return _executor.degrade(in_config, warn)


def maximum_possible_isolation():
    """The configuration that isolates most."""
    return _executor.maximum()


def run_sandbox(command, **sandbox_config):
    """Runs a command, and returns its exit code and what it wrote to standard
    output and error, where these are CAPTURE; else None.

    cwd, env; filesystem_root, writable where filesystem_writable_paths says:
    'all', 'none', or a list; extra_mounts as (source, target, type, options) of
    fstab, whose mount points are made; mounts and network: 'undefined', or
    'isolated'.
    """
    return _executor.run(command, **sandbox_config)


def run_sandbox_with_redirection(command, **sandbox_config):
    """The same, and returns the exit code alone."""
    return _executor.run(command, **sandbox_config)[0]
