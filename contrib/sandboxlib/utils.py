"""Where programs are."""

import os
import shutil


def find_program(program_name):
    """The path of a program on PATH."""
    path = shutil.which(program_name)
    if path is None:
        from . import ProgramNotFound
        raise ProgramNotFound("Did not find '%s' in PATH. Searched '%s'" % (program_name, os.environ.get('PATH')))
    return path


def sbx_action():
    """The program that makes the sandboxes."""
    return os.environ.get('SBX_ACTION') or find_program('sbx-action')
