"""Result files: where they are, reading and writing. Plain JSON, so that pages are made without training code."""
import json
from pathlib import Path
from typing import Any, Dict, Iterator, Union

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


def read_runs(folder: Path) -> Iterator[Dict[str, Any]]:
    """Yield the results of all runs below a folder, from files of one run and of many."""
    for path in sorted(folder.rglob('*.json')):
        result = json.loads(path.read_text())
        yield from result.get('runs', [result])
