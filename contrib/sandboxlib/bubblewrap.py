"""Isolates what it is asked to; the command is root in a user namespace, as with bwrap. See the package for what the functions do."""

from ._run import Executor

CAPABILITIES = {
    'network': ['isolated', 'undefined'],
    'mounts': ['isolated', 'undefined'],
    'filesystem_writable_paths': ['all', 'any'],
}

_executor = Executor(CAPABILITIES, ['--map-root'])

degrade_config_for_capabilities = _executor.degrade_config_for_capabilities
maximum_possible_isolation = _executor.maximum_possible_isolation
run_sandbox = _executor.run_sandbox
run_sandbox_with_redirection = _executor.run_sandbox_with_redirection
