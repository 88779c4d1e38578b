"""App Container images.

They are imported by sbx-action, which refuses what leads out of the root, and
exported again, so that what is unpacked here is known to be harmless.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile

from .. import utils

# What https://github.com/appc/spec says of every app.
BASE_ENVIRONMENT = {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'}


def is_app_container_image(path):
    return path.endswith('.aci')


@contextlib.contextmanager
def unpack_app_container_image(image_file):
    """A directory with the root file system, and the manifest, for as long as the
    context lasts."""
    directory = tempfile.mkdtemp()
    try:
        with tarfile.open(image_file, 'r') as image:
            manifest = json.load(image.extractfile('manifest'))
        store, plain, rootfs = (os.path.join(directory, name) for name in ('store', 'root.tar', 'rootfs'))
        for args in (['import', '--cache', store, 'image', os.path.abspath(image_file)], ['export', '--cache', store, 'image', plain]):
            subprocess.run([utils.sbx_action(), 'rootfs'] + args, check=True, stdout=subprocess.DEVNULL)
        os.mkdir(rootfs)
        with tarfile.open(plain, 'r') as tree:
            # Only root makes devices.
            members = [m for m in tree if os.geteuid() == 0 or not m.isdev()]
            tree.extractall(path=rootfs, members=members, numeric_owner=True)
        yield rootfs, manifest
    finally:
        subprocess.run(['chmod', '-R', 'u+rwX', directory], stderr=subprocess.DEVNULL)
        shutil.rmtree(directory, ignore_errors=True)
