"""The API of sandboxlib, on sbx-action.

Programs written for Codethink's sandboxlib (2015-2017), such as YBD, run with
this module in its place: the same names, parameters and results. None of its
code is here. What makes the sandboxes is 'sbx-action linux-user-chroot', which
needs no setuid program, and no root; it is looked for on PATH, or is what the
variable SBX_ACTION names.

An executor is a module: sandboxlib.bubblewrap and sandboxlib.linux_user_chroot
isolate what they are asked to, sandboxlib.chroot only changes the root. Each
has run_sandbox, run_sandbox_with_redirection, degrade_config_for_capabilities,
maximum_possible_isolation and CAPABILITIES.
"""

import os
import subprocess
import warnings

# Values of stdout and stderr: return the data, or send it where stdout goes.
# None discards it.
CAPTURE = subprocess.PIPE
STDOUT = subprocess.STDOUT


class ProgramNotFound(Exception):
    """sbx-action is not to be had."""


from . import bubblewrap, chroot, linux_user_chroot  # noqa: E402
from . import load, utils  # noqa: E402
from ._run import validate_extra_mounts  # noqa: E402,F401

_EXECUTORS = {'bubblewrap': bubblewrap, 'chroot': chroot, 'linux_user_chroot': linux_user_chroot}


def get_executor(name):
    """The executor with that name, in which '-' is as good as '_'."""
    try:
        return _EXECUTORS[name.replace('-', '_')]
    except KeyError:
        raise KeyError('%s is not a known executor: there are %s' % (name, ', '.join(sorted(_EXECUTORS)))) from None


def executor_for_platform():
    """An executor that works here: what SANDBOXLIB_BACKEND names, or the one
    that isolates most."""
    name = os.environ.get('SANDBOXLIB_BACKEND')
    if name is not None:
        try:
            return get_executor(name)
        except KeyError:
            warnings.warn('SANDBOXLIB_BACKEND environment variable is set to an invalid value %s.' % name)
    return bubblewrap
