"""Packages that hold data: fetched once, each into a folder that git ignores."""
import os
import subprocess
import tempfile
from pathlib import Path


def fetch(path: Path, command: str, made: str) -> Path:
    """Return a file or folder; unless it is there, a command in an empty folder makes it as `made`.

    Other processes see all of it or nothing.

    Raises:
        FileNotFoundError: If it is missing and cannot be fetched.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f'Fetching {path.name}: {command}')
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix='.fetch-') as folder:
            subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True, text=True)
            os.replace(Path(folder, made), path)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = ' '.join((getattr(error, 'stderr', None) or str(error)).split())
        raise FileNotFoundError(f'{path} must be there, or `{command}` must be able to make it: {reason}') from error
    return path
