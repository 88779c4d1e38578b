"""Changes the root, and isolates nothing else. See the package for what the functions do."""

from ._run import Executor

CAPABILITIES = {
    'network': ['undefined'],
    'mounts': ['undefined'],
    'filesystem_writable_paths': ['all'],
}

_executor = Executor(CAPABILITIES, [])

degrade_config_for_capabilities = _executor.degrade_config_for_capabilities
maximum_possible_isolation = _executor.maximum_possible_isolation
run_sandbox = _executor.run_sandbox
run_sandbox_with_redirection = _executor.run_sandbox_with_redirection
