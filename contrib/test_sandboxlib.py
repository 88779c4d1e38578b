"""What sandboxlib's own tests said of each executor, said of ours: see
scripts/sandboxlib.sh, which runs it as root and as nobody."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import unittest
import warnings

import sandboxlib

EXECUTORS = [sandboxlib.bubblewrap, sandboxlib.linux_user_chroot, sandboxlib.chroot]
ISOLATING = EXECUTORS[:2]


class Sandboxes(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(dir='/var/tmp')
        os.chmod(self.dir, 0o755)
        self.addCleanup(shutil.rmtree, self.dir)
        # A root that holds one static program, and files to be written to.
        self.root = os.path.join(self.dir, 'root')
        os.makedirs(os.path.join(self.root, 'bin'))
        os.makedirs(os.path.join(self.root, 'data', '1'))
        with open(os.path.join(self.root, 'data', '1', 'canary'), 'w') as f:
            f.write('Please overwrite me.')
        shutil.copy(shutil.which('busybox'), os.path.join(self.root, 'bin', 'busybox'))

    def each(self, executors=EXECUTORS):
        for executor in executors:
            with self.subTest(executor.__name__):
                yield executor

    def busybox(self, executor, script, **config):
        return executor.run_sandbox(['/bin/busybox', 'sh', '-c', script], filesystem_root=self.root, **config)

    def test_no_output(self):
        for executor in self.each():
            self.assertEqual(executor.run_sandbox(['echo', 'xyzzy'], stdout=None, stderr=None), (0, None, None))

    def test_output(self):
        for executor in self.each():
            self.assertEqual(executor.run_sandbox(['echo', 'xyzzy']), (0, b'xyzzy\n', b''))
            self.assertEqual(executor.run_sandbox(['sh', '-c', 'echo xyzzy >&2; exit 11']), (11, b'', b'xyzzy\n'))

    def test_output_redirection(self):
        for executor in self.each():
            with tempfile.TemporaryFile() as a, tempfile.TemporaryFile() as b:
                command = ['sh', '-c', 'echo abcde; echo xyzzy >&2']
                self.assertEqual(executor.run_sandbox_with_redirection(command, stdout=a, stderr=b), 0)
                a.seek(0), b.seek(0)
                self.assertEqual((a.read(), b.read()), (b'abcde\n', b'xyzzy\n'))
            with tempfile.TemporaryFile() as a:
                executor.run_sandbox_with_redirection(command, stdout=a, stderr=sandboxlib.STDOUT)
                a.seek(0)
                self.assertEqual(a.read(), b'abcde\nxyzzy\n')

    def test_current_working_directory(self):
        for executor in self.each():
            self.assertEqual(executor.run_sandbox(['pwd'], cwd=self.dir), (0, self.dir.encode() + b'\n', b''))
            self.assertEqual(self.busybox(executor, 'pwd'), (0, b'/\n', b''))
            self.assertEqual(self.busybox(executor, 'pwd', cwd='data'), (0, b'/data\n', b''))

    def test_environment(self):
        for executor in self.each():
            self.assertEqual(executor.run_sandbox(['/usr/bin/env'], env={'foo': 'bar'}), (0, b'foo=bar\n', b''))

    def test_isolated_mounts(self):
        for executor in self.each(ISOLATING):
            code, out, err = executor.run_sandbox(
                ['readlink', '/proc/self/ns/mnt'], mounts='isolated', extra_mounts=[(None, '/proc', 'proc')])
            self.assertEqual((code, err), (0, b''))
            self.assertNotEqual(out.decode().strip(), os.readlink('/proc/self/ns/mnt'))

    def test_isolated_network(self):
        for executor in self.each(ISOLATING):
            code, out, err = executor.run_sandbox(['sh', '-c', 'tail -n +3 /proc/net/dev | cut -d: -f1'], network='isolated')
            self.assertEqual((code, out.split(), err), (0, [b'lo'], b''))

    def test_mount_proc_and_tmpfs(self):
        for executor in self.each():
            for target, kind in (('/proc', 'proc'), ('/dev/shm', 'tmpfs')):
                code, out, err = self.busybox(
                    executor, 'while read a b c d mounted e; do [ "$mounted" = %s ] && echo mounted; done </proc/self/mountinfo; :' % target,
                    extra_mounts=[(None, '/proc', 'proc'), (None, target, kind)])
                self.assertEqual((code, err), (0, b''))
                self.assertIn(b'mounted\n', out)

    def test_bind(self):
        shared = os.path.join(self.dir, 'shared')
        os.mkdir(shared)
        for executor in self.each():
            config = {'extra_mounts': [(shared, '/a', None, 'bind'), (shared, '/b', '', 'bind,ro')]}
            code, out, err = self.busybox(executor, 'echo %s >/a/file; read x </b/file; echo $x; echo no >/b/file' % executor.__name__, **config)
            self.assertEqual((code, out), (1, executor.__name__.encode() + b'\n'))
            self.assertIn(b'Read-only', err)

    def test_invalid_mount_specs(self):
        for executor in self.each():
            with self.assertRaisesRegex(AssertionError, 'Mount point empty'):
                executor.run_sandbox(['true'], extra_mounts=[('proc', None, 'tmpfs')])
            with self.assertRaisesRegex(AssertionError, 'Invalid mount entry'):
                executor.run_sandbox(['true'], extra_mounts=[('proc', 'tmpfs')])
            with self.assertRaisesRegex(AssertionError, 'nfs'):
                executor.run_sandbox(['true'], extra_mounts=[(None, os.path.join(self.dir, 'x'), 'nfs')])

    WRITE = 'echo new >/data/1/canary'

    def test_writable(self):
        data = [(os.path.join(self.dir, 'mounted'), '/data/1', '', 'bind')]
        os.mkdir(data[0][0])
        for executor in self.each(ISOLATING):
            for paths, mounts, want in (
                    ('none', None, 1), ([], None, 1), (['/data/1'], None, 0), (['data/1'], None, 0), (['/bin'], None, 1), ('all', None, 0),
                    ('none', data, 1), (['/data'], data, 0), (['/data/1'], data, 0)):
                code, out, err = self.busybox(executor, self.WRITE, filesystem_writable_paths=paths, extra_mounts=mounts)
                self.assertEqual((code, out), (want, b''), (paths, mounts, err))
            self.assertTrue(os.path.exists(os.path.join(data[0][0], 'canary')))
            os.remove(os.path.join(data[0][0], 'canary'))

    def test_existing_content_is_there(self):
        for executor in self.each(ISOLATING):
            code, out, err = self.busybox(executor, 'read x </data/1/canary; echo "$x"', filesystem_writable_paths=['/data/1'])
            self.assertEqual((code, out, err), (0, b'Please overwrite me.\n', b''))

    def test_unsupported(self):
        for config in ({'network': 'isolated'}, {'mounts': 'isolated'}, {'filesystem_writable_paths': 'none'}, {'filesystem_writable_paths': ['/tmp']}):
            with self.assertRaises(AssertionError):
                sandboxlib.chroot.run_sandbox(['true'], **config)
        for executor in self.each():
            with self.assertRaises(AssertionError):
                executor.run_sandbox(['true'], network='wireless')

    def test_degrade(self):
        config = {'mounts': 'isolated', 'network': 'isolated', 'filesystem_writable_paths': ['/tmp']}
        for executor in self.each(ISOLATING):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter('always')
                self.assertEqual(executor.degrade_config_for_capabilities(config), config)
            self.assertEqual(caught, [])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            degraded = sandboxlib.chroot.degrade_config_for_capabilities(config)
        self.assertEqual(degraded, {'mounts': 'undefined', 'network': 'undefined', 'filesystem_writable_paths': 'all'})
        self.assertEqual(len(caught), 3)
        self.assertEqual(config['mounts'], 'isolated')

    def test_maximum(self):
        for executor in self.each():
            config = executor.maximum_possible_isolation()
            self.assertEqual(executor.run_sandbox(['true'], **config)[0], 0)
        self.assertEqual(sandboxlib.chroot.maximum_possible_isolation()['network'], 'undefined')

    def test_bubblewrap_is_root(self):
        self.assertEqual(sandboxlib.bubblewrap.run_sandbox(['id', '-u']), (0, b'0\n', b''))

    def test_command_not_found(self):
        for executor in self.each():
            code, out, err = executor.run_sandbox(['no-such-command'])
            self.assertNotEqual(code, 0)
            self.assertIn(b'no-such-command', err)


class Choices(unittest.TestCase):
    def setUp(self):
        os.environ.pop('SANDBOXLIB_BACKEND', None)
        self.addCleanup(os.environ.pop, 'SANDBOXLIB_BACKEND', None)

    def test_platform(self):
        self.assertIs(sandboxlib.executor_for_platform(), sandboxlib.bubblewrap)

    def test_variable(self):
        for name, executor in (('chroot', sandboxlib.chroot), ('linux-user-chroot', sandboxlib.linux_user_chroot)):
            os.environ['SANDBOXLIB_BACKEND'] = name
            self.assertIs(sandboxlib.executor_for_platform(), executor)

    def test_unknown_variable(self):
        os.environ['SANDBOXLIB_BACKEND'] = 'unknown'
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            self.assertIs(sandboxlib.executor_for_platform(), sandboxlib.bubblewrap)
        self.assertEqual(len(caught), 1)
        with self.assertRaises(KeyError):
            sandboxlib.get_executor('unknown')


class Images(unittest.TestCase):
    def image(self, directory, members):
        path = os.path.join(directory, 'image.aci')
        with tarfile.open(path, 'w:gz') as tar:
            for name, data, kind in members:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = kind, 0o755
                if kind == tarfile.SYMTYPE:
                    entry.linkname, data = data, b''
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        return path

    MANIFEST = (b'{"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/app",'
                b' "app": {"exec": ["/bin/busybox", "echo", "from the image"], "user": "0", "group": "0"}}')

    def test_app_container(self):
        self.assertTrue(sandboxlib.load.appc.is_app_container_image('x.aci'))
        self.assertFalse(sandboxlib.load.appc.is_app_container_image('x.tar'))
        with open(shutil.which('busybox'), 'rb') as f:
            busybox = f.read()
        with tempfile.TemporaryDirectory() as directory:
            path = self.image(directory, [
                ('manifest', self.MANIFEST, tarfile.REGTYPE), ('rootfs', b'', tarfile.DIRTYPE), ('rootfs/bin', b'', tarfile.DIRTYPE),
                ('rootfs/bin/busybox', busybox, tarfile.REGTYPE)])
            with sandboxlib.load.appc.unpack_app_container_image(path) as (rootfs, manifest):
                result = sandboxlib.bubblewrap.run_sandbox(manifest['app']['exec'], filesystem_root=rootfs)
                self.assertEqual(result, (0, b'from the image\n', b''))
            self.assertFalse(os.path.exists(rootfs))

    def test_hostile(self):
        with tempfile.TemporaryDirectory() as directory:
            path = self.image(directory, [
                ('manifest', self.MANIFEST, tarfile.REGTYPE), ('rootfs', b'', tarfile.DIRTYPE), ('rootfs/../../escaped', b'x', tarfile.REGTYPE)])
            with self.assertRaises(subprocess.CalledProcessError):
                with sandboxlib.load.appc.unpack_app_container_image(path):
                    pass


if __name__ == '__main__':
    unittest.main()
