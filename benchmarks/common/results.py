"""Result files: where they are, reading and writing. Plain JSON, so that pages are made without training code."""
import json
from pathlib import Path
from typing import Any, Dict, Union

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / 'benchmarks' / 'results'


def write_result(path: Union[str, Path], result: Dict[str, Any]) -> None:
    """Write a result as JSON."""
    with open(path, 'w') as file:
        json.dump(result, file, indent=2)
        file.write('\n')


def read_result(name: str) -> Dict[str, Any]:
    """Return a committed result by its name, such as 'fidelity'."""
    return json.loads((RESULTS / f'{name}.json').read_text())
