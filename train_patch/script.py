"""Loading a train script as the main module, without running it."""
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from .versions import refuse_script

NAMES = ('parser', 'train_one_epoch', 'main')  # of the script's own
TASK = 'ClassificationTask'


def load_script(script: str) -> ModuleType:
    """Load a train script as the main module, without running its main(); exits if it lacks a name that is needed.

    It gets the name under which multiprocessing loads a main module in a worker process, so that loader workers started
    by spawn or forkserver find the classes that the script defines.
    """
    spec = importlib.util.spec_from_file_location('__mp_main__', script)
    if spec is None or spec.loader is None:
        sys.exit(f'train_patch: {script} must be a Python file, and its name end in .py')
    module = importlib.util.module_from_spec(spec)
    module.__file__ = os.path.abspath(script)
    sys.modules['__main__'] = sys.modules['__mp_main__'] = module
    spec.loader.exec_module(module)
    module.__spec__ = None  # as of a script that is started directly: workers load it by its path
    missing = [name for name in NAMES if not hasattr(module, name)]
    if not _names_the_task(module):
        missing.append(TASK)
    if missing:
        refuse_script(script, f'has no {", ".join(missing)}')
    return module


def _names_the_task(module: ModuleType) -> bool:
    """Whether the script, or a module below its folder that it imports, names timm's task, be it in a function."""
    if hasattr(module, TASK):
        return True
    folder = os.path.join(os.path.dirname(str(module.__file__)), '')
    files = {getattr(each, '__file__', None) or '' for each in list(sys.modules.values())}
    return any(
        TASK.encode() in Path(file).read_bytes()
        for file in files if file.startswith(folder) and file.endswith('.py') and 'site-packages' not in file)
