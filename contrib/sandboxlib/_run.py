"""What the executors have in common."""

import os
import subprocess
import warnings

from . import utils


def validate_extra_mounts(extra_mounts):
    """Mounts as lists of source, target, type and options, none of them None."""
    checked = []
    for entry in extra_mounts or []:
        if len(entry) not in (3, 4):
            raise AssertionError("Invalid mount entry in 'extra_mounts': %s" % (entry,))
        if not entry[1]:
            raise AssertionError('Mount point empty in mount entry %s' % (entry,))
        full = list(entry) + [''] * (4 - len(entry))
        checked.append(['' if item is None else str(item) for item in full])
    return checked


class Executor:
    """An executor with these capabilities; options are what it always gives
    sbx-action besides."""

    def __init__(self, capabilities, options=()):
        self.capabilities = capabilities
        self.options = list(options)

    def degrade_config_for_capabilities(self, in_config, warn=True):
        """A configuration for run_sandbox without what is not possible; with
        warn, a warning for each change."""
        config = dict(in_config)
        for key, floor in (('mounts', 'undefined'), ('network', 'undefined'), ('filesystem_writable_paths', 'all')):
            if key not in config or self._supports(key, config[key]):
                continue
            if warn:
                warnings.warn('%s=%r is not possible with this executor: it is %r instead' % (key, config[key], floor))
            config[key] = floor
        return config

    def maximum_possible_isolation(self):
        """The configuration that isolates most."""
        best = {'mounts': 'isolated', 'network': 'isolated', 'filesystem_writable_paths': 'none'}
        return self.degrade_config_for_capabilities(best, warn=False)

    def _supports(self, key, value):
        if key == 'filesystem_writable_paths' and value != 'all':
            return 'any' in self.capabilities[key]
        return value in self.capabilities[key]

    def _check(self, **values):
        for key, value in values.items():
            if not self._supports(key, value):
                raise AssertionError("'%s' is an unsupported value for '%s' in this backend. Supported values: %s" % (
                    value, key, ', '.join(self.capabilities[key])))

    def run_sandbox_with_redirection(self, command, **sandbox_config):
        """As run_sandbox, and returns the exit code alone."""
        return self.run_sandbox(command, **sandbox_config)[0]

    def run_sandbox(self, command, cwd=None, env=None, filesystem_root='/', filesystem_writable_paths='all', mounts='undefined',
                    extra_mounts=None, network='undefined', stderr=subprocess.PIPE, stdout=subprocess.PIPE):
        """Runs a command, and returns its exit code and what it wrote to standard
        output and error, where these are CAPTURE; else None.

        cwd, env; filesystem_root, writable where filesystem_writable_paths says:
        'all', 'none', or a list; extra_mounts as (source, target, type, options)
        of fstab, whose mount points are made; mounts and network: 'undefined', or
        'isolated'.
        """
        if isinstance(command, str):
            command = [command]
        if filesystem_writable_paths is None or filesystem_writable_paths == []:
            filesystem_writable_paths = 'none'
        self._check(mounts=mounts, network=network, filesystem_writable_paths=filesystem_writable_paths)
        extra_mounts = validate_extra_mounts(extra_mounts)
        root = os.path.abspath(filesystem_root)
        for _, target, _, _ in extra_mounts:
            os.makedirs(_below(root, target), exist_ok=True)
        argv = [utils.sbx_action(), 'linux-user-chroot'] + self.options
        if network == 'isolated':
            argv.append('--unshare-net')
        for entry in extra_mounts:
            argv += _mount(entry)
        if filesystem_writable_paths != 'all':
            argv += ['--mount-readonly', '/']
            paths = [] if filesystem_writable_paths == 'none' else filesystem_writable_paths
            for path in paths:
                argv += _writable(root, path, extra_mounts)
        if cwd is None:
            cwd = os.getcwd() if root == '/' else '/'
        argv += ['--chdir', os.path.join('/', cwd), root] + list(command)
        return _communicate(argv, env, stdout, stderr)


def _below(root, path):
    return os.path.join(root, os.path.normpath('/' + path).lstrip('/'))


def _mount(entry):
    source, target, kind, options = entry
    target = os.path.normpath('/' + target.lstrip('/'))
    options = [o for o in options.split(',') if o]
    if kind == 'proc':
        args = ['--mount-proc', target]
    elif kind == 'tmpfs':
        args = ['--mount-tmpfs', target]
    elif kind in ('', 'none', 'bind') and ('bind' in options or kind == 'bind' or source):
        args = ['--mount-bind', os.path.abspath(source), target]
    else:
        raise AssertionError('a mount of the type %r is not possible: there are proc, tmpfs and bind' % kind)
    if 'ro' in options:
        args += ['--mount-readonly', target]
    return args


def _writable(root, path, extra_mounts):
    """Options that make a path writable again in a root that is read-only, with
    what is mounted there and below."""
    path = os.path.normpath('/' + path.lstrip('/'))
    full = _below(root, path)
    args = []
    if os.path.exists(full):
        args += ['--mount-bind', full, path]
    for entry in extra_mounts:
        target = os.path.normpath('/' + entry[1].lstrip('/'))
        if target == path or target.startswith(path.rstrip('/') + '/'):
            args += _mount(entry)
    return args


def _communicate(argv, env, stdout, stderr):
    """Like subprocess, but None discards. Env is the command's; sbx-action reads
    none of it."""
    where = lambda stream: subprocess.DEVNULL if stream is None else stream  # noqa: E731
    process = subprocess.Popen(argv, env=env, stdout=where(stdout), stderr=where(stderr), close_fds=True)
    out, err = process.communicate()
    return process.returncode, out, err
